"""The bodies of requests and answers, with the examples of the OpenAPI description."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Seed = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
Id = Annotated[int, Field(ge=0, lt=2**31, strict=True)]
Count = Annotated[int, Field(ge=1, le=1 << 20, strict=True)]
Finite = Field(ge=0, le=1e6, allow_inf_nan=False)


class Body(BaseModel):
    """A body without unknown fields."""

    model_config = ConfigDict(extra="forbid")


class Decoding(Body):
    """How to decode; all fields are optional. `unmask fill --help` describes the options."""

    order: str | None = Field(
        None, max_length=64, description="Which masked position is unmasked first.", examples=["top_prob"]
    )
    steps: Count | None = Field(None, description="Forward passes, at most; by default one per masked token.")
    temperature: float | None = Field(None, ge=0, le=1e6, allow_inf_nan=False, description="0 = the likeliest token.")
    threshold: float | None = Field(None, ge=0, le=1, description="Unmask every position of at least this confidence.")
    top_p: float | None = Field(
        None, gt=0, le=1, description="Sample among the likeliest tokens with this total probability."
    )
    min_p: float | None = Field(
        None, gt=0, le=1, description="Sample among tokens of at least this share of the largest probability."
    )
    repetition_penalty: float | None = Field(
        None, gt=0, le=100, description="Above 1 lowers tokens that occur in the text already."
    )
    block_length: Count | None = Field(None, description="Unmask blocks of this many tokens from left to right.")
    remask: str | None = Field(None, max_length=64, description="Mask unmasked tokens again: a strategy by name.")
    regex: str | None = Field(None, max_length=512, description="A regular expression for the text of each blank.")


class DecodeBody(Decoding):
    """A text with blanks, or a row of ids."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"text": "The [MASK] statement is used to [MASK:2] a name.", "order": "top_prob", "seed": 0}]
        },
    )
    text: str | None = Field(
        None, description="Text with [MASK] at each blank; [MASK:5] = five tokens, [MASK:2-6] = two to six."
    )
    ids: list[Id | None] | None = Field(None, description="Ids of the row instead of a text; null = masked.")
    length: Annotated[int, Field(ge=0, le=1 << 20, strict=True)] | None = Field(
        None, description="New tokens after the text."
    )
    seed: Seed = Field(0, description="Random seed; the same seed gives the same answer.")
    top_k: Annotated[int, Field(ge=0, le=50, strict=True)] = Field(
        5, description="Alternatives for each position of a streamed step."
    )
    stream: bool = Field(False, strict=True, description="True = server-sent events with every step.")


class GenerateBody(DecodeBody):
    """A text to continue."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"text": "The for statement", "length": 16, "seed": 0}]}
    )


class Token(BaseModel):
    """A token of a row; `text` is null where it is masked."""

    id: int
    text: str | None
    given: bool


class Filled(BaseModel):
    """The tokens of one blank."""

    text: str
    ids: list[int]
    probability: float


class DecodeReply(BaseModel):
    """A decoded text."""

    id: str
    model: str
    text: str
    fills: list[Filled]
    tokens: list[Token]
    passes: int
    seconds: float
    seed: int


class ScoreBody(Body):
    """Texts to score."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"text": ["Return the name.", "Name the return."]}]}
    )
    text: str | list[str] = Field(description="A text, or several.")
    bound: bool = Field(
        False, strict=True, description="True = the likelihood bound; false = the pseudo-log-likelihood."
    )
    samples: Annotated[int, Field(ge=1, le=256, strict=True)] = Field(16, description="Passes of the bound.")
    seed: Seed = 0


class ScoreReply(BaseModel):
    """The score of each text, in nats."""

    model: str
    scores: list[dict[str, Any]]


class EmbedBody(Body):
    """Texts to embed."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"text": ["Return the name."]}]})
    text: str | list[str] = Field(description="A text, or several.")


class EmbedReply(BaseModel):
    """The mean hidden state of each text."""

    model: str
    embeddings: list[list[float]]


class CompletionBody(Decoding):
    """OpenAI's request for a completion; fields without a meaning here are accepted and ignored."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [
                {"prompt": "The for statement is used to", "suffix": " a sequence.", "max_tokens": 8, "seed": 0}
            ]
        },
    )
    model: str | None = Field(None, max_length=512)
    prompt: str | list[str] | list[Id] | list[list[Id]] = Field("", description="Text, texts or ids to continue.")
    suffix: str | None = Field(None, description="The text after the completion.")
    max_tokens: Count = 16
    n: Annotated[int, Field(ge=1, le=16, strict=True)] = 1
    temperature: float | None = Field(1.0, ge=0, le=1e6, allow_inf_nan=False)
    seed: Seed | None = None
    stop: str | list[str] | None = Field(None, description="The completion ends before the first of these texts.")
    echo: bool = False
    stream: bool = False


class CompletionReply(BaseModel):
    """OpenAI's answer."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: dict[str, int]


class ErrorBody(BaseModel):
    """What is wrong, in the form of OpenAI's errors."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(BaseModel):
    """An error."""

    error: ErrorBody


class ModelList(BaseModel):
    """The served model."""

    object: Literal["list"]
    data: list[dict[str, Any]]


class Health(BaseModel):
    """The state of the process."""

    status: str
