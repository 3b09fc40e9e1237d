"""The base class of all config sections: a frozen, typed mapping that refuses unknown keys."""

from __future__ import annotations

import typing

from pydantic import BaseModel, ConfigDict, Field

Fraction = typing.Annotated[float, Field(ge=0.0, le=1.0)]
NonNegative = typing.Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Positive = typing.Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class Section(BaseModel):
    """A section of the config. Unknown keys are errors; values cannot be changed after validation."""

    model_config: typing.ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
