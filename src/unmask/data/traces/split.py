"""Choose the test binaries as a deterministic function of the seed and their names.

Versions of one library (``libssl.so.1.1`` and ``libssl.so.3``, ``python3.11`` and ``python3.12``) are one family and
stay on one side, because they share much code. Families below the cut of a keyed hash are the test set. If one side
would be empty, the family next to the cut changes sides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import blake2b

_VERSION = re.compile(r"[-.]?[0-9]+(?:\.[0-9]+)*")


def family(binary: str) -> str:
    """Return the name of a binary without folders and version numbers."""
    name = binary.rpartition("/")[2]
    return _VERSION.sub("", name) or name


def keyed_position(seed: int, data: bytes) -> int:
    """Return the keyed hash of ``data`` in ``[0, 2**64)``."""
    return int.from_bytes(blake2b(data, digest_size=8, key=(seed % 2**64).to_bytes(8, "little")).digest(), "little")


def held_out_families(binaries: Iterable[str], fraction: float, seed: int) -> set[str]:
    """Return the families of the test set; none if there is only one family.

    Args:
        binaries: names of binaries.
        fraction: approximate fraction of the families, in (0, 1).
        seed: key of the hash.

    Raises:
        ValueError: ``fraction`` is outside (0, 1).
    """
    if not 0 < fraction < 1:
        raise ValueError(
            f"The test fraction is {fraction}; it is the fraction of binaries to hold out, between 0 and 1, like 0.1."
        )
    order = sorted({(keyed_position(seed, name.encode()), name) for name in map(family, binaries)})
    if len(order) < 2:
        return set()
    below = sum(position < int(fraction * 2**64) for position, _ in order)
    return {name for _, name in order[: min(max(below, 1), len(order) - 1)]}
