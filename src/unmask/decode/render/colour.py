"""Probabilities as colours: rust for low, ochre for medium, teal for high.

The three differ in lightness as well as in hue, and are distinguishable without red-green vision.
"""

from __future__ import annotations

from collections.abc import Sequence

STOPS: tuple[tuple[int, int, int], ...] = ((196, 66, 24), (224, 160, 48), (16, 134, 150))


def confidence_colour(p: float, stops: Sequence[tuple[int, int, int]] = STOPS) -> tuple[int, int, int]:
    """Return red, green and blue (0 to 255) of a probability, interpolated between the stops."""
    position = min(max(p, 0.0), 1.0) * (len(stops) - 1)
    left = min(int(position), len(stops) - 2)
    fraction = position - left
    red, green, blue = (round(a + (b - a) * fraction) for a, b in zip(stops[left], stops[left + 1], strict=True))
    return red, green, blue


def confidence_hex(p: float) -> str:
    """Return the colour of a probability as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*confidence_colour(p))
