"""``Registry``: the named parts of one family, each with a one-line description.

A family (schedules, weightings, orders, caches, ...) has one registry. Help texts, error messages, documentation tables and the tests of the config's
``Literal`` types are built from its names and descriptions. A registry imports no torch: a part may be a reference ``"module:attribute"``, imported at
first use, so that ``unmask --help`` stays fast.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TypeVar, cast

from unmask.suggestions import nearest

Part = TypeVar("Part")


class Registry(Mapping[str, Part]):
    """A mapping from names to the parts of one family.

    Args:
        kind: singular noun of the family for error messages, such as ``"order"``.
        parts: name -> (part, description); :meth:`add` registers more.

    Attributes:
        kind: as given.
        descriptions: name -> description.

    Examples:
        >>> shapes = Registry("shape", {"square": (4, "four equal sides"), "triangle": (3, "three sides")})
        >>> shapes.add("line", 1, "one side")
        >>> shapes["square"], list(shapes)
        (4, ['square', 'triangle', 'line'])
        >>> shapes.choose("circle")
        Traceback (most recent call last):
        ValueError: There is no shape 'circle'. Choose one of square, triangle, line.
        >>> print(shapes.table())
        | shape | meaning |
        |---|---|
        | `square` | four equal sides |
        | `triangle` | three sides |
        | `line` | one side |
    """

    def __init__(self, kind: str, parts: Mapping[str, tuple[Part | str, str]] | None = None) -> None:
        self.kind = kind
        self._parts: dict[str, Part | str] = {}
        self.descriptions: dict[str, str] = {}
        for name, (part, description) in (parts or {}).items():
            self.add(name, part, description)

    def add(self, name: str, part: Part | str, description: str) -> None:
        """Register a part.

        Args:
            name: unused so far in this registry.
            part: the part, or a reference ``"module:attribute"``.
            description: one line, shown by ``--help`` and in the documentation.

        Raises:
            ValueError: the name is taken, or the description is empty or has several lines.
        """
        if name in self._parts:
            raise ValueError(f"The {self.kind} {name!r} is registered already. Choose another name.")
        if not description.strip() or "\n" in description:
            raise ValueError(f"The {self.kind} {name!r} needs a description of one line; got {description!r}.")
        self._parts[name] = part
        self.descriptions[name] = description

    def remove(self, name: str) -> None:
        """Remove a part that :meth:`add` registered."""
        del self._parts[name], self.descriptions[name]

    def __getitem__(self, name: str) -> Part:
        part = self._parts[name]
        if isinstance(part, str):
            module, _, attribute = part.partition(":")
            part = cast(Part, getattr(import_module(module), attribute))
            self._parts[name] = part
        return part

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def choose(self, name: str) -> Part:
        """Return the part called ``name``.

        Raises:
            ValueError: no part has this name; the message lists all names, and the nearest.
        """
        if name not in self._parts:
            raise ValueError(f"There is no {self.kind} {name!r}.{nearest(name, self)} Choose one of {', '.join(self)}.")
        return self[name]

    def help(self) -> str:
        """Return all names with their descriptions, for a help text."""
        return "; ".join(f"{name} ({text})" for name, text in self.descriptions.items())

    def table(self) -> str:
        """Return the family as a Markdown table of names and descriptions."""
        rows = [f"| `{name}` | {description} |" for name, description in self.descriptions.items()]
        return "\n".join([f"| {self.kind} | meaning |", "|---|---|", *rows])
