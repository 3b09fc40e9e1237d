"""``Canvas``: given tokens, masked positions, and the position ids of a batch.

Three constructors, equivalent for the loop:

    unconditional   all positions masked, optionally between BOS and EOS
    prefix          left-padded prompts, followed by masked positions
    infill          rows that contain masks anywhere

Shapes: ``ids``, ``fixed``, ``attention_mask``, ``positions`` are ``[B, L]``, ``row_ids`` is ``[B]``. A position is a blank, that is, to be filled,
if it is real (``attention_mask``), not ``fixed``, and holds the mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unmask.contracts import SpecialIds
from unmask.ops.segments import positions_from_mask


@dataclass(frozen=True)
class Canvas:
    """Rows to decode.

    Args:
        ids: int64 ``[B, L]``; the mask id at positions to fill.
        fixed: bool ``[B, L]``, True = never changes, even if it holds the mask.
        attention_mask: bool ``[B, L]``, True = real; False = padding.
        positions: int64 ``[B, L]``, position ids of the model; 0 on padding.
        row_ids: int64 ``[B]``, the keys of the rows' noise.

    Examples:
        >>> import torch
        >>> from unmask import Canvas, SpecialIds
        >>> special = SpecialIds(mask=0, pad=1, vocab_size=20)
        >>> canvas = Canvas.prefix(torch.tensor([[1, 5, 6]]), None, 2, special)
        >>> canvas.ids.tolist(), canvas.blanks(special.mask).sum().item()
        ([[1, 5, 6, 0, 0]], 2)
    """

    ids: Int[Tensor, "batch seq"]
    fixed: Bool[Tensor, "batch seq"]
    attention_mask: Bool[Tensor, "batch seq"]
    positions: Int[Tensor, "batch seq"]
    row_ids: Int[Tensor, " batch"]

    def blanks(self, mask_id: int) -> Bool[Tensor, "batch seq"]:
        """Return bool ``[B, L]``, True at the positions to fill.

        Args:
            mask_id: id of the mask.
        """
        return (self.ids == mask_id) & self.attention_mask & ~self.fixed

    def to(self, device: torch.device) -> Canvas:
        """Return the canvas on a device."""
        return Canvas(
            *(part.to(device) for part in (self.ids, self.fixed, self.attention_mask, self.positions, self.row_ids))
        )

    def rows(self, index: Int[Tensor, " rows"]) -> Canvas:
        """Return the canvas of the rows at ``index``."""
        return Canvas(
            self.ids[index], self.fixed[index], self.attention_mask[index], self.positions[index], self.row_ids[index]
        )

    @classmethod
    def unconditional(
        cls, rows: int, length: int, special: SpecialIds, add_bos: bool = False, add_eos: bool = False
    ) -> Canvas:
        """Return fully masked rows.

        Args:
            rows: number of rows.
            length: tokens per row.
            special: the tokenizer's special ids.
            add_bos, add_eos: True puts BOS first, EOS last.

        Raises:
            ValueError: the tokenizer has no BOS or EOS.
        """
        ids = torch.full((rows, length), special.mask)
        if add_bos:
            ids[:, 0] = special.require("bos").bos or 0
        if add_eos:
            ids[:, -1] = special.require("eos").eos or 0
        return cls.infill(ids, special)

    @classmethod
    def prefix(
        cls,
        prompts: Int[Tensor, "batch prompt"],
        attention_mask: Tensor | None,
        new_tokens: int,
        special: SpecialIds,
        row_ids: Int[Tensor, " batch"] | None = None,
        fixed: Tensor | None = None,
    ) -> Canvas:
        """Return left-padded prompts, each followed by ``new_tokens`` masked positions.

        Args:
            prompts: int64 ``[B, P]``; masks inside a prompt are filled too.
            attention_mask: ``[B, P]``, True (or 1) = real; None = see :meth:`infill`.
            new_tokens: masked positions appended to every row, at least 1.
            special: the tokenizer's special ids.
            row_ids: keys of the rows; ``0..B-1`` if None.
            fixed: ``[B, P]``, True = never changes, even a mask in the prompt.

        Raises:
            ValueError: ``new_tokens`` below 1, or an attention mask of another shape.
        """
        if new_tokens < 1:
            raise ValueError(f"new_tokens={new_tokens} appends nothing to the prompts: give 1 or more.")
        real = _real(prompts, attention_mask, special)
        blank = prompts.new_full((prompts.shape[0], new_tokens), special.mask)
        ids = torch.cat([prompts, blank], dim=1)
        real = torch.cat([real, torch.ones_like(blank, dtype=torch.bool)], dim=1)
        if fixed is not None:
            fixed = torch.cat([fixed.bool(), torch.zeros_like(blank, dtype=torch.bool)], dim=1)
        return cls.infill(ids, special, real, fixed=fixed, row_ids=row_ids)

    @classmethod
    def infill(
        cls,
        ids: Int[Tensor, "batch seq"],
        special: SpecialIds,
        attention_mask: Tensor | None = None,
        positions: Int[Tensor, "batch seq"] | None = None,
        fixed: Tensor | None = None,
        row_ids: Int[Tensor, " batch"] | None = None,
    ) -> Canvas:
        """Return rows whose masks are to be filled, padded on either side.

        Args:
            ids: int64 ``[B, L]``.
            special: the tokenizer's special ids.
            attention_mask: ``[B, L]``, True (or 1) = real. If None, everything that is not PAD is real.
            positions: position ids of the model; None = counted from each row's first real token.
            fixed: ``[B, L]``, True = never changes. If None, everything that is not a mask.
            row_ids: keys of the rows; ``0..B-1`` if None.

        Raises:
            ValueError: an attention mask of another shape.
        """
        real = _real(ids, attention_mask, special)
        visible = ids != special.mask
        return cls(
            ids=ids,
            fixed=visible if fixed is None else visible | fixed.bool(),
            attention_mask=real,
            positions=positions_from_mask(real) if positions is None else positions,
            row_ids=torch.arange(len(ids), device=ids.device) if row_ids is None else row_ids,
        )


def _real(ids: Tensor, attention_mask: Tensor | None, special: SpecialIds) -> Bool[Tensor, "batch seq"]:
    if attention_mask is not None:
        if attention_mask.shape != ids.shape:
            raise ValueError(
                f"The attention mask is {list(attention_mask.shape)} and the ids are {list(ids.shape)}: give one entry per "
                "token, True for real tokens."
            )
        return attention_mask.bool()
    if special.pad is None or special.pad in (special.mask, special.bos, special.eos):
        return torch.ones_like(ids, dtype=torch.bool)
    return ids != special.pad
