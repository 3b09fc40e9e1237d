"""Corruption: what may be hidden, how often, and what stands there, against the stated formulas."""

from dataclasses import replace

import pytest
import torch
from scipy.stats import binom, chisquare, kstest

from unmask import arrays
from unmask.ops.corrupt import (
    corrupt_all_masked,
    corrupt_bert,
    corrupt_blockwise,
    corrupt_scheduled,
    corrupt_uniform,
    corrupt_uniform_random,
)
from unmask.ops.corruption import (
    bert_corruption,
    block_diffusion_corruption,
    blockwise_corruption,
    count_corruption,
    scheduled_corruption,
    span_corruption,
    uniform_corruption,
    whole_words,
)
from unmask.ops.mask_rates import ConstantMaskRate, MaskRateWarmup, ScheduleMaskRate, UniformMaskRate
from unmask.ops.position_sampling import bernoulli, exact_ceil, fixed_count, successive, systematic
from unmask.ops.replacement import Replacement, ordinary_ids
from unmask.ops.schedule import SCHEDULES
from unmask.ops.scheme import Corruption
from unmask.ops.whole_words import WordTable
from unmask.randomness import Noise, low_discrepancy, row_keys

MASK, VOCAB, SPECIAL = 1, 20, (0, 1, 2, 3)
# Ids from 12 on continue the word before them.
SOLID = WordTable(torch.arange(VOCAB) < 12, torch.arange(VOCAB) >= 12, *torch.zeros(2, VOCAB, dtype=torch.long))
SCHEMES = {
    "uniform": uniform_corruption(MASK),
    "uniform exact": uniform_corruption(MASK, exact=True),
    "cosine": scheduled_corruption(MASK, SCHEDULES["cosine"]),
    "quadratic": scheduled_corruption(MASK, SCHEDULES["quadratic"], t_min=0.05),
    "maskgit": count_corruption(MASK, SCHEDULES["cosine"]),
    "blocks": block_diffusion_corruption(MASK, 3),
    "blocks, clipped": block_diffusion_corruption(MASK, 4, 0.3, 0.8),
    "blockwise": blockwise_corruption(MASK),
    "blockwise, blocks": blockwise_corruption(MASK, 4),
    "spans": span_corruption(MASK, 0.3),
    "spanbert": span_corruption(
        MASK, 0.3, replacement=Replacement(MASK, 0.5, 0.3, ordinary_ids(VOCAB, SPECIAL), runs=True)
    ),
    "words": whole_words(uniform_corruption(MASK), SOLID),
    "words, exact": whole_words(uniform_corruption(MASK, exact=True), SOLID),
    "words, maskgit": whole_words(count_corruption(MASK, SCHEDULES["cosine"]), SOLID),
    "words, blocks": whole_words(block_diffusion_corruption(MASK, 3), SOLID),
    "bert words": whole_words(bert_corruption(MASK, VOCAB, SPECIAL, 0.3), SOLID),
    "bert": bert_corruption(MASK, VOCAB, SPECIAL),
    "bert, no kept": bert_corruption(MASK, VOCAB, SPECIAL, 0.4, 0.5, 0.5),
}
every_scheme = pytest.mark.parametrize("corruption", SCHEMES.values(), ids=SCHEMES)


def keyed(rows, epoch=0, seed=0, stratified=False):
    ids = torch.arange(rows)
    return Noise(row_keys(seed, epoch, ids), row_uniforms=low_discrepancy(seed, epoch, ids) if stratified else None)


def clean(rows, length):
    return torch.randint(4, VOCAB, (rows, length), generator=torch.Generator().manual_seed(0))


@every_scheme
def test_only_eligible_positions_are_masked_and_nothing_else_changes(corruption):
    ids, before = clean(300, 17), clean(300, 17)
    eligible = torch.rand(300, 17) < 0.5
    noisy, scored, p = corruption(ids, eligible, keyed(300))
    assert not (scored & ~eligible).any()
    assert torch.equal(noisy[~scored], ids[~scored]) and torch.equal(ids, before)
    assert ((p > 0) | ~scored).all() and (p >= 0).all() and (p <= 1).all()
    assert (noisy.shape, scored.dtype, p.dtype) == (ids.shape, torch.bool, torch.float32)


@every_scheme
def test_the_expected_weight_is_one_at_every_position(corruption):
    """E[noise / p] = 1, the law that makes a weighted loss an unbiased one; ragged prompts and padding included."""
    rows, length = 40_000, 8
    ids = clean(rows, length)
    eligible = torch.ones(rows, length, dtype=torch.bool)
    eligible[:, :2], eligible[rows // 2 :, 6:] = False, False
    _, scored, p = corruption(ids, eligible, keyed(rows, stratified=True))
    ratio = torch.where(scored, 1 / p.double(), 0.0)
    for part in (slice(None, rows // 2), slice(rows // 2, None)):
        n = eligible[part].sum(0)
        mean = ratio[part].sum(0) / n.clamp(min=1)
        error = ratio[part].std(0) / n.clamp(min=1).sqrt()
        assert (mean[n == 0] == 0).all()
        assert ((mean - 1).abs() < 4.5 * error + 2e-3)[n > 0].all(), mean


@every_scheme
def test_the_noise_of_a_row_is_its_own(corruption):
    """Not its batch's, not its order's, not its width's; and another in every epoch and under every seed."""
    ids, eligible = clean(16, 12), torch.ones(16, 12, dtype=torch.bool)
    whole = corruption(ids, eligible, keyed(16))
    order = torch.randperm(16)
    shuffled = corruption(ids[order], eligible, Noise(keyed(16).keys[order]))
    for a, b in zip(whole, shuffled, strict=True):
        assert torch.equal(a[order], b)
    wide = torch.cat([ids, torch.zeros(16, 5, dtype=torch.long)], 1)
    padded = corruption(wide, torch.cat([eligible, torch.zeros(16, 5, dtype=torch.bool)], 1), keyed(16))
    left = torch.cat([torch.zeros(16, 5, dtype=torch.long), ids], 1)
    counters = (torch.arange(17) - 5).expand(16, 17)
    shifted = corruption(left, torch.cat([~eligible[:, :5], eligible], 1), Noise(keyed(16).keys, counters))
    for a, b, c in zip(whole, padded, shifted, strict=True):
        assert torch.equal(a, b[:, :12]) and torch.equal(a, c[:, 5:])
    assert not torch.equal(whole.noise_mask, corruption(ids, eligible, keyed(16, epoch=1)).noise_mask)
    assert not torch.equal(whole.noise_mask, corruption(ids, eligible, keyed(16, seed=1)).noise_mask)


def test_uniform_rates_are_uniform_and_counts_follow_them():
    _, scored, p = corrupt_uniform(clean(20_000, 24), torch.ones(20_000, 24), MASK, eps=0.1)
    assert torch.equal(p[:, 0], p[:, -1])
    assert kstest(p[:, 0].double().numpy(), "uniform", (0.1, 0.9)).pvalue > 1e-3
    # The count given the rate is binomial; through its own distribution function it is uniform once more.
    k, rate = scored.sum(-1).double(), p[:, 0].double()
    between = binom.cdf(k - 1, 24, rate) + torch.rand(20_000).double().numpy() * binom.pmf(k, 24, rate)
    assert kstest(between, "uniform").pvalue > 1e-3


def test_prompts_do_not_enter_the_rate():
    """k counted over a prompt would give 0.547 hidden where 0.493 was stated."""
    loss_mask = torch.ones(4000, 30)
    loss_mask[:, :21] = 0
    noisy, scored, p = corrupt_uniform(clean(4000, 30), loss_mask, MASK)
    assert (noisy[:, :21] != MASK).all()
    assert abs(float(scored[:, 21:].float().mean() - p[:, 21:].mean())) < 0.006


@pytest.mark.parametrize("n", [1, 3, 7])
def test_exact_counts_are_uniform_and_so_are_the_subsets(n):
    rows = 21_000
    eligible = torch.zeros(rows, 9, dtype=torch.bool)
    eligible[:, 1 : 1 + n] = True
    _, scored, p = SCHEMES["uniform exact"](clean(rows, 9), eligible, keyed(rows))
    k = scored.sum(-1)
    assert torch.allclose(p[:, 0], k / n)
    assert int(k.min()) == 1 and (n == 1 or chisquare(torch.bincount(k, minlength=n + 1)[1:]).pvalue > 1e-3)
    for count in range(1, n + 1):
        each = scored[k == count][:, 1 : 1 + n].sum(0)
        assert count == n or chisquare(each).pvalue > 1e-3


def test_a_rate_times_a_count_is_not_rounded_up_by_a_float():
    rates = torch.tensor([0.07, 0.55, 0.29, 1.0, 0.5], dtype=torch.float64)
    n = torch.tensor([100, 20, 100, 7, 3])
    assert exact_ceil(rates * n).tolist() == [7, 11, 29, 7, 2]
    half = Corruption(ConstantMaskRate(0.55), fixed_count, Replacement(MASK))
    assert (half(clean(50, 20), torch.ones(50, 20, dtype=torch.bool), keyed(50)).noise_mask.sum(-1) == 11).all()


def test_bert_selects_masks_randomises_and_keeps_at_its_rates():
    ids = torch.full((2000, 64), 7)
    noisy, scored, p = corrupt_bert(
        ids, torch.ones(2000, 64), MASK, VOCAB, SPECIAL, generator=torch.Generator().manual_seed(3)
    )
    total, chosen = ids.numel(), int(scored.sum())
    assert (p == 0.15).all() and chisquare([chosen, total - chosen], [0.15 * total, 0.85 * total]).pvalue > 1e-3
    assert chisquare(scored.sum(0)).pvalue > 1e-3
    drawn = torch.bincount(noisy[scored], minlength=VOCAB)
    assert drawn[[0, 2, 3]].sum() == 0
    ordinary = VOCAB - len(SPECIAL)  # 7 is kept in one tenth, and drawn at random once in sixteen of another
    expected = torch.full((VOCAB,), 0.1 * chosen / ordinary, dtype=torch.float64)
    expected[MASK], expected[7] = 0.8 * chosen, 0.1 * chosen + 0.1 * chosen / ordinary
    assert chisquare(drawn[[1, *range(4, VOCAB)]], expected[[1, *range(4, VOCAB)]]).pvalue > 1e-3


@pytest.mark.parametrize("mask_replace_prob, random_replace_prob", [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.3, 0.2)])
def test_any_replacement_fractions_are_met(mask_replace_prob, random_replace_prob):
    ids = torch.full((1500, 40), 7)
    noisy, scored, _ = corrupt_bert(
        ids, torch.ones_like(ids), MASK, VOCAB, SPECIAL, 0.5, mask_replace_prob, random_replace_prob
    )
    n = int(scored.sum())
    masked, moved = int((noisy == MASK).sum()), int(((noisy != MASK) & (noisy != 7)).sum())
    assert abs(masked / n - mask_replace_prob) < 0.01 and abs(moved / n - random_replace_prob * 15 / 16) < 0.01


def test_the_mask_is_never_drawn_even_if_nobody_names_the_specials():
    ids = torch.full((400, 50), 7)
    noisy, scored, _ = corrupt_bert(ids, torch.ones_like(ids), MASK, 8, (), 1.0, 0.0, 1.0)
    assert set(noisy[scored].tolist()) == {0, 2, 3, 4, 5, 6, 7}
    assert ordinary_ids(6, (0, 3, 99)).tolist() == [1, 2, 4, 5]


@pytest.mark.parametrize("name", ["linear", "cosine", "quadratic", "square_root"])
def test_scheduled_rates_are_the_schedule_at_uniform_times(name):
    schedule = SCHEDULES[name]
    _, _, p = scheduled_corruption(MASK, schedule, t_min=0.0)(
        clean(5000, 2), torch.ones(5000, 2, dtype=torch.bool), keyed(5000)
    )
    assert kstest(schedule.inverse(p[:, 0].double()).numpy(), "uniform").pvalue > 1e-3


def test_low_discrepancy_times_fill_the_interval_however_they_are_cut():
    places = torch.arange(1000)
    row_uniforms = low_discrepancy(3, 0, places)
    assert torch.equal(row_uniforms[37:91], low_discrepancy(3, 0, places[37:91]))
    for start, n in ((0, 8), (123, 32), (500, 500)):
        gaps = torch.cat([torch.zeros(1), row_uniforms[start : start + n].sort().values, torch.ones(1)]).diff()
        assert float(gaps.max()) < 2.7 / n
    offsets = torch.stack([low_discrepancy(seed, 0, places[:1]) for seed in range(3000)]).flatten()
    assert kstest(offsets.numpy(), "uniform").pvalue > 1e-3
    assert float((low_discrepancy(3, 1, places[:1]) - row_uniforms[:1]).abs()) > 1e-6


def test_given_levels_take_the_place_of_drawn_ones():
    noise = Noise(torch.arange(3), row_uniforms=torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    _, _, p = Corruption(UniformMaskRate(0.2), bernoulli, Replacement(MASK))(
        clean(3, 2), torch.ones(3, 2, dtype=torch.bool), noise
    )
    assert p[:, 0].tolist() == pytest.approx([0.2, 0.6, 1.0])
    assert float(ScheduleMaskRate(SCHEDULES["quadratic"], 0.0)(noise.row_uniforms)[1]) == 0.25


def test_a_row_without_eligible_positions_is_unchanged():
    noisy, scored, p = SCHEMES["uniform exact"](clean(2, 5), torch.zeros(2, 5, dtype=torch.bool), keyed(2))
    assert torch.equal(noisy, clean(2, 5)) and not scored.any() and (p == 0).all()


def test_blockwise_masks_a_rounded_fraction_of_each_blocks_maskable_positions():
    loss_mask = torch.ones(2000, 30)
    loss_mask[:, :7], loss_mask[::2, 22:] = 0, 0
    noisy, scored, p = corrupt_blockwise(clean(2000, 30), loss_mask, MASK, block_size=8)
    for start in range(0, 30, 8):
        block = slice(start, start + 8)
        m, n = p[:, start].double(), loss_mask[:, block].sum(-1)
        assert torch.equal(p[:, block], p[:, start : start + 1].expand(-1, p[:, block].shape[1]))
        assert ((scored[:, block].sum(-1) - m * n).abs() <= 0.5 + 1e-5).all()
        assert kstest(m.numpy(), "uniform", (1e-3, 1 - 1e-3)).pvalue > 1e-3
    assert torch.equal(noisy == MASK, scored) and not (scored & ~loss_mask.bool()).any()
    assert (p[:, 0] != p[:, 8]).all()  # levels differ from block to block
    whole = corrupt_blockwise(clean(500, 30), loss_mask[:500], MASK)
    assert ((whole.noise_mask.sum(-1) - whole.p_mask[:, 0] * loss_mask[:500].sum(-1)).abs() <= 0.5 + 1e-4).all()


def test_blockwise_odds_grow_sixteenfold_over_a_block_as_the_level_falls():
    """One hidden of 32: the odds of position i are 2 ** (4 (1 - m) i / 32)."""
    rows, m = 20_000, 0.031
    choice = blockwise_corruption(MASK, 32).selection
    mask_rate = torch.full((rows,), m, dtype=torch.float64)
    expected = 2 ** (4 * (1 - m) * torch.arange(32, dtype=torch.float64) / 32)
    expected /= expected.sum()
    for draw, law in ((successive, expected), (systematic, None)):
        chosen, p = replace(choice, draw=draw)(mask_rate, torch.ones(rows, 32, dtype=torch.bool), keyed(rows))
        assert (chosen.sum(-1) == 1).all()
        assert chisquare(chosen.sum(0), rows * (p[0] / p[0].sum() if law is None else law)).pvalue > 1e-3
        assert float(((p[0] - expected) / expected).abs().max()) < 0.025


def test_dividing_by_the_level_in_place_of_the_inclusion_probability_is_biased():
    """E[noise / m] runs from 0.59 to 1.60 across a block of 32 (docs/theory.md, inclusion probabilities); E[noise / p] is one."""
    rows = 20_000
    eligible = torch.ones(rows, 32, dtype=torch.bool)
    _, scored, m = corrupt_blockwise(clean(rows, 32), eligible, MASK, block_size=32)
    by_level = (scored / m).mean(0)
    assert 0.5 < float(by_level[0]) < 0.7 and 1.4 < float(by_level[-1]) < 1.8
    _, scored, p = blockwise_corruption(MASK, 32)(clean(rows, 32), eligible, keyed(rows, stratified=True))
    ratio = torch.where(scored, 1 / p.double(), 0.0)
    assert ((ratio.mean(0) - 1).abs() < 4.5 * ratio.std(0) / rows**0.5).all()


def test_scheduled_counts_are_the_ceiling_at_the_given_times():
    times = torch.linspace(0, 1, 41)
    loss_mask = torch.ones(41, 20)
    loss_mask[:, :3] = 0
    for name in ("linear", "cosine", "arccos"):
        noisy, scored, p = corrupt_scheduled(clean(41, 20), loss_mask, MASK, name, times)
        k = torch.ceil(SCHEDULES[name].rate(times.double()) * 17 * (1 - 1e-12)).long()
        assert torch.equal(scored.sum(-1), k) and torch.equal(noisy == MASK, scored)
        assert torch.allclose(p[:, 0], k / 17)
    drawn = corrupt_scheduled(clean(5000, 20), torch.ones(5000, 20), MASK, "cosine").noise_mask.sum(-1)
    below = torch.arange(1, 21, dtype=torch.float64) / 20  # P(k <= j) = the time at which the rate is j/20
    chance = SCHEDULES["cosine"].inverse(below).diff(prepend=torch.zeros(1, dtype=torch.float64))
    assert chisquare(torch.bincount(drawn, minlength=21)[1:], 5000 * chance).pvalue > 1e-3


def test_all_masked_and_uniform_random_replace_maskable_positions():
    ids, loss_mask = clean(800, 25), torch.ones(800, 25)
    loss_mask[:, :5] = 0
    noisy, scored, p = corrupt_all_masked(ids, loss_mask, MASK)
    assert torch.equal(scored, loss_mask.bool()) and torch.equal(noisy == MASK, scored) and (p == 1).all()
    noisy, scored, p = corrupt_uniform_random(ids, loss_mask, VOCAB, SPECIAL)
    assert torch.equal(noisy[~scored], ids[~scored]) and not torch.isin(noisy, torch.tensor(SPECIAL)).any()
    assert chisquare(torch.bincount(noisy[scored], minlength=VOCAB)[4:]).pvalue > 1e-3
    assert abs(float(scored[:, 5:].float().mean() - p.mean())) < 0.01


@pytest.mark.parametrize("spread", [False, True])
def test_blocks_have_levels_of_their_own_that_are_uniform_and_spread_with_the_times(spread):
    noise = keyed(4000, stratified=spread)
    _, _, p = block_diffusion_corruption(MASK, 4)(clean(4000, 16), torch.ones(4000, 16, dtype=torch.bool), noise)
    row_uniforms = p[:, ::4].double()
    assert torch.equal(p, p[:, ::4].repeat_interleave(4, dim=1))
    for block in row_uniforms.T:
        assert kstest(block.numpy(), "uniform", (1e-3, 1 - 1e-3)).pvalue > 1e-3
    gaps = row_uniforms.sort(-1).values.diff(dim=-1)
    assert (float(gaps.max()) < 0.5 and float(gaps.min()) > 0.05) == spread
    assert spread or independent(row_uniforms[:, 0], row_uniforms[:, 1])


def independent(a, b, parts=8):
    """Chi-square of a table of pairs against even cells, for two columns of uniform numbers."""
    cells = (a * parts).long().clamp(max=parts - 1) * parts + (b * parts).long().clamp(max=parts - 1)
    return chisquare(torch.bincount(cells, minlength=parts**2)).pvalue > 1e-4


def rate_of(name, rows):
    """What each row of a plain function drew, on (0, 1)."""
    ids, every = clean(rows, 64), torch.ones(rows, 64)
    if name == "scheduled":  # its count, jittered within its step
        return (
            corrupt_scheduled(ids, every, MASK, "linear").noise_mask.sum(-1) - torch.rand(rows, dtype=torch.float64)
        ) / 64
    made = {
        "uniform": lambda: corrupt_uniform(ids, every, MASK),
        "random": lambda: corrupt_uniform_random(ids, every, VOCAB, SPECIAL),
        "blockwise": lambda: corrupt_blockwise(ids, every, MASK),
    }[name]()
    return made.p_mask[:, 0].double()


@pytest.mark.parametrize("name", ["uniform", "random", "blockwise", "scheduled"])
def test_plain_functions_draw_the_rates_of_a_batch_independently(name):
    """Evenly spread rates would lower the variance of a batch, and are an option of collators and configs."""
    torch.manual_seed(1)
    rate = rate_of(name, 8000)
    assert kstest(rate.numpy(), "uniform").pvalue > 1e-3
    for non_adjacent in (1, 2, 7):
        assert independent(rate[:-non_adjacent], rate[non_adjacent:])


def test_the_levels_of_a_rows_blocks_are_independent_in_the_plain_function():
    _, _, p = corrupt_blockwise(
        clean(8000, 16), torch.ones(8000, 16), MASK, block_size=4, generator=torch.Generator().manual_seed(2)
    )
    row_uniforms = (p[:, ::4].double() - 1e-3) / (1 - 1e-3)
    for i in range(4):
        assert kstest(row_uniforms[:, i].numpy(), "uniform").pvalue > 1e-3
        for j in range(i):
            assert independent(row_uniforms[:, i], row_uniforms[:, j])
    assert independent(row_uniforms[:-1, 3], row_uniforms[1:, 0])


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_plain_functions_take_ids_of_any_integer_type_and_masks_of_any(dtype):
    """A mask id that does not fit the type of the ids is not cut to it."""
    ids = clean(50, 9)
    for loss_mask in (torch.ones(50, 9), torch.ones(50, 9, dtype=torch.int32), torch.ones(50, 9, dtype=torch.bool)):
        for call in (
            lambda x, m: corrupt_uniform(x, m, 300, generator=torch.Generator().manual_seed(0)),
            lambda x, m: corrupt_bert(x, m, 300, 301, generator=torch.Generator().manual_seed(0)),
            lambda x, m: corrupt_blockwise(x, m, 300, 4, generator=torch.Generator().manual_seed(0)),
            lambda x, m: corrupt_all_masked(x, m, 300),
        ):
            for a, b in zip(call(ids, torch.ones(50, 9)), call(ids.to(dtype), loss_mask), strict=True):
                assert a.dtype == b.dtype and torch.equal(a, b)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0)])
def test_plain_functions_take_nothing(shape):
    ids = torch.zeros(shape, dtype=torch.int64)
    for made in (corrupt_uniform(ids, ids, MASK), corrupt_blockwise(ids, ids, MASK), corrupt_blockwise(ids, ids, MASK, 2),
                 corrupt_bert(ids, ids, MASK, VOCAB), corrupt_scheduled(ids, ids, MASK), corrupt_all_masked(ids, ids, MASK)):  # fmt: skip
        assert all(part.shape == shape for part in made)


@pytest.mark.parametrize("ids, loss_mask, message", [
    (torch.arange(5), torch.ones(5), r"\[batch, length\].*ids\[None\]"),
    (torch.rand(2, 5), torch.ones(2, 5), "integers"),
    (torch.zeros(2, 5, dtype=torch.int64), torch.ones(5), r"loss_mask.*\[5\]"),
])  # fmt: skip
def test_plain_functions_refuse_what_is_no_batch(ids, loss_mask, message):
    for call in (corrupt_uniform, corrupt_blockwise, corrupt_scheduled, corrupt_all_masked):
        with pytest.raises(ValueError, match=message):
            call(ids, loss_mask, MASK)


@pytest.mark.parametrize("name", ["words", "words, exact", "words, maskgit", "words, blocks", "bert words"])
def test_whole_words_are_masked_or_kept_together(name):
    ids = clean(400, 20)
    eligible = torch.rand(400, 20) < 0.9
    _, scored, p = SCHEMES[name](ids, eligible, keyed(400))
    word = SOLID(ids, eligible)
    same = torch.zeros(400, 20).scatter_add(1, word, scored.float()) / torch.zeros(400, 20).scatter_add(
        1, word, torch.ones(400, 20)
    )
    assert set(same[~same.isnan()].tolist()) == {0.0, 1.0}
    assert torch.equal(p, p.gather(-1, word)), "the tokens of a word have one probability"


def test_counts_of_whole_words_count_words():
    """Exactly k of a row's n words, k uniform on 1..n, and p = k / n; coins hide words at the row's level."""
    ids, eligible = clean(4000, 20), torch.ones(4000, 20, dtype=torch.bool)
    first = SOLID(ids, eligible) == torch.arange(20)
    _, scored, p = SCHEMES["words, exact"](ids, eligible, keyed(4000, stratified=True))
    n, k = first.sum(-1), (first & scored).sum(-1)
    assert torch.equal(p[:, 0], (k / n).float())
    assert kstest(((k - 0.5) / n).numpy(), "uniform").statistic < 0.06 and int(k.min()) == 1 and bool((k == n).any())
    _, scored, p = SCHEMES["words"](ids, eligible, keyed(4000, stratified=True))
    assert abs(float((first & scored).sum() / n.sum()) - 0.5) < 0.01


def test_only_eligible_positions_are_masked_for_any_granularity():
    ids, eligible = clean(100, 9), torch.ones(100, 9, dtype=torch.bool)
    eligible[:, 4:6] = False
    _, scored, _ = whole_words(uniform_corruption(MASK), lambda ids, eligible: torch.zeros_like(ids))(
        ids, eligible, keyed(100)
    )
    assert torch.equal(scored, scored[:, :1] & eligible) and bool(scored.any())


def test_whole_words_of_spans_raise():
    with pytest.raises(ValueError, match="Spans are runs of tokens"):
        whole_words(span_corruption(MASK), SOLID)


@pytest.mark.parametrize("make, message", [
    (lambda: block_diffusion_corruption(MASK, 0), "block_size=0"),
    (lambda: blockwise_corruption(MASK, half_life_ratio=0.0), "half_life_ratio"),
    (lambda: span_corruption(MASK, success=1.0), "geometric"),
    (lambda: UniformMaskRate(0.5, 0.4), "top is the largest"),
    (lambda: ConstantMaskRate(1.2), "got 1.2"),
    (lambda: UniformMaskRate(1.0), "eps is the smallest mask rate"),
    (lambda: Replacement(1, 0.8, 0.3), "sum at most 1"),
    (lambda: Replacement(1, -0.1, 0.3), "at least 0"),
    (lambda: Replacement(1, 0.8, 0.1), "needs ordinary_ids"),
    (lambda: bert_corruption(1, 2, (0,)), "needs ordinary_ids"),
])  # fmt: skip
def test_impossible_rates_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@every_scheme
@pytest.mark.parametrize("left", [0, 3])
def test_an_accelerator_masks_the_same_positions(corruption, left, monkeypatch):
    """Tensors that NumPy cannot see take torch's way, bit for bit the same; here they only say that they are elsewhere."""
    ids, eligible = clean(40, 13), torch.rand(40, 13) < 0.8
    counters = (torch.arange(13) - left).expand(40, 13) if left else None
    here = corruption(ids, eligible, Noise(keyed(40).keys, counters))
    monkeypatch.setattr(arrays, "on_host", lambda x: False)
    there = corruption(ids, eligible, Noise(keyed(40).keys, counters))
    assert torch.equal(here.noise_mask, there.noise_mask) and torch.equal(here.noisy_input_ids, there.noisy_input_ids)
    assert torch.allclose(here.p_mask, there.p_mask, rtol=1e-6)


def test_blocks_of_packed_rows_count_from_the_first_token_of_each_document():
    places = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 0, 1, 2, 3, 4, 5, 6]])
    blocks = [[0, 1, 2], [3, 4], [5, 6], [7, 8, 9], [10, 11, 12], [13]]
    eligible = torch.ones(1, 14, dtype=torch.bool)
    noise = Noise(row_keys(0, 0, torch.tensor([3])), places=places)
    _, masked, p = block_diffusion_corruption(MASK, 3)(clean(1, 14), eligible, noise)
    rates = [set(p[0, block].tolist()) for block in blocks]
    assert all(len(rate) == 1 for rate in rates) and len(set.union(*rates)) == len(blocks)
    alone = Noise(row_keys(0, 0, torch.tensor([3])))
    plain = block_diffusion_corruption(MASK, 3)(clean(1, 14), eligible, alone)
    assert torch.equal(plain[2][0, :3], p[0, :3]) and not torch.equal(plain[2], p)
    assert masked.any() and not masked.all()


@every_scheme
@pytest.mark.parametrize("width", [11, 12])
@pytest.mark.parametrize("spread", [False, True])
def test_blocks_at_multiples_of_their_length_are_blocks_anywhere(corruption, width, spread):
    """Views of rows give what indices of positions give, bit for bit; so do blocks of odd and even length."""
    if corruption.block_size is None or corruption.granularity is not None:
        corruption = replace(corruption, block_size=4, granularity=None)
    ids, eligible = clean(30, width), torch.rand(30, width) < 0.8
    if spread:
        eligible[:] = True
    noise = keyed(30, stratified=spread)
    by_view = corruption(ids, eligible, noise)
    by_index = corruption(ids, eligible, replace(noise, counters=torch.arange(width).expand(30, width)))
    for one, other in zip(by_view, by_index, strict=True):
        assert torch.equal(torch.where(eligible, one, 0), torch.where(eligible, other, 0))


def test_rates_of_blocks_follow_the_progress_of_their_row():
    warmup = MaskRateWarmup(ConstantMaskRate(0.0), ConstantMaskRate(1.0)).at(torch.tensor([0.0, 0.25, 1.0]))
    corruption = replace(block_diffusion_corruption(MASK, 2), mask_rate=warmup)
    _, _, p = corruption(clean(3, 5), torch.ones(3, 5, dtype=torch.bool), keyed(3))
    assert p.tolist() == [[0.0] * 5, [0.25] * 5, [1.0] * 5]
