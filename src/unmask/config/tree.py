"""The config tree of a run: typed sections, one YAML file, dotted overrides.

    Config
      data        text source, tokenizer, training rows
      model       network: a preset, or explicit sizes
      objective   masking and loss
      optim       optimiser and learning-rate schedule
      train       steps, batch size, precision, intervals

Values are validated on reading. The error for an unknown key names the nearest known key. No value is a Python path:
``unmask.build`` is the only place that maps names to objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from unmask.config.data_config import DataConfig
from unmask.config.model_config import ModelConfig
from unmask.config.objective_config import ObjectiveConfig
from unmask.config.optim_config import OptimConfig
from unmask.config.override import field_type, parse_value
from unmask.config.section import Section
from unmask.config.train_config import TrainConfig
from unmask.suggestions import RENAMED, nearest


class Config(Section):
    """The complete description of a run.

    A ``Config`` is immutable. Build one with :func:`unmask.load_config`, which also reads files and overrides.

    Attributes:
        seed: random seed of data order, masks, initial weights and samples.
        run: folder that the run writes to and resumes from.
        data: text source, tokenizer and training rows.
        model: the network.
        objective: masking and loss.
        optim: optimiser and learning-rate schedule.
        train: steps, batch size, hardware and intervals.

    Examples:
        >>> import unmask
        >>> config = unmask.Config.model_validate({"run": "runs/a", "train": {"steps": 500}})
        >>> config.train.steps, config.model.d_model
        (500, 384)
    """

    seed: int = Field(0, description="Random seed of data order, masks, initial weights and samples.")
    run: str = Field("runs/default", min_length=1, description="Folder that the run writes to and resumes from.")
    data: DataConfig = Field(
        default_factory=DataConfig,
        description="Text source, tokenizer and training rows.",
    )
    model: ModelConfig = Field(
        default_factory=lambda: ModelConfig.model_validate({}), description="The network and its sizes."
    )
    objective: ObjectiveConfig = Field(default_factory=ObjectiveConfig, description="Masking and loss.")
    optim: OptimConfig = Field(default_factory=OptimConfig, description="Optimiser and learning-rate schedule.")
    train: TrainConfig = Field(
        default_factory=TrainConfig,
        description="Training length, batch size, hardware and intervals.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_attention(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        try:
            attention = ObjectiveConfig.model_validate(values.get("objective", {})).attention
        except ValidationError:  # reported with the other errors
            return values
        model = values.get("model", {})
        model = model.model_dump(exclude_unset=True) if isinstance(model, ModelConfig) else model
        return {**values, "model": {**attention, **model}} if attention and isinstance(model, Mapping) else values

    @model_validator(mode="after")
    def _attention_is_that_of_the_objective(self) -> Config:
        for key, needed in self.objective.attention.items():
            if getattr(self.model, key) != needed:
                raise ValueError(
                    f"objective.name={self.objective.name} trains a network with model.{key}={needed}, and "
                    f"model.{key}={getattr(self.model, key)} was given: leave model.{key} out"
                )
        if self.model.shift and "shift" not in self.objective.attention:
            raise ValueError(
                f"model.shift=true makes the token before a position its input, and objective.name={self.objective.name} masks the tokens "
                "to predict: set objective.name=autoregressive, or model.shift=false and model.causal_block=null"
            )
        return self

    @model_validator(mode="after")
    def _rows_fit(self) -> Config:
        if self.data.eos_tail and self.data.kind == "text" and self.data.store is None:
            raise ValueError(
                "data.eos_tail fills the rows of prompts with answers, and data.kind=text has none: set "
                "data.kind=supervised, or leave data.eos_tail out"
            )
        if self.model.use_flex_attn and self.data.kind == "supervised":
            raise ValueError(
                "model.use_flex_attn is for packed rows, and data.kind=supervised trains on padded ones: leave "
                "model.use_flex_attn out"
            )
        if self.model.init is not None and "max_length" not in self.model.model_fields_set:
            return self  # the length is that of the source
        if self.data.block_size > self.model.max_length:
            raise ValueError(
                f"data.block_size={self.data.block_size} is longer than model.max_length={self.model.max_length}: "
                "lower data.block_size or raise model.max_length"
            )
        return self


def load_config(
    path: str | Path | None = None, overrides: Sequence[str] = (), base: Mapping[str, Any] | None = None
) -> Config:
    """Build a config from defaults, then ``base``, then a YAML file, then ``key=value`` overrides.

    Args:
        path: YAML file, or None.
        overrides: strings ``section.key=value``. The type of the key determines how the value is parsed
            (``unmask.config.override``).
        base: nested mapping of values between the defaults and the file.

    Returns:
        The validated config.

    Raises:
        ValueError: a missing or unreadable file, an unknown key (the message names the nearest one), or a value of the
            wrong type.

    Examples:
        >>> import unmask
        >>> unmask.load_config(overrides=["train.steps=500", "optim.lr=3e-4"]).optim.lr
        0.0003
        >>> unmask.load_config(overrides=["train.step=500"])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: ...There is no config key 'train.step'. Did you mean 'train.steps'?...
    """
    tree: dict[str, Any] = {k: dict(v) if isinstance(v, Mapping) else v for k, v in (base or {}).items()}
    origin = []
    if path is not None:
        path = Path(path)
        for key, value in _read_yaml(path).items():
            tree[key] = {**tree[key], **value} if isinstance(value, dict) and isinstance(tree.get(key), dict) else value
        origin.append(str(path))
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise ValueError(f"{override!r} is not an override: write key=value, such as train.steps=2000.")
        _set_dotted(tree, key.strip(), parse_value(value, field_type(Config, key.strip())))
        origin.append(override)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ValueError(_explain(error, ", ".join(origin) or "defaults")) from error


def explicit_values(config: Config) -> dict[str, Any]:
    """Return the nested values of a config without those that its preset and its scheme provide.

    The result is a ``base`` for :func:`load_config`: overrides of ``model.preset`` and ``objective.name`` then replace the
    values of the earlier preset and scheme.
    """
    values = config.model_dump(exclude_unset=True)
    filled: dict[str, Section] = {
        "model": ModelConfig.model_validate({"preset": config.model.preset}),
        "objective": ObjectiveConfig.model_validate({"name": config.objective.name}),
    }
    for section, defaults in filled.items():
        if section in values:
            names = {"preset", "name"} & values[section].keys()
            values[section] = {
                key: value for key, value in values[section].items() if key in names or value != getattr(defaults, key)
            }
    for key in config.objective.attention:
        values.get("model", {}).pop(key, None)
    return values


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(
            f"There is no config file {path}. `unmask train --print-config > {path}` writes one with all defaults."
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) and content is not None:
        raise ValueError(
            f"{path} holds a {type(content).__name__}, and a config is a mapping such as 'train: {{steps: 1000}}'."
        )
    return content or {}


def _set_dotted(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, leaf = key.split(".")
    for section in sections:
        inner = tree.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ValueError(f"{key}: {section!r} is a value, not a section, so nothing can be set inside it.")
        tree = inner
    tree[leaf] = value


def known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Return all dotted keys of a section, sections included."""
    keys: list[str] = []
    for name, info in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            keys += known_keys(info.annotation, f"{prefix}{name}.")
    return keys


def _explain(error: ValidationError, origin: str) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join(
            str(part)
            for part in problem["loc"]
            if not str(part).startswith("literal") and part not in ("int", "constrained-int")
        )
        if problem["type"] == "extra_forbidden":
            section = key.rpartition(".")[0]
            known = sorted(
                known_keys(Config),
                key=lambda k: (k.split(".")[-1] != key.split(".")[-1], k.rpartition(".")[0] != section),
            )
            lines.append(f"There is no config key {key!r}.{nearest(key, known, '.')}")
        elif problem["type"] == "value_error":
            lines.append(str(problem["ctx"]["error"]).removesuffix(".") + ".")
        elif problem["type"] == "string_type" and isinstance(problem["input"], bool | int | float):
            kind = type(problem["input"]).__name__
            lines.append(
                f"{key} = {problem['input']!r}: text was expected, and YAML reads this value as {kind}. Put it in quotes."
            )
        else:
            message = problem["msg"][0].lower() + problem["msg"][1:]
            renamed = RENAMED.get(problem["input"]) if isinstance(problem["input"], str) else None
            hint = (
                f" {problem['input']!r} is now called {renamed!r}."
                if renamed is not None and repr(renamed) in message
                else ""
            )
            lines.append(f"{key} = {problem['input']!r}: {message}.{hint}")
    unique = list(dict.fromkeys(lines))
    return (
        f"The config ({origin}) is not valid. "
        + " ".join(unique)
        + " `unmask train --print-config` shows every key with its meaning."
    )
