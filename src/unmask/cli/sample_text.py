"""Decoding as commands do it: a batch of prompts, a decode that may be watched and traced."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.contracts import MLMPredictionDict
    from unmask.decode.predictor import MLMPredictor


@dataclass
class Tally:
    """What a command decoded, and what it cost.

    Attributes:
        tokens: placed.
        evaluations: calls of the network, each over a batch.
        seconds: spent decoding.
    """

    tokens: int = 0
    forward_passes: int = 0
    seconds: float = 0.0

    def add(self, tokens: int, forward_passes: int, seconds: float) -> None:
        """Count one batch more."""
        self.tokens, self.forward_passes, self.seconds = (
            self.tokens + tokens,
            self.forward_passes + forward_passes,
            self.seconds + seconds,
        )

    def show(self) -> None:
        """The line that ends the command."""
        from unmask.cli.screen import note

        rate = self.tokens / max(self.seconds, 1e-9)
        note(
            f"{self.tokens} tokens · {self.forward_passes} evaluations · {self.seconds:.2f} s · {rate:,.0f} tokens/s",
            style="dim",
        )


def sample_text(model: Any, tokenizer: Any, tokens: int = 48) -> str:
    """A short unconditional sample, the same noise every time: what a run logs as it learns."""
    import torch

    from unmask.contracts import SpecialIds
    from unmask.decode.canvas import Canvas
    from unmask.decode.predictor import MLMPredictor

    predictor = MLMPredictor(16, tokenizer=tokenizer, model=model, top_p=0.9, seed=0, allow_eos=False)
    canvas = Canvas.unconditional(1, min(tokens, model.max_length), SpecialIds.of(tokenizer))
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[]):
        return predictor.predict({"input_ids": canvas.ids.to(device)})["text"][0]


def watched_predict(
    predictor: MLMPredictor,
    batch: dict[str, Any],
    labels: list[str] | None = None,
    *,
    watch: bool,
    page: Path | None,
    title: str,
) -> MLMPredictionDict:
    """Decode a batch where the model is, drawing it in the terminal and writing its trace if asked.

    Raises:
        ValueError: a trace in a file of another kind than .html, .png or .json.
    """
    if page is not None and page.suffix not in (".html", ".png", ".json"):
        raise ValueError(
            f"--trace {page} is of no known kind: name it .html (a page), .png (a picture of the first text) or .json (data)."
        )
    from unmask.cli.screen import NOTES
    from unmask.decode.observers.trace import Trace
    from unmask.decode.render.page import save_trace_html
    from unmask.decode.render.picture import trace_png
    from unmask.decode.render.terminal import TerminalView
    from unmask.text.batching import plain_predict

    trace = Trace() if page is not None else None
    view = TerminalView(predictor.tokenizer, NOTES, pause=0.05 if NOTES.is_terminal else 0.0) if watch else None
    predictor.observers = tuple(o for o in (*predictor.observers, trace, view) if o is not None)
    with view if view is not None else nullcontext():
        prediction = plain_predict(predictor, batch, labels or [])
    if page is not None:
        assert trace is not None
        if page.suffix == ".json":
            trace.save(page)
        elif page.suffix == ".png":
            trace_png(page, trace, predictor.tokenizer, title=title)
        else:
            save_trace_html(page, trace, predictor.tokenizer, title=title, labels=labels)
    return prediction
