"""Names and descriptions of the tasks, without their code."""

from __future__ import annotations

TASK_DESCRIPTIONS: dict[str, str] = {
    "sudoku4": "sudoku of 4 × 4 cells with a unique solution",
    "sudoku6": "sudoku of 6 × 6 cells with a unique solution",
    "sudoku9": "sudoku of 9 × 9 cells with a unique solution, also from tables with the columns puzzle and solution",
    "star_graph": "path from the centre of a star graph to a leaf (edges/start,goal=path)",
    "countdown": "arithmetic with given numbers that reaches a target",
    "graph_colouring": "colours for the nodes of a graph, different for neighbours",
    "markov_chain": "texts of a Markov chain, whose entropy rate is known",
}
