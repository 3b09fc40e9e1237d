"""Held-out rows with masked positions and their true tokens: what studies of decoding decode.

Of a run of text half of the tokens of whole windows are masked; of a run of prompts with answers, the answers are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unmask.contracts import SpecialIds
from unmask.data.store.token_store import TokenStore
from unmask.decode.canvas import Canvas
from unmask.decode.loop import fill_canvas
from unmask.decode.named import make_rules
from unmask.devices import device_of
from unmask.evaluate.estimate import proportion, ratio
from unmask.evaluate.windows import Windows, stack
from unmask.text.answer_matching import answer_special_ids
from unmask.text.evaluation_setting import evaluation_setting
from unmask.text.loading import load


@dataclass(frozen=True)
class DecodedRows:
    """Rows to decode, and their true tokens.

    Attributes:
        model: the network.
        canvas: rows with masked positions.
        answer: int64 ``[B, L]``, the true rows.
        special: special ids.
    """

    model: Any
    canvas: Canvas
    answer: Tensor
    special: SpecialIds

    @property
    def blanks(self) -> Tensor:
        """Masked positions of each row, int64 ``[B]``."""
        return self.canvas.blanks(self.special.mask).sum(-1)

    def part(self, start: int, stop: int) -> DecodedRows:
        """Return the rows from ``start`` to before ``stop``."""
        c, kept = self.canvas, slice(start, stop)
        canvas = Canvas(c.ids[kept], c.fixed[kept], c.attention_mask[kept], c.positions[kept], c.row_ids[kept])
        return DecodedRows(self.model, canvas, self.answer[kept], self.special)

    def decode(self, **options: Any) -> dict[str, Any]:
        """Decode once: forward passes, tokens run, and estimates of whole rows and of tokens that are right.

        Args:
            options: of ``make_rules``; the likeliest token unless ``temperature`` is given.
        """
        rules = make_rules(**{"special": self.special, "temperature": 0.0, **options})
        decoded = fill_canvas(self.model, self.canvas, rules, special=self.special, seed=0)
        hidden = self.canvas.blanks(self.special.mask)
        right = ((decoded.ids == self.answer) & hidden).sum(-1).cpu()
        blanks, rows = hidden.sum(-1).cpu(), len(right)
        return {
            "forward_passes": float(decoded.steps_taken.double().mean()),
            "tokens_run": decoded.positions_computed / rows,
            "whole": proportion(int((right == blanks).sum()), rows).as_dict(),
            "tokens": ratio(right[None].double().numpy(), blanks.numpy()).as_dict(),
        }


def rows_of_run(
    run: str | Path, rows: int, device: str = "auto", dtype: str = "auto", checkpoint: str = "last"
) -> tuple[DecodedRows, dict[str, Any]]:
    """Return held-out rows of a run, and a description of them.

    Args:
        run: a run with its prepared data, or an export beside it.
        rows: number of rows.
        device: device of the network.
        dtype: dtype of its weights.
        checkpoint: ``"last"`` or ``"best"``.
    """
    trained = load(run, checkpoint, device, dtype)
    windows, special, _, _ = evaluation_setting(trained)
    if windows.answers is None:
        canvas, answer = half_masked(windows, rows, special)
        task, quality, masked = "text", "tokens", "half of their tokens masked"
    else:
        chosen = _sample(len(windows), rows)
        answer, real, hidden = stack(
            [windows.rows[i] for i in chosen], special, torch.device("cpu"), [windows.answers[i] for i in chosen]
        )
        canvas = Canvas.infill(answer.masked_fill(hidden, special.mask), special, real)
        special = answer_special_ids(windows, special)
        task, quality, masked = "answers", "whole", "their answers masked"
    target = device_of(trained.model)
    decoded = DecodedRows(trained.model, canvas.to(target), answer.to(target), special)
    about = {
        "task": task, "model": str(trained.folder), "step": trained.step, "rows": len(answer), "blanks": float(decoded.blanks.double().mean()),
        "parameters": sum(p.numel() for p in decoded.model.parameters()), "quality": quality,
        "title": f"{len(answer):,} held-out rows of up to {answer.shape[1]} tokens, {masked}",
    }  # fmt: skip
    return decoded, about


def _sample(count: int, rows: int) -> list[int]:
    return [int(i) for i in np.random.default_rng(0).permutation(count)[:rows]]


def half_masked(windows: Windows, rows: int, special: SpecialIds) -> tuple[Canvas, Tensor]:
    """Return windows of the largest length with half of their tokens masked, and their true tokens ``[B, L]``.

    Args:
        windows: the held-out windows.
        rows: number of windows.
        special: special ids, which are never masked.
    """
    longest = int(windows.lengths.max())
    whole = [row for row in windows.rows if len(row) == longest]
    whole = whole if len(whole) >= min(rows, len(windows)) else list(windows.rows)
    text, real, maskable = stack([whole[i] for i in _sample(len(whole), rows)], special, torch.device("cpu"))
    hidden = maskable & (torch.rand(text.shape, generator=torch.Generator().manual_seed(0)) < 0.5)
    kept = hidden.any(-1)
    return Canvas.infill(text.masked_fill(hidden, special.mask)[kept], special, real[kept]), text[kept]


def half_hidden(data: Path, block: int, rows: int, special: SpecialIds) -> tuple[Canvas, Tensor]:
    """Return :func:`half_masked` of the validation store of a prepared folder.

    Args:
        data: folder of ``unmask prepare``.
        block: tokens of a window.
        rows: number of windows.
        special: special ids.
    """
    return half_masked(Windows.of_store(TokenStore.open(data / "valid"), block), rows, special)
