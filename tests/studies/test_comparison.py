"""Laws of paired comparisons: statistics by simulation, and measurements of stand-in models without training."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats

from unmask.contracts import SpecialIds
from unmask.evaluate.estimate import ratio
from unmask.evaluate.likelihood import nelbo
from unmask.evaluate.paired import crossed_difference, crossed_mean, two_sided_p
from unmask.evaluate.windows import Windows
from unmask.studies import comparison as module
from unmask.studies.comparison import Entry, comparison, holm
from unmask.studies.measured_run import MeasuredRun

SPECIAL = SpecialIds(mask=1, vocab_size=16)
DRAW = np.random.default_rng(0)
ROWS = [DRAW.integers(2, 16, DRAW.integers(3, 12)).tolist() for _ in range(30)]


def model_of(seed: int):
    table = torch.randn(16, 16, generator=torch.Generator().manual_seed(seed))

    def model(x_t, attention_mask=None, positions=None, block_mask=None):
        return table[torch.nn.functional.pad(x_t, (1, 0))[:, :-1]]  # the token before, whatever the padding

    return model


def measured(seed=0, rows=ROWS, noise=(0, 2), tokenizer="t", batch_tokens=64, ids="same"):
    windows = Windows.of_rows(rows, 16, ["x" * (3 * len(row)) for row in rows])
    bound = nelbo(model_of(seed), windows, SPECIAL, samples=noise[1], seed=noise[0], batch_tokens=batch_tokens)
    return MeasuredRun(f"run{seed}", bound, np.arange(len(rows), dtype=np.uint64), ids, tokenizer, noise)


def test_identical_runs_differ_by_exactly_zero():
    found = comparison([Entry("a", [measured()]), Entry("b", [measured(batch_tokens=500)])])
    difference = found["entries"][1]["difference"]
    assert [difference[key] for key in ("value", "low", "high")] == [0.0, 0.0, 0.0]
    assert found["entries"][1]["p_value"] == 1.0 and found["entries"][0]["difference"] is None


def test_batch_size_and_order_of_documents_change_nothing():
    one, other = (
        comparison([Entry("a", [measured(0, batch_tokens=n)]), Entry("b", [measured(1, batch_tokens=n)])])
        for n in (20, 999)
    )
    for key in ("value", "low", "high"):
        assert one["entries"][1]["difference"][key] == pytest.approx(other["entries"][1]["difference"][key], rel=1e-5)
    shuffled, units = DRAW.permutation(40), DRAW.integers(1, 9, 40)
    a, b = DRAW.normal(size=(3, 40)), DRAW.normal(size=(3, 40))
    for same in (True, False):
        first = crossed_difference(a, b, units, same)
        second = crossed_difference(a[:, shuffled], b[:, shuffled], units[shuffled], same)
        assert (first.value, first.variance) == pytest.approx((second.value, second.variance))


def test_one_seed_is_the_ratio_over_documents():
    cells, units = DRAW.normal(5, 1, (1, 25)), DRAW.integers(1, 9, 25)
    found, known = crossed_mean(cells, units).estimate, ratio(cells, units)
    assert (found.value, found.low, found.high) == pytest.approx((known.value, known.low, known.high))


def test_a_p_value_is_that_of_students_t():
    for t, degrees in [(0.0, 3), (1.7, 1), (2.5, 2), (3.1, 29), (12.0, 5), (6.0, 4000)]:
        assert two_sided_p(t, degrees) == pytest.approx(2 * stats.t.sf(t, degrees), rel=1e-6)
    cells = DRAW.normal(0.3, 1, (1, 20))
    assert crossed_mean(cells, np.ones(20, dtype=int)).p_value == pytest.approx(stats.ttest_1samp(cells[0], 0).pvalue)


@pytest.mark.parametrize("seeds, same", [(1, True), (6, True), (6, False)])
def test_the_interval_of_a_difference_covers_the_truth(seeds, same):
    draw, covered, times = np.random.default_rng(1), 0, 600
    units = draw.integers(1, 6, 60)
    for _ in range(times):
        document = 3 * draw.normal(size=60)  # hard documents are hard for both
        effect = 0.3 * draw.normal(size=60)
        shared = draw.normal(size=(seeds, 1)) * 0.2 if seeds > 1 else 0
        one, other = (
            units
            * (document + own + 0.1 * draw.normal(size=(seeds, 1)) * (seeds > 1) + 0.3 * draw.normal(size=(seeds, 60)))
            + (units * shared if same else units * 0.2 * draw.normal(size=(seeds, 1)) * (seeds > 1))
            for own in (effect + 0.5, 0.0)
        )
        found = crossed_difference(one, other, units, same).estimate
        covered += found.low <= 0.5 <= found.high
    assert 0.92 <= covered / times <= 0.99


def test_pairing_reduces_the_variance():
    entries = [measured(seed).bound.nats.mean(0, keepdims=True) for seed in (0, 1)]
    documents = 4 * DRAW.normal(size=(1, 30))
    units = np.ones(30, dtype=np.int64)
    one, other = (each + documents for each in entries)
    unpaired = crossed_mean(one, units).variance + crossed_mean(other, units).variance
    assert crossed_difference(one, other, units, True).variance < unpaired / 2
    seeds = 3 * DRAW.normal(size=(4, 1))
    a, b = (each + seeds + 0.1 * DRAW.normal(size=(4, 30)) for each in entries)
    assert crossed_difference(a, b, units, True).variance < crossed_difference(a, b, units, False).variance / 2


def test_the_correction_is_that_of_statsmodels(monkeypatch):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    values = [0.01, math.nan, 0.04, 0.03]
    found = holm(values)
    assert [found[i] for i in (0, 2, 3)] == pytest.approx([0.03, 0.06, 0.06]) and math.isnan(found[1])
    assert [found[i] for i in (0, 2, 3)] == multitest.multipletests([0.01, 0.04, 0.03], method="holm")[1].tolist()
    entries = [Entry(f"m{seed}", [measured(seed)]) for seed in range(3)]
    found = comparison(entries, "m1")
    raw = [each["p_value"] for each in found["entries"] if each["p_value"] is not None]
    assert [each["p_corrected"] for each in found["entries"] if each["p_corrected"] is not None] == pytest.approx(
        multitest.multipletests(raw, method="holm")[1].tolist()
    )
    assert found["baseline"] == "m1" and found["entries"][1]["difference"] is None
    monkeypatch.setitem(__import__("sys").modules, "statsmodels.stats.multitest", None)
    plain = comparison(entries, "m1")
    assert plain["correction"] is None and "unmask[compare]" in plain["note"]
    assert [each["p_value"] for each in plain["entries"]] == [each["p_value"] for each in found["entries"]]


def test_seeds_are_averaged_and_paired():
    many = Entry("many", [measured(0), measured(1)], (0, 1))
    other = Entry("other", [measured(2), measured(3)], (0, 1))
    found = comparison([many, other, Entry("lone", [measured(0)])], per="token")
    assert [each["paired_seeds"] for each in found["entries"]] == [None, True, False]
    singles = [measured(n).bound.bits_per_token.value for n in (0, 1)]
    assert found["entries"][0]["bits"]["value"] == pytest.approx(sum(singles) / 2)


def test_other_data_tokenizers_and_noise_are_refused(tmp_path):
    first = Entry("a", [measured()])
    for other, words in [
        (measured(noise=(1, 2)), "other masks"),
        (measured(noise=(0, 3)), "other masks"),
        (measured(ids="else"), "other documents"),
        (measured(rows=ROWS[:-1], tokenizer="u"), "other documents"),
    ]:
        with pytest.raises(ValueError, match=words):
            comparison([first, Entry("b", [other])])
    strange = Entry("b", [measured(tokenizer="u", ids="else")])
    with pytest.raises(ValueError, match="--per byte"):
        comparison([first, strange], per="token")
    assert comparison([first, strange])["unit"] == "byte"
    path = tmp_path / "deep" / "a.npz"
    path.parent.mkdir()
    measured().save(path)
    assert comparison([first, Entry("b", [MeasuredRun.load(path)])])["entries"][1]["difference"]["value"] == 0
    (tmp_path / "bad.npz").write_text("no")
    with pytest.raises(ValueError, match="no measurement"):
        MeasuredRun.load(tmp_path / "bad.npz")
    assert module.entry_names(["x/a", "x/a"]) == ["x-a", "x-a (2)"] and json.dumps(comparison([first, strange]))
