"""From the words of ``objective`` in a config to its parts: level × choice × replacement, and the loss that weighs them.

Every scheme is built by the same lines; its name only chose the words (``unmask.config.objective_config``).
"""

from __future__ import annotations

from typing import Any

import torch

from unmask.collate.collator import CollatorOptions
from unmask.collate.packed import PackedMLMCollator
from unmask.collate.padded import CorruptingCollator
from unmask.config.objective_config import ObjectiveConfig
from unmask.config.tree import Config
from unmask.contracts import SpecialIds
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
    """The share hidden over time."""
    made: dict[str, Schedule] = {
        "polynomial": polynomial(config.power),
        "geometric": geometric(config.sigma_min, config.sigma_max),
    }
    schedule = made[config.schedule] if config.schedule in made else as_schedule(config.schedule)
    whole = (config.rate_min, config.rate_max) == (0.0, 1.0)
    return schedule if whole else clipped(schedule, config.rate_min, config.rate_max)


def build_mask_rate(config: ObjectiveConfig) -> MaskRate:
    """How much of a row is hidden."""
    if config.mask_rate_law == "constant":
        mask_rate: MaskRate = ConstantMaskRate(config.probability)
    elif config.time_steps is not None:
        mask_rate = DiscreteMaskRate(build_schedule(config), config.time_steps)
    else:  # a count needs no floor: at least one position is hidden
        mask_rate = ScheduleMaskRate(build_schedule(config), 0.0 if config.selection == "fixed_count" else config.eps)
    start = config.mask_rate_start
    return mask_rate if start is None else MaskRateWarmup(ConstantMaskRate(start), mask_rate, config.mask_rate_warmup)


def build_selection(config: ObjectiveConfig) -> PositionSampler:
    """Which positions are hidden."""
    choices: dict[str, PositionSampler] = {
        "bernoulli": bernoulli,
        "fixed_count": fixed_count,
        "weighted": WeightedCount(config.half_life_ratio, length=config.block_size),
        "spans": Spans(config.span_success, config.span_max_length),
    }
    return choices[config.selection]


def build_corruption(config: ObjectiveConfig, tokenizer: Any) -> Corruption:
    """What an objective hides, and how."""
    special = SpecialIds.of(tokenizer)
    ordinary = ordinary_ids(special.vocab_size, special.all) if config.random_replace_prob else None
    return Corruption(
        build_mask_rate(config),
        build_selection(config),
        Replacement(
            special.mask, config.mask_replace_prob, config.random_replace_prob, ordinary, runs=config.replace_spans
        ),
        block_size=config.block_size,
        granularity=build_granularity(config, tokenizer),
    )


def build_granularity(config: ObjectiveConfig, tokenizer: Any) -> Granularity | None:
    """What is hidden together; None = every token is a unit."""
    if config.granularity == "token":
        return None
    return word_table(tokenizer) if config.granularity == "word" else trace_granularity(tokenizer, config.granularity)


def is_elbo(config: ObjectiveConfig) -> bool:
    """Whether the training loss is a likelihood bound per token: masks alone, chosen evenly, at all shares, and weighed for it."""
    all_shares = (
        config.mask_rate_law == "schedule"
        and config.rate_min <= 1e-2
        and config.rate_max >= 1 - 1e-2
        and config.mask_rate_start is None
    )
    evenly = config.granularity == "token" and (
        config.selection == "fixed_count" or (config.selection == "bernoulli" and config.eps <= 1e-2)
    )
    weighed = config.weighting == "schedule" or (
        config.weighting == "inverse_p" and config.schedule == "linear" and config.time_steps is None
    )
    plain = not (config.loss_on_visible_tokens or config.label_smoothing or config.z_loss)
    return (
        all_shares
        and evenly
        and weighed
        and plain
        and config.mask_replace_prob == 1.0
        and config.normaliser == "supervised"
    )


def build_loss(config: ObjectiveConfig, tokenizer: Any) -> MLMLoss:
    """How an objective weighs what was hidden."""
    weighting: Weighting = config.weighting if config.weighting != "schedule" else build_schedule(config)
    if config.weighting == "schedule" and config.time_steps is not None:
        weighting = DiscreteTime(build_schedule(config), config.time_steps)
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
    """The seed of the noise, and how the times of a global batch are spread."""
    rows = config.train.batch_size
    laws: dict[str, TimeSampling] = {
        "low_discrepancy": low_discrepancy,
        "shared_offset": SharedOffset(rows),
        "stratified": Stratified(rows),
        "antithetic": antithetic,
    }
    law = laws.get(config.objective.time_sampling)
    return {"seed": seed, "low_discrepancy_times": False} if law is None else {"seed": seed, "time_sampling": law}


def build_collator(config: Config, tokenizer: Any, seed: int, progress: float | None = None) -> CorruptingCollator:
    """From windows of the token stream to batches.

    Args:
        progress: the share of training that a curriculum takes as done, as validation does, whose noise stays the same over the
            run; None = each row says it.
    """
    corruption = build_corruption(config.objective, tokenizer)
    if progress is not None:
        corruption = corruption.at(torch.tensor([progress], dtype=torch.float64))
    options = collator_options(config, seed)
    return PackedMLMCollator(
        tokenizer, config.data.block_size, corruption, use_flex_attn=config.model.use_flex_attn, **options
    )
