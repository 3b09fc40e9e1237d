"""How sure, as a colour: rust for a guess, ochre for a choice, teal for certainty.

The three differ in lightness as well as in hue, so they are told apart without red-green vision.
"""

from __future__ import annotations

from collections.abc import Sequence

STOPS: tuple[tuple[int, int, int], ...] = ((196, 66, 24), (224, 160, 48), (16, 134, 150))


def confidence_colour(p: float, stops: Sequence[tuple[int, int, int]] = STOPS) -> tuple[int, int, int]:
    """Red, green and blue (0 to 255) of a probability, interpolated between the stops."""
    place = min(max(p, 0.0), 1.0) * (len(stops) - 1)
    left = min(int(place), len(stops) - 2)
    share = place - left
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(stops[left], stops[left + 1], strict=True))
    return red, green, blue


def confidence_hex(p: float) -> str:
    """The same as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*confidence_colour(p))
