"""Continuous batching: decodes that share forward passes, and join and leave between steps.

Each decode is a generator of forward requests (``unmask.decode.loop``). One tick of :class:`ContinuousBatch`:

    merge    the steps of decodes with equal rules (``unmask.decode.shared_steps``), as rows of one view
    group    plain requests of similar width, up to a budget of tokens and of logits
    run      one forward pass for each group; cached, guided and other sessions run on their own
    send     to each decode its logits; a finished one leaves, and new ones join before the next tick

The company of a decode changes nothing, to the last bit. Three rules see to that on a CPU, where a product of few rows takes other kernels:

    at least ``FEWEST_READS`` positions are read in each row, and ``FEWEST_TOKENS`` tokens run, by repetition
    a network that drops padding sees each row at its own length; others see it padded to a multiple of ``WIDTH``, whatever its company
    weights stay prepacked from the first tick to the last

:func:`company_changes_nothing` measures it for a network on its device. Shapes: ``[b, L]`` of one request, ``[N, V]`` of its logits.
"""

from __future__ import annotations

from collections.abc import Container, Generator, Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unmask.contracts import MLMModel
from unmask.decode.canvas import Canvas
from unmask.decode.forward_request import ForwardRequest
from unmask.decode.forwards.plain import PlainForward
from unmask.decode.loop import decode_steps, step_of
from unmask.decode.reach import reached
from unmask.decode.rules import Rules
from unmask.decode.shared_logits import FEWEST_READS, WIDTH, drops_padding, shared_logits, width_of
from unmask.decode.shared_steps import Choice, StepRequest, parts
from unmask.decode.shared_steps import merged as merged_view
from unmask.nn.linear import prepack_weights
from unmask.nn.modes import eval_mode

Work = Generator[Any, Any, Any]
"""A decode, or several in turn, with any result."""


class Member:
    """A decode in a batch.

    Attributes:
        work: the decode.
        request: the forward pass that it needs next; None = finished.
        held: the last one, which a finished decode repeats until its batch is done (``hold``); None = it repeats none.
        result: what it returned.
        error: what it raised; None = nothing.
        passes: forward passes so far.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        self.request: ForwardRequest | StepRequest | None = None
        self.held: ForwardRequest | StepRequest | None = None
        self.result: Any = None
        self.error: Exception | None = None
        self.passes: int = 0

    @property
    def current(self) -> Any:
        """The request that it takes part with: the next one, or the held one."""
        return self.held if self.request is None else self.request

    def resume(self, answer: Tensor | Choice | None) -> None:
        """Run the decode up to its next request, or to its end."""
        try:
            self.request = next(self.work) if answer is None else self.work.send(answer)
        except StopIteration as done:
            self.request, self.result = None, done.value
        except Exception as error:
            self.request, self.error = None, error


class Pass(NamedTuple):
    """One forward pass of a tick.

    Attributes:
        rows: rows of all its requests.
        tokens: positions, padding included.
    """

    rows: int
    tokens: int


class ContinuousBatch:
    """Decodes that share forward passes.

    Enter it as a context, in the thread that calls it: the network stays in eval mode, with prepacked weights.

    Args:
        model: the network.
        max_tokens: positions of a shared forward pass.
        max_logits: numbers of its logits.
        vocab_size: logits per position.
        hold: True keeps finished decodes in the forward passes until all have finished, as fixed batches do: for comparison.

    Examples:
        >>> import torch
        >>> from unmask import Canvas, RotaryTransformerMLMModel, SpecialIds, make_rules
        >>> from unmask.decode.loop import decode_steps
        >>> special = SpecialIds(mask=0, pad=1, vocab_size=20)
        >>> model = RotaryTransformerMLMModel(20, 16, 1, 2, padding_idx=1, mask_idx=0)
        >>> canvases = [Canvas.infill(torch.tensor([row]), special) for row in ([5, 0, 6], [7, 0, 0, 0])]
        >>> with ContinuousBatch(model, vocab_size=20) as batch:
        ...     members = [batch.join(decode_steps(canvas, make_rules(4), special, seed=0)) for canvas in canvases]
        ...     while batch.members:
        ...         _ = batch.advance()
        >>> [int((member.result.ids == 0).sum()) for member in members]
        [0, 0]
    """

    def __init__(
        self,
        model: MLMModel,
        *,
        vocab_size: int,
        max_tokens: int = 1 << 12,
        max_logits: int = 1 << 25,
        hold: bool = False,
    ) -> None:
        self.model = model
        self.vocab_size = vocab_size
        self.max_tokens = max_tokens
        self.max_logits = max_logits
        self.hold = hold
        self.members: list[Member] = []
        self.passes: list[Pass] = []
        self._contexts = ExitStack()

    def __enter__(self) -> ContinuousBatch:
        self._contexts.enter_context(torch.inference_mode())
        self._contexts.enter_context(eval_mode(self.model))
        self._contexts.enter_context(prepack_weights(self.model))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in list(self.members):
            self.leave(member)
        self._contexts.close()

    def join(self, work: Work) -> Member:
        """Add a decode; it takes part from the next tick on. One that needs no forward pass, or fails at once, leaves in that tick."""
        member = Member(work)
        member.resume(None)
        self.members.append(member)
        return member

    def leave(self, member: Member) -> None:
        """End a decode at once."""
        member.work.close()
        self.members.remove(member)

    def advance(self, paused: Container[Member] = ()) -> list[Member]:
        """Run one forward pass of every decode, and return those that have ended, which leave.

        The forward passes of the tick stand in ``passes``.

        Args:
            paused: decodes that take no part in this tick.
        """
        self.passes = []
        taking = [member for member in self.members if member not in paused]
        merged = self._merge(taking)
        self._run_all([member for member in taking if isinstance(member.current, ForwardRequest)] + list(merged))
        for step, members in merged.items():
            if step.error is not None:  # one decode may have failed all: each takes the step by itself
                self._take_alone(members)
                continue
            lengths = [member.current.view.ids.shape[1] for member in members]
            for member, part in zip(members, parts(step.result, lengths), strict=True):
                self._resume(member, part)
        ended = [member for member in self.members if member.request is None]
        if self.hold and len(ended) < len(self.members):
            return []
        self.members = [member for member in self.members if member.request is not None]
        return ended

    def _merge(self, taking: Sequence[Member]) -> dict[Member, list[Member]]:
        """Merge the steps of decodes that share them: a decode of one step for each group, within the budgets."""
        alike: dict[Any, list[Member]] = {}
        for member in taking:
            if isinstance(request := member.current, StepRequest):
                width = -(-request.view.ids.shape[1] // WIDTH) * WIDTH
                alike.setdefault((width, request.key), []).append(member)
        merged: dict[Member, list[Member]] = {}
        for (width, _), members in alike.items():
            most = max(1, min(self.max_tokens // width, self.max_logits // (width * self.vocab_size)))
            for start in range(0, len(members), most):
                group = members[start : start + most]
                first: StepRequest = group[0].current
                view, steps = (
                    merged_view([member.current.view for member in group]),
                    max(m.current.steps for m in group),
                )
                step = Member(step_of(PlainForward(), view, first.rules, first.special, first.callbacks, steps))
                step.resume(None)
                merged[step] = group
        for step in [step for step in merged if step.error is not None]:
            self._take_alone(merged.pop(step))
        return merged

    def _take_alone(self, members: list[Member]) -> None:
        """Let decodes take a step by themselves."""
        for member in members:
            if member.request is not None:
                member.resume(None)
            else:
                member.held = None
        self._run_all([member for member in members if isinstance(member.request, ForwardRequest)])

    def _run_all(self, members: list[Member]) -> None:
        """Run forward passes: plain requests in groups, others each by itself."""
        shared = [member for member in members if type(member.current.session) is PlainForward]
        for member in members:
            if type(member.current.session) is not PlainForward:
                self._run([member])
        for group in self._groups(shared):
            self._run(group)

    def _resume(self, member: Member, answer: Tensor | Choice) -> None:
        if member.request is None:  # finished, and held
            return
        request, member.passes = member.request, member.passes + 1
        member.resume(answer)
        if self.hold and member.request is None and member.error is None:
            member.held = request

    def _run(self, group: list[Member]) -> None:
        """Run one forward pass and resume its decodes. If it fails, its decodes fail, and no others."""
        requests: list[ForwardRequest] = [member.current for member in group]
        network = reached(self.model, requests[0].view.ids.device)
        try:
            if type(requests[0].session) is PlainForward:
                logits: Sequence[Tensor] = shared_logits(network, requests)
            else:
                logits = [requests[0].session(network, requests[0].view, requests[0].where)]
        except Exception as error:
            for member in group:
                member.work.close()
                if member.request is not None:
                    member.error = error
                member.request = member.held = None
            return
        rows = sum(len(request.view.ids) for request in requests)
        self.passes.append(Pass(rows, sum(request.view.ids.numel() for request in requests)))
        for member, own in zip(group, logits, strict=True):
            self._resume(member, own)

    def _groups(self, members: list[Member]) -> Iterator[list[Member]]:
        """Yield groups of similar width, within the budgets; a request beyond them is a group of its own."""
        apart = not drops_padding(self.model)
        group: list[Member] = []
        width = tokens = logits = 0
        for member in sorted(members, key=lambda member: width_of(member.current)):
            request = member.current
            own, reads = width_of(request), max(int(request.where.sum()), FEWEST_READS * len(request.view.ids))
            size, count = own * len(request.view.ids), reads * self.vocab_size
            if group and (
                (apart and own != width) or tokens + size > self.max_tokens or logits + count > self.max_logits
            ):
                yield group
                group, tokens, logits = [], 0, 0
            group.append(member)
            width, tokens, logits = own, tokens + size, logits + count
        if group:
            yield group


def company_changes_nothing(model: MLMModel, vocab_size: int, mask: int, longest: int, seed: int = 0) -> bool:
    """Measure whether the logits of a row are the same bits alone and in company, for a network on its device.

    Rows of several lengths, with few and many masked positions, run one by one and all together.

    Args:
        model: the network.
        vocab_size: ids to draw from.
        mask: id of the mask.
        longest: largest length to try.
        seed: of the rows.
    """
    from unmask.contracts import SpecialIds
    from unmask.devices import device_of

    special, generator = SpecialIds(mask=mask, vocab_size=vocab_size), torch.Generator().manual_seed(seed)
    lengths = sorted({max(1, min(longest, length)) for length in (1, 3, 17, 31, 48, 48, 70, 128, longest // 2)})
    requests: list[ForwardRequest] = []
    with torch.inference_mode(), eval_mode(model), prepack_weights(model):
        for number, length in enumerate(lengths * 3):
            ids = torch.randint(vocab_size, (1, length), generator=generator)
            ids[0, : max(1, (1, length // 3, length)[number % 3])] = mask
            real = torch.ones_like(ids, dtype=torch.bool)
            canvas = Canvas.infill(ids, special, real).to(device_of(model))
            rules = Rules(1)
            requests.append(next(decode_steps(canvas, rules, special, seed=0)))
        network = reached(model, requests[0].view.ids.device)
        groups = (
            [requests]
            if drops_padding(model)
            else [[r for r in requests if width_of(r) == w] for w in {*map(width_of, requests)}]
        )
        return all(
            torch.equal(together, shared_logits(network, [request])[0])
            for group in groups
            for request, together in zip(group, shared_logits(network, group), strict=True)
        )
