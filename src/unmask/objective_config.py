"""The objective in the config: a published scheme by name, and its parts, each of which may be replaced.

    name          one of the schemes; it says what is not given
    level         how much of a row is hidden      level, schedule, probability, …
    choice        which positions                  choice, block_size, spans, grain
    replacement   what stands there                mask_rate, random_rate
    loss          what it weighs, by what it is divided

A part that the rest of the objective would never read is refused, so that no run does other than its config says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from unmask.section import NonNegative, Positive, Section, Share

SCHEMES: dict[str, dict[str, Any]] = {
    "diffusion": {},
    "block_diffusion": {"choice": "coins", "block_size": 16},
    "blockwise": {"choice": "weighted", "weighting": "inverse_p"},
    "maskgit": {"schedule": "cosine", "choice": "count", "weighting": "flat"},
    "bert": {"level": "constant", "choice": "coins", "mask_rate": 0.8, "random_rate": 0.1, "weighting": "flat"},
}
SCHEMES["spanbert"] = SCHEMES["bert"] | {"choice": "spans", "replace_spans": True}


class ObjectiveConfig(Section):
    """What is hidden and how the loss weighs it."""

    name: Literal["diffusion", "block_diffusion", "blockwise", "maskgit", "bert", "spanbert"] = Field("diffusion", description="published scheme, which says what is not given: diffusion (MDLM, MD4, LLaDA), block_diffusion (BD3-LM), blockwise, maskgit, bert, spanbert")  # fmt: skip
    level: Literal["schedule", "constant"] = Field("schedule", description="share of a row that is hidden: that of a schedule at a random time, or always the same")
    schedule: Literal["linear", "cosine", "polynomial", "quadratic", "cubic", "square_root", "geometric", "log_linear", "arccos"] = Field("linear", description="share hidden over time")  # fmt: skip
    power: Positive = Field(2.0, description="polynomial: the share is time to this power")
    sigma_min: Positive = Field(1e-5, description="geometric: noise at the start; the share hidden is 1 - exp(-noise)")
    sigma_max: Positive = Field(20.0, description="geometric: noise at the end")
    lowest: Share = Field(0.0, description="schedule: its shares are squeezed into the range from this one")
    highest: Share = Field(1.0, description="schedule: … to this one; BD3-LM's clipped ranges, MD4's 1e-4 to 1 - 1e-4")
    eps: float = Field(1e-3, gt=0.0, lt=1.0, description="coins under a schedule: smallest time, which bounds the weights")
    time_steps: PositiveInt | None = Field(None, description="schedule: times are 1/T, 2/T, … 1 (MD4's discrete-time form); null = continuous")
    probability: Share = Field(0.15, description="constant level: share of the tokens that is hidden")
    start_probability: Share | None = Field(None, description="curriculum: training starts by hiding this share, and blends into the level; null = none")
    curriculum: float = Field(1.0, gt=0.0, le=1.0, description="curriculum: share of training over which it lasts")
    times: Literal["low_discrepancy", "shared_offset", "stratified", "antithetic", "independent"] = Field("low_discrepancy", description="how the random times of a batch are spread, which lowers the variance of the loss")  # fmt: skip
    choice: Literal["count", "coins", "weighted", "spans"] = Field("count", description="which positions: exactly k, one coin each, exactly k and later ones more often, or runs of tokens")
    block_size: PositiveInt | None = Field(None, description="tokens of a block; each block of a row has a level of its own; null = a row is one block")
    half_life_ratio: Positive = Field(0.25, description="weighted: share of a block over which the odds double")
    span_success: float = Field(0.2, gt=0.0, lt=1.0, description="spans: success rate of their geometric lengths, 1 / mean")
    span_longest: PositiveInt = Field(10, description="spans: longest, in tokens")
    grain: Literal["token", "word", "operand", "instruction"] = Field("token", description="what is hidden together; operands and whole instructions are those of traces")
    mask_rate: Share = Field(1.0, description="of the hidden, the share replaced by [MASK]")
    random_rate: Share = Field(0.0, description="of the hidden, the share replaced by a random ordinary token; the rest keeps its own")
    replace_spans: bool = Field(False, description="spans: one draw of mask, random or kept for each whole span (SpanBERT)")
    weighting: Literal["flat", "inverse_p", "schedule"] = Field("inverse_p", description="a hidden token weighs 1, 1 / the probability that it was hidden, or as the schedule's likelihood bound has it")
    normaliser: Literal["scored", "supervised", "sequence", "answer", "row"] = Field("supervised", description="what the sum is divided by: hidden tokens, tokens that could have been, rows, each row's own tokens, or each row's own hidden tokens; left out, it follows weighting: scored for flat, else supervised")  # fmt: skip
    loss_on_visible_tokens: bool = Field(False, description="also score the tokens that were not hidden, with weight 1")
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0, description="share of each target that is spread over the vocabulary")
    z_loss: NonNegative = Field(0.0, description="factor of the squared log of the softmax's normaliser; 1e-4 is usual")

    @model_validator(mode="before")
    @classmethod
    def _fill_from_scheme(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        scheme = given.get("name", "diffusion")
        parts = {**(SCHEMES.get(scheme, {}) if isinstance(scheme, str) else {}), **given}
        even = parts.get("schedule", "linear") == "linear" and parts.get("lowest", 0.0) == 0.0 and parts.get("highest", 1.0) == 1.0
        plain = even and parts.get("time_steps") is None
        scheduled = parts.get("level", "schedule") == "schedule"
        parts.setdefault("choice", "count" if scheduled and plain else "coins")  # exact counts are the linear schedule's
        bound = scheduled and not plain and parts["choice"] == "coins" and parts.get("start_probability") is None
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
    return o.level == "schedule"


# Where each part is read. What is not here is always read.
READ: dict[str, tuple[Callable[[ObjectiveConfig], bool], str]] = {
    "schedule": (_scheduled, "objective.level=schedule, which draws the share of a row that is hidden"),
    "power": (lambda o: o.schedule == "polynomial", "objective.schedule=polynomial"),
    "sigma_min": (lambda o: o.schedule == "geometric", "objective.schedule=geometric"),
    "sigma_max": (lambda o: o.schedule == "geometric", "objective.schedule=geometric"),
    "lowest": (_scheduled, "objective.level=schedule; a constant level is objective.probability"),
    "highest": (_scheduled, "objective.level=schedule; a constant level is objective.probability"),
    "eps": (lambda o: _scheduled(o) and o.choice != "count" and o.time_steps is None, "objective.choice=coins under a schedule of continuous times; exact counts need no smallest time"),
    "time_steps": (_scheduled, "objective.level=schedule"),
    "probability": (lambda o: o.level == "constant", "objective.level=constant, such as objective.name=bert"),
    "curriculum": (lambda o: o.start_probability is not None, "objective.start_probability, the share hidden at the start of training"),
    "times": (lambda o: _scheduled(o), "objective.level=schedule: a constant level draws no times"),
    "half_life_ratio": (lambda o: o.choice == "weighted", "objective.choice=weighted"),
    "span_success": (lambda o: o.choice == "spans", "objective.choice=spans"),
    "span_longest": (lambda o: o.choice == "spans", "objective.choice=spans"),
    "replace_spans": (lambda o: o.choice == "spans", "objective.choice=spans"),
}

REFUSED: list[tuple[Callable[[ObjectiveConfig], bool], str]] = [
    (
        lambda o: o.choice == "spans" and o.grain != "token",
        "objective.choice=spans hides runs of tokens of their own lengths, which would cut a unit of objective.grain={o.grain} in two: "
        "set objective.choice=coins",
    ),
    (
        lambda o: o.weighting == "schedule" and not (_scheduled(o) and o.choice == "coins" and o.start_probability is None),
        "objective.weighting=schedule finds a row's time from the probability that a token was hidden, which only coins under a "
        "schedule, without a curriculum, tell: set objective.choice=coins, or objective.weighting=inverse_p",
    ),
    (
        lambda o: o.choice == "count" and o.weighting == "inverse_p" and not (_scheduled(o) and o.schedule == "linear"),
        "objective.choice=count with objective.weighting=inverse_p is the bound of the linear schedule, whose counts are uniform, and the level here "
        "is {o.level}, objective.schedule={o.schedule}: set objective.choice=coins to use that level, or objective.weighting=flat (MaskGIT)",
    ),
    (
        lambda o: o.choice == "count" and (o.time_steps is not None),
        "objective.time_steps={o.time_steps} draws times for coins, and objective.choice=count hides exactly k: set objective.choice=coins",
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
        lambda o: o.mask_rate + o.random_rate > 1.0 + 1e-9,
        "Of the hidden tokens a share objective.mask_rate={o.mask_rate} is masked and objective.random_rate={o.random_rate} randomised: their sum is at most 1",
    ),
    (
        lambda o: o.lowest >= o.highest,
        "objective.lowest={o.lowest} and objective.highest={o.highest} are a range of shares: the first is below the second",
    ),
    (
        lambda o: o.sigma_min >= o.sigma_max,
        "objective.sigma_min={o.sigma_min} and objective.sigma_max={o.sigma_max} are noise at the start and at the end: the first is below the second",
    ),
]
