"""Star graphs (Bachmann and Nagarajan 2024, 2403.06963): find the arm that ends at the goal.

A row is ``edges/start,goal=path``: ``degree`` arms of ``length`` nodes, the centre included, leave the start; the edges are
shuffled. A model that writes from left to right guesses the first step of the path, and stays at 1 / degree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from unmask.tasks.catalogue import row_draw, small_config
from unmask.tasks.equation_lines import read_equations


@dataclass(frozen=True)
class StarGraphs:
    """Rows of star graphs.

    Attributes:
        degree: arms of the star.
        length: nodes of a path.
        nodes: number of names of nodes.
    """

    degree: int = 2
    length: int = 5
    nodes: int = 50

    @property
    def config(self) -> dict[str, Any]:
        """Recommended sections of the config."""
        edges, longest = self.degree * (self.length - 1), 1 + len(str(self.nodes - 1))
        return small_config(2 * edges * longest + (self.length + 2) * longest + 1)

    def generate(self, count: int, seed: int) -> list[dict[str, str]]:
        """Return graphs number ``0 .. count - 1`` of a seed.

        Raises:
            ValueError: fewer names than nodes.
        """
        used = self.degree * (self.length - 1) + 1
        if used > self.nodes or self.length < 2 or self.degree < 1:
            raise ValueError(
                f"A star of degree {self.degree} and length {self.length} has {used} nodes: set nodes={used} or more, and length=2 or more."
            )
        rows = []
        for number in range(count):
            draw = row_draw("star graph", seed, number)
            start, *others = draw.sample(range(self.nodes), used)
            arms = [[start, *others[arm :: self.degree]] for arm in range(self.degree)]
            edges = [f"{a},{b}" for arm in arms for a, b in pairwise(arm)]
            draw.shuffle(edges)
            path = draw.choice(arms)
            rows.append({"prompt": f"{'|'.join(edges)}/{start},{path[-1]}=", "answer": ",".join(map(str, path))})
        return rows

    def read(self, path: Path) -> list[dict[str, str]]:
        """Return the rows of a text file with one ``edges/start,goal=path`` a line.

        Raises:
            ValueError: a line of another form.
        """
        return read_equations(path, "/", "edges/start,goal=path")

    def is_valid(self, row: Mapping[str, str], answer: str) -> bool:
        """Tell whether an answer is a path of edges from start to goal."""
        edges, _, ends = row["prompt"].rstrip("=").partition("/")
        path = answer.split(",")
        steps = {tuple(edge.split(",")) for edge in edges.split("|")}
        return [path[0], path[-1]] == ends.split(",") and all(step in steps for step in pairwise(path))

    def group(self, row: Mapping[str, str]) -> str:
        """Return an empty name: all rows are of one kind."""
        return ""


STAR_GRAPHS = StarGraphs()
