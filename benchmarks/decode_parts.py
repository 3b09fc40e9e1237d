"""Guided decoding, remasking, constraints, critics, filters: what each costs beside a plain decode of the same length.

    python -m benchmarks.decode_parts [--repeats 5] [--steps 32] [--json parts.json]

The network and the canvas are those of ``benchmarks.decode`` (128 new tokens, surest first, greedy). A forward pass of one
row has the price that it has in the plain decode; the bare cost of a part is that of its passes. The figure is the cost over
the bare cost, of medians of interleaved runs. The target is 1.1: what is not the network may cost a tenth.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import harness
from benchmarks.decode import BLOCK, SPECIAL, VOCAB, canvas_of, network
from unmask.decode.logits.automaton import Automaton
from unmask.decode.loop import fill_canvas
from unmask.decode.named import make_rules
from unmask.decode.rules import Rules
from unmask.measure.report_table import Row
from unmask.models.rotary_mlm import RotaryTransformerMLMModel

PLAIN = "plain"
LIMIT = 1.1


def alternation() -> Automaton:
    """Even and odd ids in turn: two states, two classes of ids."""
    transitions = torch.tensor([[1, -1], [-1, 0]])
    return Automaton(transitions, torch.tensor([True, True]), SPECIAL, columns=torch.arange(VOCAB) % 2)


def parts(model: RotaryTransformerMLMModel, steps: int) -> dict[str, Rules]:
    """Name of a part -> rules of the plain decode with it."""
    options: dict[str, dict[str, Any]] = {
        PLAIN: {},
        "guidance": {"guidance": 1.0},
        "remasking (ReMDM-cap)": {"remask": "cap"},
        "constraint (automaton)": {"constraint": alternation()},
        "a critic": {"order": "critic", "critic": "shown", "critic_model": model},
        "repetition penalty": {"repetition_penalty": 1.2},
        "top-p sampling": {"temperature": 1.0, "top_p": 0.9},
        "top-k sampling": {"temperature": 1.0, "top_k": 50},
        "threshold": {"threshold": 0.9},
        "blocks": {"block_length": BLOCK},
    }
    shared: dict[str, Any] = {"order": "top_prob", "temperature": 0.0, "special": SPECIAL}
    return {name: make_rules(steps, **(shared | each)) for name, each in options.items()}


def counted(model: RotaryTransformerMLMModel) -> list[int]:
    """Return a list to which each call of the network adds its number of rows."""
    rows: list[int] = []

    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(ids: Any, *arguments: Any, **named: Any) -> Any:
            rows.append(len(ids))
            return method(ids, *arguments, **named)

        return call

    for name in ("hidden_states", "hidden_states_where", "hidden_states_at"):
        object.__setattr__(model, name, wrap(getattr(model, name)))
    return rows


def measure(repeats: int, steps: int, rows: int = 1) -> dict[str, dict[str, float]]:
    """Median seconds, rows of forward passes, and the cost over that of those passes, of every part."""
    model, canvas = network(), canvas_of(rows)
    rules = parts(model, steps)
    calls = {
        name: (lambda each=each: fill_canvas(model, canvas, each, special=SPECIAL, seed=0))  # type: ignore[misc]
        for name, each in rules.items()
    }
    counting, passes = counted(model), {}
    for name, call in calls.items():  # not timed; counts the passes too
        counting.clear()
        call()
        passes[name] = sum(counting)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    price = medians[PLAIN] / passes[PLAIN]
    return {
        name: {"seconds": medians[name], "rows": passes[name], "over_bare": medians[name] / (price * passes[name])}
        for name in calls
    }


def section(repeats: int = 5, steps: int = 32) -> tuple[list[Row], dict[str, Any]]:
    """A row for each part, from a process of its own."""
    found = harness.in_fresh_process(measure, repeats, steps)
    rows = [
        Row.single(f"decoding with {name}", "the bare cost of its passes", of["over_bare"], LIMIT, at_most=True)
        for name, of in found.items()
        if name != PLAIN
    ]
    return rows, {"steps": steps, "parts": found}


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=32)
    options = harness.parse(parser)
    rows, found = section(options.repeats, options.steps)
    harness.show_rows("parts of decoding", rows)
    print(found["parts"])
    harness.write(options.json, "decode_parts", {"rows": [row.as_dict() for row in rows], **found})


if __name__ == "__main__":
    main()
