"""Prompts and answers: layouts, truncation that never shortens the answer, and masks only in answers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.collate.seq2seq import MLMSeq2SeqCollator, MLMSeq2SeqPredCollator, MLMSeq2SeqTrainCollator
from unmask.contracts import SpecialIds
from unmask.ops.corruption import uniform_corruption
from unmask.ops.mask_rates import ConstantMaskRate
from unmask.ops.position_sampling import bernoulli
from unmask.ops.replacement import Replacement
from unmask.ops.scheme import Corruption

PAD, MASK, BOS, EOS, UNK, VOCAB = 0, 1, 2, 3, 4, 40
SPECIAL = SpecialIds(mask=MASK, vocab_size=VOCAB, pad=PAD, bos=BOS, eos=EOS, others=(UNK,))
ALL = Corruption(ConstantMaskRate(1.0), bernoulli, Replacement(MASK))
NONE = Corruption(ConstantMaskRate(0.0), bernoulli, Replacement(MASK))
ROWS = [
    {"prompt_ids": [10, 11, UNK], "target_ids": [20, 21], "example_id": 0},
    {"prompt_ids": [12], "target_ids": [22, UNK, 23], "example_id": 1},
]


def test_a_training_row_is_prompt_bos_target_eos():
    batch = MLMSeq2SeqTrainCollator(SPECIAL, ALL, 6, 3, loss_on_padding=False)(ROWS)
    assert batch["input_ids"].tolist() == [
        [10, 11, UNK, BOS, MASK, MASK, MASK, PAD, PAD],
        [12, BOS, MASK, UNK, MASK, MASK, PAD, PAD, PAD],
    ]
    assert batch["target_ids"].tolist() == [
        [*[-100] * 4, 20, 21, EOS, -100, -100],
        [-100, -100, 22, -100, 23, EOS, *[-100] * 3],
    ]
    assert batch["attention_mask"].int().tolist() == [[1] * 7 + [0] * 2, [1] * 6 + [0] * 3]
    assert torch.equal(batch["noise_mask"], batch["target_ids"] != -100)
    padded = MLMSeq2SeqTrainCollator(SPECIAL, ALL, 6, 3)(ROWS)  # slots behind an answer are part of it
    assert padded["input_ids"][1].tolist() == [12, BOS, MASK, UNK, MASK, MASK, MASK, PAD, PAD]
    assert padded["target_ids"][1].tolist() == [-100, -100, 22, -100, 23, EOS, PAD, -100, -100]
    assert padded["attention_mask"].int().tolist() == [[1] * 9, [1] * 7 + [0, 0]]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"truncate": "max"},
        {"truncate": None},
        {"input_block_size": 3},
        {"truncate": "max", "input_block_size": 2},
        {"pad_to_multiple_of": 8},
    ],
)
@pytest.mark.parametrize("on_padding", [False, True])
def test_training_rows_differ_from_aligned_ones_in_their_padding_alone(options, on_padding):
    """The same tokens, targets, noise and number of positions for any widths."""
    rows = [
        {"prompt_ids": [*range(10, 10 + i % 7)], "target_ids": [*range(20, 20 + i % 9)], "example_id": i}
        for i in range(40)
    ]
    plain, aligned = (
        c(SPECIAL, None, 8, loss_on_padding=on_padding, seed=2, **options)(rows)
        for c in (MLMSeq2SeqTrainCollator, MLMSeq2SeqCollator)
    )
    for i in range(len(rows)):
        for name in ("input_ids", "target_ids", "noise_mask", "p_mask", "positions"):
            assert torch.equal(
                plain[name][i][plain["attention_mask"][i]], aligned[name][i][aligned["attention_mask"][i]]
            )


@pytest.mark.parametrize("prompt", [1, 15, 16, 40])
def test_a_row_is_the_prompts_slots_and_the_answers(prompt):
    row = [{"prompt_ids": [*range(4, 4 + prompt)], "target_ids": [20, 21]}]
    kept = [*range(4, 4 + prompt)][-16:]
    for collator in (MLMSeq2SeqTrainCollator, MLMSeq2SeqCollator, MLMSeq2SeqPredCollator):
        batch = collator(SpecialIds(mask=MASK, vocab_size=64, pad=PAD, bos=BOS, eos=EOS), NONE, 8, 16)(row)
        prediction = collator is MLMSeq2SeqPredCollator
        assert batch["input_ids"].shape[1] == (max(16, len(kept) + 1) if prediction else 24)
        assert batch["target_ids"].shape[1] == (8 if prediction else 24)
        assert [t for t in batch["input_ids"][0].tolist() if t != PAD][: len(kept) + 1] == [*kept, BOS]


def test_prompts_on_the_left_and_answers_on_the_right_meet_at_one_column():
    batch = MLMSeq2SeqCollator(SPECIAL, ALL, 6, 4, loss_on_padding=False)(ROWS)
    assert batch["input_ids"].tolist() == [
        [PAD, 10, 11, UNK, BOS, MASK, MASK, MASK, PAD, PAD],
        [PAD, PAD, PAD, 12, BOS, MASK, UNK, MASK, MASK, PAD],
    ]
    assert batch["positions"].tolist() == [[0, 0, 1, 2, 3, 4, 5, 6, 0, 0], [0, 0, 0, 0, 1, 2, 3, 4, 5, 0]]
    padded = MLMSeq2SeqCollator(SPECIAL, ALL, 6, 4)(ROWS)
    assert padded["input_ids"][1].tolist() == [PAD, PAD, PAD, 12, BOS, MASK, UNK, MASK, MASK, MASK]
    assert padded["attention_mask"][1].int().tolist() == [0, 0, 0, *[1] * 7]


def test_a_prediction_batch_is_the_prompt_alone_with_the_answer_beside_it():
    batch = MLMSeq2SeqPredCollator(SPECIAL, None, 5, 5, loss_on_padding=False)(ROWS)
    assert batch["input_ids"].tolist() == [[PAD, 10, 11, UNK, BOS], [PAD, PAD, PAD, 12, BOS]]
    assert batch["attention_mask"].int().tolist() == [[0, 1, 1, 1, 1], [0, 0, 0, 1, 1]]
    assert batch["target_ids"].tolist() == [[20, 21, EOS, -100, -100], [22, UNK, 23, EOS, -100]]
    with_padding = MLMSeq2SeqPredCollator(SPECIAL, None, 5, 5)(ROWS)
    assert with_padding["target_ids"][0].tolist() == [20, 21, EOS, PAD, PAD]
    assert set(MLMSeq2SeqPredCollator(SPECIAL)([{"prompt_ids": [10]}])) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize("collator", [MLMSeq2SeqTrainCollator, MLMSeq2SeqCollator, MLMSeq2SeqPredCollator])
def test_widths_are_rounded_up_of_prompts_and_of_answers(collator):
    """Prompts of 3 and 1 tokens, answers of up to 5 with their BOS and EOS."""
    for options, width in (
        ({"truncate": "max"}, 16),
        ({"truncate": None}, 16),
        ({"input_block_size": 8}, 24),
        ({"input_block_size": 8, "truncate": "max"}, 16),
    ):
        batch = collator(SPECIAL, NONE, 16, pad_to_multiple_of=8, **options)(ROWS)
        if collator is MLMSeq2SeqPredCollator:
            width = 8
        elif options.get("truncate", "block") == "block":
            width = 24
        assert batch["input_ids"].shape[1] == width, options
    with pytest.raises(ValueError, match="input_block_size=5 do not fit"):
        collator(SPECIAL, NONE, 16, 5, pad_to_multiple_of=8)


def test_an_empty_prompt_is_padded_to_width_one():
    batch = MLMSeq2SeqPredCollator(SPECIAL, add_bos=False)([{"prompt_ids": []}])
    assert batch["input_ids"].tolist() == [[PAD]] and not batch["attention_mask"].any()


LONG = [{"prompt_ids": [*range(10, 30)], "target_ids": [30, 31, 32]}]


def test_a_long_prompt_is_truncated_on_the_left_and_never_shortens_the_answer():
    (ids,) = MLMSeq2SeqTrainCollator(SPECIAL, NONE, 5, 3)(LONG)["input_ids"].tolist()
    assert ids == [27, 28, 29, BOS, 30, 31, 32, EOS]
    (ids,) = MLMSeq2SeqTrainCollator(SPECIAL, NONE, 8, input_block_size=2, truncate="max")(LONG)["input_ids"].tolist()
    assert ids == [28, 29, BOS, 30, 31, 32, EOS]
    (ids,) = MLMSeq2SeqCollator(SPECIAL, NONE, 5, 3)(LONG)["input_ids"].tolist()
    assert ids == [27, 28, 29, BOS, 30, 31, 32, EOS]
    (ids,) = MLMSeq2SeqPredCollator(SPECIAL, None, 5, 3)(LONG)["input_ids"].tolist()
    assert ids == [27, 28, 29, BOS]


def test_an_answer_too_long_for_its_block_keeps_its_eos():
    row = [{"prompt_ids": [10, 11], "target_ids": [*range(20, 40)]}]
    (ids,) = MLMSeq2SeqTrainCollator(SPECIAL, NONE, 6)(row)["input_ids"].tolist()
    assert ids == [10, 11, BOS, 20, 21, 22, 23, EOS]
    (ids,) = MLMSeq2SeqTrainCollator(SPECIAL, NONE, 6, truncate=None)(row)["input_ids"].tolist()
    assert ids == [10, 11, BOS, *range(20, 40), EOS]


@pytest.mark.parametrize("collator", [MLMSeq2SeqTrainCollator, MLMSeq2SeqCollator])
def test_noise_does_not_depend_on_padding(collator):
    """Left padding grows with the longest prompt of the batch, and the noise of a row stays the same."""
    make = lambda: collator(SPECIAL, None, 12, truncate="max", seed=5, loss_on_padding=False)  # noqa: E731
    rows = [{"prompt_ids": [10] * (1 + 3 * i), "target_ids": [*range(20, 27)], "example_id": i} for i in range(3)]
    if collator is MLMSeq2SeqTrainCollator:
        rows = rows[:2]
    whole = make()(rows)
    for i, row in enumerate(rows):
        alone = make()([row])
        for key in ("noise_mask", "p_mask", "input_ids"):
            assert torch.equal(whole[key][i][whole["attention_mask"][i]], alone[key][0][alone["attention_mask"][0]])


tokens = st.lists(st.integers(4, VOCAB - 1), max_size=15)


@given(
    st.lists(st.tuples(tokens, tokens), min_size=1, max_size=4),
    st.sampled_from(["block", "max", None]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_any_rows_keep_the_contract(pairs, truncate, bos, eos, on_padding):
    rows = [{"prompt_ids": p, "input_ids": t} for p, t in pairs]
    for cls in (MLMSeq2SeqTrainCollator, MLMSeq2SeqCollator):
        batch = cls(SPECIAL, uniform_corruption(MASK, exact=True), 9, 5, bos, eos, truncate, on_padding)(rows)
        scored, target = batch["noise_mask"], batch["target_ids"]
        assert (batch["input_ids"][scored] == MASK).all() and not (batch["input_ids"][~scored] == MASK).any()
        assert torch.equal(batch["p_mask"] > 0, target != -100) and not (scored & (target == -100)).any()
        if truncate == "block":
            assert batch["input_ids"].shape[1] == 14
        clean = torch.where(scored, target, batch["input_ids"])
        for i, (_, answer) in enumerate(pairs):
            kept = answer[: 9 - bos - eos] if truncate else answer
            hidden = [t for t in clean[i][target[i] != -100].tolist() if t != PAD]
            assert hidden == [t for t in kept if t != UNK] + [EOS] * eos


@pytest.mark.parametrize("call, message", [
    (lambda: MLMSeq2SeqTrainCollator(SPECIAL, None, 8)([{"prompt_ids": [5]}]), "'target_ids'"),
    (lambda: MLMSeq2SeqTrainCollator(SPECIAL, None, 8)([{"target_ids": [5]}]), "'prompt_ids'"),
    (lambda: MLMSeq2SeqTrainCollator(SPECIAL, None, 8)([ROWS[0], {"prompt_ids": [5]}]), "1 of 2 rows carry 'target_ids'"),
    (lambda: MLMSeq2SeqTrainCollator(SPECIAL, None, 8, 0), "input_block_size=0"),
    (lambda: MLMSeq2SeqTrainCollator(SPECIAL, None, 2), "no room"),
    (lambda: MLMSeq2SeqPredCollator(SPECIAL)([{"prompt_ids": [VOCAB]}]), "token id 40"),
])  # fmt: skip
def test_errors_name_the_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()
