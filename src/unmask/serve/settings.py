"""``ServeSettings``: addresses and limits of the service."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

KEYS_VARIABLE = "UNMASK_SERVE_KEYS"
"""Environment variable with API keys, separated by spaces or commas."""

BATCHING = {
    "continuous": "requests join and leave between steps",
    "static": "nothing joins a batch, its finished rows are still computed, and all are answered at its end",
    "dropping": "nothing joins a batch, but its finished rows leave and are answered at once",
}
"""How requests share forward passes; all but the first are for comparison."""


@dataclass(frozen=True)
class ServeSettings:
    """How a model is served.

    Attributes:
        host, port: address to listen on; port 0 = any free one.
        keys: accepted API keys; none = every request is accepted.
        max_rows: requests decoded together.
        max_queue: requests that wait for a place; further ones get status 429.
        max_tokens: tokens of one request, masked ones included.
        max_steps: forward passes of one request.
        seconds: time of one request, waiting included.
        max_body: bytes of the body of a request.
        read_seconds: time in which a client sends a request, and reads a part of the answer.
        origins: origins of other sites that may call the service from a browser; none by default.
        batching: one of ``BATCHING``.

    Raises:
        ValueError: a limit below 1, or an unknown kind of batching.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: tuple[str, ...] = field(default=(), repr=False)
    max_rows: int = 64
    max_queue: int = 256
    max_tokens: int = 1024
    max_steps: int = 1024
    seconds: float = 120.0
    max_body: int = 1 << 20
    read_seconds: float = 20.0
    origins: tuple[str, ...] = ()
    batching: str = "continuous"

    def __post_init__(self) -> None:
        if self.batching not in BATCHING:
            raise ValueError(f"There is no batching {self.batching!r}: choose {', '.join(BATCHING)}.")
        for name in ("max_rows", "max_tokens", "max_steps", "max_body"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} serves nothing: give 1 or more.")
        if self.max_queue < 0 or self.seconds <= 0 or self.read_seconds <= 0:
            raise ValueError("max_queue is 0 or more, and seconds and read_seconds are above 0.")

    def check_address(self, open_to_all: bool) -> None:
        """Refuse an address that others can reach, without a key.

        Args:
            open_to_all: True accepts it.

        Raises:
            ValueError: such an address.
        """
        if not is_loopback(self.host) and not self.keys and not open_to_all:
            raise ValueError(
                f"Others can reach {self.host}, and there is no API key. Put one in {KEYS_VARIABLE} or a file (--keys), listen on 127.0.0.1, or "
                "allow every caller with --open."
            )


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_keys(path: Path | None) -> tuple[str, ...]:
    """Return the API keys of the environment and of a file, which has one key per line.

    Raises:
        ValueError: a key of fewer than 16 characters, or with others than printable ASCII; or a file without a key.
    """
    found = [key for key in re.split(r"[\s,]+", os.environ.get(KEYS_VARIABLE, "")) if key]
    if path is not None:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        in_file = [line for line in lines if line and not line.startswith("#")]
        if not in_file:
            raise ValueError(f"{path} holds no API key: write one per line.")
        found += in_file
    if bad := [n for n, key in enumerate(found, start=1) if len(key) < 16 or not re.fullmatch(r"[!-~]+", key)]:
        raise ValueError(
            f"API key {bad[0]} is shorter than 16 characters, or holds a space or a character outside ASCII. Make one with `python -c "
            "'import secrets; print(secrets.token_urlsafe(32))'`."
        )
    return tuple(dict.fromkeys(found))
