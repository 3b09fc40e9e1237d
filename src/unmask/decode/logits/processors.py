"""Logits processors: functions of the logits before scoring and sampling.

A processor maps the logits ``[N, V]`` of the scored positions to logits of the same shape. Special ids are forbidden before the
first processor, so that their logits cannot affect the probabilities of the others. They are forbidden again after the last one, so that no
processor can allow them. Processors run in the order given.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unmask.contracts import SpecialIds
from unmask.decode.canvas import Canvas
from unmask.decode.reads import Reads
from unmask.decode.view import StepView
from unmask.ops.sampling import Logits, forbid


@runtime_checkable
class LogitsProcessor(Protocol):
    """Logits ``[N, V]`` at the True positions of ``where [b, L]`` -> logits of the same shape; float32 or float64.

    The input may be changed in place. An optional attribute ``reads`` says what the processor reads (``Reads``).

    Examples:
        >>> import torch
        >>> special = SpecialIds(mask=0, vocab_size=20)
        >>> def model(x_t, attention_mask=None, positions=None, block_mask=None):
        ...     return torch.zeros(*x_t.shape, 20)
        >>> def favour_nine(logits, view, where):
        ...     logits[:, 9] += 100.0
        ...     return logits
        >>> canvas = Canvas.infill(torch.tensor([[5, 0, 0]]), special)
        >>> rules = make_rules(2, logits_processors=[favour_nine])
        >>> fill_canvas(model, canvas, rules, special=special, seed=0).ids.tolist()
        [[5, 9, 9]]
    """

    def __call__(self, logits: Logits, view: StepView, where: Bool[Tensor, "rows seq"]) -> Logits: ...


@dataclass(frozen=True)
class AllowedIds:
    """Allow ordinary ids, and EOS only after all given text.

    The mask, PAD and all other special ids are forbidden, and so are ids beyond the tokenizer's vocabulary (a
    padded embedding). An EOS before given text would end the text early, so it is allowed only where no given token follows.

    Attributes:
        special: the special ids.
        allow_eos: False forbids EOS everywhere.
    """

    special: SpecialIds
    allow_eos: bool = True

    def __call__(self, logits: Logits, view: StepView, where: Bool[Tensor, "rows seq"]) -> Logits:
        vocab = logits.shape[-1]
        eos = self.special.eos
        eos_possible = (
            self.allow_eos and eos is not None and eos not in (self.special.mask, self.special.pad) and eos < vocab
        )
        forbidden = [i for i in self.special.all if i < vocab and not (eos_possible and i == eos)]
        logits.index_fill_(1, torch.tensor(forbidden, device=logits.device), -torch.inf)
        logits[:, self.special.vocab_size :] = -torch.inf
        if eos_possible:
            logits[~last_run(view.canvas, self.special.mask)[where], eos] = -torch.inf
        return logits


@dataclass(frozen=True)
class ForbiddenIds:
    """Forbid ids.

    Attributes:
        ids: ordinary ids that are never placed.
    """

    ids: tuple[int, ...]
    reads: ClassVar[Reads] = Reads.NOTHING

    def __call__(self, logits: Logits, view: StepView, where: Bool[Tensor, "rows seq"]) -> Logits:
        forbidden = torch.zeros(logits.shape[-1], dtype=torch.bool)
        forbidden[[i for i in self.ids if i < logits.shape[-1]]] = True
        return forbid(logits, forbidden.to(logits.device))


@dataclass(frozen=True, eq=False)
class PositionVocabulary:
    """Allow a separate set of ids at every position.

    Attributes:
        allowed: bool ``[B, L, V]`` over the caller's batch (or ``[1, L, V]`` for all rows), True = allowed.
    """

    allowed: Bool[Tensor, "batch seq vocab"]
    reads: ClassVar[Reads] = Reads.NOTHING

    def __call__(self, logits: Logits, view: StepView, where: Bool[Tensor, "rows seq"]) -> Logits:
        rows, columns = where.nonzero(as_tuple=True)
        row = view.rows[rows] if len(self.allowed) > 1 else torch.zeros_like(rows)
        return logits.masked_fill(~self.allowed[row, columns], -torch.inf)


@dataclass(frozen=True)
class RepetitionPenalty:
    """Lower the logits of tokens that occur in the row (Keskar et al. 2019, 1909.05858).

    As in Hugging Face's ``RepetitionPenaltyLogitsProcessor``, a positive logit is divided by the penalty and a negative
    one is multiplied by it. The rule applies to the network's unnormalised logits, independently for each id.

    Attributes:
        penalty: 1 changes nothing; above 1 discourages repetition.
        special: special ids, which are never penalised.

    Raises:
        ValueError: a penalty of 0 or less.
    """

    penalty: float
    special: SpecialIds
    reads: ClassVar[Reads] = Reads.NOTHING

    def __post_init__(self) -> None:
        if self.penalty <= 0:
            raise ValueError(
                f"A repetition penalty of {self.penalty} is not above 0: 1 changes nothing, 1.1 to 1.5 is usual."
            )

    def __call__(self, logits: Logits, view: StepView, where: Bool[Tensor, "rows seq"]) -> Logits:
        vocab = logits.shape[-1]
        text = view.canvas.attention_mask & (view.ids < vocab)
        # Padding is scattered to an extra column: scattering False over True would lose tokens.
        seen = torch.zeros(len(view.ids), vocab + 1, dtype=torch.bool, device=logits.device)
        seen = seen.scatter(1, view.ids.masked_fill(~text, vocab), True)[:, :vocab]
        seen[:, [i for i in self.special.all if i < vocab]] = False
        penalised = torch.where(logits < 0, logits * self.penalty, logits / self.penalty)
        return torch.where(seen[where.nonzero()[:, 0]], penalised, logits)


@dataclass(frozen=True)
class EosLast:
    """Allow EOS only where no masked position precedes it, so that it ends a complete text.

    Attributes:
        special: the special ids; without an EOS id the logits stay unchanged.
    """

    special: SpecialIds
    reads: ClassVar[Reads] = Reads.NOTHING

    def __call__(self, logits: Logits, view: StepView, where: Bool[Tensor, "rows seq"]) -> Logits:
        if self.special.eos is None:
            return logits
        before = (view.blanks.long().cumsum(-1) - view.blanks.long()) > 0
        early = torch.zeros_like(logits, dtype=torch.bool)
        early[:, self.special.eos] = before[where]
        return logits.masked_fill(early, -torch.inf)


@dataclass(frozen=True)
class HookOfLogits:
    """A logits processor from a function of the logits alone.

    Attributes:
        hook: logits ``[N, V]`` -> logits.
    """

    hook: Callable[..., Logits]

    def __call__(self, logits: Logits, view: StepView, where: Bool[Tensor, "rows seq"]) -> Logits:
        return self.hook(logits)


def as_logits_processor(hook: Callable[..., Logits]) -> LogitsProcessor:
    """Return a logits processor from ``hook(logits, view, where)`` or ``hook(logits)``."""
    try:
        inspect.signature(hook).bind(None, None, None)
    except TypeError:
        return HookOfLogits(hook)
    except ValueError:  # a builtin without a signature
        pass
    return hook


def last_run(canvas: Canvas, mask_id: int) -> Bool[Tensor, "rows seq"]:
    """Return the masked positions that no given token of their row follows."""
    given = (canvas.attention_mask & (canvas.fixed | (canvas.ids != mask_id))).long()
    following = given.flip(-1).cumsum(-1).flip(-1)
    return (following == 0) & canvas.attention_mask


def as_logits(raw: Float[Tensor, "scored vocab"]) -> Logits:
    """Return logits in float32, or float64 if they are float64: half-precision confidences tie near 1."""
    return raw if raw.dtype == torch.float64 else raw.float()
