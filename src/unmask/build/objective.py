"""From the ``objective`` section of a config to a corruption (mask rate × position sampler × replacement) and a loss.

All schemes are built by the same functions. The name of a scheme only selects defaults (``unmask.config.objective_config``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from unmask.collate.answers import SupervisedMLMCollator
from unmask.collate.collator import CollatorOptions, CorruptingCollator
from unmask.collate.packed import PackedMLMCollator
from unmask.config.objective_config import ObjectiveConfig
from unmask.config.tree import Config
from unmask.contracts import SpecialIds, is_autoregressive
from unmask.data.traces.granularity import trace_granularity
from unmask.data.words.text_words import word_table
from unmask.ops.mask_rates import ConstantMaskRate, DiscreteMaskRate, MaskRate, MaskRateWarmup, ScheduleMaskRate
from unmask.ops.position_sampling import PositionSampler, WeightedCount, bernoulli, fixed_count
from unmask.ops.replacement import Replacement, ordinary_ids
from unmask.ops.schedule import DiscreteTime, Schedule, as_schedule, clipped, geometric, polynomial
from unmask.ops.scheme import Corruption, Granularity
from unmask.ops.spans import Spans
from unmask.ops.time_sampling import SharedOffset, Stratified, TimeSampling, antithetic
from unmask.ops.weighting import Weighting
from unmask.randomness import low_discrepancy
from unmask.training.loss import MLMLoss


def build_schedule(config: ObjectiveConfig) -> Schedule:
    """Return the schedule: mask rate as a function of time, rescaled to ``rate_min..rate_max``."""
    parametric: dict[str, Schedule] = {
        "polynomial": polynomial(config.power),
        "geometric": geometric(config.sigma_min, config.sigma_max),
    }
    schedule = parametric[config.schedule] if config.schedule in parametric else as_schedule(config.schedule)
    is_full_range = (config.rate_min, config.rate_max) == (0.0, 1.0)
    return schedule if is_full_range else clipped(schedule, config.rate_min, config.rate_max)


def build_mask_rate(config: ObjectiveConfig, schedule: Schedule | None = None) -> MaskRate:
    """Return the law of a row's mask rate; ``schedule`` replaces that of the config."""
    schedule = build_schedule(config) if schedule is None else schedule
    if config.mask_rate_law == "constant":
        mask_rate: MaskRate = ConstantMaskRate(config.probability)
    elif config.time_steps is not None:
        mask_rate = DiscreteMaskRate(schedule, config.time_steps)
    else:  # a fixed count needs no smallest time: at least one position is masked
        mask_rate = ScheduleMaskRate(schedule, 0.0 if config.selection == "fixed_count" else config.eps)
    start = config.mask_rate_start
    return mask_rate if start is None else MaskRateWarmup(ConstantMaskRate(start), mask_rate, config.mask_rate_warmup)


def build_selection(config: ObjectiveConfig) -> PositionSampler:
    """Return the sampler of the masked positions."""
    samplers: dict[str, PositionSampler] = {
        "bernoulli": bernoulli,
        "fixed_count": fixed_count,
        "weighted": WeightedCount(config.half_life_ratio, length=config.block_size),
        "spans": Spans(config.span_success, config.span_max_length),
    }
    return samplers[config.selection]


def special_ids(config: ObjectiveConfig, tokenizer: Any) -> SpecialIds:
    """Return the ids that are never masked and never scored: the tokenizer's special ids and ``objective.never_masked``.

    Args:
        config: the ``objective`` section.
        tokenizer: a tokenizer, or ``SpecialIds`` if ``never_masked`` is empty.

    Raises:
        ValueError: a text of ``never_masked`` that is no single token.
    """
    special, visible = SpecialIds.of(tokenizer), list[int]()
    for text in config.never_masked.split():
        ids = tokenizer.encode(text)
        if len(ids) != 1 or ids[0] in special.all:
            raise ValueError(
                f"objective.never_masked names {text!r}, which this tokenizer encodes as {len(ids)} tokens or as an unknown one. "
                "Name single tokens of its vocabulary, separated by spaces."
            )
        visible += ids
    return replace(special, others=tuple(sorted({*special.others, *visible}))) if visible else special


def build_corruption(config: ObjectiveConfig, tokenizer: Any, schedule: Schedule | None = None) -> Corruption:
    """Return the corruption of an objective: mask rate, position sampler, replacement and granularity.

    Args:
        config: the ``objective`` section.
        tokenizer: a tokenizer, or ``SpecialIds`` if ``granularity`` is ``"token"``.
        schedule: the mask rate as a function of time; None = that of the config.
    """
    special = special_ids(config, tokenizer)
    ordinary = ordinary_ids(special.vocab_size, special.all) if config.random_replace_prob else None
    return Corruption(
        build_mask_rate(config, schedule),
        build_selection(config),
        Replacement(
            special.mask, config.mask_replace_prob, config.random_replace_prob, ordinary, runs=config.replace_spans
        ),
        block_size=config.block_size,
        granularity=build_granularity(config, tokenizer),
        clean_prefix=config.clean_prefix,
    )


def check_attention(config: ObjectiveConfig, network: Any) -> None:
    """Refuse a network whose attention is not that of the objective.

    Args:
        config: the ``objective`` section.
        network: the network; its attributes ``causal_block`` and ``shift`` are read.

    Raises:
        ValueError: such a network.
    """
    wrong = {key: value for key, value in config.attention.items() if getattr(network, key, None) != value}
    if wrong:
        found = ", ".join(f"{key}={getattr(network, key, None)}" for key in wrong)
        needed = ", ".join(f"{key}={value}" for key, value in wrong.items())
        older = " For a network that attends both ways, set clean_prefix=false." if config.clean_prefix else ""
        raise ValueError(
            f"objective {config.name} trains a network with {needed}, and this {type(network).__name__} has {found}: build it as "
            f"RotaryTransformerMLMModel(..., {needed}).{older}"
        )
    if is_autoregressive(network) and not config.attention.get("shift"):
        raise ValueError(
            f"This {type(network).__name__} is autoregressive (shift=True): at a masked position its input is the token before, which the "
            f"objective {config.name} also masks. Train it with objective autoregressive, or build it with shift=False."
        )


def build_granularity(config: ObjectiveConfig, tokenizer: Any) -> Granularity | None:
    """Return the units that are masked as a whole; None = single tokens."""
    if config.granularity == "token":
        return None
    return word_table(tokenizer) if config.granularity == "word" else trace_granularity(tokenizer, config.granularity)


def is_elbo(config: ObjectiveConfig) -> bool:
    """Tell whether the training loss is an upper bound on the negative log-likelihood per token (a valid NELBO).

    The loss is one if the mask rate covers (0, 1), positions are masked uniformly, every masked position holds ``[MASK]``, and
    the weights match the schedule (docs/theory.md, "The likelihood bound").
    """
    if config.name == "autoregressive":  # the likelihood itself
        return not (config.label_smoothing or config.z_loss)
    all_rates = (
        config.mask_rate_law == "schedule"
        and config.rate_min <= 1e-2
        and config.rate_max >= 1 - 1e-2
        and config.mask_rate_start is None
    )
    uniform = config.granularity == "token" and (
        config.selection == "fixed_count" or (config.selection == "bernoulli" and config.eps <= 1e-2)
    )
    weighted = config.weighting == "schedule" or (
        config.weighting == "inverse_p" and config.schedule == "linear" and config.time_steps is None
    )
    unregularised = not (config.loss_on_visible_tokens or config.label_smoothing or config.z_loss)
    return (
        all_rates
        and uniform
        and weighted
        and unregularised
        and config.mask_replace_prob == 1.0
        and config.normaliser == "supervised"
    )


def build_loss(config: ObjectiveConfig, tokenizer: Any, schedule: Schedule | None = None) -> MLMLoss:
    """Return the loss of an objective: weighting, normaliser and regularisers; ``schedule`` replaces that of the config."""
    schedule = build_schedule(config) if schedule is None else schedule
    weighting: Weighting = config.weighting if config.weighting != "schedule" else schedule
    if config.weighting == "schedule" and config.time_steps is not None:
        weighting = DiscreteTime(schedule, config.time_steps)
    return MLMLoss(
        tokenizer=tokenizer,
        loss_on_visible_tokens=config.loss_on_visible_tokens,
        use_num_masked_factor=config.normaliser == "row",
        weighting=weighting,
        normaliser=None if config.normaliser == "row" else config.normaliser,
        label_smoothing=config.label_smoothing,
        z_loss=config.z_loss,
    )


def collator_options(config: Config, seed: int) -> CollatorOptions:
    """Return the collator options: random seed and time sampling over the rows of a global batch."""
    rows = config.train.batch_size
    laws: dict[str, TimeSampling] = {
        "low_discrepancy": low_discrepancy,
        "shared_offset": SharedOffset(rows),
        "stratified": Stratified(rows),
        "antithetic": antithetic,
    }
    law = laws.get(config.objective.time_sampling)
    return {"seed": seed, "low_discrepancy_times": False} if law is None else {"seed": seed, "time_sampling": law}


def build_collator(
    config: Config,
    tokenizer: Any,
    seed: int,
    progress: float | None = None,
    corruption: Corruption | None = None,
) -> CorruptingCollator:
    """Return the collator from windows of the token stream, or from rows with answers, to batches.

    Args:
        config: the config of the run.
        tokenizer: the tokenizer of the stores.
        seed: random seed of the masks.
        progress: fraction of training done, in [0, 1], for the mask-rate warm-up. Validation fixes it at 1, so that its masks
            stay the same over the run; None = each row has a field ``progress``.
        corruption: the corruption; None = that of the objective.
    """
    corruption = build_corruption(config.objective, tokenizer) if corruption is None else corruption
    if progress is not None:
        corruption = corruption.at(torch.tensor([progress], dtype=torch.float64))
    options, special = collator_options(config, seed), special_ids(config.objective, tokenizer)
    if config.data.kind == "supervised":
        return SupervisedMLMCollator(special, config.data.block_size, corruption, "max", **options)
    return PackedMLMCollator(
        special, config.data.block_size, corruption, use_flex_attn=config.model.use_flex_attn, **options
    )
