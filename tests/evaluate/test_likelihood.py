"""The bound: equal to enumeration in expectation, independent of batching, honest about its own error."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

from tests.evaluate.tiny_models import SPECIAL, ConstantModel, PosteriorModel, TableModel
from unmask.contracts import SpecialIds
from unmask.evaluate.exact import any_order_conditionals, exact_nelbo
from unmask.evaluate.likelihood import Nelbo, nelbo
from unmask.evaluate.windows import Windows
from unmask.models.rotary_mlm import RotaryTransformerMLMModel


def small_network(**options):
    sizes = {"num_embeddings": 30, "d_model": 16, "num_layers": 2, "nhead": 2, "max_length": 64}
    return RotaryTransformerMLMModel(**(sizes | {"padding_idx": 0, "mask_idx": 1} | options))


SPECIAL_30 = SpecialIds(mask=1, vocab_size=30, pad=0, eos=2)


def ragged_rows(count, longest, seed=0):
    draw = np.random.default_rng(seed)
    return [draw.integers(3, 30, draw.integers(1, longest)).tolist() for _ in range(count)]


def test_the_estimate_converges_to_the_enumerated_bound():
    model, row = TableModel(4), [2, 0, 3, 1]
    exact = exact_nelbo(model, row, SPECIAL)
    found = nelbo(model, Windows.of_rows([row], 4), SPECIAL, samples=20000)
    error = found.bits_per_token.monte_carlo_error * 4 * math.log(2)
    assert error < 0.01 * exact
    assert abs(found.total_nats - exact) < 4 * error


def test_special_tokens_in_the_row_are_context_and_cost_nothing():
    model, row = TableModel(4), [2, 5, 3, 1]
    exact = exact_nelbo(model, row, SPECIAL)
    found = nelbo(model, Windows.of_rows([row], 4), SPECIAL, samples=20000)
    assert found.tokens.tolist() == [3] and found.unscored == 1
    assert abs(found.total_nats - exact) < 4 * found.nats_per_token.monte_carlo_error * 3


def test_enumeration_is_the_average_over_all_orders():
    model, row = TableModel(4, seed=3), [0, 1, 1, 2]
    subsets, nats = any_order_conditionals(model, row, SPECIAL)
    of = {tuple(s.tolist()): n for s, n in zip(subsets, nats, strict=True)}
    orders = list(itertools.permutations(range(4)))
    total = 0.0
    for order in orders:
        for step in range(4):
            hidden = tuple(i in order[step:] for i in range(4))
            total += float(of[hidden][order[step]])
    assert exact_nelbo(model, row, SPECIAL) == pytest.approx(total / len(orders), abs=1e-12)


@pytest.mark.parametrize("row", [[0, 0, 0], [1, 3, 2], [3, 3, 1]])
def test_an_exact_posterior_scores_its_own_log_probability(row):
    model = PosteriorModel(3)
    assert exact_nelbo(model, row, SPECIAL) == pytest.approx(model.nll(row), abs=1e-12)


def test_a_uniform_model_scores_exactly_ln_v_under_any_mask():
    rows = ragged_rows(40, 20)
    for samples in (1, 3):
        found = nelbo(ConstantModel(np.zeros(30)), Windows.of_rows(rows, 8), SPECIAL_30, samples=samples)
        assert found.nats_per_token.value == pytest.approx(math.log(30), abs=1e-12)
        assert np.allclose(found.nats, math.log(30) * found.tokens)
        assert found.nats_per_token.high - found.nats_per_token.low < 1e-12


def test_numbers_do_not_depend_on_the_batch():
    model = small_network().double()
    windows = Windows.of_rows(ragged_rows(50, 40), 32)
    found = [nelbo(model, windows, SPECIAL_30, samples=2, batch_tokens=tokens).nats for tokens in (1, 50, 10**6)]
    assert np.allclose(found[0], found[1], rtol=1e-12) and np.allclose(found[0], found[2], rtol=1e-12)
    assert not np.allclose(found[0], nelbo(model, windows, SPECIAL_30, samples=2, seed=1).nats)
    assert not np.allclose(found[0][0], found[0][1])


def test_levels_of_a_pass_fill_the_unit_interval_evenly():
    class CountHidden(ConstantModel):
        counts: list = []  # noqa: RUF012

        def __call__(self, x_t, attention_mask=None, positions=None, block_mask=None):
            self.counts += (x_t == 1).sum(-1).tolist()
            return super().__call__(x_t)

    model = CountHidden(np.zeros(30))
    nelbo(model, Windows.of_rows([[5] * 10] * 100, 10), SPECIAL_30, samples=1)
    seen = np.bincount(model.counts, minlength=11)
    assert seen[0] == 0 and abs(seen[1:] - 10).max() <= 2


def test_long_documents_are_the_sum_of_their_windows():
    model = small_network().double()
    row = ragged_rows(1, 100, seed=5)[0] * 3
    pieces = [row[i : i + 16] for i in range(0, len(row), 16)]
    whole = nelbo(model, Windows.of_rows([row], 16), SPECIAL_30, samples=2)
    parts = nelbo(model, Windows.of_rows(pieces, 16), SPECIAL_30, samples=2)
    assert len(whole.tokens) == 1 and len(parts.tokens) == len(pieces) > 2
    assert np.allclose(whole.nats[:, 0], parts.nats.sum(-1), rtol=1e-12)


def test_the_end_of_a_document_is_seen_but_not_scored():
    rows = [[5, 6, 7, 2], [8, 2], [2]]
    found = nelbo(ConstantModel(np.zeros(30)), Windows.of_rows(rows, 3), SPECIAL_30)
    assert found.tokens.tolist() == [3, 1, 0] and found.unscored == 0
    assert found.nats[0].tolist() == pytest.approx([3 * math.log(30), math.log(30), 0.0])


def test_units_by_hand():
    found = Nelbo(
        np.array([[8.0, 4.0], [4.0, 0.0]]) * math.log(2), np.array([3, 1]), np.array([12, 4]), np.array([2, 2])
    )
    assert found.bits_per_token.value == pytest.approx(8 / 4)
    assert found.bits_per_byte.value == pytest.approx(8 / 16)
    assert found.bits_per_word.value == pytest.approx(8 / 4)
    assert found.perplexity_per_token.value == pytest.approx(4.0)
    assert found.perplexity_per_word.value == pytest.approx(4.0)
    # Passes total 12 and 4 bits: standard deviation 8/sqrt(2), of their mean 4, a token 4/4.
    assert found.bits_per_token.monte_carlo_error == pytest.approx(1.0)
    told = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert told["tokens"] == 4 and told["bytes"] == 16 and told["bits_per_byte"]["value"] == pytest.approx(0.5)


def test_rates_without_texts_are_refused_and_left_out():
    found = nelbo(ConstantModel(np.zeros(30)), Windows.of_rows([[5, 6]], 4), SPECIAL_30)
    with pytest.raises(ValueError, match="texts="):
        _ = found.bits_per_byte
    assert "bits_per_byte" not in found.as_dict() and "bits_per_token" in found.as_dict()


def test_a_paired_difference_is_narrower_than_its_parts():
    windows = Windows.of_rows(ragged_rows(60, 40), 40, texts=["a b"] * 60)
    logits = np.random.default_rng(0).normal(size=30)
    one = nelbo(ConstantModel(logits), windows, SPECIAL_30)
    two = nelbo(ConstantModel(logits * 1.1), windows, SPECIAL_30)
    saved = one.bits_saved_per_byte(two)
    assert saved.value == pytest.approx(two.bits_per_byte.value - one.bits_per_byte.value)
    assert saved.high - saved.low < 0.5 * (one.bits_per_byte.high - one.bits_per_byte.low)
    with pytest.raises(ValueError, match="same windows"):
        one.bits_saved_per_byte(nelbo(ConstantModel(logits), windows, SPECIAL_30, samples=2))


def test_dropout_is_off_and_the_mode_comes_back():
    model = small_network(dropout=0.5)
    windows = Windows.of_rows(ragged_rows(5, 10), 10)
    assert np.array_equal(nelbo(model, windows, SPECIAL_30).nats, nelbo(model, windows, SPECIAL_30).nats)
    assert model.training
    model.eval()
    nelbo(model, windows, SPECIAL_30)
    assert not model.training


def test_pieces_of_logits_change_nothing(monkeypatch):
    from unmask.evaluate import hidden

    model = small_network().double()
    windows = Windows.of_rows(ragged_rows(20, 30), 32)
    whole = nelbo(model, windows, SPECIAL_30, samples=1).nats
    monkeypatch.setattr(hidden, "LARGEST_LOGITS", 70)  # two positions at a time
    assert np.allclose(nelbo(model, windows, SPECIAL_30, samples=1).nats, whole, rtol=1e-12)


def test_progress_counts_every_token_read():
    seen = []
    windows = Windows.of_rows([[5, 6, 2], [7], [2]], 4)
    nelbo(
        ConstantModel(np.zeros(30)),
        windows,
        SPECIAL_30,
        samples=3,
        batch_tokens=3,
        progress=lambda *now: seen.append(now),
    )
    assert seen[-1] == (12, 12) and [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "nothing to score"),
        ([[2], []], {}, "nothing to score"),
        ([[5, 1, 6]], {}, "contain the mask token"),
        ([[5]], {"samples": 0}, "samples=0"),
        ([[5]], {"batch_tokens": 0}, "batch_tokens=0"),
    ],
)
def test_bad_inputs_are_explained(rows, options, message):
    with pytest.raises(ValueError, match=message):
        nelbo(ConstantModel(np.zeros(30)), Windows.of_rows(rows, 4), SPECIAL_30, **options)


def test_bad_windows_are_explained():
    with pytest.raises(ValueError, match="block_size=0"):
        Windows.of_rows([[5]], 0)
    with pytest.raises(ValueError, match="1 rows of ids and 2 texts"):
        Windows.of_rows([[5]], 4, texts=["a", "b"])
    with pytest.raises(ValueError, match="n = 17"):
        exact_nelbo(ConstantModel(np.zeros(30)), [5] * 17, SPECIAL_30)


def test_a_store_is_its_documents(tmp_path):
    from unmask.data.document import Document
    from unmask.data.store.writer import write_store
    from unmask.data.tokenizing.tokenizers import Tokenizer

    texts = ["one two three", "é and four " * 20, ""]
    tokenizer = Tokenizer.train(texts, 270)
    store = write_store(
        tmp_path / "s",
        iter([Document(str(i), t) for i, t in enumerate(texts)]),
        tokenizer,
        source="s",
        shard_tokens=1000,
    )
    special = SpecialIds.of(tokenizer)
    of_store = Windows.of_store(store, 16)
    of_rows = Windows.of_rows([[*tokenizer.encode(t), tokenizer.eos_token_id] for t in texts], 16, texts)
    assert [row.tolist() for row in of_store.rows] == [row.tolist() for row in of_rows.rows]
    for name in ("document", "document_bytes", "document_words"):
        assert np.array_equal(getattr(of_store, name), getattr(of_rows, name))
    assert len(Windows.of_store(store, 16, documents=[1]).document_bytes) == 1
    found = nelbo(ConstantModel(np.zeros(len(tokenizer))), of_store, special)
    bits = found.tokens.sum() * math.log2(len(tokenizer)) / sum(len(t.encode()) for t in texts)
    assert found.bits_per_byte.value == pytest.approx(bits)


def test_a_padded_batch_needs_no_pad_token():
    special = SpecialIds(mask=1, vocab_size=30)
    torch.manual_seed(0)
    model = small_network().double()
    windows = Windows.of_rows([[5, 6, 7], [8]], 4)
    one, two = (nelbo(model, windows, special, batch_tokens=tokens).nats for tokens in (1, 100))
    assert np.allclose(one, two, rtol=1e-12)
