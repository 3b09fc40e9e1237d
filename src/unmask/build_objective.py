"""From the words of ``objective`` in a config to its parts: level × choice × replacement, and the loss that weighs them.

Every scheme is built by the same lines; its name only chose the words (``unmask.objective_config``).
"""

from __future__ import annotations

from typing import Any

import torch

from unmask.config import Config
from unmask.contracts import SpecialIds
from unmask.data.collators import CorruptingCollator, PackedMLMCollator
from unmask.data.corrupting import CollatorOptions
from unmask.data.traces.grain import trace_grain
from unmask.data.words import word_table
from unmask.objective_config import ObjectiveConfig
from unmask.ops.choice import Choice, WeightedCount, coins, exact_count
from unmask.ops.levels import ConstantLevel, Curriculum, DiscreteLevel, Level, ScheduleLevel
from unmask.ops.objective import Weighting
from unmask.ops.replacement import Replacement, ordinary_ids
from unmask.ops.schedule import DiscreteTime, Schedule, as_schedule, clipped, geometric, polynomial
from unmask.ops.scheme import Corruption, Units
from unmask.ops.spans import Spans
from unmask.ops.times import SharedOffset, Stratified, Times, antithetic
from unmask.randomness import low_discrepancy
from unmask.train.loss import MLMLoss


def build_schedule(config: ObjectiveConfig) -> Schedule:
    """The share hidden over time."""
    made: dict[str, Schedule] = {
        "polynomial": polynomial(config.power),
        "geometric": geometric(config.sigma_min, config.sigma_max),
    }
    schedule = made[config.schedule] if config.schedule in made else as_schedule(config.schedule)
    whole = (config.lowest, config.highest) == (0.0, 1.0)
    return schedule if whole else clipped(schedule, config.lowest, config.highest)


def build_level(config: ObjectiveConfig) -> Level:
    """How much of a row is hidden."""
    if config.level == "constant":
        level: Level = ConstantLevel(config.probability)
    elif config.time_steps is not None:
        level = DiscreteLevel(build_schedule(config), config.time_steps)
    else:  # a count needs no floor: at least one position is hidden
        level = ScheduleLevel(build_schedule(config), 0.0 if config.choice == "count" else config.eps)
    start = config.start_probability
    return level if start is None else Curriculum(ConstantLevel(start), level, config.curriculum)


def build_choice(config: ObjectiveConfig) -> Choice:
    """Which positions are hidden."""
    choices: dict[str, Choice] = {
        "coins": coins,
        "count": exact_count,
        "weighted": WeightedCount(config.half_life_ratio, length=config.block_size),
        "spans": Spans(config.span_success, config.span_longest),
    }
    return choices[config.choice]


def build_corruption(config: ObjectiveConfig, tokenizer: Any) -> Corruption:
    """What an objective hides, and how."""
    special = SpecialIds.of(tokenizer)
    ordinary = ordinary_ids(special.vocab_size, special.all) if config.random_rate else None
    return Corruption(
        build_level(config),
        build_choice(config),
        Replacement(special.mask, config.mask_rate, config.random_rate, ordinary, runs=config.replace_spans),
        is_bound=is_bound(config),
        block_size=config.block_size,
        units=build_units(config, tokenizer),
    )


def build_units(config: ObjectiveConfig, tokenizer: Any) -> Units | None:
    """What is hidden together; None = every token is a unit."""
    if config.grain == "token":
        return None
    return word_table(tokenizer) if config.grain == "word" else trace_grain(tokenizer, config.grain)


def is_bound(config: ObjectiveConfig) -> bool:
    """Whether the training loss is a likelihood bound per token: masks alone, chosen evenly, at all shares, and weighed for it."""
    all_shares = config.level == "schedule" and config.lowest <= 1e-2 and config.highest >= 1 - 1e-2 and config.start_probability is None
    evenly = config.grain == "token" and (config.choice == "count" or (config.choice == "coins" and config.eps <= 1e-2))
    weighed = config.weighting == "schedule" or (config.weighting == "inverse_p" and config.schedule == "linear" and config.time_steps is None)
    plain = not (config.loss_on_visible_tokens or config.label_smoothing or config.z_loss)
    return all_shares and evenly and weighed and plain and config.mask_rate == 1.0 and config.normaliser == "supervised"


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
    laws: dict[str, Times] = {
        "low_discrepancy": low_discrepancy,
        "shared_offset": SharedOffset(rows),
        "stratified": Stratified(rows),
        "antithetic": antithetic,
    }
    law = laws.get(config.objective.times)
    return {"seed": seed, "low_discrepancy_levels": False} if law is None else {"seed": seed, "times": law}


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
    return PackedMLMCollator(tokenizer, config.data.block_size, corruption, use_flex_attn=config.model.use_flex_attn, **options)
