"""The page at ``/``."""

from __future__ import annotations

from importlib.resources import files


def page_html() -> str:
    """Return the page: one HTML file without requests to other places."""
    return files("unmask.serve").joinpath("live.html").read_text(encoding="utf-8")
