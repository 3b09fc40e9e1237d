"""Parts given to ``unmask.train`` as objects: used, recorded, and compared on resume."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file

import unmask
from tests.training.conftest import config_of
from unmask.build.parts import part_record
from unmask.ops.corruption import uniform_corruption


def slow_start(t):
    return t * t


class HalfLoss(unmask.MLMLoss):
    def combine(self, batch, tokens):
        parts = super().combine(batch, tokens)
        return {**parts, "numerator": parts["numerator"] / 2}


@pytest.fixture
def tree(corpus, tmp_path):
    return {
        "run": str(tmp_path / "run"),
        "data": {"source": str(corpus), "vocab_size": 300, "block_size": 16, "valid_fraction": 0.2},
        "model": {"preset": None, "d_model": 16, "num_layers": 1, "nhead": 2},
        "train": {"steps": 2, "batch_size": 4, "evaluate_every": 2, "checkpoint_every": 2, "evaluate_rows": 4},
    }


def valid_loss(run):
    return json.loads((run / "checkpoints" / "index.json").read_text())["best_loss"]


@pytest.mark.slow
def test_parts_take_effect_and_a_resume_with_another_part_is_refused(tree, tmp_path):
    losses = {}
    for name, parts in {"plain": {}, "loss": {"loss": HalfLoss(weighting="inverse_p")}}.items():
        unmask.train(config_of(tree | {"run": str(tmp_path / name)}), **parts)
        losses[name] = valid_loss(tmp_path / name)
    assert losses["loss"] == pytest.approx(losses["plain"] / 2)
    schedule = tmp_path / "schedule"
    config = config_of(tree | {"run": str(schedule)})
    unmask.train(config, schedule=slow_start)
    record = json.loads((schedule / "parts.json").read_text())["schedule"]
    assert record["name"] == "tests.training.test_parts.slow_start" and len(record["sha256"]) == 64
    assert valid_loss(schedule) != losses["plain"]
    unmask.train(config, schedule=slow_start)
    with pytest.raises(ValueError, match=r"schedule=tests\.training\.test_parts\.slow_start, and now schedule=cosine"):
        unmask.train(config, schedule="cosine")
    with pytest.raises(ValueError, match=r"and now schedule=None"):
        unmask.train(config)


class Seen:
    """A callback and a logger of Lightning, made on first use so that this file needs no Lightning."""

    @staticmethod
    def callback():
        from lightning.pytorch import Callback

        class Steps(Callback):
            steps = 0

            def on_train_batch_end(self, *_):
                self.steps += 1

        return Steps()

    @staticmethod
    def logger(folder):
        from lightning.pytorch.loggers import CSVLogger

        return CSVLogger(folder, name="own")


class Ngram(torch.nn.Module):
    """A network of the caller's: each position reads its neighbours."""

    def __init__(self, size):
        super().__init__()
        self.embedding = torch.nn.Embedding(size, 8)
        self.mix = torch.nn.Conv1d(8, size, 3, padding=1)

    def forward(self, x_t, attention_mask=None, positions=None, block_mask=None, segment_ids=None):
        return self.mix(self.embedding(x_t).transpose(1, 2)).transpose(1, 2)


def hugging_face(size):
    config = transformers.BertConfig(
        vocab_size=size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32, pad_token_id=0,
    )  # fmt: skip
    return unmask.HuggingFaceMLM(transformers.BertForMaskedLM(config), 1)


@pytest.mark.parametrize("kind", [Ngram, hugging_face])
def test_a_network_callbacks_and_a_logger_of_the_callers_are_used(kind, tree, tmp_path):
    torch.manual_seed(0)
    network, seen = kind(300), Seen.callback()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    config = config_of(tree | {"run": str(tmp_path / "own")})
    checkpoint = unmask.train(config, model=network, callbacks=[seen], logger=Seen.logger(tmp_path))
    assert seen.steps == 2 and list((tmp_path / "own").rglob("metrics.csv"))
    after = load_file(checkpoint / "model.safetensors")
    moved = [name for name, value in before.items() if name in after and not torch.equal(after[name], value)]
    assert moved and type(network).__name__ in (tmp_path / "own" / "parts.json").read_text()
    with pytest.raises(ValueError, match="now model=None"):
        unmask.train(config_of(tree | {"run": str(tmp_path / "own")}, "train.steps=3"))
    again = unmask.train(config_of(tree | {"run": str(tmp_path / "own")}, "train.steps=3"), model=kind(300))
    assert again.name == "step-00000003"  # it resumed: the weights are those of the checkpoint


def test_settings_are_part_of_the_record():
    first, other = (part_record("corruption", uniform_corruption(mask)) for mask in (0, 4))
    assert (
        first["sha256"] == other["sha256"]
        and first != other
        and first == part_record("corruption", uniform_corruption(0))
    )


def test_a_part_that_its_source_does_not_determine_is_refused_before_the_folder_is_made(tree, tmp_path):
    power = 2
    for part, name in ((lambda t: t, "a lambda"), (lambda t: t**power, "a lambda"), (len, "source of schedule")):
        with pytest.raises(ValueError, match=name):
            unmask.train(config_of(tree), schedule=part)
    assert not (tmp_path / "run").exists()
