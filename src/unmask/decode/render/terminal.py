"""``TerminalView``: a running decode in the terminal; plain lines without a terminal.

Given text is dim, masked positions are shaded, and tokens have the colour of their probability; those of the last step are bold.
"""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console, Group
from rich.text import Text
from torch import Tensor

from unmask.contracts import MLMStepResults, SpecialIds
from unmask.decode.canvas import Canvas
from unmask.decode.observers.base import Decoded
from unmask.decode.render.colour import confidence_hex
from unmask.decode.render.live import LiveView
from unmask.decode.render.pieces import Pieces

_BLANK = "░░"


class TerminalView(LiveView):
    """An observer that draws every step; a context manager.

    Args:
        tokenizer: decodes ids into text; None shows ids.
        console: of rich; standard output if None.
        pause: seconds to wait after each step.
        max_rows: rows of the batch to draw.

    Examples:
        >>> import io
        >>> from rich.console import Console
        >>> from unmask import MLMPredictor, RotaryTransformerMLMModel, SpecialIds
        >>> model = RotaryTransformerMLMModel(20, 16, 1, 2, padding_idx=1, mask_idx=0)
        >>> special, lines = SpecialIds(mask=0, pad=1, vocab_size=20), io.StringIO()
        >>> with TerminalView(None, console=Console(file=lines)) as view:
        ...     out = MLMPredictor(2, model=model, special=special, observers=[view]).predict({"input_ids": [[5, 0, 0]]})
        >>> print(lines.getvalue().splitlines()[-1])
        2 tokens in 2 forward passes
    """

    def __init__(self, tokenizer: Any, console: Console | None = None, pause: float = 0.0, max_rows: int = 4) -> None:
        self.console: Console = console if console is not None else Console()
        self.pause = pause
        self.max_rows = max_rows
        self._pieces = Pieces(tokenizer)
        self._to_fill = 0

    def begin(self, canvas: Canvas, special: SpecialIds) -> None:
        """Draw the canvas as given."""
        blanks = canvas.blanks(special.mask)
        self._ids = canvas.ids.cpu().clone()
        self._blank = blanks.cpu().clone()
        self._real = canvas.attention_mask.cpu()
        self._given = self._real & ~self._blank
        self._probability = self._ids.double() * 0
        self._to_fill = int(blanks.sum())
        self._step = 0
        self._draw(self._blank & ~self._blank)

    def update_history(self, step_results: MLMStepResults) -> None:
        """Draw one step."""
        rows, committed = step_results["rows"].cpu(), step_results["committed"].cpu()
        fresh = self._blank & ~self._blank
        fresh[rows] = committed
        self._ids[rows] = step_results["output_ids"].cpu()
        self._blank &= ~fresh
        self._blank[rows] |= step_results["hidden"].cpu()
        self._probability[fresh] = step_results["probability"].cpu().double()[committed]
        self._step = step_results["step"] + 1
        self._draw(fresh)
        if self.pause and self._live is not None:
            time.sleep(self.pause)

    def end(self, decoded: Decoded) -> None:
        """Print the cost, without a terminal."""
        if self._live is None:
            self.console.print(f"{self._to_fill} tokens in {decoded.forward_passes} forward passes", highlight=False)

    def _draw(self, fresh: Tensor) -> None:
        left = int(self._blank.sum())
        status = f"step {self._step} · {self._to_fill - left} of {self._to_fill} tokens"
        if self._live is None:
            self.console.print(status, highlight=False)
            return
        shown = [self._row(i, fresh) for i in range(min(self.max_rows, len(self._ids)))]
        hidden = len(self._ids) - len(shown)
        more = f" · {hidden} more rows" if hidden else ""
        self._live.update(Group(*shown, Text(status + more, style="dim")), refresh=True)

    def _row(self, row: int, fresh: Tensor) -> Text:
        text = Text(overflow="fold")
        kept = self._real[row].nonzero()[:, 0].tolist()
        for at, piece in zip(kept, self._pieces(self._ids[row, kept].tolist()), strict=True):
            if self._blank[row, at]:
                text.append(_BLANK, style="dim")
            elif self._given[row, at]:
                text.append(piece, style="dim")
            else:
                bold = "bold " if fresh[row, at] else ""
                text.append(piece, style=f"{bold}{confidence_hex(float(self._probability[row, at]))}")
        text.append("\n")
        return text
