"""``Trace``: every token placed in a decode, with its step and probability. It can be saved, loaded, replayed and compared.

    initial   the canvas before the first step        [B][L] ids
    events    row, position, token, probability, step  in order
    final     the canvas after the last step

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

    def begin(self, canvas: Canvas, special: SpecialIds) -> None:
        """Record the canvas as given."""
        self.mask_id = special.mask
        self.initial = canvas.ids.tolist()
        self.real = canvas.attention_mask.tolist()
        self.events = []
        self.final = []

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
        write_text(path, json.dumps({"format": _FORMAT, **asdict(self)}) + "\n")

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
        return cls(content["mask_id"], content["initial"], content["real"], events, content["final"])
