"""The objective in the config: a published scheme by name, and its parts, each of which may be replaced.

    name          one of the schemes; it says what is not given
    level         how much of a row is hidden      level, schedule, probability, …
    choice        which positions                  choice, block_size, spans, grain
    replacement   what stands there                mask_rate, random_replace_prob
    loss          what it weighs, by what it is divided

A part that the rest of the objective would never read is refused, so that no run does other than its config says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from unmask.config.section import NonNegative, Positive, Section, Share

SCHEMES: dict[str, dict[str, Any]] = {
    "diffusion": {},
    "block_diffusion": {"selection": "bernoulli", "block_size": 16},
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
    """What is hidden and how the loss weighs it."""

    name: Literal["diffusion", "block_diffusion", "blockwise", "maskgit", "bert", "spanbert"] = Field("diffusion", description="published scheme, which says what is not given: diffusion (MDLM, MD4, LLaDA), block_diffusion (BD3-LM), blockwise, maskgit, bert, spanbert")  # fmt: skip
    mask_rate_law: Literal["schedule", "constant"] = Field(
        "schedule", description="share of a row that is hidden: that of a schedule at a random time, or always the same"
    )
    schedule: Literal["linear", "cosine", "polynomial", "quadratic", "cubic", "square_root", "geometric", "log_linear", "arccos"] = Field("linear", description="share hidden over time")  # fmt: skip
    power: Positive = Field(2.0, description="polynomial: the share is time to this power")
    sigma_min: Positive = Field(1e-5, description="geometric: noise at the start; the share hidden is 1 - exp(-noise)")
    sigma_max: Positive = Field(20.0, description="geometric: noise at the end")
    rate_min: Share = Field(0.0, description="schedule: its shares are squeezed into the range from this one")
    rate_max: Share = Field(1.0, description="schedule: … to this one; BD3-LM's clipped ranges, MD4's 1e-4 to 1 - 1e-4")
    eps: float = Field(
        1e-3, gt=0.0, lt=1.0, description="coins under a schedule: smallest time, which bounds the weights"
    )
    time_steps: PositiveInt | None = Field(
        None, description="schedule: times are 1/T, 2/T, … 1 (MD4's discrete-time form); null = continuous"
    )
    probability: Share = Field(0.15, description="constant level: share of the tokens that is hidden")
    mask_rate_start: Share | None = Field(
        None, description="curriculum: training starts by hiding this share, and blends into the level; null = none"
    )
    mask_rate_warmup: float = Field(
        1.0, gt=0.0, le=1.0, description="curriculum: share of training over which it lasts"
    )
    time_sampling: Literal["low_discrepancy", "shared_offset", "stratified", "antithetic", "independent"] = Field("low_discrepancy", description="how the random times of a batch are spread, which lowers the variance of the loss")  # fmt: skip
    selection: Literal["fixed_count", "bernoulli", "weighted", "spans"] = Field(
        "fixed_count",
        description="which positions: exactly k, one coin each, exactly k and later ones more often, or runs of tokens",
    )
    block_size: PositiveInt | None = Field(
        None, description="tokens of a block; each block of a row has a level of its own; null = a row is one block"
    )
    half_life_ratio: Positive = Field(0.25, description="weighted: share of a block over which the odds double")
    span_success: float = Field(
        0.2, gt=0.0, lt=1.0, description="spans: success rate of their geometric lengths, 1 / mean"
    )
    span_max_length: PositiveInt = Field(10, description="spans: longest, in tokens")
    granularity: Literal["token", "word", "operand", "instruction"] = Field(
        "token", description="what is hidden together; operands and whole instructions are those of traces"
    )
    mask_replace_prob: Share = Field(1.0, description="of the hidden, the share replaced by [MASK]")
    random_replace_prob: Share = Field(
        0.0, description="of the hidden, the share replaced by a random ordinary token; the rest keeps its own"
    )
    replace_spans: bool = Field(
        False, description="spans: one draw of mask, random or kept for each whole span (SpanBERT)"
    )
    weighting: Literal["flat", "inverse_p", "schedule"] = Field(
        "inverse_p",
        description="a hidden token weighs 1, 1 / the probability that it was hidden, or as the schedule's likelihood bound has it",
    )
    normaliser: Literal["scored", "supervised", "sequence", "answer", "row"] = Field("supervised", description="what the sum is divided by: hidden tokens, tokens that could have been, rows, each row's own tokens, or each row's own hidden tokens; left out, it follows weighting: scored for flat, else supervised")  # fmt: skip
    loss_on_visible_tokens: bool = Field(False, description="also score the tokens that were not hidden, with weight 1")
    label_smoothing: float = Field(
        0.0, ge=0.0, lt=1.0, description="share of each target that is spread over the vocabulary"
    )
    z_loss: NonNegative = Field(0.0, description="factor of the squared log of the softmax's normaliser; 1e-4 is usual")

    @model_validator(mode="before")
    @classmethod
    def _fill_from_scheme(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        scheme = given.get("name", "diffusion")
        parts = {**(SCHEMES.get(scheme, {}) if isinstance(scheme, str) else {}), **given}
        even = (
            parts.get("schedule", "linear") == "linear"
            and parts.get("rate_min", 0.0) == 0.0
            and parts.get("rate_max", 1.0) == 1.0
        )
        plain = even and parts.get("time_steps") is None
        scheduled = parts.get("mask_rate_law", "schedule") == "schedule"
        parts.setdefault(
            "selection", "fixed_count" if scheduled and plain else "bernoulli"
        )  # exact counts are the linear schedule's
        bound = scheduled and not plain and parts["selection"] == "bernoulli" and parts.get("mask_rate_start") is None
        parts.setdefault("weighting", "schedule" if bound else "inverse_p")
        parts.setdefault("normaliser", "scored" if parts["weighting"] == "flat" else "supervised")
        return parts

    @model_validator(mode="after")
    def _fits_together(self) -> ObjectiveConfig:
        for key, (read, where) in READ.items():
            if getattr(self, key) != type(self).model_fields[key].default and not read(self):
                raise ValueError(f"objective.{key}={getattr(self, key)} is never read here: it belongs to {where}")
        for wrong, words in REFUSED:
            if wrong(self):
                raise ValueError(words.format(o=self))
        return self


def _scheduled(o: ObjectiveConfig) -> bool:
    return o.mask_rate_law == "schedule"


# Where each part is read. What is not here is always read.
READ: dict[str, tuple[Callable[[ObjectiveConfig], bool], str]] = {
    "schedule": (_scheduled, "objective.mask_rate_law=schedule, which draws the share of a row that is hidden"),
    "power": (lambda o: o.schedule == "polynomial", "objective.schedule=polynomial"),
    "sigma_min": (lambda o: o.schedule == "geometric", "objective.schedule=geometric"),
    "sigma_max": (lambda o: o.schedule == "geometric", "objective.schedule=geometric"),
    "rate_min": (_scheduled, "objective.mask_rate_law=schedule; a constant level is objective.probability"),
    "rate_max": (_scheduled, "objective.mask_rate_law=schedule; a constant level is objective.probability"),
    "eps": (
        lambda o: _scheduled(o) and o.selection != "fixed_count" and o.time_steps is None,
        "objective.selection=bernoulli under a schedule of continuous times; exact counts need no smallest time",
    ),
    "time_steps": (_scheduled, "objective.mask_rate_law=schedule"),
    "probability": (
        lambda o: o.mask_rate_law == "constant",
        "objective.mask_rate_law=constant, such as objective.name=bert",
    ),
    "mask_rate_warmup": (
        lambda o: o.mask_rate_start is not None,
        "objective.mask_rate_start, the share hidden at the start of training",
    ),
    "time_sampling": (lambda o: _scheduled(o), "objective.mask_rate_law=schedule: a constant level draws no times"),
    "half_life_ratio": (lambda o: o.selection == "weighted", "objective.selection=weighted"),
    "span_success": (lambda o: o.selection == "spans", "objective.selection=spans"),
    "span_max_length": (lambda o: o.selection == "spans", "objective.selection=spans"),
    "replace_spans": (lambda o: o.selection == "spans", "objective.selection=spans"),
}

REFUSED: list[tuple[Callable[[ObjectiveConfig], bool], str]] = [
    (
        lambda o: o.selection == "spans" and o.granularity != "token",
        "objective.selection=spans hides runs of tokens of their own lengths, which would cut a unit of objective.granularity={o.granularity} in two: "
        "set objective.selection=bernoulli",
    ),
    (
        lambda o: (
            o.weighting == "schedule"
            and not (_scheduled(o) and o.selection == "bernoulli" and o.mask_rate_start is None)
        ),
        "objective.weighting=schedule finds a row's time from the probability that a token was hidden, which only coins under a "
        "schedule, without a curriculum, tell: set objective.selection=bernoulli, or objective.weighting=inverse_p",
    ),
    (
        lambda o: (
            o.selection == "fixed_count"
            and o.weighting == "inverse_p"
            and not (_scheduled(o) and o.schedule == "linear")
        ),
        "objective.selection=fixed_count with objective.weighting=inverse_p is the bound of the linear schedule, whose counts are uniform, and the level here "
        "is {o.mask_rate_law}, objective.schedule={o.schedule}: set objective.selection=bernoulli to use that level, or objective.weighting=flat (MaskGIT)",
    ),
    (
        lambda o: o.selection == "fixed_count" and (o.time_steps is not None),
        "objective.time_steps={o.time_steps} draws times for coins, and objective.selection=fixed_count hides exactly k: set objective.selection=bernoulli",
    ),
    (
        lambda o: o.weighting != "flat" and o.normaliser == "row",
        "objective.normaliser=row divides each row by its hidden tokens, and objective.weighting={o.weighting} by their probability, which would "
        "divide twice: set objective.weighting=flat, or another normaliser",
    ),
    (
        lambda o: o.weighting != "flat" and o.normaliser == "scored",
        "objective.normaliser=scored divides by the number of hidden tokens, and objective.weighting={o.weighting} each of them by its probability, "
        "which would divide twice: leave the normaliser out (it is then supervised), or set objective.weighting=flat",
    ),
    (
        lambda o: o.mask_replace_prob + o.random_replace_prob > 1.0 + 1e-9,
        "Of the hidden tokens a share objective.mask_replace_prob={o.mask_replace_prob} is masked and objective.random_replace_prob={o.random_replace_prob} randomised: their sum is at most 1",
    ),
    (
        lambda o: o.rate_min >= o.rate_max,
        "objective.rate_min={o.rate_min} and objective.rate_max={o.rate_max} are a range of shares: the first is below the second",
    ),
    (
        lambda o: o.sigma_min >= o.sigma_max,
        "objective.sigma_min={o.sigma_min} and objective.sigma_max={o.sigma_max} are noise at the start and at the end: the first is below the second",
    ),
]
