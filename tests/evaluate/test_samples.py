"""Figures of samples equal their definitions; a judge's figures do not depend on batches and padding."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from unmask import measure_samples
from unmask.evaluate.causal_judge import CausalJudge, mauve
from unmask.evaluate.sample_metrics import distinct, entropy, exact_match, fillings, infill_accuracy, repetition

TEXTS = ["the cat sees the cat sees", "a dog", "", "x", "the cat finds the dog of the cat"]
WORDS = [text.split() for text in TEXTS]


def test_ngrams_are_counted_by_hand():
    every = [w[i : i + 2] for w in WORDS for i in range(len(w) - 1)]
    assert distinct(WORDS, 2) == len({tuple(pair) for pair in every}) / len(every)
    own = [len({tuple(w[i : i + 2]) for i in range(len(w) - 1)}) / (len(w) - 1) for w in WORDS if len(w) > 1]
    assert repetition(WORDS, 2).value == pytest.approx(np.mean([1 - share for share in own]))
    assert math.isnan(distinct([["a"]], 2)) and math.isnan(repetition([["a"]], 2).value)
    with pytest.raises(ValueError, match="1 or more"):
        distinct(WORDS, 0)


def test_bounds_of_repetition_distinctness_and_entropy():
    same, different = ["aaaaaaaa"], ["abcdefgh"]
    assert repetition(different, 2).value == 0 and repetition(same, 2).value == pytest.approx(6 / 7)
    assert distinct(different, 1) == 1 and distinct(different * 2, 1) == 0.5, "pooled over samples"
    assert entropy(same).value == 0 and entropy(different).value == pytest.approx(math.log(8))
    assert entropy(different * 3).value == pytest.approx(math.log(8)), "each sample alone"


def test_matches_and_blanks():
    assert exact_match([" a", "b"], ["a ", "c"]).value == 0.5
    prompts = ["The [MASK] sees [MASK][MASK:1-3].", "No blank", "(a+) [MASK]"]
    truth = ["The cat sees a dog.", "No blank", "(a+) b"]
    assert fillings(prompts[0], truth[0]) == ["cat", "a dog"] and fillings("x [MASK]", "y z") is None
    assert infill_accuracy(prompts, truth, truth).value == 1
    assert infill_accuracy(prompts, ["The cat sees me.", "No blank", "something else"], truth).value == pytest.approx(
        1 / 3
    )
    with pytest.raises(ValueError, match="does not agree"):
        infill_accuracy(["a [MASK]"], ["a b"], ["b b"])
    with pytest.raises(ValueError, match="No prompt has a blank"):
        infill_accuracy(["a"], ["a"], ["a"])
    with pytest.raises(ValueError, match="one for each"):
        exact_match(["a"], [])


@pytest.fixture(scope="module")
def network():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=40, n_positions=12, n_embd=16, n_layer=2, n_head=2)
    return transformers.GPT2LMHeadModel(config).eval()


def judge_of(network, batch_tokens, pad=0):
    return CausalJudge(network, lambda text: [ord(c) % 40 for c in text], 12, pad, batch_tokens)


@torch.no_grad()
def naive_nats(network, ids):
    """Return the sum over positions of one forward pass per prefix."""
    ids = ids[:12]
    return sum(
        -float(network(torch.tensor([ids[:n]])).logits[0, -1].double().log_softmax(-1)[ids[n]])
        for n in range(1, len(ids))
    )


def test_the_judge_equals_a_naive_loop_in_any_batch_and_padding(network):
    small, large, padded = (judge_of(network, *options) for options in ((1,), (1000,), (64, 39)))
    rows = small.tokens(TEXTS)
    assert [len(row) for row in rows] == [12, 5, 0, 1, 12], "cut at the longest row"
    naive = np.array([naive_nats(network, row) for row in rows])
    for judge in (small, large, padded):
        nats, tokens = judge.nats(TEXTS)
        np.testing.assert_allclose(nats, naive, atol=1e-4)
        assert tokens.tolist() == [11, 4, 0, 0, 11]
        assert judge.perplexity(TEXTS).value == pytest.approx(math.exp(naive.sum() / 26), rel=1e-5)
    np.testing.assert_allclose(small.features(TEXTS), large.features(TEXTS), atol=1e-5)
    assert large.features(TEXTS).shape == (4, 16), "an empty text has no features"
    with pytest.raises(ValueError, match="two tokens"):
        large.perplexity(["", "x"])


def test_a_uniform_judge_has_the_size_of_its_vocabulary():
    class Uniform(torch.nn.Linear):
        def forward(self, input_ids, attention_mask):
            return SimpleNamespace(logits=torch.zeros(*input_ids.shape, 40))

    assert judge_of(Uniform(1, 1), 100).perplexity(TEXTS).value == pytest.approx(40, rel=1e-6)


def divergence_area(p, q, scaling=5, points=25):
    """MAUVE of two histograms by its definition: the area under (exp -c KL(q|r), exp -c KL(p|r)), r between p and q."""

    def kl(a, b):
        return sum(x * math.log(x / y) for x, y in zip(a, b, strict=True) if x > 0)

    curve = [(0.0, 1.0)]
    for weight in np.linspace(1e-6, 1 - 1e-6, points):
        mixture = [weight * x + (1 - weight) * y for x, y in zip(p, q, strict=True)]
        curve.append((math.exp(-scaling * kl(q, mixture)), math.exp(-scaling * kl(p, mixture))))
    x, y = np.array([*sorted(curve), (1.0, 0.0)]).T
    first = np.trapezoid(y, x)
    order = np.argsort(y)
    return (first + np.trapezoid(x[order], y[order])) / 2


def test_mauve_of_known_clusters_is_its_definition():
    pytest.importorskip("mauve")
    generator = np.random.default_rng(0)

    def features(counts):
        centres = np.repeat(np.eye(3)[: len(counts)], counts, axis=0)
        return (centres + generator.normal(0, 1e-3, centres.shape)).astype(np.float32)

    p, q = (60, 25, 15), (20, 30, 50)
    found = mauve(features(q), features(p), buckets=3)
    assert found == pytest.approx(divergence_area(np.array(p) / 100, np.array(q) / 100), abs=0.01)
    assert mauve(features(p), features(p), buckets=3) > 0.99
    assert mauve(features((100, 0, 0)), features((0, 100, 0)), buckets=2) < 0.01


def test_the_report_holds_what_was_given(network):
    judge = judge_of(network, 100)
    report = measure_samples(
        TEXTS[:2], references=TEXTS[:2], prompts=["[MASK]", "a [MASK]"], judge=judge, unit="tokens"
    )
    assert report["exact_match"]["value"] == report["infill_accuracy"]["value"] == 1
    assert report["mean_length"] == 8.5 and report["generative_perplexity"]["value"] > 1 and "mauve" not in report
    rows = [{"prompt": "0-1 1-2=", "answer": "aba"}] * 2
    assert measure_samples(["abc", "aab"], task="graph_colouring", rows=rows)["valid"]["value"] == 0.5
    for wrong, options in {
        "none of": {"unit": "bytes"}, "name a causal": {"unit": "tokens"}, "MAUVE needs": {"humans": TEXTS},
        "no rules": {"task": "markov_chain", "rows": rows}, "the row of each": {"task": "countdown"},
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=wrong):
            measure_samples(["a", "b"], **options)
    with pytest.raises(ValueError, match="one or more"):
        measure_samples([])
