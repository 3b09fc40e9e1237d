"""Laws of evaluation that published evaluations have broken."""

import itertools
import math

import numpy as np
import pytest
import torch

from tests.evaluate.tiny_models import SPECIAL, ConstantModel, PosteriorModel, TableModel
from unmask.contracts import SpecialIds
from unmask.evaluate.estimate import proportion
from unmask.evaluate.exact import exact_log_likelihood, exact_nelbo
from unmask.evaluate.likelihood import nelbo
from unmask.evaluate.metrics import masked_accuracy
from unmask.evaluate.minimal_pairs import MinimalPair, PairScore, pair_accuracy
from unmask.evaluate.noise_curve import noise_curve
from unmask.evaluate.pseudo import pseudo_log_likelihood
from unmask.evaluate.scoring import TextScore
from unmask.evaluate.windows import Windows
from unmask.models.causal_lm import CausalLMAsMLM
from unmask.models.rotary_mlm import RotaryTransformerMLMModel


def score(nats):
    return TextScore("a", nats, 1, 0, True)


def pair(good, bad, paradigm=""):
    return PairScore(MinimalPair("a", "b", paradigm), score(good), score(bad))


def rotary(**options):
    torch.manual_seed(0)
    net = RotaryTransformerMLMModel(
        20, 16, 2, 2, mask_idx=4, padding_idx=5, rotary_emb_dim=8, max_length=16, dropout=0.0, **options
    )
    for parameter in net.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.4)
    return net.eval()


ROTARY_SPECIAL = SpecialIds(mask=4, vocab_size=20, pad=5)


def test_ties_of_minimal_pairs_count_half():
    assert pair_accuracy([pair(-3.0, -3.0), pair(-3.0 + 1e-7, -3.0), pair(math.nan, -3.0)])["all"].value == 0.5
    found = pair_accuracy([pair(-1.0, -2.0, "x"), pair(-2.0, -1.0, "x"), pair(-1.0, -2.0, "y"), pair(-1.0, -1.0)])
    assert {name: each.value for name, each in found.items()} == {"x": 0.5, "y": 1.0, "all": 0.625}


def test_bits_per_byte_divide_by_the_bytes_of_this_text():
    texts, rows = ["é1", "22", "€"], [[0, 1], [2, 2], [3]]
    windows = Windows.of_rows(rows, 8, texts)
    bound = nelbo(ConstantModel(np.zeros(6)), windows, SPECIAL, samples=2)
    assert windows.document_bytes.tolist() == [3, 2, 3]
    assert bound.bits_per_byte.value == pytest.approx(5 * math.log2(6) / 8)
    one = TextScore("é1", nats=-2 * math.log(6), scored=2, unscored=0, exact=True, bytes=3)
    assert one.bits_per_byte == pytest.approx(2 * math.log2(6) / 3)
    for changed in (dict(exact=False), dict(unscored=1)):  # bits of another text, or of part of it
        assert math.isnan(
            TextScore(
                "é1", **({"nats": -1.0, "scored": 1, "unscored": 0, "exact": True, "bytes": 3} | changed)
            ).bits_per_byte
        )


class Copying(ConstantModel):
    """Returns its input with certainty; a mask, which is no ordinary token, as any of them."""

    def __init__(self):
        super().__init__(np.zeros(6))

    def __call__(self, x_t, attention_mask=None, positions=None, block_mask=None):
        copied = 50.0 * torch.nn.functional.one_hot(x_t, 6).double()
        return torch.where((x_t == SPECIAL.mask)[..., None], torch.zeros(6, dtype=torch.float64), copied)


def test_a_network_that_copies_its_input_scores_ln_v_at_masked_positions():
    windows = Windows.of_rows([[0, 1, 2], [3, 3]], 8)
    for time in ("discrete", "continuous"):
        bound = nelbo(Copying(), windows, SPECIAL, samples=4000 if time == "continuous" else 2, time=time)
        assert bound.nats_per_token.value == pytest.approx(math.log(6), rel=0.1 if time == "continuous" else 1e-9)
    assert np.nansum(pseudo_log_likelihood(Copying(), [[0, 1, 2]], SPECIAL)[0]) == pytest.approx(-3 * math.log(6))
    assert masked_accuracy(Copying(), windows, SPECIAL, rate=0.5).top_1.value == pytest.approx(1 / 6)
    assert all(
        each.nats_per_token.value == pytest.approx(math.log(6))
        for each in noise_curve(Copying(), windows, SPECIAL, levels=3)
    )


@pytest.mark.parametrize("padded", [[5, 5, 6, 7, 8], [6, 7, 8, 5, 5], [5, 6, 7, 8, 5]])
def test_padding_on_either_side_changes_no_perplexity(padded):
    net, row = rotary(), [6, 7, 8]
    plain = pseudo_log_likelihood(net, [row], ROTARY_SPECIAL)[0]
    found = pseudo_log_likelihood(net, [padded, [9] * 9], ROTARY_SPECIAL)[0]
    assert found[~np.isnan(found)] == pytest.approx(plain, abs=1e-5)
    bounds = [nelbo(net, Windows.of_rows([each], 16), ROTARY_SPECIAL, samples=4000) for each in (row, padded)]
    assert bounds[0].perplexity_per_token.value == pytest.approx(bounds[1].perplexity_per_token.value, rel=0.05)
    assert bounds[0].tokens == bounds[1].tokens == [3]
    everywhere = [exact_nelbo(net, each, ROTARY_SPECIAL) for each in (row, row)]
    assert everywhere[0] == pytest.approx(bounds[1].total_nats, rel=0.05)


def test_a_pad_token_that_ends_documents_stays_visible():
    shared = SpecialIds(mask=4, vocab_size=20, pad=5, eos=5)
    with_end, without = (pseudo_log_likelihood(rotary(), [each], shared)[0][:2] for each in ([6, 7, 5], [6, 7]))
    assert abs(with_end - without).max() > 1e-3


def test_a_row_whose_answer_was_cut_away_adds_nothing_to_sum_or_count():
    rows = [([0, 1, 2], [0, 1, 1]), ([0, 1, 2, 3], [0, 0, 0, 0]), ([1, 2], [0, 1])]
    windows = Windows.of_answers(rows, 8)
    kept = Windows.of_answers([rows[0], rows[2]], 8)
    full, fewer = (nelbo(TableModelOfAnyLength(), each, SPECIAL, samples=3) for each in (windows, kept))
    assert full.tokens.tolist() == fewer.tokens.tolist() == [2, 1] and full.total_nats == fewer.total_nats
    nothing = [np.zeros(4, dtype=bool)]
    assert np.isnan(pseudo_log_likelihood(Copying(), [[0, 1, 2, 3]], SPECIAL, scored=nothing)[0]).all()


class TableModelOfAnyLength:
    """Log-probabilities that depend on position and on the number of masks of a row."""

    def __call__(self, x_t, attention_mask=None, positions=None, block_mask=None):
        place = torch.arange(x_t.shape[1], dtype=torch.float64)[:, None]
        masks = (x_t == SPECIAL.mask).sum(-1).double()[:, None, None]
        return torch.sin(1 + place * 1.7 + torch.arange(6) + masks).log_softmax(-1)


def test_a_discrete_and_a_continuous_estimate_of_one_bound_agree():
    model, row = TableModel(4), [2, 0, 1, 3]
    exact = exact_nelbo(model, row, SPECIAL)
    windows = Windows.of_rows([row] * 8000, 4)  # noise levels are spread evenly over windows
    for time in ("discrete", "continuous"):
        assert nelbo(model, windows, SPECIAL, samples=1, time=time).nats.mean() == pytest.approx(exact, rel=0.02)


def test_another_kind_of_time_is_refused():
    with pytest.raises(ValueError, match="discrete, continuous"):
        nelbo(TableModel(2), Windows.of_rows([[0, 1]], 4), SPECIAL, time="other")


def test_the_mean_of_the_curve_over_noise_levels_is_the_bound_per_token():
    model, row = TableModel(4), [2, 0, 1, 3]
    curve = noise_curve(model, Windows.of_rows([row], 4), SPECIAL, levels=4, samples=3000)
    assert [each.rate for each in curve] == [0.25, 0.5, 0.75, 1.0]
    found = np.mean([each.nats_per_token.value for each in curve])
    assert found == pytest.approx(exact_nelbo(model, row, SPECIAL) / 4, abs=0.02)
    with pytest.raises(ValueError, match="levels=0"):
        noise_curve(model, Windows.of_rows([row], 4), SPECIAL, levels=0)


def test_the_any_order_likelihood_of_a_short_row_is_exact():
    model, row = TableModel(3), [2, 0, 1]
    total = 0.0  # the mean over all orders of the product of conditionals
    for order in itertools.permutations(range(3)):
        ids, log_p = [SPECIAL.mask] * 3, 0.0
        for place in order:
            log_p += float(model(torch.tensor([ids]))[0, place, row[place]])
            ids[place] = row[place]
        total += math.exp(log_p) / 6
    assert exact_log_likelihood(model, row, SPECIAL) == pytest.approx(math.log(total))
    assert -exact_nelbo(model, row, SPECIAL) <= exact_log_likelihood(model, row, SPECIAL)
    truth = PosteriorModel(3)  # consistent conditionals: bound, likelihood and chain rule are one number
    left_to_right = np.nansum(pseudo_log_likelihood(truth, [row], SPECIAL, form="sentence_l2r")[0])
    for found in (exact_log_likelihood(truth, row, SPECIAL), -exact_nelbo(truth, row, SPECIAL), left_to_right):
        assert found == pytest.approx(-truth.nll(row))


def test_the_likelihood_of_a_span_is_conditional_on_any_context():
    truth, row = PosteriorModel(4), [2, 0, 1, 3]
    for span in ([1, 2], [0, 3], [3], [0, 1, 2]):
        scored = np.isin(np.arange(4), span)
        marginal = [
            math.exp(-truth.nll([v.pop(0) if s else t for s, t in zip(scored, row, strict=True)]))
            for v in (list(values) for values in itertools.product(range(4), repeat=len(span)))
        ]
        expected = -truth.nll(row) - math.log(sum(marginal))
        chain = np.nansum(pseudo_log_likelihood(truth, [row], SPECIAL, form="sentence_l2r", scored=[scored])[0])
        assert chain == pytest.approx(expected)
        assert exact_log_likelihood(truth, row, SPECIAL, scored) == pytest.approx(expected)
        zeros = np.zeros(1, dtype=np.int64)
        windows = Windows([np.array(row)], zeros, zeros, zeros, None, [scored])
        bound = nelbo(truth, windows, SPECIAL, samples=600)
        assert abs(bound.total_nats + expected) < 4 * bound.nats.std(ddof=1) / math.sqrt(600) + 1e-9


def test_a_block_causal_network_is_bounded_block_by_block_and_has_no_two_sided_score():
    net = rotary(causal_block=3)
    with pytest.raises(ValueError, match="its own block of 3"):
        pseudo_log_likelihood(net, [[6, 7, 8]], ROTARY_SPECIAL)
    row = [6, 7, 8, 9, 10]
    first = exact_nelbo(net, row[:3], ROTARY_SPECIAL)
    # the second block given the first one, by enumeration over its three sets
    hidden = {}
    for members in ([3], [4], [3, 4]):
        ids = torch.tensor([row])
        ids[0, members] = 4
        with torch.no_grad():
            log_p = net(ids)[0].log_softmax(-1)
        hidden[tuple(members)] = {place: -float(log_p[place, row[place]]) for place in members}
    second = (hidden[(3,)][3] + hidden[(4,)][4]) / 2 + sum(hidden[(3, 4)].values()) / 2
    bound = nelbo(net, Windows.of_rows([row], 8), ROTARY_SPECIAL, samples=1500)
    assert bound.tokens.tolist() == [5]
    assert abs(bound.total_nats - first - second) < 4 * bound.nats.std(ddof=1) / math.sqrt(1500)
    left = np.nansum(pseudo_log_likelihood(net, [row], ROTARY_SPECIAL, form="sentence_l2r")[0])
    assert left < 0


def test_a_shifted_causal_network_scores_its_own_left_to_right_likelihood():
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    causal = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=20, initializer_range=0.5, **sizes)).eval()
    net = CausalLMAsMLM(causal, mask_idx=4, bos_idx=1, future=0.0).eval()
    row = [6, 7, 8]
    with torch.no_grad():
        log_p = causal(torch.tensor([[1, *row]])).logits[0].log_softmax(-1)
    truth = sum(float(log_p[place, id]) for place, id in enumerate(row))
    special = SpecialIds(mask=4, vocab_size=20, pad=5, bos=1)
    found = np.nansum(pseudo_log_likelihood(net, [row], special, form="sentence_l2r")[0])
    assert found == pytest.approx(truth, abs=1e-4)
    assert nelbo(net, Windows.of_rows([row], 8), special, samples=1).total_nats == pytest.approx(-truth, abs=1e-4)
    with pytest.raises(ValueError, match="only to the tokens before it"):
        pseudo_log_likelihood(net, [row], special, form="whole_word", words=[np.zeros(3, dtype=np.int64)])


def test_a_network_that_takes_the_noise_level_is_refused():
    model = ConstantModel(np.zeros(6))
    model.time_conditioned = True
    for measure in (
        lambda: pseudo_log_likelihood(model, [[0, 1]], SPECIAL),
        lambda: nelbo(model, Windows.of_rows([[0, 1]], 4), SPECIAL),
        lambda: exact_log_likelihood(model, [0, 1], SPECIAL),
        lambda: masked_accuracy(model, Windows.of_rows([[0, 1]], 4), SPECIAL),
    ):
        with pytest.raises(ValueError, match="noise level as an input"):
            measure()


def test_the_interval_of_an_accuracy_covers_the_truth_with_ties_and_without():
    draw = np.random.default_rng(0)
    for tie in (0.0, 0.3):
        for cases in (20, 200):
            outcomes = draw.choice([0.0, 0.5, 1.0], p=[0.2 * (1 - tie), tie, 0.8 * (1 - tie)], size=(2000, cases))
            truth = 0.8 * (1 - tie) + tie / 2
            intervals = [proportion(float(each), cases) for each in outcomes.sum(1)]
            assert np.mean([each.low <= truth <= each.high for each in intervals]) > 0.935


def test_the_error_of_a_bound_covers_the_exact_bound():
    model, row = TableModel(4), [2, 0, 1, 3]
    exact, covered = exact_nelbo(model, row, SPECIAL), []
    for seed in range(300):
        nats = nelbo(model, Windows.of_rows([row], 4), SPECIAL, samples=16, seed=seed).nats[:, 0]
        covered.append(abs(nats.mean() - exact) < 2.13 * nats.std(ddof=1) / 4)  # t with 15 degrees of freedom
    assert 0.91 < np.mean(covered) < 0.985
