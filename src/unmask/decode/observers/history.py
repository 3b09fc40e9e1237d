"""``HistoryTopKPlugin``: the top k tokens of every position at every step, saved and read back.

On disk there is one folder per sample, named by its ``fid``, with one file of three tensors per step:

    step-00000.safetensors   p     float32 [L, k]   probabilities, descending; over the allowed ids, before temperature and filters
                             pids  int64   [L, k]   their ids
                             x     int64   [L]      the row after the step
    history.json             the number of steps; written last

A position that was not masked has probability 1 for its token; unused entries have ``p = 0`` and ``pids = -1``.
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
    """One step of one sample: ``p`` and ``pids`` ``[L, k]``, ``x`` ``[L]``."""

    p: Float[Tensor, "seq k"]
    pids: Int[Tensor, "seq k"]
    x: Int[Tensor, " seq"]


class HistoryTopKPlugin:
    """An observer that records the top k tokens of every step.

    Args:
        output_dir: folder of the saved samples, one folder each.
        k: tokens per position; None keeps the whole vocabulary (large).
        max_new_tokens: record the last positions of each row only, this many; None records all.

    Raises:
        ValueError: ``k`` or ``max_new_tokens`` below 1.

    Examples:
        >>> import tempfile, torch
        >>> from unmask import HistoryTopKPlugin, MLMPredictor, RotaryTransformerMLMModel, SpecialIds
        >>> folder = tempfile.mkdtemp()
        >>> model = RotaryTransformerMLMModel(20, 16, 1, 2, padding_idx=1, mask_idx=0)
        >>> history = HistoryTopKPlugin(folder, k=5)
        >>> predictor = MLMPredictor(2, model=model, special=SpecialIds(mask=0, pad=1, vocab_size=20), observers=[history])
        >>> ids = predictor.predict({"input_ids": [[5, 0, 0, 0]]})["ids"]
        >>> saved = history.to_dict()  # [{"fid": ...}], one per sample
        >>> HistoryTopKPlugin.from_serialized(folder, saved[0]["fid"]).get(0)["p"].shape
        torch.Size([4, 5])
    """

    wants_all_logits = True

    def __init__(
        self, output_dir: str | os.PathLike[str], k: int | None = None, max_new_tokens: int | None = None
    ) -> None:
        for name, value in (("k", k), ("max_new_tokens", max_new_tokens)):
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} records nothing: give 1 or more, or None for everything.")
        self.output_dir: Path = Path(output_dir)
        self.k = k
        self.max_new_tokens = max_new_tokens
        self.reset()

    def reset(self) -> None:
        """Delete all recorded steps from memory; saved files stay."""
        self._steps: list[list[StepHistory]] = []
        self._fids: list[str] = []

    def begin(self, canvas: Canvas, special: SpecialIds) -> None:
        """Start a new batch, replacing the last one."""
        self.reset()
        self._reserve(len(canvas.ids))

    def update_history(self, step_results: MLMStepResults) -> None:
        """Record one step of the unfinished rows."""
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
        for row, *parts in zip(rows, *arrays, strict=True):
            self._steps[row].append(StepHistory(p=parts[0], pids=parts[1], x=parts[2]))

    def _recorded(self, rows: Tensor) -> Tensor:
        return (rows if self.max_new_tokens is None else rows[:, -self.max_new_tokens :]).cpu()

    def _reserve(self, samples: int) -> None:
        while len(self._steps) < samples:
            self._steps.append([])
            self._fids.append(uuid4().hex[:16])

    def to_dict(self) -> list[dict[str, str]]:
        """Save every sample of the batch. A sample without masked positions has no steps.

        Returns:
            One ``{"fid": folder name}`` per sample, in the order of the batch.
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
        """Read one saved sample.

        Args:
            output_dir: the folder given to the constructor.
            full_id: the ``fid`` of the sample.

        Raises:
            ValueError: an unknown or incomplete sample, or a damaged or missing file.
        """
        folder = Path(output_dir) / full_id
        index = folder / "history.json"
        if not index.exists():
            raise ValueError(
                f"There is no history {full_id!r} in {output_dir}: {index} does not exist. It is written last, by to_dict(), which also returns the fids."
            )
        content = read_json(index)
        if (
            not isinstance(content, dict)
            or content.get("format") != _FORMAT
            or not isinstance(content.get("steps"), int)
        ):
            raise ValueError(f"{index} is not a history of unmask (no {_FORMAT!r} in it). Decode again to replace it.")
        history = cls(output_dir, k=content.get("k"))
        history._fids = [full_id]
        history._steps = [[_read(_file(folder, number)) for number in range(content["steps"])]]
        return history

    def get_num_steps(self, sample: int = 0) -> int:
        """Return the number of recorded steps of a sample."""
        return len(self._sample(sample))

    def get(self, step: int, sample: int = 0) -> StepHistory:
        """Return one step of one sample; a saved history holds one sample.

        Raises:
            ValueError: an unknown step or sample.
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
        tensors = load_file(path)
        return StepHistory(p=tensors["p"], pids=tensors["pids"], x=tensors["x"])
    except FileNotFoundError as error:
        raise ValueError(f"A step is missing: {path} does not exist. Decode again to replace the history.") from error
    except (SafetensorError, KeyError, OSError) as error:
        raise ValueError(
            f"{path} is not a step of a history ({error}). It is damaged or of another format: decode again to replace it."
        ) from error
