"""``LiveView``: a context manager that redraws in place on a terminal, and draws nothing into a pipe."""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.live import Live

View = TypeVar("View", bound="LiveView")


class LiveView:
    """Base of live views. A subclass sets ``console`` and draws with ``_live``, which is None outside a terminal."""

    console: Console
    _live: Live | None = None

    def __enter__(self: View) -> View:
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
