"""Batches of any collator: labels are targets, and other dtypes do not change the loss."""

import math

import pytest
import torch

from tests.naive.bound import UniformModel
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.training.batches import as_mlm_batch
from unmask.training.loss import MLMLoss

BATCH = {
    "input_ids": torch.tensor([[5, 1, 7, 1], [1, 6, 9, 0]]),
    "target_ids": torch.tensor([[5, 6, 7, 8], [9, 6, 7, -100]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]).bool(),
    "noise_mask": torch.tensor([[0, 1, 0, 1], [1, 0, 1, 0]]).bool(),
}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return RotaryTransformerMLMModel(12, 16, 1, 2, padding_idx=0, mask_idx=1, max_length=8, dropout=0.0)


class Dense:
    def __init__(self, model):
        self.model = model

    def __call__(self, *args, **kwargs):
        return self.model(*args, **kwargs)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize(
    "ids, mask",
    [(torch.int32, torch.int64), (torch.int16, torch.uint8), (torch.uint8, torch.float32), (torch.int64, torch.int32)],
)
def test_dtypes_do_not_change_the_loss(model, dense, ids, mask):
    net = Dense(model) if dense else model
    other = {name: value.to(mask) if name.endswith("mask") else value for name, value in BATCH.items()}
    other["input_ids"] = other["input_ids"].to(ids)
    if ids != torch.uint8:
        other["target_ids"] = other["target_ids"].to(ids)
    before = {name: value.clone() for name, value in other.items()}
    for visible in (False, True):
        loss = MLMLoss(model=net, loss_on_visible_tokens=visible)
        assert torch.equal(loss(other)["loss"], loss(BATCH)["loss"])
        assert torch.equal(loss.score(other).nll, loss.score(BATCH).nll)
        assert torch.equal(loss(loss.locate(other))["loss"], loss(BATCH)["loss"])
    assert all(torch.equal(before[name], other[name]) for name in before)


def test_labels_are_the_targets_and_mark_scored_positions(model):
    """Hugging Face's collator: -100 but where a token was masked, randomised or kept on purpose."""
    labels = BATCH["target_ids"].masked_fill(~BATCH["noise_mask"], -100)
    given = {"input_ids": BATCH["input_ids"], "attention_mask": BATCH["attention_mask"].long(), "labels": labels}
    assert torch.equal(MLMLoss(model=model)(given)["loss"], MLMLoss(model=model)(BATCH)["loss"])
    assert float(MLMLoss(model=UniformModel(12))(given)["loss"].detach()) == pytest.approx(math.log(12))
    bare = {"tokens": BATCH["input_ids"].int(), "labels": labels.int()}
    assert torch.equal(as_mlm_batch(bare)["noise_mask"], BATCH["noise_mask"])


def test_an_mlm_batch_is_returned_unchanged():
    assert as_mlm_batch(BATCH) is BATCH


@pytest.mark.parametrize("change, message", [
    ({"target_ids": None}, "no targets.*'labels'"),
    ({"input_ids": BATCH["input_ids"][0]}, r"input_ids have shape \[4\]"),
    ({"target_ids": BATCH["target_ids"][:, :3]}, r"targets\s+\[2, 3\]"),
    ({"target_ids": torch.tensor([[5, -1, 7, 8], [9, 6, 7, -100]])}, "A target is -1"),
    ({"target_ids": torch.tensor([[5, 12, 7, 8], [9, 6, 7, -100]])}, "token id 12, and the model predicts ids 0 to 11"),
    ({"target_ids": BATCH["target_ids"].float()}, "must be integers"),
])  # fmt: skip
@pytest.mark.parametrize("dense", [False, True])
def test_invalid_batches_are_refused(model, dense, change, message):
    with pytest.raises(ValueError, match=message):
        MLMLoss(model=Dense(model) if dense else model)({**BATCH, **change})
