"""A small corpus and a small config that whole runs share."""

import random
from pathlib import Path

import pytest

from unmask.config.tree import Config, load_config


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """Sixty short documents of a little grammar, learnable in a few steps."""
    rng = random.Random(0)
    subjects, verbs, objects = (
        ("the cat", "a dog", "my aunt"),
        ("sees", "finds", "likes"),
        ("the moon", "a stone", "old trees"),
    )
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(60):
        lines = [f"{rng.choice(subjects)} {rng.choice(verbs)} {rng.choice(objects)}." for _ in range(20)]
        (folder / f"{number:02d}.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture
def tiny(corpus, tmp_path) -> dict:
    """A config tree: a network of a few thousand parameters, twelve steps."""
    return {
        "run": str(tmp_path / "run"),
        "data": {"source": str(corpus), "vocab_size": 300, "block_size": 32, "valid_fraction": 0.2},
        "model": {"preset": None, "d_model": 16, "num_layers": 2, "nhead": 2, "max_length": 64},
        "optim": {"lr": 0.01},
        "train": {
            "steps": 12,
            "batch_size": 8,
            "evaluate_every": 4,
            "checkpoint_every": 4,
            "evaluate_rows": 16,
            "log_every": 2,
            "precision": "fp32",
        },
    }


def config_of(tree: dict, *overrides: str) -> Config:
    """The config of a tree with dotted overrides."""
    return load_config(None, overrides, base=tree)
