"""Tasks that go well, and tasks that do what hostile files do to a process. Light, because workers import it."""

import os
import time
from typing import Any


def task(what: Any) -> Any:
    if what == "die":
        os._exit(7)
    if what == "hang":
        while True:
            pass
    if what == "sleep":
        time.sleep(3600)
    if what == "eat":
        return len(bytearray(2**33))
    if what == "bug":
        raise KeyError("bug")
    return what
