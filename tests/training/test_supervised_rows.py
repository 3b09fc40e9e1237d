"""Supervised fine-tuning: prompts are never masked, answers are scored alone, and rows are cut around their answers."""

import math

import numpy as np
import pytest
import torch

from tests.data.supervised_rows import sums, write_rows
from unmask.build.objective import build_collator, build_loss
from unmask.config.tree import load_config
from unmask.data.corpus.sources import Source
from unmask.data.preparation import prepare
from unmask.data.row_encoding import answer_window
from unmask.data.store.token_store import TokenStore
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.training.supervised_rows import SupervisedRows


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("supervised")
    infill = [{"before": f"f({i}, ", "middle": f"x{i}", "after": ") + y" * (i % 3)} for i in range(20)]
    path = write_rows(folder / "rows.jsonl", [*sums(60), *infill])
    return prepare(Source.parse(path, supervised=True), folder / "data", vocab_size=300, valid_fraction=0.2, workers=1)


@pytest.fixture(scope="module")
def store(prepared):
    return TokenStore.open(prepared.train)


def index(rows, epoch=0):
    return np.stack([np.full_like(rows, epoch), rows, rows], 1)


def config(*overrides):
    return load_config(overrides=["data.kind=supervised", "data.block_size=32", "model.max_length=64", *overrides])


@pytest.mark.parametrize("learnt, size, kept", [
    ("000011", 6, (0, 6)), ("000011", 4, (2, 6)), ("000011", 2, (4, 6)), ("001111", 3, (2, 5)), ("00001100", 4, (3, 7)),
    ("110000", 4, (0, 4)), ("00110000", 6, (0, 6)), ("01000011", 4, (4, 8)), ("0000110", 4, (3, 7)), ("000000", 4, (2, 6)),
    ("1111", 2, (0, 2)),
])  # fmt: skip
def test_a_long_row_keeps_its_last_answer_and_the_text_around_it(learnt, size, kept):
    flags = np.array([letter == "1" for letter in learnt])
    window = answer_window(flags, size)
    assert (window.start, window.stop) == kept


def test_every_row_is_one_document_and_a_function_of_its_number(store):
    rows = SupervisedRows(store, 512)
    order = np.random.default_rng(0).permutation(len(rows))
    shuffled = rows.__getitems__(index(order))
    for place, number in enumerate(order):
        assert shuffled["input_ids"][place].tolist() == store.document(number).tolist()
        assert shuffled["loss_mask"][place].tolist() == store.learnt(number).tolist()


def test_the_tail_of_an_answer_is_eos(store):
    plain, filled = (
        SupervisedRows(store, 64, eos_tail=tail).__getitems__(index(np.arange(len(store)))) for tail in (0, 1)
    )
    tails = 0
    for ids, learnt, long, flags in zip(
        plain["input_ids"], plain["loss_mask"], filled["input_ids"], filled["loss_mask"], strict=True
    ):
        assert long[: len(ids)].tolist() == ids.tolist() and flags[: len(ids)].tolist() == learnt.tolist()
        assert len(long) == (64 if learnt[-1] else len(ids))  # infilling ends with given text
        assert set(long[len(ids) :].tolist()) <= {store.manifest["eos"]} and flags[len(ids) :].all()
        tails += len(long) > len(ids)
    assert 0 < tails < len(store)


@pytest.mark.parametrize("name", ["diffusion", "block_diffusion", "blockwise", "maskgit", "bert", "spanbert"])
def test_prompts_are_never_masked_under_any_scheme(prepared, store, name):
    tokenizer = Tokenizer.load(prepared.tokenizer)
    collate = build_collator(config(f"objective.name={name}"), tokenizer, seed=0)
    rows, masked = SupervisedRows(store, 32, samples=100), 0
    for epoch in range(5):
        columns = rows.__getitems__(index(np.arange(len(rows)), epoch))
        batch = collate(columns)
        width = batch["input_ids"].shape[1]
        for row, (ids, learnt) in enumerate(zip(columns["input_ids"], columns["loss_mask"], strict=True)):
            given = np.flatnonzero(~learnt)
            assert batch["input_ids"][row, given].tolist() == ids[given].tolist()
            assert not batch["noise_mask"][row, given].any() and not batch["noise_mask"][row, len(ids) :].any()
            expected = np.full(width, -100)
            expected[: len(ids)][learnt] = ids[learnt]
            assert batch["target_ids"][row].tolist() == expected.tolist()
        masked += int(batch["noise_mask"].sum())
    assert masked > 100


def uniform_model(input_ids, attention_mask=None, positions=None, block_mask=None, x_0=None):
    return torch.zeros(*input_ids.shape, 300)


@pytest.mark.parametrize("normaliser", ["answer", "supervised"])
@pytest.mark.parametrize("name", ["diffusion", "block_diffusion"])
def test_a_uniform_model_scores_ln_v_on_answers_only(prepared, store, name, normaliser):
    """Chat law: whatever the prompts hold, the expected loss is ln V; a fixed count has it in every batch."""
    chosen = config(f"objective.name={name}", f"objective.normaliser={normaliser}")
    tokenizer = Tokenizer.load(prepared.tokenizer)
    collate, loss, losses = build_collator(chosen, tokenizer, seed=0), build_loss(chosen.objective, tokenizer), []
    rows = SupervisedRows(store, 32)
    for epoch in range(1 if name == "diffusion" else 60):
        batch = collate(rows.__getitems__(index(np.arange(len(rows)), epoch)))
        losses.append(float(loss(batch, uniform_model)["loss"]))
    assert np.mean(losses) == pytest.approx(math.log(300), rel=1e-5 if name == "diffusion" else 0.05)


def test_the_loss_does_not_depend_on_padding(prepared, store):
    chosen = config("objective.normaliser=answer", "objective.time_sampling=independent")
    tokenizer = Tokenizer.load(prepared.tokenizer)
    collate, loss = build_collator(chosen, tokenizer, seed=0), build_loss(chosen.objective, tokenizer)
    torch.manual_seed(0)
    table = torch.randn(300, 300)

    def model(input_ids, attention_mask=None, positions=None, block_mask=None):
        return table[input_ids]

    rows = SupervisedRows(store, 64)
    together = collate(rows.__getitems__(index(np.arange(len(rows)))))
    alone = [collate(rows.__getitems__(index(np.array([number])))) for number in range(len(rows))]
    assert len({batch["input_ids"].shape[1] for batch in alone}) > 1
    mean = np.mean([float(loss(batch, model)["loss"]) for batch in alone])
    assert float(loss(together, model)["loss"]) == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize("overrides, words", [
    (["data.eos_tail=true"], "data.eos_tail fills the rows of prompts with answers"),
    (["data.kind=supervised", "model.use_flex_attn=true"], "model.use_flex_attn is for packed rows"),
])  # fmt: skip
def test_keys_without_effect_are_refused(overrides, words):
    with pytest.raises(ValueError, match=words):
        load_config(overrides=overrides)
