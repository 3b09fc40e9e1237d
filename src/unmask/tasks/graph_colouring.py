"""Graph colouring: colours for the nodes of a graph, so that neighbours differ.

A row is ``0-3 1-2 …=`` with one letter per node (a, b, c) as its answer. The graph has a planted colouring, and others may
exist; therefore ``valid`` is the figure, and ``exact`` counts the planted one only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from unmask.tasks.catalogue import row_draw, small_config
from unmask.tasks.equation_lines import read_equations


@dataclass(frozen=True)
class GraphColouring:
    """Rows of graphs with planted colourings.

    Attributes:
        nodes, edges, colours: of each graph; edges join nodes of different planted colours.
    """

    nodes: int = 10
    edges: int = 20
    colours: int = 3

    @property
    def config(self) -> dict[str, Any]:
        """Recommended sections of the config."""
        return small_config(self.edges * (2 + 2 * len(str(self.nodes - 1))) + self.nodes + 2)

    def generate(self, count: int, seed: int) -> list[dict[str, str]]:
        """Return graphs number ``0 .. count - 1`` of a seed.

        Raises:
            ValueError: more edges than nodes of different colours can have.
        """
        most = self.nodes**2 * (self.colours - 1) // (2 * max(1, self.colours))
        if not 2 <= self.colours <= self.nodes or self.edges > most:
            raise ValueError(
                f"{self.nodes} nodes in {self.colours} colours have at most about {most} edges between colours, and edges={self.edges}: set fewer, or nodes=…."
            )
        rows = []
        for number in range(count):
            draw = row_draw("graph colouring", seed, number)
            colour = [n % self.colours for n in range(self.nodes)]
            draw.shuffle(colour)
            pairs = [(a, b) for a, b in combinations(range(self.nodes), 2) if colour[a] != colour[b]]
            edges = sorted(draw.sample(pairs, min(self.edges, len(pairs))))
            rows.append(
                {
                    "prompt": f"{' '.join(f'{a}-{b}' for a, b in edges)}=",
                    "answer": "".join("abcdefghi"[c] for c in colour),
                }
            )
        return rows

    def read(self, path: Path) -> list[dict[str, str]]:
        """Return the rows of a text file with one ``edges=colours`` a line.

        Raises:
            ValueError: a line of another form.
        """
        return read_equations(path, "-", "0-1 0-2=abc")

    def is_valid(self, row: Mapping[str, str], answer: str) -> bool:
        """Tell whether every node has one of the colours, and neighbours differ."""
        edges = [tuple(map(int, edge.split("-"))) for edge in row["prompt"].rstrip("=").split()]
        colours = "abcdefghi"[: self.colours]
        whole = len(answer) == len(row["answer"]) and all(colour in colours for colour in answer)
        return whole and all(answer[a] != answer[b] for a, b in edges)

    def group(self, row: Mapping[str, str]) -> str:
        """Return an empty name: all rows are of one kind."""
        return ""


GRAPH_COLOURING = GraphColouring()
