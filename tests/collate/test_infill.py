"""Infilling: only the prompt's own masks are masked and scored, never BOS, EOS, PAD or a given token."""

import pytest
import torch

from unmask.collate.all_mask import AllMaskDataset
from unmask.collate.infill import DefaultInfillMLMCollator, MLMInfillWithExactTargetPredCollator
from unmask.contracts import SpecialIds

PAD, MASK, BOS, EOS, VOCAB = 0, 1, 2, 3, 40
SPECIAL = SpecialIds(mask=MASK, vocab_size=VOCAB, pad=PAD, bos=BOS, eos=EOS)
ROWS = [
    {"prompt_ids": [10, MASK, MASK, 13], "input_ids": [10, 11, 12, 13], "example_id": 0},
    {"prompt_ids": [MASK, 15], "input_ids": [14, 15], "example_id": 1},
]


@pytest.mark.parametrize("collator", [DefaultInfillMLMCollator, MLMInfillWithExactTargetPredCollator])
def test_the_given_masks_stay_and_only_they_are_targets(collator):
    batch = collator(SPECIAL, 7)(ROWS)
    assert batch["input_ids"].tolist() == [[BOS, 10, MASK, MASK, 13, EOS, PAD], [BOS, MASK, 15, EOS, PAD, PAD, PAD]]
    assert batch["target_ids"].tolist() == [[-100, -100, 11, 12, -100, -100, -100], [-100, 14, *[-100] * 5]]
    assert torch.equal(batch["fixed_positions_mask"], batch["target_ids"] == -100)
    assert batch["attention_mask"].int().tolist() == [[1] * 6 + [0], [1] * 4 + [0] * 3]


def test_a_schedule_hides_a_share_of_the_blanks_and_the_others_show_the_truth():
    rows = [{"prompt_ids": [9, *[MASK] * 8], "input_ids": [9, *range(20, 28)], "example_id": i} for i in range(2000)]
    batch = DefaultInfillMLMCollator(SPECIAL, 11, "quadratic")(rows)
    blank = torch.zeros(11, dtype=torch.bool)
    blank[2:10] = True
    scored = batch["noise_mask"]
    assert not scored[:, ~blank].any() and abs(float(scored[:, blank].float().mean()) - 1 / 3) < 0.03
    assert (batch["input_ids"][scored] == MASK).all()
    assert torch.equal(
        torch.where(scored, batch["target_ids"], batch["input_ids"])[0], torch.tensor([BOS, 9, *range(20, 28), EOS])
    )


@pytest.mark.parametrize("collator", [DefaultInfillMLMCollator, MLMInfillWithExactTargetPredCollator])
def test_padding_is_attended_when_asked_and_never_hidden_or_scored(collator):
    batch = collator(SPECIAL, 6, loss_on_padding=True)(ROWS[1:])
    assert batch["input_ids"].tolist() == [[BOS, MASK, 15, EOS, PAD, PAD]]
    assert batch["target_ids"].tolist() == [[-100, 14, *[-100] * 4]] and batch[
        "fixed_positions_mask"
    ].int().tolist() == [[1, 0, 1, 1, 1, 1]]
    assert batch["attention_mask"].all() and not collator(SPECIAL, 6)(ROWS[1:])["attention_mask"][0, 4:].any()


def test_a_target_of_another_length_is_refused_and_prediction_needs_none():
    for collator in (DefaultInfillMLMCollator, MLMInfillWithExactTargetPredCollator):
        with pytest.raises(ValueError, match="equally long"):
            collator(SPECIAL, 8)([{"prompt_ids": [MASK, 5], "input_ids": [5, 6, 7]}])
    batch = MLMInfillWithExactTargetPredCollator(SPECIAL, 8)([{"prompt_ids": [MASK, 5]}])
    assert (batch["target_ids"] == -100).all()


def test_all_mask_rows_have_the_lengths_of_their_reference():
    fixed = AllMaskDataset(SPECIAL, 3, 5)
    assert [row["prompt_ids"].tolist() for row in (fixed[0], fixed[2])] == [[MASK] * 5] * 2
    drawn = AllMaskDataset(SPECIAL, 3000, [2, 2, 7], seed=1)
    lengths = torch.tensor([len(drawn[i]["prompt_ids"]) for i in range(len(drawn))])
    assert set(lengths.tolist()) == {2, 7} and abs(float((lengths == 2).float().mean()) - 2 / 3) < 0.03
    other = AllMaskDataset(SPECIAL, 3000, [2, 2, 7], seed=2)
    assert [len(other[i]["prompt_ids"]) for i in range(50)] != lengths[:50].tolist()


def test_workers_see_every_all_mask_row_once():
    rows = AllMaskDataset(SPECIAL, 7, [1, 2, 3, 4])
    collate = MLMInfillWithExactTargetPredCollator(SPECIAL, 8, truncate="block", pass_through=["example_id"])
    batches = {
        workers: list(torch.utils.data.DataLoader(rows, 2, collate_fn=collate, num_workers=workers))
        for workers in (0, 2)
    }
    for a, b in zip(batches[0], batches[2], strict=True):
        assert torch.equal(a["input_ids"], b["input_ids"])
    assert torch.cat([batch["example_id"] for batch in batches[2]]).tolist() == [*range(7)]


@pytest.mark.parametrize("count, length", [(-1, 3), (2, 0), (2, [])])
def test_invalid_all_mask_datasets_are_refused(count, length):
    with pytest.raises(ValueError, match="rows of masks"):
        AllMaskDataset(SPECIAL, count, length)
    with pytest.raises(IndexError):
        AllMaskDataset(SPECIAL, 2, 2)[2]
