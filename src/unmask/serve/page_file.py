"""The page at ``/``: the player of recorded decodes with a form, one file without requests to other places."""

from __future__ import annotations

from unmask.decode.render.page import live_html

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content security policy: the page holds its own scripts, and talks to its own service only."""


def page_html() -> str:
    """Return the page; its script reads the name and the orders of the model from ``/v1/models``."""
    return live_html("unmask")
