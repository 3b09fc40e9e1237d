"""The search for a path: every way to run a model is compared with its own forward on a few tokens, and the richest that agrees is taken.

The model's own logits of rows alone, without padding, are the reference. A path has to give the same for these rows side by side and under
padding on the right, on the left and on both sides. A few forwards of a few short rows, once per model; the model is left as it was.
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

LENGTHS = (11, 7, 5)  # tokens of the rows that are compared
LONGER = (1, 4, 16)  # times as many, for a model that cannot be run on so few
FAINT = 0.1  # of the spread of the logits: where tokens move each other less, weights are drawn anew for the comparison
WIDENING = 4  # how many times wider rows are than those compared so far, when padding is compared anew
# Of the spread of the logits: far above rounding, far below what a wrong position or a visible PAD changes.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 6e-2}


class Probe:
    """Short rows of a model, and what its own forward says of them.

    Args:
        model: with ``config``; its weights hold values (no meta device).
        mask_idx: id of the mask, if known.
        longer: times ``LENGTHS``.
        sole: compare padding on one row alone: for wide rows.
    """

    @classmethod
    def of(cls, model: Any, mask_idx: int | None) -> Probe:
        """The shortest rows that the model can be run on.

        Raises:
            ValueError: it cannot be run, or it returns no logits.
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
        self.padding_idx = padding_idx(model)
        weight = next(iter(model.parameters()))
        self.device, self.num_embeddings = weight.device, config.vocab_size
        if (table := token_table(model)) is not None:
            self.num_embeddings = table.shape[0]
        self.tolerance = TOLERANCE.get(weight.dtype, 6e-2)
        if (
            self.device.type == "cuda"
            and weight.dtype == torch.float32
            and torch.get_float32_matmul_precision() != "highest"
        ):
            self.tolerance = 1e-2
        longest = getattr(config, "max_position_embeddings", None)
        room = (
            longest - (self.padding_idx or 0) - 1 if isinstance(longest, int) and longest > 0 else longer * LENGTHS[0]
        )
        self.lengths = [max(1, min(n * longer, n * room // LENGTHS[0])) for n in LENGTHS]
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
        self.rows = [pool[torch.randint(len(pool), (n,), generator=generator)].to(self.device) for n in self.lengths]
        if mask is not None and 0 <= mask < self.num_embeddings:
            for row in self.rows:
                row[len(row) // 2] = mask
        self.pool = pool.to(self.device)

    @cached_property
    def traced(self) -> tuple[list[Tensor], tuple[HeadCall, ...] | None, int, int | None]:
        """The rows' own logits, the head that was seen, the first position id and the longest row (None = not seen)."""
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
        """The model's own logits ``[n, V]`` of one row."""
        self.seed()
        try:
            return own_logits(self.model, input_ids=row[None], **inputs)[0]
        except (ValueError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # any class of error, from any network
            raise ValueError(
                f"{type(self.model).__name__} cannot be run on {len(row)} tokens, so nothing here can be compared with its own forward "
                f"({type(error).__name__}: {' '.join(str(error).split())[:200]}). Check that model(input_ids=ids).logits works."
            ) from error

    @cached_property
    def padded(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows padded in all ways, ``[6, L]``: ids, which are real, and the logits that their tokens should have."""
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
        """Make draws inside a network the same in every forward."""
        torch.default_generator.manual_seed(0)

    def same(self, found: Tensor, expected: Tensor) -> bool:
        """Whether logits ``[N, V]`` agree up to rounding."""
        if found.shape != expected.shape or not torch.equal(found.isfinite(), expected.isfinite()):
            return False
        found, expected = (x.double().nan_to_num(0.0, 0.0, 0.0) for x in (found, expected))
        spread = (expected - expected.mean()).abs().max()
        return bool((found - expected).abs().max() <= self.tolerance * spread.clamp(min=1e-30))

    def agrees(self, path: Path, added: bool) -> bool:
        """Whether a path gives the model's own logits, padded and not."""
        try:
            ids, real, logits = self.padded
            states = path.states(self.model, ids, real, added=self._nothing(path, ids, added))
            if not self.same(path.logits(self.model, states[real]), logits):
                return False
            if self.sole:
                return True
            twice = self.rows[0].expand(2, -1)
            states = path.states(self.model, twice, added=self._nothing(path, twice, added))
            return self.same(path.logits(self.model, states)[1], self.traced[0][0])
        except torch.OutOfMemoryError:
            raise
        except Exception:  # whatever a network raises on inputs that it does not take
            return False

    def _nothing(self, path: Path, ids: Tensor, added: bool) -> Tensor | None:
        self.seed()
        if not added:
            return None
        table = token_table(self.model)
        assert table is not None
        return table.new_zeros(*ids.shape, table.shape[1])

    def adds(self, path: Path) -> bool:
        """Whether something added to the embedding of one token changes that token's logits, whichever token it is."""
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
        """Whether other position ids change the logits."""
        row = self.rows[0][None]
        backwards = torch.arange(row.shape[1], device=self.device).flip(0)[None]
        self.seed()
        found = path.logits(self.model, path.states(self.model, row, positions=backwards))[0]
        return not self.same(found, self.traced[0][0])

    @cached_property
    def influence(self) -> Tensor:
        """How far the logits of each position (column) move when one token (row) is changed, of the spread of the logits."""
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
        """Whether tokens hardly move each other's logits, as in a fresh model: nothing could be told from comparing those."""
        length = len(self.influence)
        return (
            bool(self.influence[~torch.eye(length, dtype=torch.bool, device=self.device)].amax() < FAINT)
            if length > 1
            else True
        )

    def refuse_causal(self) -> None:
        """Change one token after another and see whose logits move.

        Raises:
            ValueError: only those of the token itself and of later ones.
        """
        moved = self.influence > 0
        if bool(moved.triu(1).any()) and not bool(moved.tril(-1).any()):
            raise ValueError(
                f"{type(self.model).__name__} is causal: each token sees only those before it (changing a token changes nothing at the "
                "positions before it), so a hidden token could not be told from what follows. Give a bidirectional model, loaded with "
                "transformers.AutoModelForMaskedLM (and is_decoder=False)."
            )


def widened(model: Any, mask_idx: int | None, path: Path, width: int, longest: int | None) -> tuple[Path, int]:
    """Compare a path under padding on wide rows too, where local attention or chunks may read padding that they cannot reach in short rows.

    Args:
        model, mask_idx: as of :class:`Probe`.
        path: that agreed on shorter rows.
        width: of the rows at hand.
        longest: row that the model takes.

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
    """The richest path for token ids.

    Raises:
        ValueError: none agrees with the model's own forward.
    """
    _, head, offset, _ = probe.traced
    for found in (head, None) if head is not None else (None,):
        path = Path(found, IDS, "positions", offset, probe.padding_idx)
        by_positions = probe.agrees(path, False) and probe.heeds_positions(path)
        for padding in PADDINGS:
            candidate = replace(path, padding=padding, first_position=offset if by_positions else None)
            if padding == "positions" and not by_positions:
                continue
            if probe.agrees(candidate, False):
                return candidate
    raise ValueError(
        f"No way to run {type(probe.model).__name__} gives the logits of its own forward, not even one row at a time without padding: two calls on "
        "the same tokens differ. Turn off what is random in it (a hash or a sampling option of its config), or use another model."
    )


def search_added(probe: Probe, path: Path) -> Path:
    """The richest path for token ids with something added to their embeddings.

    Raises:
        ValueError: none agrees with the model's own forward when zeros are added, or an addition is lost.
    """
    for source in (EMBEDDINGS, *embedding_modules(probe.model)) if token_table(probe.model) is not None else ():
        for padding in PADDINGS[PADDINGS.index(path.padding) :]:
            candidate = replace(path, source=source, padding=padding)
            if padding == "positions" and path.first_position is None:
                continue
            if probe.agrees(candidate, True) and probe.adds(candidate):
                return candidate
    raise ValueError(
        f"Nothing can be added to the token embeddings of {type(probe.model).__name__}: with zeros added it gives other logits than without, or "
        "what is added is lost. Use it without self-conditioning, a layout or added embeddings, or use another network."
    )
