"""A network that fills 6 × 6 sudoku, and puzzles for it: a small problem on which unmasking orders differ.

The network is ``RotaryTransformerMLMModel`` (450,000 parameters) with learned vectors for row, column and box of each
cell. It is trained on complete grids with a uniform mask rate, and never on puzzles. The grids of the puzzles are not
among its training grids under any renaming of digits: a tenth of the 39,168 patterns is held out for them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unmask.build.network import network_sizes
from unmask.cli.demos.training import train_wrapper
from unmask.config.tree import Config, load_config
from unmask.contracts import SpecialIds
from unmask.decode.canvas import Canvas
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.nonautoregressive.wrapper import NonAutoregressiveWrapper
from unmask.tasks.sudoku import Sudoku

HELD_OUT = 0.1
_MODEL: dict[str, Any] = {
    "preset": None,
    "d_model": 96,
    "num_layers": 4,
    "nhead": 4,
    "rotary_emb_dim": 8,
    "tie_embeddings": False,
    "local_init_layers": 0,
}
FULL: dict[str, Any] = {
    "data": {"source": "sudoku"},
    "model": _MODEL,
    "optim": {"name": "muon", "lr": 0.004},
    "train": {"steps": 240, "batch_size": 128, "evaluate_every": 60, "checkpoint_every": 60, "evaluate_rows": 256},
}
QUICK: dict[str, Any] = {
    **FULL,
    "model": {**_MODEL, "d_model": 32, "num_layers": 2, "nhead": 2},
    "train": {
        "steps": 20,
        "batch_size": 32,
        "evaluate_every": 20,
        "checkpoint_every": 20,
        "evaluate_rows": 32,
        "log_every": 10,
    },
}


class SudokuNetwork(RotaryTransformerMLMModel):
    """The rotary encoder, told where each cell stands.

    Args:
        sudoku: the size.
        options: those of ``RotaryTransformerMLMModel``.
    """

    def __init__(self, sudoku: Sudoku, **options: Any) -> None:
        super().__init__(sudoku.side + 1, padding_idx=None, mask_idx=sudoku.side, max_length=sudoku.cells, **options)
        self.unit = nn.Embedding(3 * sudoku.side, options["d_model"])  # rows, columns, boxes
        nn.init.normal_(self.unit.weight, std=0.02)
        units = torch.stack(sudoku.places, 1) + sudoku.side * torch.arange(3)
        self.register_buffer("units_of", units, persistent=False)  # (cells, 3)

    def _embed(self, ids: Tensor, *places: Tensor) -> Tensor:
        return self.embedding(ids) + self.unit(self.units_of[places[0]]).sum(-2)


def config_of(sudoku: Sudoku, run: Path, quick: bool) -> Config:
    """The run's config."""
    cells = {"data": {"source": "sudoku", "block_size": sudoku.cells}}
    base = QUICK if quick else FULL
    return load_config(base={**base, **cells, "model": {**base["model"], "max_length": sudoku.cells}, "run": str(run)})


def trained(sudoku: Sudoku, run: Path, quick: bool = False) -> NonAutoregressiveWrapper:
    """Train, or find it done, in the folder ``run``."""
    config = config_of(sudoku, run, quick)
    sizes = {key: value for key, value in network_sizes(config.model).items() if key != "max_length"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = SudokuNetwork(sudoku, **sizes)
    wrapper = NonAutoregressiveWrapper(
        network, mask_id=sudoku.side, no_replace_prob=0.0, random_token_prob=0.0, seed=config.seed
    )
    learnt, kept = sudoku.split(HELD_OUT)
    rows = config.train.steps * config.train.batch_size

    def grids() -> tuple[Tensor, Tensor]:
        return sudoku.grids(rows, 0, learnt), sudoku.grids(config.train.evaluate_rows, 1, kept)

    train_wrapper(wrapper, config, run, grids)
    return wrapper


def asked(sudoku: Sudoku, count: int) -> tuple[Canvas, Tensor, SpecialIds]:
    """Puzzles on held-out patterns, their solutions ``[count, cells]``, and the ids."""
    solutions = sudoku.grids(count, 2, sudoku.split(HELD_OUT)[1])
    special = SpecialIds(mask=sudoku.side, vocab_size=sudoku.side + 1)
    return Canvas.infill(sudoku.puzzles(solutions), special), solutions, special
