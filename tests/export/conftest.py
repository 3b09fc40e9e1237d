"""Small trained models as Hugging Face folders, and a Python in which ``unmask`` cannot be imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import corpus, trained, unmask  # noqa: F401 (fixtures)
from tests.cli.test_traces import functions
from tests.training.conftest import config_of
from unmask.build.run import train
from unmask.data.traces.trace_tokenizer import trace_tokenizer
from unmask.export import export_run, register


@pytest.fixture(autouse=True)
def _no_network(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def exported(trained, tmp_path_factory) -> Path:  # noqa: F811
    """The exported folder of a small model of text."""
    register()
    return export_run(trained, tmp_path_factory.mktemp("exported") / "grammar").folder


@pytest.fixture(scope="session")
def trained_traces(tmp_path_factory) -> Path:
    """The run folder of a small model of instruction traces."""
    folder = tmp_path_factory.mktemp("traces")
    (folder / "traces.txt").write_text("\n".join(functions()) + "\n")
    trace_tokenizer(functions(), 2400).save(folder)
    tree = {
        "run": str(folder / "run"),
        "data": {"source": str(folder / "traces.txt"), "unit": "line", "tokenizer": str(folder / "tokenizer.json"), "block_size": 32, "valid_fraction": 0.2},
        "model": {"preset": None, "d_model": 32, "num_layers": 2, "nhead": 2, "max_length": 64, "kind": "instruction_trace"},
        "optim": {"name": "muon", "lr": 0.02},
        "train": {"steps": 40, "batch_size": 16, "evaluate_every": 40, "checkpoint_every": 40, "evaluate_rows": 16, "precision": "fp32"},
    }  # fmt: skip
    train(config_of(tree))
    return folder / "run"


@pytest.fixture(scope="session")
def exported_traces(trained_traces, tmp_path_factory) -> Path:
    """The exported folder of a small model of instruction traces."""
    register()
    return export_run(trained_traces, tmp_path_factory.mktemp("exported_traces") / "traces").folder


@pytest.fixture
def without_unmask(tmp_path):
    """Run Python code in a process that cannot import ``unmask``; the JSON of its last line is returned."""

    def run(code: str, folder: Path | None = None):
        script = f"import sys\nsys.modules['unmask'] = None\n{code}"
        environment = {
            **{k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(tmp_path / "home"),
            "OMP_NUM_THREADS": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=folder or tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.strip().splitlines()[-1])

    return run
