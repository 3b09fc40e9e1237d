"""Run commands in the test process; a small trained model for all tests of the command line."""

import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.training.conftest import config_of, corpus  # noqa: F401 (a fixture)
from unmask.build.run import train


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def unmask(capsys, monkeypatch):
    """Run a command in this process: ``unmask("fill", "...") -> (exit code, stdout, stderr)``."""

    def run(*arguments: object) -> Answer:
        from unmask.cli.main import run as entry

        monkeypatch.setattr(sys, "argv", ["unmask", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "160")
        capsys.readouterr()
        code = 0
        try:
            entry()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Answer(code, *capsys.readouterr())

    return run


def train_small(corpus, run: Path, steps: int, tokenizer: str | None = None, **model: object) -> Path:  # noqa: F811
    tree = {
        "run": str(run),
        "data": {
            "source": str(corpus),
            "vocab_size": 300,
            "tokenizer": tokenizer,
            "block_size": 32,
            "valid_fraction": 0.2,
        },
        "model": {"preset": None, "d_model": 32, "num_layers": 2, "nhead": 2, "max_length": 64, **model},
        "optim": {"name": "muon", "lr": 0.01},
        "train": {
            "steps": steps,
            "batch_size": 16,
            "evaluate_every": steps // 2,
            "checkpoint_every": steps // 2,
            "evaluate_rows": 16,
            "precision": "fp32",
        },
    }
    train(config_of(tree))
    return run


@pytest.fixture(scope="session")
def trained(corpus, tmp_path_factory) -> Path:  # noqa: F811
    """The run folder of a small model that knows a small grammar."""
    return train_small(corpus, tmp_path_factory.mktemp("trained") / "run", steps=120)


@pytest.fixture(scope="session")
def block_causal(corpus, tmp_path_factory) -> Path:  # noqa: F811
    """The run folder of a model whose attention is block-causal, in blocks of 4."""
    return train_small(corpus, tmp_path_factory.mktemp("block_causal") / "run", steps=20, causal_block=4)
