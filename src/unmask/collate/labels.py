"""Collator for rows with a mask of maskable tokens; the batch carries ``labels``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unmask.arrays import filled
from unmask.collate.collator import Assembled, CorruptedBatch, CorruptingCollator
from unmask.collate.given import maskable
from unmask.collate.layout import pad
from unmask.collate.rows import Rows, lengths_of, require_column, require_flags
from unmask.contracts import IGNORED_TARGET, SpecialIds
from unmask.ops.corruption import bert_corruption
from unmask.ops.time_sampling import TimeSampling
from unmask.randomness import low_discrepancy


class MaskedLMCollator(CorruptingCollator):
    """Rows ``{"tokens", "mask"}`` to ``{"tokens", "mask", "labels"}`` under 80/10/10 (Devlin et al. 2019, sec. 3.1).

    Args:
        mask_token_id: id of the mask; never sampled as a random token.
        vocab_size: number of ids; random tokens are below it.
        probability: fraction of the maskable tokens that is selected.
        special_ids: ids that are never masked and never sampled.

    Other Parameters:
        tokenizer: tokenizer or ``SpecialIds`` that supplies further ``special_ids``.
        mask_replace_prob, random_replace_prob: fractions of the selected tokens replaced by the mask and by random
            tokens; the others stay as they are.
        seed, low_discrepancy_times, time_sampling, pass_through: see :class:`CorruptingCollator`.

    Tokens and mask are ``[B, L]`` or ragged; shorter rows are padded with ``mask`` 0. Rows with the names ``input_ids``
    and ``attention_mask`` work too. All arguments are kept as attributes, ``tokenizer`` as its ``SpecialIds``, so that
    a pickled collator holds no tokenizer.

    Returns (when called with rows):
        ``tokens``, ``mask`` and ``labels``, int64 ``[B, L]``. ``labels`` are the clean ids at selected positions, -100
        elsewhere.

    Raises:
        ValueError: ``mask_token_id`` is outside the vocabulary, or a probability outside 0 to 1.

    Examples:
        >>> from unmask import MaskedLMCollator
        >>> collate = MaskedLMCollator(mask_token_id=0, vocab_size=20, probability=1.0, mask_replace_prob=1.0,
        ...                            random_replace_prob=0.0)
        >>> batch = collate([{"tokens": [5, 6, 7], "mask": [1, 1, 0]}])
        >>> batch["tokens"].tolist(), batch["labels"].tolist()
        ([[0, 0, 7]], [[5, 6, -100]])
    """

    PROBABILITY = 0.15

    def __init__(
        self,
        mask_token_id: int,
        vocab_size: int,
        probability: float = PROBABILITY,
        special_ids: tuple[int, ...] = (),
        *,
        tokenizer: Any = None,
        mask_replace_prob: float = 0.8,
        random_replace_prob: float = 0.1,
        seed: int = 0,
        low_discrepancy_times: bool = True,
        time_sampling: TimeSampling = low_discrepancy,
        pass_through: Sequence[str] = (),
    ) -> None:
        if not 0 <= mask_token_id < vocab_size:
            raise ValueError(
                f"mask_token_id={mask_token_id} is not an id of a vocabulary of {vocab_size}: pass 0 to "
                f"{vocab_size - 1}, or a larger vocab_size."
            )
        known = SpecialIds.of(tokenizer) if tokenizer is not None else SpecialIds(mask_token_id, vocab_size)
        special = SpecialIds(
            mask_token_id, vocab_size, known.pad, others=tuple({*known.all, *special_ids} - {mask_token_id})
        )
        corruption = bert_corruption(
            mask_token_id, vocab_size, special.all, probability, mask_replace_prob, random_replace_prob
        )
        super().__init__(special, corruption, seed, low_discrepancy_times, time_sampling, pass_through)
        self.mask_token_id = mask_token_id
        self.vocab_size = vocab_size
        self.probability = probability
        self.special_ids = special_ids
        self.tokenizer: SpecialIds | None = None if tokenizer is None else known
        self.mask_replace_prob = mask_replace_prob
        self.random_replace_prob = random_replace_prob

    def assemble(self, rows: Rows) -> Assembled:
        tokens = require_column(rows, "tokens", "input_ids")
        mask = require_flags(rows, "mask", "attention_mask")
        if lengths_of(tokens) != lengths_of(mask):
            raise ValueError("Each row's 'mask' must be as long as its 'tokens': 1 = a real token, 0 = padding.")
        allowed = maskable(rows, tokens)
        width = max(1, *lengths_of(tokens))
        ids, _ = pad(tokens, width, self.special.pad or 0)
        real = pad(mask, width, 0)[0].numpy() != 0
        eligible = real & self.find_specials(ids.numpy())[0]
        if allowed is not None:
            eligible &= pad(allowed, width, 0)[0].numpy() != 0
        return Assembled(ids, torch.from_numpy(real), torch.from_numpy(eligible))

    def batch(self, corrupted: CorruptedBatch) -> dict[str, Tensor]:
        """Return ``tokens``, ``mask`` and ``labels``, int64 ``[B, L]``."""
        clean = corrupted.clean
        return {
            "tokens": corrupted.noisy,
            "mask": torch.from_numpy(clean.attention_mask.numpy().astype(np.int64)),
            "labels": torch.from_numpy(filled(clean.ids.numpy(), ~corrupted.scored.numpy(), IGNORED_TARGET)),
        }
