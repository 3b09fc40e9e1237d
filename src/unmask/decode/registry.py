"""``Registry``: the named parts of one family, each with a one-line description.

Help texts, error messages and the tables of docs/decoding.md are built from registries. A registry imports no torch: an entry may be a reference
``"module:attribute"``, imported at first use, so that ``unmask --help`` stays fast.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Generic, TypeVar, cast

from unmask.suggestions import nearest

Part = TypeVar("Part")


@dataclass
class Registry(Generic[Part]):
    """The parts of a family by name.

    Args:
        kind: singular noun for error messages, such as ``"order"``.

    Example:
        >>> shapes = Registry("shape")
        >>> shapes.add("square", lambda side: side * side, "all sides equal")
        >>> shapes.get("square")(3)
        9
        >>> shapes.help()
        'square (all sides equal)'
    """

    kind: str
    _parts: dict[str, Part | str] = field(default_factory=dict, init=False)
    _descriptions: dict[str, str] = field(default_factory=dict, init=False)

    def add(self, name: str, part: Part | str, description: str) -> None:
        """Register a part.

        Args:
            name: unused so far in this registry.
            part: the part, or a reference ``"module:attribute"``.
            description: one line, shown by ``--help`` and in docs/decoding.md.

        Raises:
            ValueError: the name is taken, or the description is empty or has several lines.
        """
        if name in self._parts:
            raise ValueError(f"The {self.kind} {name!r} is registered already. Choose another name.")
        if not description.strip() or "\n" in description:
            raise ValueError(f"The {self.kind} {name!r} needs a description of one line; got {description!r}.")
        self._parts[name] = part
        self._descriptions[name] = description

    def get(self, name: str) -> Part:
        """Return a part by name.

        Raises:
            ValueError: the name is unknown.
        """
        if name not in self._parts:
            raise ValueError(
                f"There is no {self.kind} {name!r}.{nearest(name, self._parts)} Choose one of {', '.join(self._parts)}."
            )
        part = self._parts[name]
        if isinstance(part, str):
            module, _, attribute = part.partition(":")
            part = cast(Part, getattr(import_module(module), attribute))
            self._parts[name] = part
        return part

    def description(self, name: str) -> str:
        """Return the one-line description of a part."""
        return self._descriptions[name]

    def help(self) -> str:
        """Return all names with their descriptions, for a help text."""
        return "; ".join(f"{name} ({text})" for name, text in self._descriptions.items())

    def table(self) -> str:
        """Return a Markdown table of names and descriptions."""
        rows = [f"| `{name}` | {text} |" for name, text in self._descriptions.items()]
        return "\n".join([f"| {self.kind} | |", "|---|---|", *rows])

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)
