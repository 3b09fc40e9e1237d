"""The objective section: every scheme is a preset of the same keys, every key changes the masks or the loss, and keys without
effect are refused."""

import numpy as np
import pytest
import torch

from unmask.build.objective import build_collator, build_corruption, build_loss, build_schedule, is_elbo
from unmask.config.config_file import config_yaml
from unmask.config.objective_config import HAS_EFFECT, SCHEMES, ObjectiveConfig
from unmask.config.tree import Config, load_config
from unmask.contracts import SpecialIds
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.ops.corruption import (
    Corruption,
    bert_corruption,
    block_diffusion_corruption,
    blockwise_corruption,
    count_corruption,
    scheduled_corruption,
    span_corruption,
    uniform_corruption,
)
from unmask.ops.mask_rates import ConstantMaskRate, DiscreteMaskRate, MaskRateWarmup, ScheduleMaskRate
from unmask.ops.position_sampling import bernoulli
from unmask.ops.replacement import Replacement, ordinary_ids
from unmask.ops.schedule import SCHEDULES, DiscreteTime, clipped, cosine, geometric, polynomial
from unmask.ops.schedule import linear as linear_schedule
from unmask.ops.time_sampling import SharedOffset, Stratified, antithetic
from unmask.randomness import Noise, low_discrepancy, row_keys
from unmask.training.loss import MLMLoss

BLOCK, ROWS = 24, 16


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["one two three counts beyond twelve words and wordings of a text"] * 3, 290)


def config_of(*words: str) -> Config:
    return load_config(
        overrides=[f"objective.{w}" for w in words] + [f"data.block_size={BLOCK}", f"train.batch_size={ROWS}"]
    )


def objective(*words: str) -> ObjectiveConfig:
    return config_of(*words).objective


def rows(tokenizer: Tokenizer, progress: float = 0.5) -> dict[str, np.ndarray]:
    text = tokenizer.encode("one two three counts beyond twelve words and wordings of a text " * 40)
    ids = np.resize(np.asarray(text, dtype=np.int64), (ROWS, BLOCK))
    ids[::2, BLOCK // 2] = tokenizer.eos_token_id
    number = np.arange(ROWS)
    return {"input_ids": ids, "example_id": number, "epoch_place": number, "progress": np.full(ROWS, progress)}


class Toy:
    """A model with logits that depend on the id alone and are far from uniform."""

    def __call__(self, x_t, attention_mask=None, positions=None, block_mask=None, segment_ids=None, x_0=None):
        seen = x_t if x_0 is None else x_t + x_0
        return torch.sin(torch.arange(290.0) * 0.37 + seen[..., None]) * 2 + 1


def found(tokenizer: Tokenizer, *words: str) -> tuple:
    """Return the masked ids and the loss under a config."""
    config = config_of(*words)
    batch = build_collator(config, tokenizer, seed=3)(rows(tokenizer))
    return tuple(batch["input_ids"].flatten().tolist()), float(
        build_loss(config.objective, tokenizer)(batch, Toy())["loss"]
    )


def same_corruption(a: Corruption, b: Corruption) -> bool:
    ids = torch.randint(5, 290, (64, 20), generator=torch.Generator().manual_seed(1))
    noise = Noise(row_keys(0, 0, torch.arange(64)))
    one, two = (c(ids, torch.ones_like(ids, dtype=torch.bool), noise) for c in (a, b))
    return all(torch.equal(x, y) for x, y in zip(one, two, strict=True))


def test_every_scheme_is_its_corruption(tokenizer):
    special = SpecialIds.of(tokenizer)
    mask, everything = special.mask, (special.mask, special.vocab_size, special.all)
    spans = Replacement(mask, 0.8, 0.1, ordinary_ids(special.vocab_size, special.all), runs=True)
    named = {
        "diffusion": uniform_corruption(mask, exact=True),
        "block_diffusion": block_diffusion_corruption(mask, 16),
        "autoregressive": Corruption(ConstantMaskRate(1.0), bernoulli, Replacement(mask, 0.0)),
        "blockwise": blockwise_corruption(mask),
        "maskgit": count_corruption(mask, cosine),
        "bert": bert_corruption(*everything),
        "spanbert": span_corruption(mask, replacement=spans),
    }
    assert named.keys() == SCHEMES.keys()
    for name, corruption in named.items():
        assert same_corruption(build_corruption(objective(f"name={name}"), tokenizer), corruption), name
    assert same_corruption(
        build_corruption(objective("selection=bernoulli", "eps=0.01"), tokenizer), uniform_corruption(mask, 0.01)
    )
    assert same_corruption(
        build_corruption(objective("schedule=cosine"), tokenizer), scheduled_corruption(mask, cosine)
    )
    assert same_corruption(
        build_corruption(objective("name=blockwise", "block_size=8"), tokenizer), blockwise_corruption(mask, 8)
    )


@pytest.mark.parametrize("words, schedule", [
    *[((f"schedule={name}",), schedule) for name, schedule in SCHEDULES.items()],
    (("schedule=polynomial", "power=3"), polynomial(3.0)),
    (("schedule=geometric", "sigma_min=0.001", "sigma_max=9"), geometric(0.001, 9.0)),
    (("rate_min=0.3", "rate_max=0.8"), clipped(linear_schedule, 0.3, 0.8)),
])  # fmt: skip
def test_every_schedule_is_built_with_its_loss_weight(tokenizer, words, schedule):
    config = objective(*words)
    t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    assert torch.allclose(build_schedule(config).rate(t), schedule.rate(t))
    loss = build_loss(config, tokenizer)
    expected = 1 / t if config.weighting == "inverse_p" else schedule.weight_at_rate(schedule.rate(t))
    given = 1 / t if loss.weighting == "inverse_p" else loss.weighting.weight_at_rate(schedule.rate(t))
    assert torch.allclose(given, expected)


def test_mask_rate_laws_are_constant_discrete_or_warmed_up(tokenizer):
    assert build_corruption(
        objective("mask_rate_law=constant", "probability=0.4"), tokenizer
    ).mask_rate == ConstantMaskRate(0.4)
    assert build_corruption(objective("schedule=cosine", "time_steps=8"), tokenizer).mask_rate == DiscreteMaskRate(
        cosine, 8
    )
    mask_rate = build_corruption(
        objective("name=bert", "mask_rate_start=0.4", "mask_rate_warmup=0.5"), tokenizer
    ).mask_rate
    assert mask_rate == MaskRateWarmup(ConstantMaskRate(0.4), ConstantMaskRate(0.15), 0.5)
    assert isinstance(build_corruption(objective(), tokenizer).mask_rate, ScheduleMaskRate)


@pytest.mark.parametrize("words, selection, weighting", [
    ("", "fixed_count", "inverse_p"),  # exact counts are the linear schedule's alone
    ("schedule=cosine", "bernoulli", "schedule"),
    ("rate_min=0.3", "bernoulli", "schedule"),
    ("rate_max=0.7", "bernoulli", "schedule"),
    ("time_steps=4", "bernoulli", "schedule"),
    ("selection=bernoulli", "bernoulli", "inverse_p"),
    ("mask_rate_law=constant", "bernoulli", "inverse_p"),
    ("mask_rate_law=constant rate_min=0.0", "bernoulli", "inverse_p"),
    ("schedule=cosine selection=weighted", "weighted", "inverse_p"),
    ("mask_rate_start=0.3", "fixed_count", "inverse_p"),
    ("schedule=cosine mask_rate_start=0.3", "bernoulli", "inverse_p"),
    ("name=maskgit selection=bernoulli", "bernoulli", "flat"),
])  # fmt: skip
def test_defaults_follow_from_the_given_keys(words, selection, weighting):
    made = objective(*words.split())
    assert (made.selection, made.weighting) == (selection, weighting)


@pytest.mark.parametrize("words, loss", [
    ("", MLMLoss(weighting="inverse_p", normaliser="supervised")),
    ("schedule=cosine", MLMLoss(weighting=cosine, normaliser="supervised")),
    ("schedule=cosine time_steps=8", MLMLoss(weighting=DiscreteTime(cosine, 8), normaliser="supervised")),
    ("weighting=flat normaliser=row", MLMLoss(use_num_masked_factor=True)),
    ("weighting=flat", MLMLoss()),
    ("name=maskgit schedule=linear weighting=inverse_p", MLMLoss(weighting="inverse_p")),
    ("name=bert", MLMLoss()),
    ("name=spanbert", MLMLoss()),
    ("name=maskgit", MLMLoss()),
    ("name=blockwise", MLMLoss(weighting="inverse_p", normaliser="supervised")),
    ("name=block_diffusion", MLMLoss(weighting="inverse_p", normaliser="supervised")),
    ("normaliser=answer label_smoothing=0.1 z_loss=0.01", MLMLoss(weighting="inverse_p", normaliser="answer", label_smoothing=0.1, z_loss=0.01)),
    ("name=bert loss_on_visible_tokens=true", MLMLoss(loss_on_visible_tokens=True)),
])  # fmt: skip
def test_every_loss_matches_its_keys(tokenizer, words, loss):
    config = config_of(*words.split())
    batch = build_collator(config, tokenizer, seed=3)(rows(tokenizer))
    built = build_loss(config.objective, tokenizer)(batch, Toy())
    assert all(torch.equal(built[part], value) for part, value in loss(batch, Toy()).items())


@pytest.mark.parametrize("name, law", [
    ("low_discrepancy", low_discrepancy), ("shared_offset", SharedOffset(8)), ("stratified", Stratified(8)), ("antithetic", antithetic), ("independent", None),
])  # fmt: skip
def test_time_sampling_is_over_the_global_batch(tokenizer, name, law):
    config = load_config(
        overrides=["objective.selection=bernoulli", f"objective.time_sampling={name}", "train.batch_size=8"]
    )
    collator = build_collator(config, tokenizer, seed=5)
    assert collator.time_sampling == law and collator.seed == 5


def test_flex_attention_changes_the_batch_fields(tokenizer):
    for flex in (True, False):
        config = load_config(overrides=[f"model.use_flex_attn={flex}", f"data.block_size={BLOCK}"])
        assert ("attention_mask" not in build_collator(config, tokenizer, 3)(rows(tokenizer))) == flex


def test_a_mask_rate_warmup_uses_the_progress_of_rows_and_validates_at_its_end(tokenizer):
    config = config_of("name=bert", "mask_rate_start=0.9")
    shares = [float(build_collator(config, tokenizer, 3)(rows(tokenizer, at))["p_mask"].max()) for at in (0.0, 1.0)]
    assert shares == pytest.approx([0.9, 0.15])
    valid = rows(tokenizer)
    del valid["progress"]
    assert float(build_collator(config, tokenizer, 3, 1.0)(valid)["p_mask"].max()) == pytest.approx(0.15)


TURNED = [
    ("", "name", "bert"), ("", "name", "spanbert"), ("", "name", "maskgit"), ("", "name", "blockwise"), ("", "name", "block_diffusion"),
    ("", "mask_rate_law", "constant"), ("", "schedule", "cosine"), ("schedule=polynomial", "power", "5"),
    ("schedule=geometric", "sigma_min", "0.1"), ("schedule=geometric", "sigma_max", "2"), ("", "rate_min", "0.5"), ("", "rate_max", "0.5"),
    ("selection=bernoulli", "eps", "0.5"), ("", "time_steps", "2"), ("mask_rate_law=constant", "probability", "0.7"),
    ("", "mask_rate_start", "0.9"), ("mask_rate_start=0.9", "mask_rate_warmup", "0.6"), ("", "time_sampling", "stratified"),
    ("", "time_sampling", "shared_offset"), ("", "time_sampling", "antithetic"), ("", "time_sampling", "independent"), ("", "selection", "bernoulli"),
    ("selection=bernoulli weighting=flat", "selection", "spans"), ("", "block_size", "4"), ("", "name", "autoregressive"), ("name=block_diffusion", "clean_prefix", "false"), ("name=blockwise", "half_life_ratio", "0.02"),
    ("name=spanbert", "span_success", "0.9"), ("name=spanbert", "span_max_length", "1"), ("selection=bernoulli", "granularity", "word"), ("", "granularity", "word"),
    ("name=bert probability=0.7", "mask_replace_prob", "0.2"), ("name=bert probability=0.7", "random_replace_prob", "0.0"),
    ("", "never_masked", "s t"), ("name=spanbert probability=0.5", "replace_spans", "false"), ("", "weighting", "flat"), ("selection=bernoulli schedule=cosine", "weighting", "inverse_p"),
    ("weighting=flat", "normaliser", "supervised"), ("", "normaliser", "sequence"), ("", "normaliser", "answer"), ("weighting=flat", "normaliser", "row"),
    ("", "loss_on_visible_tokens", "true"), ("", "label_smoothing", "0.2"), ("", "z_loss", "0.1"),
]  # fmt: skip


@pytest.mark.parametrize("given, part, value", TURNED)
def test_every_key_changes_the_masks_or_the_loss(tokenizer, given, part, value):
    assert found(tokenizer, *given.split()) != found(tokenizer, *given.split(), f"{part}={value}")


def test_every_key_is_tested():
    assert {part for _, part, _ in TURNED} == ObjectiveConfig.model_fields.keys()


@pytest.mark.parametrize("words, message", [
    ("probability=0.3", "objective.probability=0.3 has no effect.*mask_rate_law=constant"),
    ("name=bert schedule=cosine", "objective.schedule=cosine has no effect.*objective.mask_rate_law=schedule"),
    ("power=3", "objective.schedule=polynomial"),
    ("sigma_max=3", "objective.schedule=geometric"),
    ("sigma_min=0.1", "objective.schedule=geometric"),
    ("name=bert rate_max=0.9", "objective.mask_rate_law=schedule"),
    ("span_success=0.5", "objective.selection=spans"),
    ("sigma_min=0.1", "objective.schedule=geometric"),
    ("name=bert rate_max=0.9", "objective.mask_rate_law=schedule"),
    ("span_success=0.5", "objective.selection=spans"),
    ("eps=0.01", "objective.selection=bernoulli"),
    ("mask_rate_warmup=0.5", "objective.mask_rate_start"),
    ("name=bert time_sampling=stratified", "objective.mask_rate_law=schedule"),
    ("span_max_length=3", "objective.selection=spans"),
    ("replace_spans=true", "objective.selection=spans"),
    ("half_life_ratio=2", "objective.selection=weighted"),
    ("name=spanbert granularity=word", "objective.selection=bernoulli"),
    ("name=bert time_steps=4", "objective.mask_rate_law=schedule"),
    ("name=bert rate_min=0.1", "objective.mask_rate_law=schedule"),
    ("schedule=cosine selection=fixed_count", "objective.selection=bernoulli.*objective.weighting=flat"),
    ("selection=fixed_count time_steps=4 weighting=flat", "objective.time_steps=4"),
    ("selection=fixed_count weighting=schedule", "objective.weighting=inverse_p"),
    ("selection=bernoulli mask_rate_start=0.5 weighting=schedule", "without a mask-rate warm-up"),
    ("normaliser=row", "divide twice"),
    ("normaliser=scored", "divide twice: leave the normaliser out"),
    ("name=bert weighting=inverse_p normaliser=scored", "divide twice"),
    ("name=bert mask_replace_prob=0.95", "at most 1"),
    ("rate_min=0.6 rate_max=0.5", "must be below"),
    ("schedule=geometric sigma_min=30", "must be below"),
    ("mask_rate_law=sometimes", "objective.mask_rate_law = 'sometimes'"),
])  # fmt: skip
def test_inconsistent_keys_are_refused_with_a_remedy(words, message):
    with pytest.raises(ValueError, match=message) as raised:
        objective(*words.split())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_written_scheme_reads_back_unchanged(name, tmp_path):
    config = config_of(f"name={name}")
    (tmp_path / "c.yaml").write_text(config_yaml(config))
    assert load_config(tmp_path / "c.yaml") == config


def test_is_elbo_is_true_for_likelihood_bounds_only():
    def bound(words):
        return is_elbo(objective(*words.split()))

    assert all(
        map(
            bound,
            (
                "name=diffusion",
                "schedule=cosine",
                "name=block_diffusion",
                "name=autoregressive",
                "selection=bernoulli",
                "schedule=cosine time_steps=9",
            ),
        )
    )
    for words in ("name=bert", "name=maskgit", "name=blockwise", "name=spanbert", "selection=bernoulli granularity=word", "granularity=word", "rate_min=0.3", "rate_max=0.8",
                  "mask_replace_prob=0.9", "mask_rate_start=0.3", "selection=bernoulli eps=0.3", "weighting=flat", "label_smoothing=0.1", "z_loss=0.1",
                  "loss_on_visible_tokens=true", "weighting=flat normaliser=supervised", "normaliser=answer", "selection=bernoulli schedule=cosine weighting=inverse_p",
                  "selection=bernoulli time_steps=9 weighting=inverse_p", "mask_rate_law=constant selection=bernoulli weighting=inverse_p"):  # fmt: skip
        assert not bound(words), words


def test_conditions_of_effect_name_existing_keys():
    assert HAS_EFFECT.keys() <= ObjectiveConfig.model_fields.keys()
