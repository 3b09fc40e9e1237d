"""A trace: which token appeared where, when and how surely. It can be saved, read back, replayed and compared.

    initial   the canvas before the first step        [B][L] ids
    events    row, position, token, probability, step  in the order in which they happened
    final     the canvas after the last

``probability`` is that of the token placed, over the ids that may be placed, before temperature and filters.
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
    """One token placed, or hidden again.

    Attributes:
        row: of the batch.
        position: column of the canvas.
        token: the id placed; the mask if a token was hidden again.
        probability: of that token; 0 for the mask.
        step: from 0.
    """

    row: int
    position: int
    token: int
    probability: float
    step: int


class Difference(NamedTuple):
    """A position that two decodes filled differently: its last token and step in each."""

    row: int
    position: int
    tokens: tuple[int, int]
    steps: tuple[int, int]


@dataclass
class Trace:
    """An observer that remembers a decode.

    A trace holds one decode: a second one takes the place of the first.

    Attributes:
        mask_id: the id that marks a blank.
        initial, final: ids ``[B][L]``.
        real: ``[B][L]``, True = not padding.
        events: every change, step by step.
    """

    mask_id: int = -1
    initial: list[list[int]] = field(default_factory=list)
    real: list[list[bool]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    final: list[list[int]] = field(default_factory=list)

    def begin(self, canvas: Canvas, special: SpecialIds) -> None:
        """Remember the canvas as given."""
        self.mask_id = special.mask
        self.initial = canvas.ids.tolist()
        self.real = canvas.attention_mask.tolist()
        self.events = []
        self.final = []

    def update_history(self, step_results: MLMStepResults) -> None:
        """Remember what one step placed."""
        changed = step_results["committed"] | step_results["hidden"]
        row, position = changed.nonzero(as_tuple=True)
        places = zip(
            step_results["rows"][row].tolist(),
            position.tolist(),
            step_results["output_ids"][changed].tolist(),
            step_results["probability"][changed].nan_to_num(0.0).tolist(),
            strict=True,
        )
        self.events += [Event(*place, step_results["step"]) for place in places]

    def end(self, decoded: Decoded) -> None:
        """Remember the result."""
        self.final = decoded.ids.tolist()

    @property
    def num_steps(self) -> int:
        """Steps of the row that took most."""
        return max((e.step for e in self.events), default=-1) + 1

    def row_events(self, row: int) -> list[Event]:
        """What happened in one row."""
        return [e for e in self.events if e.row == row]

    def replay(self, steps: int) -> Int[Tensor, "batch seq"]:
        """The canvas ``[B, L]`` after the first ``steps`` steps; 0 gives it as it was."""
        ids = torch.tensor(self.initial, dtype=torch.int64)
        for event in self.events:
            if event.step < steps:
                ids[event.row, event.position] = event.token
        return ids

    def differences(self, other: Trace) -> list[Difference]:
        """Where two decodes of the same canvas part: another token, or the same one at another step.

        Raises:
            ValueError: the canvases were not the same.
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
        """Write the trace as JSON, whole or not at all."""
        write_text(path, json.dumps({"format": _FORMAT, **asdict(self)}) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trace:
        """Read a saved trace.

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
