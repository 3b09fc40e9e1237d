"""Every corruption under every objective through every collator: one contract, keyed noise, and ``ln V`` for a uniform model."""

import math

import pytest
import torch

from tests.naive.bound import UniformModel
from unmask.collate.answers import SupervisedMLMCollator
from unmask.collate.infill import DefaultInfillMLMCollator
from unmask.collate.labels import MaskedLMCollator
from unmask.collate.packed import PackedMLMCollator
from unmask.collate.padded import DefaultMLMCollator
from unmask.collate.seq2seq import MLMSeq2SeqCollator, MLMSeq2SeqTrainCollator
from unmask.contracts import SpecialIds
from unmask.ops.corruption import (
    ConstantMaskRate,
    Corruption,
    Replacement,
    UniformMaskRate,
    bernoulli,
    bert_corruption,
    block_diffusion_corruption,
    blockwise_corruption,
    count_corruption,
    ordinary_ids,
    scheduled_corruption,
    span_corruption,
    uniform_corruption,
    whole_words,
)
from unmask.ops.schedule import SCHEDULES
from unmask.ops.whole_words import WordTable
from unmask.training.loss import MLMLoss

PAD, MASK, BOS, EOS, VOCAB, ROWS = 0, 1, 2, 3, 12, 120
SPECIAL = SpecialIds(mask=MASK, vocab_size=VOCAB, pad=PAD, bos=BOS, eos=EOS)
WORDS = WordTable(torch.arange(VOCAB) < 8, torch.arange(VOCAB) >= 8, *torch.zeros(2, VOCAB, dtype=torch.long))
ORDINARY = ordinary_ids(VOCAB, SPECIAL.all)

CORRUPTIONS = {
    "uniform": uniform_corruption(MASK, 0.05),
    "exact": uniform_corruption(MASK, exact=True),
    "cosine": scheduled_corruption(MASK, SCHEDULES["cosine"], t_min=0.05),
    "maskgit": count_corruption(MASK, SCHEDULES["cosine"]),
    "blocks": block_diffusion_corruption(MASK, 3, 0.05),
    "blockwise": blockwise_corruption(MASK),
    "blockwise, blocks": blockwise_corruption(MASK, 4),
    "spans": span_corruption(MASK, 0.3),
    "spanbert": span_corruption(MASK, 0.3, replacement=Replacement(MASK, 0.8, 0.1, ORDINARY, runs=True)),
    "words": whole_words(uniform_corruption(MASK, exact=True), WORDS),
    "bert": bert_corruption(MASK, VOCAB, SPECIAL.all, 0.4),
    "random": Corruption(UniformMaskRate(0.05), bernoulli, Replacement(MASK, 0.0, 1.0, ORDINARY)),
    "all": Corruption(ConstantMaskRate(1.0), bernoulli, Replacement(MASK)),
}


def words(i, n):
    return [4 + (i + j) % 8 for j in range(n)]


PLAIN = [{"input_ids": words(i, i % 11), "example_id": i} for i in range(ROWS)]
PACKED = [{"input_ids": [*words(i, 3), EOS, *words(i + 1, 2), EOS, PAD, PAD], "example_id": i} for i in range(ROWS)]
ANSWERED = [
    {"prompt_ids": words(i, i % 5), "target_ids": words(i + 2, 1 + i % 7), "example_id": i} for i in range(ROWS)
]
BLANKS = [
    {"prompt_ids": [5, *[MASK] * (i % 6), 6], "input_ids": [5, *words(i, i % 6), 6], "example_id": i}
    for i in range(ROWS)
]
TAUGHT = [
    {"input_ids": words(i, 2 + i % 9), "loss_mask": [0, 1] + [j % 3 > 0 for j in range(i % 9)], "example_id": i}
    for i in range(ROWS)
]

COLLATORS = {
    "default": (lambda c, **o: DefaultMLMCollator(SPECIAL, 13, c, False, "max", **o), PLAIN),
    "default, padding": (lambda c, **o: DefaultMLMCollator(SPECIAL, 13, c, **o), PLAIN),
    "packed": (lambda c, **o: PackedMLMCollator(SPECIAL, 9, c, **o), PACKED),
    "packed, flex": (lambda c, **o: PackedMLMCollator(SPECIAL, 9, c, use_flex_attn=True, **o), PACKED),
    "prompt and answer": (
        lambda c, **o: MLMSeq2SeqTrainCollator(SPECIAL, c, 14, truncate="max", loss_on_padding=False, **o),
        ANSWERED,
    ),
    "prompt beside answer": (
        lambda c, **o: MLMSeq2SeqCollator(SPECIAL, c, 9, truncate="max", loss_on_padding=False, **o),
        ANSWERED,
    ),
    "infill": (lambda c, **o: DefaultInfillMLMCollator(SPECIAL, 10, c, truncate="max", **o), BLANKS),
    "supervised": (lambda c, **o: SupervisedMLMCollator(SPECIAL, 12, c, **o), TAUGHT),
}
every_collator = pytest.mark.parametrize("collator", COLLATORS)
DTYPES = {
    "noise_mask": torch.bool,
    "attention_mask": torch.bool,
    "fixed_positions_mask": torch.bool,
    "p_mask": torch.float32,
}


@every_collator
@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_every_pair_keeps_the_contract_and_a_uniform_model_scores_ln_v(collator, corruption):
    """Flat: exactly ln V a scored token. Weighed by 1/p: ln V a supervised token, to within five standard errors of its own."""
    make, rows = COLLATORS[collator]
    batch = make(CORRUPTIONS[corruption])(rows)
    assert all(
        v.dtype == DTYPES.get(name, torch.int64) and v.shape == batch["input_ids"].shape for name, v in batch.items()
    )
    scored, target, p = batch["noise_mask"], batch["target_ids"], batch["p_mask"]
    assert bool(scored.any()) and not (scored & (target == -100)).any()
    assert torch.equal(p > 0, target != -100) and float(p.max()) <= 1.0
    visible = ~scored & (target != -100)
    assert torch.equal(batch["input_ids"][visible], target[visible])
    for weighting in ("flat", "inverse_p", SCHEDULES["cosine"]):
        for normaliser in ("scored", "supervised", "sequence", "answer"):
            if weighting != "flat" and normaliser == "scored":
                continue  # refused: they would divide twice
            loss = MLMLoss(model=UniformModel(VOCAB), weighting=weighting, normaliser=normaliser, loss_on_padding=True)
            found, tokens = loss(batch), loss.score(batch)
            assert torch.allclose(tokens.nll, torch.full_like(tokens.nll, math.log(VOCAB)))
            assert bool((tokens.weights >= 0).all()) and bool(torch.isfinite(tokens.weights).all())
            if (weighting, normaliser) == ("flat", "scored"):
                assert float(found["loss"].detach()) == pytest.approx(math.log(VOCAB), rel=1e-6)
            if (weighting, normaliser) == ("inverse_p", "supervised"):
                error = 5 * float(found["variance"]) ** 0.5 + 1e-5
                assert abs(float(found["loss"].detach()) - math.log(VOCAB)) < error


@every_collator
@pytest.mark.parametrize("corruption", ["uniform", "blocks", "spanbert", "bert"])
def test_noise_belongs_to_the_row_in_every_collator(collator, corruption):
    """Alone or in a batch of other widths; another under another epoch or seed."""
    make, rows = COLLATORS[collator]
    whole = make(CORRUPTIONS[corruption], seed=3)(rows)
    real = whole["attention_mask"] if "attention_mask" in whole else whole["input_ids"] != PAD
    for i in (0, 7, 58):
        alone = make(CORRUPTIONS[corruption], seed=3)([rows[i]])
        own = alone["attention_mask"] if "attention_mask" in alone else alone["input_ids"] != PAD
        for name in ("input_ids", "target_ids", "noise_mask", "p_mask"):
            assert torch.equal(whole[name][i][real[i]], alone[name][0][own[0]])
    again = make(CORRUPTIONS[corruption], seed=3)
    again.set_epoch(1)
    assert not torch.equal(again(rows)["noise_mask"], whole["noise_mask"])
    assert not torch.equal(make(CORRUPTIONS[corruption], seed=4)(rows)["noise_mask"], whole["noise_mask"])


@every_collator
def test_the_schedule_is_read_by_every_collator(collator):
    make, rows = COLLATORS[collator]

    def share(schedule):
        p = make(schedule)(rows * 4)["p_mask"]
        return float(p[p > 0].mean())

    shares = [share(schedule) for schedule in ("cosine", "linear", lambda t: t**3)]
    assert shares == pytest.approx([2 / math.pi, 1 / 2, 1 / 4], abs=0.07)


def test_token_rows_keep_the_contract_too():
    collator = MaskedLMCollator(MASK, VOCAB, 0.5, tokenizer=SPECIAL)
    batch = collator([{"tokens": words(i, 8), "mask": [1] * 7 + [0]} for i in range(ROWS)])
    assert {name: value.dtype for name, value in batch.items()} == dict.fromkeys(
        ("tokens", "mask", "labels"), torch.int64
    )
    for normaliser in ("scored", "supervised", "sequence"):
        found = MLMLoss(model=UniformModel(VOCAB), normaliser=normaliser)(batch)
        assert float(found["numerator"]) == pytest.approx(math.log(VOCAB) * int((batch["labels"] != -100).sum()))
