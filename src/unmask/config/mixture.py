"""The value of ``data.source`` that names several sources with weights."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Mixture:
    """Sources or prepared folders, with the fraction of the rows that each provides.

    Attributes:
        weights: name -> weight, as given; only their ratios matter.

    Examples:
        >>> from unmask.config.mixture import Mixture
        >>> mixture = Mixture.parse("{books: 0.7, web.jsonl: 0.3}")
        >>> mixture.weights, str(mixture)
        ({'books': 0.7, 'web.jsonl': 0.3}, '{books: 0.7, web.jsonl: 0.3}')
        >>> Mixture.parse("books") is None
        True
    """

    weights: Mapping[str, float]

    @classmethod
    def parse(cls, given: Any) -> Mixture | None:
        """Return the mixture that a value of ``data.source`` describes; None for a single source.

        Args:
            given: a mapping, or its text.

        Raises:
            ValueError: no mapping from sources to positive weights.
        """
        if isinstance(given, str):
            if not given.lstrip().startswith("{") or Path(given).exists():
                return None
            with suppress(yaml.YAMLError):
                given = yaml.safe_load(given)
        if not isinstance(given, Mapping):
            if isinstance(given, str):
                raise ValueError(f"data.source={given!r} begins like a mixture and is none. {_HOW}")
            return None
        wrong = [
            name
            for name, weight in given.items()
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf")
        ]
        if wrong or len(given) < 2:
            what = f"the weight of {wrong[0]!r} is {given[wrong[0]]!r}" if wrong else f"it has {len(given)} sources"
            raise ValueError(f"data.source is no mixture: {what}. {_HOW}")
        return cls({str(name): weight for name, weight in given.items()})

    def __str__(self) -> str:
        text: str = yaml.safe_dump(dict(self.weights), default_flow_style=True, sort_keys=False, width=10**9)
        return text.strip()


_HOW = (
    "Write two or more sources or prepared folders with positive weights: data.source='{books: 0.7, web.jsonl: 0.3}'."
)
