"""``Trace``: every token placed in a decode, with its step and probability. It can be saved, loaded, replayed and compared.

    initial       the canvas before the first step        [B][L] ids
    events        row, position, token, probability, step  in order
    alternatives  row, position, step, tokens, probabilities; empty if ``top_k`` is 0
    final         the canvas after the last step

``probability`` is that of the placed token, over the allowed ids, before temperature and filters.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from unmask.contracts import MLMStepResults, SpecialIds
from unmask.decode.canvas import Canvas
from unmask.decode.observers.base import Decoded
from unmask.storage import read_json, write_text

_FORMAT = "unmask trace 1"
_CHANGE = 0.01  # smaller changes of a probability are not recorded again


@dataclass(frozen=True)
class Event:
    """One token placed or masked again.

    Attributes:
        row: of the batch.
        position: column of the canvas.
        token: the placed id; the mask id if a token was masked again.
        probability: of that token; 0 for the mask.
        step: from 0.
    """

    row: int
    position: int
    token: int
    probability: float
    step: int


@dataclass(frozen=True)
class TopTokens:
    """The likeliest tokens of one position at one step.

    Attributes:
        row: of the batch.
        position: column of the canvas.
        step: from 0.
        tokens: ids, the likeliest first.
        probabilities: theirs, over the allowed ids, before temperature and filters.
    """

    row: int
    position: int
    step: int
    tokens: list[int]
    probabilities: list[float]


class Difference(NamedTuple):
    """A position that two decodes filled differently: its last token and last step in each."""

    row: int
    position: int
    tokens: tuple[int, int]
    steps: tuple[int, int]


@dataclass
class Trace:
    """An observer that records one decode; the next decode replaces it.

    Attributes:
        mask_id: id of the mask.
        initial, final: ids ``[B][L]``.
        real: ``[B][L]``, True = not padding.
        events: every change, in order.
        top_k: how many of the likeliest tokens to record at every candidate position of every step; 0 records none and costs
            nothing.
        alternatives: those tokens. A position is recorded again when its likeliest tokens or a probability (by 0.01) change.

    Examples:
        >>> from unmask import MLMPredictor, RotaryTransformerMLMModel, SpecialIds, Trace
        >>> model = RotaryTransformerMLMModel(20, 16, 1, 2, padding_idx=1, mask_idx=0)
        >>> trace = Trace()
        >>> predictor = MLMPredictor(2, model=model, special=SpecialIds(mask=0, pad=1, vocab_size=20), observers=[trace])
        >>> ids = predictor.predict({"input_ids": [[5, 0, 0, 6]]})["ids"]
        >>> trace.num_steps, [event.position for event in trace.row_events(0)] in ([1, 2], [2, 1])
        (2, True)
        >>> trace.replay(0).tolist()
        [[5, 0, 0, 6]]
    """

    mask_id: int = -1
    initial: list[list[int]] = field(default_factory=list)
    real: list[list[bool]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    final: list[list[int]] = field(default_factory=list)
    top_k: int = 0
    alternatives: list[TopTokens] = field(default_factory=list)

    @property
    def wants_all_logits(self) -> bool:
        """Whether the decode must compute logits at every candidate position."""
        return self.top_k > 0

    def begin(self, canvas: Canvas, special: SpecialIds) -> None:
        """Record the canvas as given."""
        self.mask_id = special.mask
        self.initial = canvas.ids.tolist()
        self.real = canvas.attention_mask.tolist()
        self.events = []
        self.final = []
        self.alternatives = []
        self._latest: dict[tuple[int, int], TopTokens] = {}

    def update_history(self, step_results: MLMStepResults) -> None:
        """Record the changes of one step."""
        changed = step_results["committed"] | step_results["hidden"]
        row, position = changed.nonzero(as_tuple=True)
        changes = zip(
            step_results["rows"][row].tolist(),
            position.tolist(),
            step_results["output_ids"][changed].tolist(),
            step_results["probability"][changed].nan_to_num(0.0).tolist(),
            strict=True,
        )
        self.events += [Event(*change, step_results["step"]) for change in changes]
        if self.top_k:
            self._record_alternatives(step_results)

    def _record_alternatives(self, step_results: MLMStepResults) -> None:
        """Record the likeliest tokens where they differ from those recorded last."""
        row, position = step_results["scored"].nonzero(as_tuple=True)
        log_probs = step_results["log_probs"]
        best = log_probs.topk(min(self.top_k, log_probs.shape[-1]), dim=-1)
        rows = step_results["rows"][row].tolist()
        columns = zip(rows, position.tolist(), best.indices.tolist(), best.values.exp().tolist(), strict=True)
        for r, at, ids, probabilities in columns:
            possible = sum(p > 0 for p in probabilities)  # forbidden ids have probability 0, and come last
            top = TopTokens(
                r, at, step_results["step"], ids[:possible], [round(p, 6) for p in probabilities[:possible]]
            )
            before = self._latest.get((r, at))
            if before is None or before.tokens != top.tokens or _distance(before, top) > _CHANGE:
                self.alternatives.append(top)
                self._latest[r, at] = top

    def end(self, decoded: Decoded) -> None:
        """Record the result."""
        self.final = decoded.ids.tolist()

    @property
    def num_steps(self) -> int:
        """The number of steps of the row with most steps."""
        return max((e.step for e in self.events), default=-1) + 1

    def row_events(self, row: int) -> list[Event]:
        """Return the events of one row, in order."""
        return [e for e in self.events if e.row == row]

    def row_alternatives(self, row: int) -> list[TopTokens]:
        """Return the recorded alternatives of one row, in order."""
        return [top for top in self.alternatives if top.row == row]

    def replay(self, steps: int) -> Int[Tensor, "batch seq"]:
        """Return the canvas, int64 ``[B, L]``, after the first ``steps`` steps; 0 is the initial canvas."""
        ids = torch.tensor(self.initial, dtype=torch.int64)
        for event in self.events:
            if event.step < steps:
                ids[event.row, event.position] = event.token
        return ids

    def differences(self, other: Trace) -> list[Difference]:
        """Return the positions at which two decodes of the same canvas differ in the token or its step.

        Raises:
            ValueError: different initial canvases.
        """
        if (self.initial, self.real) != (other.initial, other.real):
            raise ValueError(
                "These traces start from different canvases. Compare two decodes of the same prompts and blanks."
            )
        own, others = ({(e.row, e.position): e for e in trace.events} for trace in (self, other))
        return [
            Difference(*place, (own[place].token, others[place].token), (own[place].step, others[place].step))
            for place in sorted(own.keys() & others.keys())
            if (own[place].token, own[place].step) != (others[place].token, others[place].step)
        ]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the trace as JSON, atomically."""
        content = {
            name: value for name, value in asdict(self).items() if value or name not in ("top_k", "alternatives")
        }
        write_text(path, json.dumps({"format": _FORMAT, **content}) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trace:
        """Load a saved trace.

        Raises:
            ValueError: the file is not a trace.
        """
        content: Any = read_json(path)
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ValueError(
                f"{path} is not a trace of unmask (no {_FORMAT!r} in it). Traces are written by Trace.save()."
            )
        events = [Event(**event) for event in content["events"]]
        alternatives = [TopTokens(**top) for top in content.get("alternatives", [])]
        own = (content["mask_id"], content["initial"], content["real"], events, content["final"])
        return cls(*own, content.get("top_k", 0), alternatives)


def _distance(before: TopTokens, after: TopTokens) -> float:
    """Return the largest change of a probability."""
    return max(abs(a - b) for a, b in zip(before.probabilities, after.probabilities, strict=True))
