"""The canvas: what is given, what is blank, and where every token stands.

Three ways to make one, and the loop sees no difference between them:

    unconditional   all blank (between BOS and EOS if asked)
    prefix          left-padded prompts, then blanks to continue them
    infill          rows that already hold masks, anywhere

Shapes: ``ids``, ``fixed``, ``attention_mask``, ``positions`` are ``[B, L]``, ``row_ids`` is ``[B]``. A position is blank
where it is real (``attention_mask``), not ``fixed``, and holds the mask.
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

    Attributes:
        ids: int64 ``[B, L]``; the mask where a token is wanted.
        fixed: bool ``[B, L]``, True = never changes, not even a mask.
        attention_mask: bool ``[B, L]``, True = real; elsewhere is padding.
        positions: int64 ``[B, L]``, as the model counts them; 0 on padding.
        row_ids: int64 ``[B]``, what the noise of a row is keyed by.
    """

    ids: Int[Tensor, "batch seq"]
    fixed: Bool[Tensor, "batch seq"]
    attention_mask: Bool[Tensor, "batch seq"]
    positions: Int[Tensor, "batch seq"]
    row_ids: Int[Tensor, " batch"]

    def blanks(self, mask_id: int) -> Bool[Tensor, "batch seq"]:
        """True where a token is wanted."""
        return (self.ids == mask_id) & self.attention_mask & ~self.fixed

    def to(self, device: torch.device) -> Canvas:
        """The canvas on a device."""
        return Canvas(
            *(part.to(device) for part in (self.ids, self.fixed, self.attention_mask, self.positions, self.row_ids))
        )

    def rows(self, index: Int[Tensor, " rows"]) -> Canvas:
        """The canvas of some of the rows."""
        return Canvas(
            self.ids[index], self.fixed[index], self.attention_mask[index], self.positions[index], self.row_ids[index]
        )

    @classmethod
    def unconditional(
        cls, rows: int, length: int, special: SpecialIds, add_bos: bool = False, add_eos: bool = False
    ) -> Canvas:
        """``rows`` rows of ``length`` tokens, all blank but BOS and EOS where asked.

        Raises:
            ValueError: the tokenizer lacks the BOS or EOS that is asked for.
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
        """Left-padded prompts followed by ``new_tokens`` blanks each.

        Args:
            prompts: int64 ``[B, P]``; masks inside a prompt are blanks too.
            attention_mask: ``[B, P]``, True (or 1) = real; None = see :meth:`infill`.
            new_tokens: blanks appended to every row.
            special: the tokenizer's special ids.
            row_ids: keys of the rows; ``0..B-1`` if None.
            fixed: ``[B, P]``, True = never changes, not even a mask of the prompt.
        """
        if new_tokens < 1:
            raise ValueError(
                f"A prefix is continued by at least one token, and new_tokens is {new_tokens}: give 1 or more."
            )
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
        """Rows whose masks are to be filled, padded on either side.

        Args:
            ids: int64 ``[B, L]``.
            special: the tokenizer's special ids.
            attention_mask: ``[B, L]``, True (or 1) = real. If None, everything that is not PAD is real.
            positions: as the model counts them; from each row's first real token if None.
            fixed: ``[B, L]``, True = never changes. If None, everything that is not a mask.
            row_ids: keys of the rows; ``0..B-1`` if None.
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
                "token, True where the token is real."
            )
        return attention_mask.bool()
    if special.pad is None or special.pad in (special.mask, special.bos, special.eos):
        return torch.ones_like(ids, dtype=torch.bool)
    return ids != special.pad
