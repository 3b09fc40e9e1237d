"""Tasks that succeed, and tasks that fail like hostile files do. Few imports, because workers load this module."""

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
