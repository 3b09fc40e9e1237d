"""The short comparison of ``unmask bench``: this machine, beside transformers' BERT, in about a minute.

MLM step             15% of every row scored
diffusion step       times evenly spread, half of all tokens scored
documents            of log-normal length: packed for ours, padded for BERT
matrix products      fraction of the machine's own rate reached by the MLM step
memory               peak of the MLM step: of a process, or on the accelerator
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from unmask.measure.flops import Size
from unmask.measure.machine import MatrixProducts, describe_machine
from unmask.measure.memory import peak_memory
from unmask.measure.report_table import Row
from unmask.measure.step import TrainingStep, hugging_face_bert, ours
from unmask.measure.turns import take_turns
from unmask.measure.work import Work, diffusion_rows, document_lengths, masked_rows, packed, padded

BERT = "Hugging Face BERT"


@dataclass(frozen=True)
class Setting:
    """Options of the measurement.

    Attributes:
        size: of both networks.
        rows, length: of a batch; the number of documents equals the number of rows.
        turns: number of timed turns, after one warm-up turn.
        precision: ``"fp32"`` or ``"bf16"``.
        device: ``"cpu"`` or ``"cuda"``.
        compiled: run both networks through ``torch.compile``.
    """

    size: Size
    rows: int = 4
    length: int = 512
    turns: int = 2
    precision: str = "fp32"
    device: str = "cpu"
    compiled: bool = False

    def __post_init__(self) -> None:
        for name in ("rows", "length", "turns"):
            smallest = 8 if name == "length" else 1
            if getattr(self, name) < smallest:
                raise ValueError(
                    f"{name}={getattr(self, name)} is too small for a measurement: give at least {smallest}."
                )
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"There is no precision {self.precision!r}. Choose fp32 or bf16.")

    def works(self) -> tuple[Work, Work, Work]:
        """Return the batches of MLM, of diffusion, and of padded documents with a mean length of a third of a row."""
        shape = (self.rows, self.length, self.size.vocabulary)
        lengths = document_lengths(self.rows, mean=0.35 * self.length, longest=self.length)
        return masked_rows(*shape), diffusion_rows(*shape), padded(lengths, self.length, self.size.vocabulary)


def quick_comparison(setting: Setting, progress: Callable[[int, int | None], None] | None = None) -> dict[str, Any]:
    """Run the measurement.

    Args:
        setting: its options.
        progress: callback ``(calls done, all calls)`` of the timed part.

    Returns:
        ``machine``, ``setting``, ``seconds`` (medians), ``tokens_per_second``, ``peak_mib``, and ``rows``: a list of
        ``Row``.
    """
    mlm, diffusion, separate = setting.works()
    together = packed(separate, setting.length)
    precision = setting.precision
    products = MatrixProducts(setting.size, mlm.tokens, mlm.scored, precision, setting.device)

    def mine(work: Work, weighting: Any = "flat") -> TrainingStep:
        return ours(
            setting.size, work, precision, weighting=weighting, compiled=setting.compiled, device=setting.device
        )

    def theirs(work: Work) -> TrainingStep:
        return hugging_face_bert(setting.size, work, precision, compiled=setting.compiled, device=setting.device)

    steps: dict[str, TrainingStep] = {
        "mlm": mine(mlm),
        "mlm, bert": theirs(mlm),
        "diffusion": mine(diffusion, "inverse_p"),
        "diffusion, bert": theirs(diffusion),
        "documents": mine(together),
        "documents, bert": theirs(separate),
    }
    timings = take_turns({**steps, "products": products}, setting.turns, device=setting.device, progress=progress)
    tokens = {"mlm": mlm.tokens, "diffusion": diffusion.tokens, "documents": separate.tokens}
    names = {
        "mlm": "MLM step, 15% scored",
        "diffusion": "masked-diffusion step",
        "documents": f"documents of mean length {sum(separate.lengths) // len(separate.lengths)}",
    }
    rows = [Row.of(text, BERT, timings[name].faster_than(timings[f"{name}, bert"])) for name, text in names.items()]
    work_ratio = setting.size.step_flops(mlm.lengths, mlm.scored) / products.flops
    rows.append(
        Row.of(
            "MLM step: fraction of the rate of matrix products alone",
            "",
            timings["mlm"].faster_than(timings["products"], work_ratio),
            unit="%",
        )
    )
    peaks = _peaks(setting, steps)
    rows.append(Row.single("peak memory of the MLM step", BERT, peaks["mlm"] / peaks["mlm, bert"]))
    return {
        "machine": describe_machine(),
        "setting": {"size": setting.size.as_dict()} | {k: v for k, v in vars(setting).items() if k != "size"},
        "seconds": {name: timing.median for name, timing in timings.items()},
        "tokens_per_second": {name: tokens[name.removesuffix(", bert")] / timings[name].median for name in steps},
        "product_gflops": products.flops / timings["products"].median / 1e9,
        "peak_mib": peaks,
        "rows": rows,
    }


def _peaks(setting: Setting, steps: dict[str, TrainingStep]) -> dict[str, float]:
    """Return the peak MiB of one MLM step of each network."""
    if setting.device == "cuda":
        peaks = {}
        for name in ("mlm", "mlm, bert"):
            torch.cuda.reset_peak_memory_stats()
            others = torch.cuda.memory_allocated() - steps[name].held_bytes
            steps[name]()
            peaks[name] = (torch.cuda.max_memory_allocated() - others) / 2**20
        return peaks
    mine, theirs = step_peaks(setting.size, setting.rows, setting.length, setting.precision)
    return {"mlm": mine / 2**20, "mlm, bert": theirs / 2**20}


def step_peaks(size: Size, rows: int, length: int, precision: str) -> tuple[int, int]:
    """Return the peak bytes of a process with two MLM steps at 15%: ours, and Hugging Face's BERT.

    Our process tunes malloc and trims the heap, as ``unmask train`` does; BERT's process runs with system defaults.
    """
    program = (
        f"import torch; torch.set_num_threads({torch.get_num_threads()})\n"
        "from unmask.allocator import tune_malloc, watch\n"
        "from unmask.measure.flops import Size\n"
        "from unmask.measure.work import masked_rows\n"
        "from unmask.measure.step import {make}\n"
        "{first}"
        f"step = {{make}}({size!r}, masked_rows({rows}, {length}, {size.vocabulary}), {precision!r})\n"
        "for _ in range(2):\n"
        "    step()\n"
        "    {after}"
    )
    mine = peak_memory(program.format(make="ours", first="tune_malloc()\n", after="watch.look()"))
    return mine, peak_memory(program.format(make="hugging_face_bert", first="", after=""))
