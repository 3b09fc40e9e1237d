"""MLMLoss: hand-computed values, ln V for the uniform model, and independence of how a batch is cut."""

import math

import pytest
import torch

from tests.naive.bound import UniformModel
from unmask.collate.labels import MaskedLMCollator
from unmask.collate.packed import PackedMLMCollator
from unmask.collate.padded import DefaultMLMCollator
from unmask.contracts import SpecialIds
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.ops.corruption import (
    ConstantMaskRate,
    Corruption,
    Replacement,
    bernoulli,
    bert_corruption,
    scheduled_corruption,
    uniform_corruption,
)
from unmask.ops.schedule import SCHEDULES, DiscreteTime
from unmask.training.loss import MLMLoss
from unmask.training.reduction import global_loss

PAD, MASK, BOS, EOS, VOCAB = 0, 1, 2, 3, 12
SPECIAL = SpecialIds(mask=MASK, vocab_size=VOCAB, pad=PAD, bos=BOS, eos=EOS)
CORRUPTIONS = {
    "uniform": uniform_corruption(MASK),
    "exact": uniform_corruption(MASK, exact=True),
    "cosine": scheduled_corruption(MASK, SCHEDULES["cosine"]),
    "bert": bert_corruption(MASK, VOCAB, SPECIAL.all, 0.5),
}
COLLATORS = {
    "default": lambda corruption: DefaultMLMCollator(SPECIAL, 14, corruption, loss_on_padding=False),
    "default, padding": lambda corruption: DefaultMLMCollator(SPECIAL, 14, corruption),
    "packed": lambda corruption: PackedMLMCollator(SPECIAL, 9, corruption),
    "packed, flex": lambda corruption: PackedMLMCollator(SPECIAL, 9, corruption, use_flex_attn=True),
}
WEIGHTINGS = {"flat": "flat", "inverse_p": "inverse_p", **SCHEDULES}
NORMALISERS = ["scored", "supervised", "sequence", "answer"]
PAIRS = [(w, n) for w in ["flat", *list(WEIGHTINGS.values())[1:]] for n in NORMALISERS if w == "flat" or n != "scored"]


def rows(packed, count=400):
    if packed:
        return [{"input_ids": [4, 5, 6, EOS, 7, 8, EOS, PAD, PAD], "example_id": i} for i in range(count)]
    return [{"input_ids": [4 + (i + j) % 8 for j in range(1 + i % 11)], "example_id": i} for i in range(count)]


class Dense:
    """The same network seen only through its logits."""

    def __init__(self, model):
        self.model = model

    def __call__(self, *args, **kwargs):
        return self.model(*args, **kwargs)


@pytest.fixture
def model():
    return RotaryTransformerMLMModel(VOCAB, 16, 1, 2, padding_idx=PAD, mask_idx=MASK, dropout=0.0).double()


@pytest.fixture
def batch():
    return COLLATORS["default"](CORRUPTIONS["uniform"])(rows(False, 12))


@pytest.mark.parametrize("corruption", CORRUPTIONS.values(), ids=CORRUPTIONS)
@pytest.mark.parametrize("collator", COLLATORS)
@pytest.mark.parametrize("weighting, normaliser", PAIRS)
def test_a_uniform_model_scores_ln_v(corruption, collator, normaliser, weighting):
    """Its loss is ln V times the mean weight: 1 for flat, and E[noise/p] = 1 for 1/p (exactly so for exact counts)."""
    loss = MLMLoss(model=UniformModel(VOCAB), weighting=weighting, normaliser=normaliser, loss_on_padding=True)
    batch = COLLATORS[collator](corruption)(rows("packed" in collator))
    out, tokens = loss(batch), loss.score(batch)
    assert torch.allclose(tokens.nll, torch.full_like(tokens.nll, math.log(VOCAB)))
    assert (tokens.weights >= 0).all() and torch.isfinite(tokens.weights).all()
    assert torch.allclose(out["loss"], out["numerator"] / out["denominator"])
    if weighting == "flat" and normaliser == "scored":
        assert float(out["loss"].detach()) == pytest.approx(math.log(VOCAB), rel=1e-6)
    if weighting == "inverse_p" and normaliser in ("supervised", "answer"):
        within = 1e-5 if corruption is CORRUPTIONS["exact"] else 0.25
        assert float(out["loss"].detach()) == pytest.approx(math.log(VOCAB), rel=within)


@pytest.mark.parametrize("corruption, weighting", [
    ("bert", "flat"), ("uniform", "inverse_p"), ("exact", "inverse_p"), ("uniform", SCHEDULES["linear"]), ("cosine", SCHEDULES["cosine"]),
    ("uniform", DiscreteTime(SCHEDULES["linear"], 1000)),
])  # fmt: skip
def test_the_normaliser_follows_the_weighting(corruption, weighting):
    """The default normaliser is right: a uniform model scores ln V, exactly for flat weights and fixed counts, else on average."""
    batch = COLLATORS["default"](CORRUPTIONS[corruption])(rows(False, 4000))
    found = MLMLoss(model=UniformModel(VOCAB), weighting=weighting)(batch)
    within = 1e-5 if weighting == "flat" or corruption == "exact" else 5 * float(found["variance"]) ** 0.5
    assert float(found["loss"].detach()) == pytest.approx(math.log(VOCAB), abs=within) and within < 0.3


def test_masked_lm_batches_score_ln_v():
    collator = MaskedLMCollator(MASK, VOCAB, 0.5, tokenizer=SPECIAL)
    batch = collator([{"tokens": [4, 5, 6, 7, 8], "mask": [1, 1, 1, 1, 0]} for _ in range(50)])
    loss = MLMLoss(model=UniformModel(VOCAB))
    assert float(loss(batch)["loss"]) == pytest.approx(math.log(VOCAB))
    assert len(loss.score(batch).nll) == int((batch["labels"] != -100).sum())


def by_hand(normaliser, weighting, factor=False):
    """Two rows: masked with p = 1/2 and 1/4; log-likelihoods from fixed logits, written out token by token."""
    logits = torch.arange(2 * 4 * 6, dtype=torch.float64).reshape(2, 4, 6).sin()
    batch = {
        "input_ids": torch.tensor([[2, 1, 1, 3], [1, 4, 5, 0]]),
        "target_ids": torch.tensor([[-100, 4, 5, 3], [2, 4, 5, -100]]),
        "noise_mask": torch.tensor([[0, 1, 1, 0], [1, 0, 0, 0]]).bool(),
        "p_mask": torch.tensor([[0, 0.5, 0.5, 0.5], [0.25, 0.25, 0.25, 0]]),
    }
    nll = -logits.log_softmax(-1)
    first, second = float(nll[0, 1, 4]) + float(nll[0, 2, 5]), float(nll[1, 0, 2])
    w1, w2 = (2.0, 4.0) if weighting == "inverse_p" else (1.0, 1.0)
    expected = {
        "scored": (w1 * first + w2 * second) / 3,
        "supervised": (w1 * first + w2 * second) / 6,
        "sequence": (w1 * first + w2 * second) / 2,
        "answer": (w1 * first / 3 + w2 * second / 3) / 2,
    }[normaliser]
    if factor:
        expected = (first / 2 + second / 1) / 2
    loss = MLMLoss(
        model=lambda x, **_: logits, weighting=weighting, normaliser=normaliser, use_num_masked_factor=factor
    )
    return float(loss(batch)["loss"]), expected


@pytest.mark.parametrize("weighting, normaliser", [pair for pair in PAIRS if pair[0] in ("flat", "inverse_p")])
def test_losses_by_hand(normaliser, weighting):
    got, expected = by_hand(normaliser, weighting)
    assert got == pytest.approx(expected, rel=1e-6)


def test_the_masked_factor_by_hand():
    got, expected = by_hand("scored", "flat", factor=True)
    assert got == pytest.approx(expected, rel=1e-6)


def test_ignored_targets_are_in_neither_sum():
    """-100 left in the denominator gives a uniform model 1.21 instead of ln 12."""
    batch = {"input_ids": torch.full((1, 8), MASK), "target_ids": torch.tensor([[4, 5, 6, 7, -100, -100, -100, -100]])}
    assert float(MLMLoss(model=UniformModel(VOCAB))(batch)["loss"]) == pytest.approx(math.log(12))


def test_without_a_noise_mask_the_scored_positions_hold_the_mask(model, batch):
    hidden = {k: v for k, v in batch.items() if k != "noise_mask"}
    for loss in (MLMLoss(model=model), MLMLoss(model=Dense(model), tokenizer=SPECIAL)):
        assert torch.equal(loss(hidden)["loss"], MLMLoss(model=model)(batch)["loss"])
    with pytest.raises(ValueError, match="no noise_mask"):
        MLMLoss(model=Dense(model))(hidden)


@pytest.mark.parametrize("weighting", ["flat", "inverse_p", SCHEDULES["cosine"]])
@pytest.mark.parametrize("visible", [False, True])
def test_masked_only_equals_dense_in_value_and_gradient(model, batch, weighting, visible):
    results = []
    for network in (model, Dense(model)):
        model.zero_grad()
        out = MLMLoss(model=network, weighting=weighting, normaliser="supervised", loss_on_visible_tokens=visible)(
            batch
        )["loss"]
        out.backward()
        results.append((out.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    assert torch.allclose(results[0][0], results[1][0])
    assert all(torch.allclose(a, b) for a, b in zip(results[0][1], results[1][1], strict=True))


@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_splitting_a_batch_does_not_change_the_loss(model, batch, normaliser):
    """Ranks and accumulation steps add numerators and denominators, then divide once."""
    loss = MLMLoss(model=model, weighting="flat" if normaliser == "scored" else "inverse_p", normaliser=normaliser)
    whole = loss(batch)
    for cuts in ((5,), (1, 2, 11)):
        parts = [loss({k: v[a:b] for k, v in batch.items()}) for a, b in zip((0, *cuts), (*cuts, 12), strict=True)]
        total = sum(p["numerator"] for p in parts) / sum(p["denominator"] for p in parts)
        assert torch.allclose(total, whole["loss"])
    mean_of_means = torch.stack(
        [loss({k: v[a:b] for k, v in batch.items()})["loss"] for a, b in ((0, 1), (1, 12))]
    ).mean()
    assert not torch.allclose(mean_of_means, whole["loss"])


@pytest.mark.parametrize("normaliser", NORMALISERS)
@pytest.mark.parametrize("factor", [False, True])
def test_a_batch_without_masks_has_zero_loss_and_zero_gradient(model, normaliser, factor):
    nothing = Corruption(ConstantMaskRate(0.0), bernoulli, Replacement(MASK))
    batch = COLLATORS["default"](nothing)(rows(False, 3))
    normaliser = None if factor else normaliser
    for network in (model, Dense(model)):
        model.zero_grad()
        out = MLMLoss(model=network, normaliser=normaliser, use_num_masked_factor=factor)(batch)["loss"]
        out.backward()
        assert float(out.detach()) == 0.0
        assert all(p.grad is None or not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("collator", COLLATORS)
def test_a_batch_is_never_changed(collator):
    batch = COLLATORS[collator](CORRUPTIONS["bert"])(rows("packed" in collator, 5))
    before = {k: v.clone() for k, v in batch.items()}
    for weighting in WEIGHTINGS.values():
        MLMLoss(model=UniformModel(VOCAB), tokenizer=SPECIAL, weighting=weighting)(batch)
    assert all(torch.equal(batch[k], before[k]) for k in before)


def test_padding_is_scored_only_on_request():
    everything = Corruption(ConstantMaskRate(1.0), bernoulli, Replacement(MASK))
    batch = COLLATORS["default, padding"](everything)(rows(False, 3))
    counts = [
        float(
            MLMLoss(model=UniformModel(VOCAB), tokenizer=SPECIAL, loss_on_padding=scored, normaliser=n)(batch)[
                "denominator"
            ]
        )
        for scored in (False, True)
        for n in ("scored", "supervised")
    ]
    assert counts == [1 + 2 + 3] * 2 + [3 * 12] * 2


def test_the_end_of_an_answer_is_scored_if_pad_is_eos():
    shared = SpecialIds(mask=MASK, vocab_size=VOCAB, pad=EOS, eos=EOS)
    batch = {"input_ids": torch.tensor([[4, MASK, MASK]]), "target_ids": torch.tensor([[-100, 5, EOS]])}
    assert float(MLMLoss(model=UniformModel(VOCAB), tokenizer=shared)(batch)["denominator"]) == 2


def test_visible_tokens_are_scored_on_request():
    batch = COLLATORS["default"](CORRUPTIONS["uniform"])(rows(False, 6))
    out = MLMLoss(model=UniformModel(VOCAB), loss_on_visible_tokens=True)(batch)
    assert float(out["denominator"]) == int((batch["target_ids"] != -100).sum()) > int(batch["noise_mask"].sum())
    assert float(out["loss"]) == pytest.approx(math.log(VOCAB))


def test_a_hundred_steps_of_any_objective_lower_the_cross_entropy():
    """A weight of the wrong sign, or mirrored in time, raises it while its 'loss' falls."""
    for corruption, weighting in (("uniform", "inverse_p"), ("cosine", SCHEDULES["cosine"]), ("bert", "flat")):
        logits = torch.zeros(VOCAB, dtype=torch.float64, requires_grad=True)
        loss = MLMLoss(
            model=lambda x, logits=logits, **_: logits.expand(*x.shape, -1),
            weighting=weighting,
            normaliser="supervised",
        )
        batch = COLLATORS["default"](CORRUPTIONS[corruption])(
            [{"input_ids": [4, 4, 5, 4, 6], "example_id": i} for i in range(40)]
        )
        optimiser = torch.optim.SGD([logits], lr=1.0)
        for _ in range(100):
            optimiser.zero_grad()
            loss(batch)["loss"].backward()
            optimiser.step()
        assert float(loss.score(batch).nll.mean()) < 1.1 < math.log(VOCAB)


@pytest.mark.parametrize("make, message", [
    (lambda: MLMLoss(weighting="1/p"), "weighting='1/p'"),
    (lambda: MLMLoss(normaliser="mean"), "normaliser='mean'"),
    (lambda: MLMLoss(label_smoothing=1.0), "label_smoothing=1.0"),
    (lambda: MLMLoss(z_loss=-1.0), "at least 0"),
    (lambda: MLMLoss(use_num_masked_factor=True, weighting="inverse_p"), "divide twice"),
    (lambda: MLMLoss(use_num_masked_factor=True, normaliser="answer"), "would have no effect"),
    (lambda: MLMLoss(weighting="inverse_p", normaliser="scored"), "divide twice.*Leave normaliser out"),
    (lambda: MLMLoss(weighting=SCHEDULES["cosine"], normaliser="scored"), "weighting='cosine'.*divide twice"),
    (lambda: MLMLoss()({"input_ids": torch.ones(1, 1).long(), "target_ids": torch.ones(1, 1).long()}), "no model"),
    (lambda: MLMLoss(model=UniformModel(VOCAB), weighting="inverse_p")(
        {"input_ids": torch.ones(1, 1).long(), "target_ids": torch.ones(1, 1).long()}), "needs p_mask"),
])  # fmt: skip
def test_errors_explain_the_remedy(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_label_smoothing_and_z_loss_are_their_formulas():
    logits = torch.randn(2, 3, VOCAB, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    batch = {
        "input_ids": torch.full((2, 3), MASK),
        "target_ids": torch.randint(4, VOCAB, (2, 3)),
        "noise_mask": torch.ones(2, 3).bool(),
    }
    targets = batch["target_ids"].flatten()
    smooth = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets, label_smoothing=0.1)
    z = (logits.logsumexp(-1) ** 2).mean()
    plain = MLMLoss(model=lambda x, **_: logits)(batch)["loss"]
    loss = MLMLoss(model=lambda x, **_: logits, label_smoothing=0.1, z_loss=0.01)
    assert torch.allclose(loss(batch)["loss"], smooth + 0.01 * z)
    assert torch.allclose(loss.score(batch).nll.mean(), plain)  # what is reported stays the likelihood
    uniform = MLMLoss(model=UniformModel(VOCAB), label_smoothing=0.3)(batch)["loss"]
    assert float(uniform.detach()) == pytest.approx(math.log(VOCAB))


def test_the_variance_is_that_of_the_loss_over_resampled_rows():
    """Row by row independent noise; the stated variance, averaged, is the one observed over many epochs."""
    loss = MLMLoss(model=UniformModel(VOCAB), weighting="inverse_p", normaliser="supervised")
    collator = DefaultMLMCollator(SPECIAL, 12, CORRUPTIONS["uniform"], loss_on_padding=False, seed=1)
    values, stated = [], []
    for epoch in range(300):
        collator.set_epoch(epoch)
        out = loss(collator([{"input_ids": [4, 5, 6, 7, 8, 9, 10, 11], "example_id": i} for i in range(32)]))
        values.append(out["loss"].detach())
        stated.append(out["variance"])
    assert float(torch.stack(stated).mean()) == pytest.approx(float(torch.stack(values).var()), rel=0.3)


def test_fixed_counts_have_less_variance_than_bernoulli_masking():
    loss = MLMLoss(model=UniformModel(VOCAB), weighting="inverse_p", normaliser="supervised")
    each = [loss(COLLATORS["default"](CORRUPTIONS[name])(rows(False)))["variance"] for name in ("uniform", "exact")]
    assert float(each[1]) < 1e-6 < 1e-3 < float(each[0])


def _rank(rank, store, results):
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    loss = MLMLoss(model=UniformModel(VOCAB), weighting="inverse_p", normaliser="supervised")
    batch = COLLATORS["default"](CORRUPTIONS["uniform"])(rows(False, 12))
    cuts = [(0, 1), (1, 3)] if rank == 0 else [(3, 4), (4, 12)]
    out = global_loss([loss({k: v[a:b] for k, v in batch.items()}) for a, b in cuts])
    results[rank] = (float(out["loss"]), float(loss(batch)["loss"].detach()))
    dist.destroy_process_group()


def test_ranks_and_accumulation_steps_are_summed_before_dividing(tmp_path):
    context = torch.multiprocessing.get_context("fork")
    with context.Manager() as manager:
        results = manager.dict()
        ranks = [context.Process(target=_rank, args=(rank, tmp_path / "store", results)) for rank in range(2)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(60)
        assert {k: v[0] for k, v in results.items()} == pytest.approx({k: v[1] for k, v in results.items()}, rel=1e-6)
        assert len(results) == 2
    with pytest.raises(ValueError, match="at least one pass"):
        global_loss([])


def test_a_supervised_count_ignores_positions_without_target_even_without_p_mask():
    batch = {"input_ids": torch.full((1, 8), MASK), "target_ids": torch.tensor([[4, 5, 6, 7, *[-100] * 4]])}
    assert float(MLMLoss(model=UniformModel(VOCAB), normaliser="supervised")(batch)["denominator"]) == 4


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weighting": "inverse_p", "normaliser": "answer"},
        {"loss_on_visible_tokens": True},
        {"use_num_masked_factor": True},
    ],
)
@pytest.mark.parametrize("dense", [False, True])
def test_a_precomputed_padded_index_changes_nothing(model, batch, options, dense):
    """On an accelerator the index has a fixed size and padding with weight 0."""
    loss, network = MLMLoss(tokenizer=SPECIAL, **options), Dense(model) if dense else model
    located = loss.locate(batch, model, 64)
    assert (
        len(located["scored_index"]) % 64 == 0 and (located["scored_index"] < 0).any() and "scored_index" not in batch
    )
    results = []
    for given in (batch, located):
        out = loss(given, network)
        gradients = torch.autograd.grad(out["loss"], list(model.parameters()))
        results.append([out[k].detach() for k in ("loss", "numerator", "denominator", "variance")] + list(gradients))
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-12)
    assert torch.equal(loss.score(located, network).nll, loss.score(batch, network).nll)


def test_on_an_accelerator_the_index_is_precomputed_in_training(model, batch, monkeypatch):
    from unmask.config.optim_config import OptimConfig
    from unmask.training.module import MaskedLMModule

    class Trainer:
        training = True

    module = MaskedLMModule(model, MLMLoss(), OptimConfig(), 1)
    monkeypatch.setattr(MaskedLMModule, "trainer", Trainer())
    assert module.on_before_batch_transfer(batch, 0) is batch
    monkeypatch.setattr(MaskedLMModule, "device", torch.device("meta"))
    assert len(module.on_before_batch_transfer(batch, 0)["scored_index"]) == 256


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "z_loss": 0.01, "weighting": "inverse_p"}])
def test_the_fused_loss_equals_the_loss_from_logits(model, batch, options):
    """A model that offers projection_of, against the same one seen through its logits."""
    loss = MLMLoss(**options)
    results = []
    for network in (model, Dense(model)):
        out = loss(batch, network)
        results.append(
            [out[k].detach() for k in ("loss", "variance")]
            + list(torch.autograd.grad(out["loss"], list(model.parameters())))
        )
        with torch.no_grad():
            tokens = loss.score(batch, network)
            results[-1] += [tokens.nll, tokens.token_loss, tokens.correct, loss.combine(batch, tokens)["loss"]]
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one.double(), other.double(), rtol=1e-9, atol=1e-12)
