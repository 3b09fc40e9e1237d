"""The search for a path: compare every way to run a model with its own forward on a few tokens, and take the best
match.

The reference is the model's own logits of single rows without padding. A path must reproduce them for these rows side
by side, and under padding on the right, on the left and on both sides. This costs a few forward passes of a few short
rows, once per model; the model is restored afterwards.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from unmask.models.hf_path import EMBEDDINGS, IDS, PADDINGS, HeadCall, Path, own_logits
from unmask.models.hf_probe import (
    Lookups,
    embedding_modules,
    head_of,
    padding_idx,
    recorded_calls,
    special_ids,
    token_table,
)

LENGTHS = (11, 7, 5)  # tokens of the compared rows
LONGER = (1, 4, 16)  # factors of these lengths, for models that need longer rows
FAINT = 0.1  # fraction of the spread of the logits: if tokens influence each other less, compare with random weights
WIDENING = 4  # factor of the row width at which padding is compared again
# Fractions of the spread of the logits: far above rounding, far below the effect of a wrong position or a visible PAD.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 6e-2}


class Probe:
    """Short rows of a model, with the logits of its own forward.

    Args:
        model: with ``config``; its weights have values (no meta device).
        mask_idx: id of the mask, if known.
        longer: factor of ``LENGTHS``.
        sole: compare padding on one row only, for wide rows.
    """

    @classmethod
    def of(cls, model: Any, mask_idx: int | None) -> Probe:
        """Return a probe of the shortest rows that the model supports.

        Raises:
            ValueError: the model fails, or it returns no logits.
        """
        for longer in LONGER:
            try:
                probe = cls(model, mask_idx, longer)
                assert probe.traced
                return probe
            except ValueError as error:
                refusal = error
        raise refusal

    def __init__(self, model: Any, mask_idx: int | None, longer: int = 1, sole: bool = False) -> None:
        self.model = model
        self.sole = sole
        config = model.config.get_text_config()
        self.config = config
        self.padding_idx: int | None = padding_idx(model)
        weight = next(iter(model.parameters()))
        self.device: torch.device = weight.device
        self.num_embeddings: int = config.vocab_size
        if (table := token_table(model)) is not None:
            self.num_embeddings = table.shape[0]
        self.tolerance: float = TOLERANCE.get(weight.dtype, 6e-2)
        if (
            self.device.type == "cuda"
            and weight.dtype == torch.float32
            and torch.get_float32_matmul_precision() != "highest"
        ):
            self.tolerance = 1e-2
        longest = getattr(config, "max_position_embeddings", None)
        room = longer * LENGTHS[0]
        if isinstance(longest, int) and longest > 0:
            first = (self.padding_idx or 0) + 1  # where positions are counted from behind PAD, as in RoBERTa
            room = longest - first if first < longest else longest
        self.lengths: list[int] = [max(1, min(n * longer, n * room // LENGTHS[0])) for n in LENGTHS]
        mask = (
            mask_idx
            if mask_idx is not None
            else next(
                (i for i in (getattr(config, "mask_token_id", None), getattr(config, "mask_index", None)) if i), None
            )
        )
        ordinary = [i for i in range(self.num_embeddings) if i not in special_ids(model.config)][: 1 << 16] or list(
            range(self.num_embeddings)
        )
        pool = torch.tensor(ordinary)
        generator = torch.Generator().manual_seed(0)
        self.rows: list[Tensor] = [
            pool[torch.randint(len(pool), (n,), generator=generator)].to(self.device) for n in self.lengths
        ]
        if mask is not None and 0 <= mask < self.num_embeddings:
            for row in self.rows:
                row[len(row) // 2] = mask
        self.pool: Tensor = pool.to(self.device)

    @cached_property
    def traced(self) -> tuple[list[Tensor], tuple[HeadCall, ...] | None, int, int | None]:
        """The rows' own logits, the observed head, the first position id and the longest row (None = not observed)."""
        with Lookups() as lookups, recorded_calls(self.model) as calls:
            first = self.own(self.rows[0])
        head = head_of(calls, first)
        length = len(self.rows[0])
        tables = [
            (rows, int(index[0]))
            for rows, index in lookups.seen
            if torch.equal(index, index[0] + torch.arange(length)) and length > 1
        ]
        offset = tables[0][1] if tables else 0
        limits = [rows - start for rows, start in tables]
        declared = getattr(self.config, "max_position_embeddings", None)
        if isinstance(declared, int) and declared > 0:
            limits.append(declared)
        return [first, *(self.own(row) for row in self.rows[1:])], head, offset, min(limits, default=None)

    def own(self, row: Tensor, **inputs: Tensor) -> Tensor:
        """Return the model's own logits ``[n, V]`` of one row."""
        self.seed()
        try:
            return own_logits(self.model, input_ids=row[None], **inputs)[0]
        except (ValueError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # any class of error, from any network
            raise ValueError(
                f"{type(self.model).__name__} fails on {len(row)} tokens, so its own forward cannot serve as a reference "
                f"({type(error).__name__}: {' '.join(str(error).split())[:200]}). Check that model(input_ids=ids).logits works."
            ) from error

    @cached_property
    def padded(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows with every kind of padding, ``[6, L]``: ids, the mask of real tokens, and the expected logits of these
        tokens.
        """
        width, (_, middle, short) = self.lengths[0], self.lengths
        places = [(0, 0), (1, 0), (1, width - middle), (2, 0), (2, (width - short) // 2), (2, width - short)]
        places = [(1, (width - middle) // 2)] if self.sole else places
        filler = self.padding_idx if self.padding_idx is not None else int(self.rows[0][0])
        ids = torch.full((len(places), width), filler, device=self.device)
        real = torch.zeros_like(ids, dtype=torch.bool)
        for i, (row, start) in enumerate(places):
            ids[i, start : start + self.lengths[row]] = self.rows[row]
            real[i, start : start + self.lengths[row]] = True
        logits = [None, self.own(self.rows[1])] if self.sole else self.traced[0]
        return ids, real, torch.cat([logits[row] for row, _ in places])  # type: ignore[misc]

    def seed(self) -> None:
        """Seed torch, so that random draws inside a network are the same in every forward."""
        torch.default_generator.manual_seed(0)

    def same(self, logits: Tensor, expected: Tensor) -> bool:
        """Return whether logits ``[N, V]`` agree up to rounding."""
        if logits.shape != expected.shape or not torch.equal(logits.isfinite(), expected.isfinite()):
            return False
        logits, expected = (x.double().nan_to_num(0.0, 0.0, 0.0) for x in (logits, expected))
        spread = (expected - expected.mean()).abs().max()
        return bool((logits - expected).abs().max() <= self.tolerance * spread.clamp(min=1e-30))

    def agrees(self, path: Path, added: bool) -> bool:
        """Return whether a path reproduces the model's own logits, with and without padding."""
        try:
            ids, real, logits = self.padded
            states = path.states(self.model, ids, real, added=self._zeros(path, ids, added))
            if not self.same(path.logits(self.model, states[real]), logits):
                return False
            if self.sole:
                return True
            twice = self.rows[0].expand(2, -1)
            states = path.states(self.model, twice, added=self._zeros(path, twice, added))
            return self.same(path.logits(self.model, states)[1], self.traced[0][0])
        except torch.OutOfMemoryError:
            raise
        except Exception:  # networks raise anything on unsupported inputs
            return False

    def _zeros(self, path: Path, ids: Tensor, added: bool) -> Tensor | None:
        self.seed()
        if not added:
            return None
        table = token_table(self.model)
        assert table is not None
        return table.new_zeros(*ids.shape, table.shape[1])

    def adds(self, path: Path) -> bool:
        """Return whether adding to the embedding of a token changes that token's logits, for every token."""
        row, weight = self.rows[0][None], token_table(self.model)
        assert weight is not None
        once = torch.eye(row.shape[1], dtype=weight.dtype, device=self.device)[..., None]
        generator = torch.Generator().manual_seed(1)
        direction = torch.randn(weight.shape[1], generator=generator).to(weight) * weight.std().clamp(min=1e-3)
        self.seed()
        moved = path.logits(self.model, path.states(self.model, row.expand(row.shape[1], -1), added=once * direction))
        change = (moved - self.traced[0][0]).abs().amax(-1).diagonal()
        return bool((change > 0).all())

    def heeds_positions(self, path: Path) -> bool:
        """Return whether other position ids change the logits."""
        row = self.rows[0][None]
        backwards = torch.arange(row.shape[1], device=self.device).flip(0)[None]
        self.seed()
        reversed_logits = path.logits(self.model, path.states(self.model, row, positions=backwards))[0]
        return not self.same(reversed_logits, self.traced[0][0])

    @cached_property
    def influence(self) -> Tensor:
        """Change of the logits at each position (column) when one token (row) changes, as a fraction of their
        spread.
        """
        length = len(self.rows[0])
        rows = self.rows[0].repeat(length + 1, 1)
        for i in range(length):
            others = self.pool[self.pool != rows[i, i]]
            if len(others):
                rows[i, i] = others[(7 * i + len(others) // 2) % len(others)]
        self.seed()
        logits = own_logits(self.model, input_ids=rows).double().nan_to_num(0.0, 0.0, 0.0)
        return (logits[:-1] - logits[-1]).abs().amax(-1) / (logits[-1] - logits[-1].mean()).abs().max().clamp(min=1e-30)

    @property
    def is_faint(self) -> bool:
        """Whether tokens hardly influence each other, as in a fresh model, so that a comparison would prove nothing."""
        length = len(self.influence)
        return (
            bool(self.influence[~torch.eye(length, dtype=torch.bool, device=self.device)].amax() < FAINT)
            if length > 1
            else True
        )

    def refuse_causal(self) -> None:
        """Change one token after another and compare the logits.

        Raises:
            ValueError: only the logits of the token itself and of later ones change.
        """
        moved = self.influence > 0
        if bool(moved.triu(1).any()) and not bool(moved.tril(-1).any()):
            raise ValueError(
                f"{type(self.model).__name__} is causal: each token sees only the tokens before it (changing a token changes no logits at "
                "earlier positions), so masked tokens cannot be predicted from the right context. Give a bidirectional model, loaded "
                "with transformers.AutoModelForMaskedLM (and is_decoder=False)."
            )


def widened(model: Any, mask_idx: int | None, path: Path, width: int, longest: int | None) -> tuple[Path, int]:
    """Compare a path under padding on wide rows: local attention or chunks may read padding only in long rows.

    Args:
        model, mask_idx: as of :class:`Probe`.
        path: a path that agreed on shorter rows.
        width: of the current rows.
        longest: longest row that the model supports.

    Returns:
        The path, or the first after it that agrees, and the width up to which it was compared.
    """
    longer = 1
    while longer * LENGTHS[0] < width:
        longer *= WIDENING
    probe = Probe(model, mask_idx, longer if longest is None else min(longer, max(1, longest // LENGTHS[0])), sole=True)
    candidates = [replace(path, padding=padding) for padding in PADDINGS[PADDINGS.index(path.padding) :]]
    added = path.source != IDS
    for candidate in candidates:
        if (candidate.padding != "positions" or path.first_position is not None) and probe.agrees(candidate, added):
            return candidate, longer * LENGTHS[0]
    return candidates[-1], longer * LENGTHS[0]


def search(probe: Probe) -> Path:
    """Return the most capable path for token ids.

    Raises:
        ValueError: no path agrees with the model's own forward.
    """
    _, head, offset, _ = probe.traced
    for candidate_head in (head, None) if head is not None else (None,):
        path = Path(candidate_head, IDS, "positions", offset, probe.padding_idx)
        by_positions = probe.agrees(path, False) and probe.heeds_positions(path)
        for padding in PADDINGS:
            candidate = replace(path, padding=padding, first_position=offset if by_positions else None)
            if padding == "positions" and not by_positions:
                continue
            if probe.agrees(candidate, False):
                return candidate
    raise ValueError(
        f"No way to run {type(probe.model).__name__} reproduces the logits of its own forward, not even single rows without padding: two calls on "
        "the same tokens differ. Turn off its randomness (a hash or a sampling option of its config), or use another model."
    )


def search_added(probe: Probe, path: Path) -> Path:
    """Return the most capable path for token ids with added embeddings.

    Raises:
        ValueError: no path reproduces the model's own logits when zeros are added, or the addition has no effect.
    """
    for source in (EMBEDDINGS, *embedding_modules(probe.model)) if token_table(probe.model) is not None else ():
        for padding in PADDINGS[PADDINGS.index(path.padding) :]:
            candidate = replace(path, source=source, padding=padding)
            if padding == "positions" and path.first_position is None:
                continue
            if probe.agrees(candidate, True) and probe.adds(candidate):
                return candidate
    raise ValueError(
        f"Nothing can be added to the token embeddings of {type(probe.model).__name__}: adding zeros changes its logits, or additions have no "
        "effect. Use it without self-conditioning, a layout or added embeddings, or use another network."
    )
