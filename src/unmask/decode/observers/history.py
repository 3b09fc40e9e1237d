"""HistoryTopKPlugin: the most likely tokens of every position at every step, kept and read back.

On disk there is one folder per sample, named by its ``fid``, with a file of three tensors for every step:

    step-00000.safetensors   p     float32 [L, k]   probabilities, falling; over the ids that may be placed, before temperature and filters
                             pids  int64   [L, k]   their ids
                             x     int64   [L]      the row as it stood after the step
    history.json             how many steps there are; written last

A position that was not blank has probability 1 for the token it holds; unused places have ``p = 0`` and ``pids = -1``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypedDict
from uuid import uuid4

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from unmask.contracts import MLMStepResults, SpecialIds
from unmask.decode.canvas import Canvas
from unmask.storage import atomic_file, read_json, write_json

_FORMAT = "unmask history 1"


class StepHistory(TypedDict):
    """One step of one sample."""

    p: Float[Tensor, "seq k"]
    pids: Int[Tensor, "seq k"]
    x: Int[Tensor, " seq"]


class HistoryTopKPlugin:
    """An observer that records the top k of every step.

    Args:
        output_dir: folder that receives one folder per sample.
        k: tokens kept per position; None keeps the whole vocabulary (large).
        max_new_tokens: record only the last so many positions of a row; None records all.

    Example:
        >>> history = HistoryTopKPlugin("histories", k=5)
        >>> MLMPredictor(max_steps=8, model=model, tokenizer=tokenizer, observers=[history]).predict(batch)
        >>> saved = history.to_dict()                      # [{"fid": ...}, ...], one per sample
        >>> HistoryTopKPlugin.from_serialized("histories", saved[0]["fid"]).get(0)["p"]
    """

    wants_all_logits = True

    def __init__(
        self, output_dir: str | os.PathLike[str], k: int | None = None, max_new_tokens: int | None = None
    ) -> None:
        for name, value in (("k", k), ("max_new_tokens", max_new_tokens)):
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} would record nothing: give 1 or more, or None for everything.")
        self.output_dir = Path(output_dir)
        self.k = k
        self.max_new_tokens = max_new_tokens
        self.reset()

    def reset(self) -> None:
        """Forget everything recorded; what was saved stays on disk."""
        self._steps: list[list[StepHistory]] = []
        self._fids: list[str] = []

    def begin(self, canvas: Canvas, special: SpecialIds) -> None:
        """A new batch takes the place of the last one."""
        self.reset()
        self._reserve(len(canvas.ids))

    def update_history(self, step_results: MLMStepResults) -> None:
        """Record one step of the rows that took part."""
        rows = step_results["rows"].tolist()
        self._reserve(max(rows) + 1)
        k = min(self.k or step_results["log_probs"].shape[-1], step_results["log_probs"].shape[-1])
        best = step_results["log_probs"].topk(k, dim=-1)
        before, scored = step_results["input_ids"], step_results["scored"]
        p = torch.zeros(*before.shape, k, dtype=torch.float32, device=before.device)
        pids = torch.full((*before.shape, k), -1, dtype=torch.int64, device=before.device)
        p[..., 0], pids[..., 0] = 1.0, before
        p[scored] = best.values.exp().float()
        pids[scored] = best.indices.masked_fill(best.values == -torch.inf, -1)
        arrays = (self._recorded(a) for a in (p, pids, step_results["output_ids"]))
        for row, *one in zip(rows, *arrays, strict=True):
            self._steps[row].append(StepHistory(p=one[0], pids=one[1], x=one[2]))

    def _recorded(self, rows: Tensor) -> Tensor:
        return (rows if self.max_new_tokens is None else rows[:, -self.max_new_tokens :]).cpu()

    def _reserve(self, samples: int) -> None:
        while len(self._steps) < samples:
            self._steps.append([])
            self._fids.append(uuid4().hex[:16])

    def to_dict(self) -> list[dict[str, str]]:
        """Save every sample of the batch; one ``{"fid": folder name}`` per sample, in the batch's order.

        A sample that had nothing to fill has a history of no steps.
        """
        for fid, steps in zip(self._fids, self._steps, strict=True):
            for number, step in enumerate(steps):
                tensors = {
                    name: part.clone(memory_format=torch.contiguous_format) for name, part in _parts(step).items()
                }
                with atomic_file(_file(self.output_dir / fid, number)) as path:
                    save_file(tensors, path, {"step": str(number)})
            write_json(self.output_dir / fid / "history.json", {"format": _FORMAT, "steps": len(steps), "k": self.k})
        return [{"fid": fid} for fid in self._fids]

    @classmethod
    def from_serialized(cls, output_dir: str | os.PathLike[str], full_id: str) -> HistoryTopKPlugin:
        """One saved sample.

        Raises:
            ValueError: there is no such sample, it was not saved to its end, or a file of it is damaged or missing.
        """
        folder = Path(output_dir) / full_id
        index = folder / "history.json"
        if not index.exists():
            raise ValueError(
                f"There is no history {full_id!r} in {output_dir}: {index} does not exist. It is written last, by to_dict(), which also gives the fids."
            )
        found = read_json(index)
        if not isinstance(found, dict) or found.get("format") != _FORMAT or not isinstance(found.get("steps"), int):
            raise ValueError(f"{index} is not a history of unmask (no {_FORMAT!r} in it). Decode again to replace it.")
        history = cls(output_dir, k=found.get("k"))
        history._fids = [full_id]
        history._steps = [[_read(_file(folder, number)) for number in range(found["steps"])]]
        return history

    def get_num_steps(self, sample: int = 0) -> int:
        """Steps that ``sample`` of the batch took part in."""
        return len(self._sample(sample))

    def get(self, step: int, sample: int = 0) -> StepHistory:
        """One step of one sample of the batch (a history read back holds one).

        Raises:
            ValueError: there is no such step, or no such sample.
        """
        steps = self._sample(sample)
        if not 0 <= step < len(steps):
            raise ValueError(
                f"There is no step {step}: sample {sample} has {len(steps)}, numbered from 0 (see get_num_steps)."
            )
        parts = {name: part.clone() for name, part in _parts(steps[step]).items()}
        return StepHistory(p=parts["p"], pids=parts["pids"], x=parts["x"])

    def _sample(self, sample: int) -> list[StepHistory]:
        if not 0 <= sample < len(self._steps):
            raise ValueError(
                f"There is no sample {sample}: this history has {len(self._steps)}, numbered from 0 in the order of the batch."
            )
        return self._steps[sample]


def _file(folder: Path, number: int) -> Path:
    return folder / f"step-{number:05d}.safetensors"


def _parts(step: StepHistory) -> dict[str, Tensor]:
    return {"p": step["p"], "pids": step["pids"], "x": step["x"]}


def _read(path: Path) -> StepHistory:
    try:
        found = load_file(path)
        return StepHistory(p=found["p"], pids=found["pids"], x=found["x"])
    except FileNotFoundError as error:
        raise ValueError(f"A step is missing: {path} does not exist. Decode again to replace the history.") from error
    except (SafetensorError, KeyError, OSError) as error:
        raise ValueError(
            f"{path} is not a step of a history ({error}). It was damaged or is not ours: decode again to replace it."
        ) from error
