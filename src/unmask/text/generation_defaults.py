"""``generation.json`` of a run: the decoding options that ``unmask tune`` chose, used where none are given.

The number of forward passes is stored per masked position, so that it suits texts of other lengths.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unmask.storage import read_json, write_json

FILE = "generation.json"


@dataclass(frozen=True)
class GenerationDefaults:
    """Decoding options of a run.

    Attributes:
        order: decoding order.
        threshold: confidence from which a position is unmasked; None = a fixed number per step.
        passes_per_blank: forward passes per masked position, at most.

    Examples:
        >>> GenerationDefaults("top_prob", None, 0.25).steps(10)
        3
    """

    order: str
    threshold: float | None
    passes_per_blank: float

    def steps(self, blanks: int) -> int:
        """Return the largest number of forward passes for a number of masked positions."""
        return max(1, math.ceil(round(self.passes_per_blank * blanks, 6)))

    @classmethod
    def of(cls, checkpoint: Path) -> GenerationDefaults | None:
        """Return the defaults of the run of a checkpoint; None without ``generation.json``.

        Args:
            checkpoint: the folder of a loaded model.

        Raises:
            ValueError: a file that ``unmask tune`` did not write.
        """
        path = checkpoint.parent.parent / FILE
        if not path.is_file():
            return None
        try:
            found: dict[str, Any] = read_json(path)
            return cls(found["order"], found["threshold"], float(found["passes_per_blank"]))
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"{path} holds no decoding options of `unmask tune`. Run `unmask tune {path.parent}` again, or delete the file."
            ) from None

    def write(self, run: Path, measured: dict[str, Any]) -> Path:
        """Write ``generation.json`` of a run, and return its path.

        Args:
            run: the run folder.
            measured: what the choice rests on, kept beside the options.
        """
        write_json(run / FILE, {**asdict(self), "measured": measured})
        return run / FILE

    def __str__(self) -> str:
        rule = "" if self.threshold is None else f", threshold {self.threshold:g}"
        return f"order {self.order}{rule}, at most {self.passes_per_blank:.2g} forward passes per masked position"
