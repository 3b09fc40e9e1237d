"""HistoryTopKPlugin: the most likely tokens of every position at every step, kept and read back.

On disk there is one folder per sample, named by its ``fid``, with one ``history.npz`` of three arrays (no pickles):

    p     float32 [S, L, k]   probabilities, falling; over the ids that may be placed, before temperature and filters
    pids  int64   [S, L, k]   their ids
    x     int64   [S, L]      the row as it stood after the step

A position that was not blank has probability 1 for the token it holds; unused places have ``p = 0`` and ``pids = -1``.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import TypedDict
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

from unmask.contracts import MLMStepResults, SpecialIds
from unmask.decode.canvas import Canvas
from unmask.storage import atomic_file


class StepHistory(TypedDict):
    """One step of one sample: ``p [L, k]``, ``pids [L, k]``, ``x [L]``."""

    p: np.ndarray
    pids: np.ndarray
    x: np.ndarray


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

    every_candidate = True

    def __init__(self, output_dir: str | os.PathLike[str], k: int | None = None, max_new_tokens: int | None = None) -> None:
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

    def _recorded(self, rows: Tensor) -> np.ndarray:
        return (rows if self.max_new_tokens is None else rows[:, -self.max_new_tokens :]).cpu().numpy()

    def _reserve(self, samples: int) -> None:
        while len(self._steps) < samples:
            self._steps.append([])
            self._fids.append(uuid4().hex[:16])

    def to_dict(self) -> list[dict[str, str]]:
        """Save every sample of the batch; one ``{"fid": folder name}`` per sample, in the batch's order.

        A sample that had nothing to fill has a history of no steps.
        """
        for fid, steps in zip(self._fids, self._steps, strict=True):
            p = _stack([step["p"] for step in steps], 3)
            pids = _stack([step["pids"] for step in steps], 3)
            x = _stack([step["x"] for step in steps], 2)
            with atomic_file(self.output_dir / fid / "history.npz") as path, open(path, "wb") as file:
                np.savez_compressed(file, p=p, pids=pids, x=x)
        return [{"fid": fid} for fid in self._fids]

    @classmethod
    def from_serialized(cls, output_dir: str | os.PathLike[str], full_id: str) -> HistoryTopKPlugin:
        """One saved sample.

        Raises:
            ValueError: there is no such sample, or its file is damaged.
        """
        path = Path(output_dir) / full_id / "history.npz"
        try:
            with np.load(path, allow_pickle=False) as arrays:
                p, pids, x = arrays["p"], arrays["pids"], arrays["x"]
        except FileNotFoundError as error:
            raise ValueError(f"There is no history {full_id!r} in {output_dir}: {path} does not exist. fids come from to_dict().") from error
        except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
            raise ValueError(f"{path} is not a history ({error}). It was damaged or is not ours: decode again to replace it.") from error
        history = cls(output_dir, k=p.shape[-1] or None)
        history._fids = [full_id]
        history._steps = [[StepHistory(p=p[i], pids=pids[i], x=x[i]) for i in range(len(x))]]
        return history

    def get_num_steps(self, sample: int = 0) -> int:
        """Steps that ``sample`` of the batch took part in."""
        return len(self._steps[sample])

    def get(self, step: int, sample: int = 0) -> StepHistory:
        """One step of one sample of the batch (a history read back holds one)."""
        return self._steps[sample][step]


def _stack(arrays: list[np.ndarray], dims: int) -> np.ndarray:
    return np.stack(arrays) if arrays else np.zeros((0,) * dims)
