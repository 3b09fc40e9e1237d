"""Training, decoding and loading on an accelerator, at the size of the ``base`` preset: 12 layers, width 768.

    benchmarks/gpu.sh                              every section; figures under benchmarks/results/
    benchmarks/gpu.sh --only decode --seconds 120  one section, in two minutes at most
    benchmarks/gpu.sh --toy                        every section at the size of a toy, on the CPU

    rows       MLM and masked-diffusion steps of 32 × 1,024 tokens in bf16, eager and compiled, beside BERT and ModernBERT
    decode     tokens/s at batch 1, 16 and 64: eager, compiled, and with caches
    amino      24 layers × 768 on amino acids
    packed     packed documents: FlexAttention beside variable-length flash attention
    loader     the part of the time spent waiting for batches
    attention  kernels of attention alone

Each section runs in a process of its own with a time limit, and results are written after each. A section that fails
leaves its error in the report; the exit status is 1 then.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # asking for a device must not start CUDA before the fork

import torch

from benchmarks import harness
from benchmarks.gpu_decoding import decoding
from benchmarks.gpu_loading import loading
from benchmarks.gpu_setting import Notes, Setting
from benchmarks.gpu_training import amino_acids, attention, packed_rows, rows
from unmask.measure.flops import Size
from unmask.measure.report_table import Row

RESULTS = Path(__file__).parent / "results"
Section = Callable[[Setting, Notes], None]
SECTIONS: dict[str, tuple[Section, float]] = {  # by importance, each with its limit in seconds
    "rows": (rows, 150),
    "decode": (decoding, 150),
    "amino": (amino_acids, 60),
    "packed": (packed_rows, 100),
    "loader": (loading, 90),
    "attention": (attention, 60),
}


def run(section: Section, setting: Setting, path: Path, seconds: float) -> bool:
    """Run a section in this process; what it found, and its error if it fails, is at ``path``."""
    notes = Notes(path, seconds)
    try:
        if setting.device == "cuda":
            torch.set_float32_matmul_precision("high")
        section(setting, notes)
    except Exception as error:
        notes.failed("section", error)
    notes.save()
    return not notes.report["errors"]


def run_apart(section: Section, setting: Setting, path: Path, seconds: float) -> bool:
    """The same in a process of its own, stopped after ``seconds``."""
    process = get_context("fork").Process(target=_leave_by_status, args=(section, setting, path, seconds))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        _add_error(path, f"stopped after {seconds:.0f} seconds")
    elif process.exitcode not in (0, 3):
        _add_error(path, f"the process ended with status {process.exitcode}")
    return process.exitcode == 0


def _leave_by_status(section: Section, setting: Setting, path: Path, seconds: float) -> None:
    complete = run(section, setting, path, seconds)
    sys.stdout.flush()
    os._exit(0 if complete else 3)


def _add_error(path: Path, text: str) -> None:
    found = json.loads(path.read_text()) if path.is_file() else {"rows": [], "errors": {}}
    found["errors"]["section"] = text
    path.write_text(json.dumps(found))


def measure(names: Sequence[str], setting: Setting, path: Path | None, seconds: float, apart: bool = True) -> bool:
    """Run sections one after the other, write all figures after each, and return whether none failed."""
    began, report, complete = time.monotonic(), {"sections": {}, "table": []}, True  # type: ignore[var-annotated]
    for name in names:
        section, limit = SECTIONS[name]
        limit = min(limit, seconds - (time.monotonic() - began))
        if limit < 3:
            report["sections"][name] = {"errors": {"section": "left out: no time was left"}}
            complete = False
            continue
        print(f"  {name}, at most {limit:.0f} s", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            complete &= (run_apart if apart else run)(section, setting, Path(folder) / "found.json", limit)
            found: dict[str, Any] = json.loads((Path(folder) / "found.json").read_text())
        table = [Row(**{k: v for k, v in row.items() if k != "met"}) for row in found.pop("rows")]
        report["sections"][name] = found
        report["table"] += [row.as_dict() for row in table]
        report["machine"] = found.pop("machine", report.get("machine"))
        if table:
            harness.show_rows(name, table)
        for what, error in found["errors"].items():
            print(f"  {name}: {what}: {error.splitlines()[-1]}", flush=True)
        report["seconds"] = round(time.monotonic() - began, 1)
        _write(path, setting, report)
    return complete


def _write(path: Path | None, setting: Setting, report: dict[str, Any]) -> None:
    device = (report["machine"] or {}).get("accelerator", "cpu")
    if path is None:
        if setting.device == "cpu":
            return
        path = RESULTS / f"{re.sub(r'[^a-z0-9]+', '-', device.lower()).strip('-')}.json"
    sizes = {k: v for k, v in vars(setting).items() if k != "size"} | {"size": setting.size.as_dict()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"benchmark": "gpu", "setting": sizes, **report}, indent=2) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="SECTION", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--seconds", type=float, default=540.0, help="time limit of all sections together")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--eager", action="store_true", help="leave the compiled forms out")
    parser.add_argument("--toy", action="store_true", help="the size of a toy, on the CPU")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(arguments)
    if not options.toy and not torch.cuda.is_available():
        parser.error("no CUDA device is here; try --toy, or `make bench`, which measures on the CPU")
    setting = Setting.toy() if options.toy else Setting(
        Size.of_preset("base"), options.rows, options.length, options.turns, compiled=not options.eager
    )  # fmt: skip
    import transformers.models.bert.modeling_bert
    import transformers.models.modernbert.modeling_modernbert  # noqa: F401 (once, before the processes part)

    return 0 if measure(options.only, setting, options.json, options.seconds) else 1


if __name__ == "__main__":
    sys.exit(main())
