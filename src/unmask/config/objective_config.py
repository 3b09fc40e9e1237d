"""The ``objective`` section of the config: a published scheme by name, and its parts, each of which can be replaced.

    name          the scheme; it provides the default of every other key
    mask rate     fraction of a row that is masked         mask_rate_law, schedule, probability, …
    positions     the masked positions                     selection, block_size, span_success, granularity, …
    replacement   the token at a masked position           mask_replace_prob, random_replace_prob, replace_spans
    loss          weights and normaliser of the loss       weighting, normaliser, label_smoothing, …

A key without effect under the other keys is refused, so a run never differs from its config.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from unmask.config.section import Fraction, NonNegative, Positive, Section

SCHEMES: dict[str, dict[str, Any]] = {
    "diffusion": {},
    "block_diffusion": {"selection": "bernoulli", "block_size": 16, "clean_prefix": True},
    "autoregressive": {
        "mask_rate_law": "constant",
        "probability": 1.0,
        "selection": "bernoulli",
        "mask_replace_prob": 0.0,
        "weighting": "flat",
        "normaliser": "supervised",
    },
    "blockwise": {"selection": "weighted", "weighting": "inverse_p"},
    "maskgit": {"schedule": "cosine", "selection": "fixed_count", "weighting": "flat"},
    "bert": {
        "mask_rate_law": "constant",
        "selection": "bernoulli",
        "mask_replace_prob": 0.8,
        "random_replace_prob": 0.1,
        "weighting": "flat",
    },
}
SCHEMES["spanbert"] = SCHEMES["bert"] | {"selection": "spans", "replace_spans": True}


class ObjectiveConfig(Section):
    """Masking of the input, and weights and normaliser of the loss."""

    name: Literal["diffusion", "block_diffusion", "autoregressive", "blockwise", "maskgit", "bert", "spanbert"] = Field(
        "diffusion",
        description="Published scheme, which fills every key left unset: diffusion (MDLM, MD4, LLaDA), block_diffusion (BD3-LM), autoregressive (next token), blockwise, maskgit, bert, spanbert.",
    )
    mask_rate_law: Literal["schedule", "constant"] = Field(
        "schedule", description="Mask rate of a row: schedule = the schedule at a random time, constant = probability."
    )
    schedule: Literal[
        "linear", "cosine", "polynomial", "quadratic", "cubic", "square_root", "geometric", "log_linear", "arccos"
    ] = Field("linear", description="Mask rate as a function of time, from 0 at time 0 to 1 at time 1.")
    power: Positive = Field(2.0, description="Polynomial schedule: exponent of time.")
    sigma_min: Positive = Field(
        1e-5, description="Geometric schedule: noise at time 0; the mask rate is 1 - exp(-noise)."
    )
    sigma_max: Positive = Field(20.0, description="Geometric schedule: noise at time 1.")
    rate_min: Fraction = Field(
        0.0, description="Smallest mask rate of the schedule, which is rescaled to rate_min..rate_max (BD3-LM, MD4)."
    )
    rate_max: Fraction = Field(1.0, description="Largest mask rate of the schedule; MD4 uses 1e-4 to 1 - 1e-4.")
    eps: float = Field(
        1e-3,
        gt=0.0,
        lt=1.0,
        description="Smallest sampled time under Bernoulli masking with a schedule; it bounds the weight 1/p.",
    )
    time_steps: PositiveInt | None = Field(
        None, description="Number T of discrete times 1/T, 2/T, … 1 (MD4's discrete-time loss); null = continuous."
    )
    probability: Fraction = Field(0.15, description="Mask rate under mask_rate_law=constant.")
    mask_rate_start: Fraction | None = Field(
        None, description="Mask rate at the first step, which moves linearly to the regular one; null = no warm-up."
    )
    mask_rate_warmup: float = Field(
        1.0, gt=0.0, le=1.0, description="Fraction of training over which mask_rate_start has an effect."
    )
    time_sampling: Literal["low_discrepancy", "shared_offset", "stratified", "antithetic", "independent"] = Field(
        "low_discrepancy",
        description="Joint distribution of the times of a batch; all but independent lower the variance of the loss.",
    )
    selection: Literal["fixed_count", "bernoulli", "weighted", "spans"] = Field(
        "fixed_count",
        description="Masked positions: fixed_count = exactly k, bernoulli = independent, weighted = exactly k with later positions more likely, spans = runs of tokens.",
    )
    block_size: PositiveInt | None = Field(
        None, description="Length of a block with a mask rate of its own, in tokens; null = one block per row."
    )
    clean_prefix: bool = Field(
        False,
        description="Blocks attend to the clean tokens of earlier blocks, as in decoding (BD3-LM), instead of their noisy ones; it sets model.causal_block to block_size.",
    )
    half_life_ratio: Positive = Field(
        0.25, description="Weighted selection: fraction of a block over which the sampling weight doubles."
    )
    span_success: float = Field(
        0.2, gt=0.0, lt=1.0, description="Spans: success probability of the geometric span length, 1 / mean in tokens."
    )
    span_max_length: PositiveInt = Field(10, description="Spans: longest span, in tokens.")
    granularity: Literal["token", "word", "operand", "instruction"] = Field(
        "token",
        description="Unit that is masked as a whole; operands and instructions are those of instruction traces.",
    )
    mask_replace_prob: Fraction = Field(
        1.0, description="Probability that a masked position holds [MASK]; BERT uses 0.8."
    )
    random_replace_prob: Fraction = Field(
        0.0,
        description="Probability that a masked position holds a random ordinary token; otherwise it keeps its token.",
    )
    never_masked: str = Field(
        "",
        description="Tokens that are visible at all times, never masked and never scored, separated by spaces: - is the gap of aligned sequences.",
    )
    replace_spans: bool = Field(
        False, description="Spans: draw [MASK], random or unchanged once per span instead of once per token (SpanBERT)."
    )
    weighting: Literal["flat", "inverse_p", "schedule"] = Field(
        "inverse_p",
        description="Loss weight of a masked token: flat = 1, inverse_p = 1/p of its mask probability p, schedule = -alpha'/(1 - alpha).",
    )
    normaliser: Literal["scored", "supervised", "sequence", "answer", "row"] = Field(
        "supervised",
        description="Divisor of the summed loss: scored = masked tokens, supervised = maskable tokens, sequence = rows, answer = maskable tokens of each row, row = masked tokens of each row; unset = scored for weighting flat, else supervised.",
    )
    loss_on_visible_tokens: bool = Field(False, description="Also compute the loss of unmasked tokens, with weight 1.")
    label_smoothing: float = Field(
        0.0, ge=0.0, lt=1.0, description="Fraction of each target's probability spread evenly over the vocabulary."
    )
    z_loss: NonNegative = Field(
        0.0, description="Factor of the squared log-partition function of the softmax; 1e-4 is usual."
    )

    @property
    def attention(self) -> dict[str, Any]:
        """Keys of the ``model`` section that the objective decides."""
        if self.name == "autoregressive":
            return {"causal_block": 1, "shift": True}
        return {"causal_block": self.block_size} if self.clean_prefix else {}

    @model_validator(mode="before")
    @classmethod
    def _fill_from_scheme(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        scheme = values.get("name", "diffusion")
        parts = {**(SCHEMES.get(scheme, {}) if isinstance(scheme, str) else {}), **values}
        is_linear = (
            parts.get("schedule", "linear") == "linear"
            and parts.get("rate_min", 0.0) == 0.0
            and parts.get("rate_max", 1.0) == 1.0
            and parts.get("time_steps") is None
        )
        scheduled = parts.get("mask_rate_law", "schedule") == "schedule"
        # Fixed counts are uniform on 1..L, which is the linear schedule.
        parts.setdefault("selection", "fixed_count" if scheduled and is_linear else "bernoulli")
        nonlinear_elbo = (
            scheduled and not is_linear and parts["selection"] == "bernoulli" and parts.get("mask_rate_start") is None
        )
        parts.setdefault("weighting", "schedule" if nonlinear_elbo else "inverse_p")
        parts.setdefault("normaliser", "scored" if parts["weighting"] == "flat" else "supervised")
        return parts

    @model_validator(mode="after")
    def _keys_are_consistent(self) -> ObjectiveConfig:
        for key, (has_effect, where) in HAS_EFFECT.items():
            value = getattr(self, key)
            if value != type(self).model_fields[key].default and not has_effect(self):
                raise ValueError(f"objective.{key}={value} has no effect here. It is for {where}")
        for is_wrong, message in REFUSED:
            if is_wrong(self):
                raise ValueError(message.format(o=self))
        return self


def _scheduled(o: ObjectiveConfig) -> bool:
    return o.mask_rate_law == "schedule"


HAS_EFFECT: dict[str, tuple[Callable[[ObjectiveConfig], bool], str]] = {
    "schedule": (_scheduled, "objective.mask_rate_law=schedule"),
    "power": (lambda o: o.schedule == "polynomial", "objective.schedule=polynomial"),
    "sigma_min": (lambda o: o.schedule == "geometric", "objective.schedule=geometric"),
    "sigma_max": (lambda o: o.schedule == "geometric", "objective.schedule=geometric"),
    "rate_min": (_scheduled, "objective.mask_rate_law=schedule; a constant mask rate is objective.probability"),
    "rate_max": (_scheduled, "objective.mask_rate_law=schedule; a constant mask rate is objective.probability"),
    "eps": (
        lambda o: _scheduled(o) and o.selection != "fixed_count" and o.time_steps is None,
        "objective.selection=bernoulli under a schedule with continuous time; fixed counts need no smallest time",
    ),
    "time_steps": (_scheduled, "objective.mask_rate_law=schedule"),
    "probability": (
        lambda o: o.mask_rate_law == "constant",
        "objective.mask_rate_law=constant, such as objective.name=bert",
    ),
    "mask_rate_warmup": (
        lambda o: o.mask_rate_start is not None,
        "objective.mask_rate_start, the mask rate at the start of training",
    ),
    "time_sampling": (
        lambda o: _scheduled(o),
        "objective.mask_rate_law=schedule; a constant mask rate needs no times",
    ),
    "clean_prefix": (
        lambda o: o.block_size is not None and o.name != "autoregressive",
        "blocks: set objective.block_size",
    ),
    "half_life_ratio": (lambda o: o.selection == "weighted", "objective.selection=weighted"),
    "span_success": (lambda o: o.selection == "spans", "objective.selection=spans"),
    "span_max_length": (lambda o: o.selection == "spans", "objective.selection=spans"),
    "replace_spans": (lambda o: o.selection == "spans", "objective.selection=spans"),
}
"""The condition under which each key has an effect, and its description. Keys that are absent always have one."""

REFUSED: list[tuple[Callable[[ObjectiveConfig], bool], str]] = [
    (
        lambda o: (
            o.name == "autoregressive"
            and (any(getattr(o, k) != v for k, v in SCHEMES[o.name].items()) or o.granularity != "token")
        ),
        "objective.name=autoregressive scores every token given the tokens before it, and masks none: leave out the keys of the mask "
        "rate, the positions, the replacement and the weighting",
    ),
    (
        lambda o: o.selection == "spans" and o.granularity != "token",
        "objective.selection=spans masks runs of tokens, which would cut units of objective.granularity={o.granularity} "
        "in two: set objective.selection=bernoulli, or objective.granularity=token",
    ),
    (
        lambda o: (
            o.weighting == "schedule"
            and not (_scheduled(o) and o.selection == "bernoulli" and o.mask_rate_start is None)
        ),
        "objective.weighting=schedule computes the time of a row from its mask probability, which is possible only for "
        "Bernoulli masking under a schedule, without a mask-rate warm-up: set objective.selection=bernoulli, or "
        "objective.weighting=inverse_p",
    ),
    (
        lambda o: (
            o.selection == "fixed_count"
            and o.weighting == "inverse_p"
            and not (_scheduled(o) and o.schedule == "linear")
        ),
        "objective.selection=fixed_count with objective.weighting=inverse_p is the likelihood bound of the linear schedule, "
        "and here are objective.mask_rate_law={o.mask_rate_law} and objective.schedule={o.schedule}: set "
        "objective.selection=bernoulli to use that mask rate, or objective.weighting=flat (MaskGIT)",
    ),
    (
        lambda o: o.selection == "fixed_count" and (o.time_steps is not None),
        "objective.time_steps={o.time_steps} is for Bernoulli masking, and objective.selection=fixed_count masks exactly k "
        "tokens: set objective.selection=bernoulli",
    ),
    (
        lambda o: o.weighting != "flat" and o.normaliser == "row",
        "objective.normaliser=row divides each row by its number of masked tokens, and objective.weighting={o.weighting} "
        "divides each token by its mask probability; together they would divide twice: set objective.weighting=flat, or "
        "leave the normaliser out",
    ),
    (
        lambda o: o.weighting != "flat" and o.normaliser == "scored",
        "objective.normaliser=scored divides by the number of masked tokens, and objective.weighting={o.weighting} divides "
        "each token by its mask probability; together they would divide twice: leave the normaliser out (it is then "
        "supervised), or set objective.weighting=flat",
    ),
    (
        lambda o: o.mask_replace_prob + o.random_replace_prob > 1.0 + 1e-9,
        "objective.mask_replace_prob={o.mask_replace_prob} and objective.random_replace_prob={o.random_replace_prob} are "
        "probabilities of exclusive events: their sum must be at most 1",
    ),
    (
        lambda o: o.rate_min >= o.rate_max,
        "objective.rate_min={o.rate_min} must be below objective.rate_max={o.rate_max}",
    ),
    (
        lambda o: o.sigma_min >= o.sigma_max,
        "objective.sigma_min={o.sigma_min} must be below objective.sigma_max={o.sigma_max}",
    ),
]
"""Inconsistent combinations, each with the error message."""
