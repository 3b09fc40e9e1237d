"""The plateau guard: a network of token frequencies is named, one that learns is not."""

import io
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from tests.training.conftest import config_of
from unmask.build.run import train
from unmask.config.objective_config import SCHEMES, ObjectiveConfig
from unmask.data.store.token_store import TokenStore
from unmask.training import plateau


class Frequencies(nn.Module):
    """The logits of every position are the log-frequencies of the tokens; nothing is learnt."""

    def __init__(self, log_frequencies: torch.Tensor) -> None:
        super().__init__()
        self.log_frequencies = nn.Parameter(log_frequencies)
        self.num_tokens = len(log_frequencies)

    def forward(self, x_t, attention_mask=None, positions=None, block_mask=None, segment_ids=None):
        return self.log_frequencies.expand(*x_t.shape, -1)


def printed_by(config, model=None) -> str:
    console = Console(file=io.StringIO(), width=200)
    train(config, console=console, model=model, workers=1)
    return console.file.getvalue()


LONG = ("train.steps=80", "train.evaluate_every=1000", "train.checkpoint_every=40", "train.logger=none", "optim.ema=0")


def frequencies(store: TokenStore, excluded) -> Frequencies:
    counts = store.unigram_counts.astype(float)
    counts[list(excluded)] = 0
    return Frequencies(torch.tensor(np.log(np.maximum(counts, 1e-9)), dtype=torch.float32))


@pytest.mark.slow
def test_a_network_of_frequencies_is_named_once_and_one_that_learns_is_not(tiny, tmp_path):
    common = (f"data.store={tmp_path / 'store'}", *LONG, "train.batch_size=16")
    learning = config_of(tiny, *common, "optim.lr=0.02", "objective.name=bert")
    assert "unigram entropy" not in printed_by(learning)
    tokens = TokenStore.open(tmp_path / "store" / "train")
    special = {tokens.manifest["pad"], tokens.manifest["eos"]}
    for objective in ("bert", "diffusion"):
        still = config_of(
            tiny, *common, f"run={tmp_path / objective}", f"objective.name={objective}", "optim.lr=1e-9", "optim.weight_decay=0"
        )  # fmt: skip
        printed = printed_by(still, frequencies(tokens, special))
        assert printed.count("the training loss stays at") == 1, objective
    for cause in ("repeated lines", "optim.lr", "tokenizer", "objective.probability"):
        assert cause in printed
    longer = still.model_copy(update={"train": still.train.model_copy(update={"steps": 120})})
    assert "stays at" not in printed_by(longer, frequencies(tokens, special))  # named before it was resumed


COURSES = {
    "stays": (lambda step: 3.0, True),
    "stays above": (lambda step: 3.2, True),
    "falls": (lambda step: 6.0 * 0.98**step, False),
    "knows the context": (lambda step: 2.5, False),
    "has not begun": (lambda step: 4.0, False),
}


@pytest.mark.parametrize("course", COURSES)
def test_the_guard_names_a_flat_loss_at_the_entropy_only(course):
    loss_at, named = COURSES[course]
    console = Console(file=io.StringIO())
    guard = plateau.PlateauGuard(3.0, steps=200, warmup=10, console=console)
    for step in range(1, 201):
        metrics = {"train/loss": torch.tensor(loss_at(step)), "train/loss_error": torch.tensor(0.05)}
        trainer = SimpleNamespace(
            accumulate_grad_batches=1, global_step=step, callback_metrics=metrics, is_global_zero=True
        )
        guard.on_train_batch_end(trainer, None, None, None, step - 1)
        assert step >= 50 or not guard.named
    assert guard.named == named and console.file.getvalue().count("Note:") == named


def test_a_noisy_loss_is_averaged_over_more_steps_before_it_is_judged():
    guard = plateau.PlateauGuard(3.0, steps=200, warmup=0, console=Console(file=io.StringIO()))
    for step in range(1, 201):
        metrics = {
            "train/loss": torch.tensor(3.0),
            "train/loss_error": torch.tensor(0.4),
        }  # 0.4 / sqrt(n) <= 0.03: n >= 178
        guard.on_train_batch_end(
            SimpleNamespace(accumulate_grad_batches=1, global_step=step, callback_metrics=metrics, is_global_zero=True),
            None, None, None, step - 1,
        )  # fmt: skip
    assert not guard.named and guard.before is not None


def test_the_entropy_is_that_of_the_counts(tiny, tmp_path, monkeypatch):
    train(config_of(tiny, "train.steps=1"))
    store = TokenStore.open(tmp_path / "run" / "data" / "train")
    counts = store.unigram_counts.astype(float)
    counts[:3] = 0
    p = counts[counts > 0] / counts.sum()
    expected = -sum(x * math.log(x) for x in p)
    assert plateau.unigram_entropy(store, (0, 1, 2)) == pytest.approx(expected)
    monkeypatch.setattr(plateau, "COUNTED", 4096)
    monkeypatch.setattr(plateau, "PIECE", 64)
    assert store.n_tokens > 4096 and plateau.unigram_entropy(store, (0, 1, 2)) == pytest.approx(expected, rel=0.02)


def test_only_objectives_in_nats_per_token_are_compared():
    assert all(plateau.measures_tokens(ObjectiveConfig(name=name)) for name in SCHEMES)
    for other in ({"label_smoothing": 0.1}, {"z_loss": 1e-4}, {"normaliser": "sequence"}):
        assert not plateau.measures_tokens(ObjectiveConfig(**other))
