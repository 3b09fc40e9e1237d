"""Drawing in place on a terminal: a view that is entered while a decode runs, and draws nothing in a pipe."""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.live import Live

View = TypeVar("View", bound="LiveView")


class LiveView:
    """What views share; a view has a ``console``, and draws with ``_live`` while there is one."""

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
