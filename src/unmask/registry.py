"""Registries: the named members of a family, each with a one-line description.

A family (schedules, weightings, confidences, ...) has one registry. Error texts, documentation tables and the tests of
the config's ``Literal`` types are built from its names and descriptions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """A read-only mapping from names to the members of one family.

    Args:
        family: the family's noun in the singular, such as ``"schedule"``; error texts use it.
        members: name -> (member, description). A description is a phrase of one line.

    Example:
        >>> shapes = Registry("shape", {"square": (4, "four equal sides"), "triangle": (3, "three sides")})
        >>> shapes["square"], list(shapes)
        (4, ['square', 'triangle'])
        >>> shapes.choose("circle")
        Traceback (most recent call last):
        ValueError: There is no shape named 'circle'. Choose one of square, triangle.
        >>> print(shapes.table())
        | shape | meaning |
        |---|---|
        | `square` | four equal sides |
        | `triangle` | three sides |
    """

    def __init__(self, family: str, members: Mapping[str, tuple[T, str]]) -> None:
        self.family = family
        self._members = {name: member for name, (member, _) in members.items()}
        self.descriptions: dict[str, str] = {name: description for name, (_, description) in members.items()}

    def __getitem__(self, name: str) -> T:
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def choose(self, name: str) -> T:
        """Return the member called ``name``.

        Raises:
            ValueError: no member has this name; the message lists all names.
        """
        if name not in self._members:
            raise ValueError(f"There is no {self.family} named {name!r}. Choose one of {', '.join(self)}.")
        return self._members[name]

    def table(self) -> str:
        """Return the family as a Markdown table of names and descriptions."""
        rows = [f"| `{name}` | {description} |" for name, description in self.descriptions.items()]
        return "\n".join([f"| {self.family} | meaning |", "|---|---|", *rows])
