"""What every part of the config is made of: a frozen, typed mapping that refuses keys it does not know."""

from __future__ import annotations

import typing

from pydantic import BaseModel, ConfigDict, Field

Share = typing.Annotated[float, Field(ge=0.0, le=1.0)]
NonNegative = typing.Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Positive = typing.Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class Section(BaseModel):
    """A part of the tree: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
