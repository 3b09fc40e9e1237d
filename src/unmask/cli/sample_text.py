"""Decoding in commands: samples during training, and decodes drawn in the terminal or written as a trace."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.config.tree import Config
    from unmask.contracts import MLMPredictionDict
    from unmask.data.tokenizing.tokenizers import Tokenizer
    from unmask.decode.predictor import MLMPredictor

SAMPLE_TOKENS = 48
FILLED_DOCUMENTS = 2


@dataclass
class Tally:
    """The decoded tokens of a command, with forward passes and time.

    Attributes:
        tokens: number of decoded tokens.
        forward_passes: number of forward passes, each of a batch.
        seconds: decoding time.
    """

    tokens: int = 0
    forward_passes: int = 0
    seconds: float = 0.0

    def add(self, tokens: int, forward_passes: int, seconds: float) -> None:
        """Add one batch."""
        self.tokens, self.forward_passes, self.seconds = (
            self.tokens + tokens,
            self.forward_passes + forward_passes,
            self.seconds + seconds,
        )

    def show(self) -> None:
        """Print the last line of the command."""
        from unmask.cli.screen import note

        rate = self.tokens / max(self.seconds, 1e-9)
        note(
            f"{self.tokens} tokens · {self.forward_passes} forward passes · {self.seconds:.2f} s · {rate:,.0f} tokens/s",
            style="dim",
        )


def training_sampler(config: Config) -> Callable[[Any, Tokenizer], str]:
    """Return the sampler of a run: network and tokenizer -> text for ``samples.txt``.

    A diffusion model generates unconditionally. A model with a constant mask rate (BERT) cannot generate, so it fills masked
    tokens of the validation split.
    """
    if config.objective.mask_rate_law != "constant" or config.model.shift:
        return sample_text
    folder = Path(config.run) / "data" if config.data.store is None else Path(config.data.store)
    return partial(fill_validation_text, valid=folder / "valid", rate=config.objective.probability)


def fill_validation_text(model: Any, tokenizer: Tokenizer, *, valid: Path, rate: float) -> str:
    """Mask tokens at the start of validation documents, fill them greedily, and return both texts.

    Args:
        model: the network.
        tokenizer: its tokenizer.
        valid: the token store of the validation split.
        rate: the mask rate; the masked positions are the same in every call.
    """
    import torch

    from unmask.contracts import SpecialIds
    from unmask.data.store.token_store import TokenStore
    from unmask.decode.named import make_rules
    from unmask.decode.predictor import MLMPredictor
    from unmask.text.batching import left_padded, plain_predict

    store, special = TokenStore.open(valid), SpecialIds.of(tokenizer)
    length = min(SAMPLE_TOKENS, model.max_length or SAMPLE_TOKENS)
    documents = [store.document(i)[:length].tolist() for i in range(min(FILLED_DOCUMENTS, store.n_documents))]
    generator = torch.Generator().manual_seed(0)
    rows, masked = [], 0
    for ids in documents:
        maskable = [position for position, id in enumerate(ids) if id not in special.all]
        count = math.ceil(rate * len(maskable))
        chosen = {maskable[n] for n in torch.randperm(len(maskable), generator=generator)[:count].tolist()}
        rows.append([special.mask if position in chosen else id for position, id in enumerate(ids)])
        masked = max(masked, count)
    if not masked:
        return ""
    rules = make_rules(masked, special=special, order="top_prob", temperature=0.0, allow_eos=False)
    predictor = MLMPredictor(rules.max_steps, tokenizer=tokenizer, model=model, rules=rules, seed=0)
    with torch.random.fork_rng(devices=[]):
        output = plain_predict(predictor, left_padded(rows, tokenizer.pad_token_id or 0), [])["ids"]
    lines = []
    for number, (ids, row) in enumerate(zip(documents, rows, strict=True)):
        filled = output[number, -len(row) :].tolist()
        blanks = [position for position, id in enumerate(row) if id == special.mask]
        correct = sum(filled[position] == ids[position] for position in blanks)
        lines += [
            f"masked: {_one_line(tokenizer, row)}",
            f"filled: {_one_line(tokenizer, filled)}",
            f"{correct} of {len(blanks)} masked tokens correct",
        ]
    return "\n".join(lines)


def _one_line(tokenizer: Tokenizer, ids: list[int]) -> str:
    return " ".join(tokenizer.decode(ids, skip_special_tokens=False).split())


def sample_text(model: Any, tokenizer: Any, tokens: int = SAMPLE_TOKENS) -> str:
    """Return a short unconditional sample, with the same random seed in every call."""
    import torch

    from unmask.contracts import SpecialIds, is_autoregressive
    from unmask.decode.canvas import Canvas
    from unmask.decode.predictor import MLMPredictor

    tokens, special = min(tokens, model.max_length or tokens), SpecialIds.of(tokenizer)
    steps = tokens if is_autoregressive(model) else 16
    order = "left_to_right" if is_autoregressive(model) else None
    predictor = MLMPredictor(
        steps, tokenizer=tokenizer, model=model, confidence=order, top_p=0.9, seed=0, allow_eos=False
    )
    canvas = Canvas.unconditional(1, tokens, special)
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
    """Decode a batch on the device of the model, and draw it.

    Args:
        predictor: the predictor; its observers are replaced.
        batch: the batch.
        labels: names of the rows.
        watch: draw the decode in the terminal.
        page: file of the trace (.html, .png or .json), or None.
        title: title of the trace.

    Raises:
        ValueError: a trace file of another kind.
    """
    if page is not None and page.suffix not in (".html", ".png", ".json"):
        raise ValueError(
            f"--trace {page} has no known ending: use .html (a page), .png (a picture of the first text) or .json (data)."
        )
    from unmask.cli.screen import NOTES
    from unmask.decode.observers.trace import Trace
    from unmask.decode.render.page import save_trace_html
    from unmask.decode.render.picture import trace_png
    from unmask.decode.render.terminal import TerminalView
    from unmask.text.batching import plain_predict

    trace = Trace(top_k=5 if page.suffix == ".html" else 0) if page is not None else None
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
