"""The config tree: one typed YAML file, dotted overrides, every value explained.

    Config
      data        where text comes from, how it becomes rows
      model       a preset, or sizes of one's own
      objective   what is hidden, how the loss weighs it (unmask.config.objective_config)
      optim       learning rate, its course, the optimiser
      train       steps, batches, precision, how often to look

Values are checked on reading; an unknown key names the nearest known one. No value is a Python path: names become
objects in ``unmask.build.run`` and nowhere else.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, PositiveInt, ValidationError, model_validator

from unmask.config.objective_config import ObjectiveConfig
from unmask.config.override import field_type, parse_value
from unmask.config.section import NonNegative, Positive, Section, Share
from unmask.storage import write_text
from unmask.suggestions import RENAMED, nearest


class DataConfig(Section):
    """Where text comes from and how it becomes rows."""

    source: str = Field(
        "python-docs",
        min_length=1,
        description="built-in corpus (python-docs, python-code), file, folder, or hub dataset",
    )
    valid_source: str | None = Field(None, description="held-out text; null holds out a share of the source")
    field: str = Field("text", description="field that holds the text, for JSON lines, Parquet and datasets")
    split: str = Field("train", description="split, for Hugging Face datasets")
    unit: Literal["file", "section", "paragraph", "line"] | None = Field(
        None, description="what one document is in plain text; null = a file in a folder, a section in a single file"
    )
    tokenizer: str | None = Field(None, description="tokenizer.json, folder or hub name; null trains a byte-level BPE")
    vocab_size: int = Field(8192, ge=261, le=2**24, description="size of the tokenizer that is trained")
    valid_fraction: float = Field(0.05, gt=0.0, lt=1.0, description="share of the bytes held out")
    seed: int = Field(
        0, description="of the split; runs that differ in the other seed alone share a store and its held-out text"
    )
    block_size: PositiveInt = Field(512, description="tokens per training row")
    workers: int = Field(0, ge=0, description="loader processes; 0 collates in the training process")
    store: str | None = Field(None, description="folder of prepared token stores; null puts them inside the run folder")


class ModelConfig(Section):
    """Sizes of the network. ``preset`` fills whatever is not given."""

    preset: Literal["tiny", "small", "base", "large"] | None = Field(
        "small", description="tiny (demo), small, base (110M), large; null = only the sizes below"
    )
    d_model: PositiveInt = Field(384, description="width")
    num_layers: PositiveInt = Field(6, description="depth")
    nhead: PositiveInt = Field(6, description="attention heads")
    dim_feedforward: PositiveInt | None = Field(
        None, description="hidden width of the feed-forward layers; null = 4 × d_model"
    )
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="dropout; 0 is best and fastest in pretraining")
    activation: Literal["relu", "gelu", "silu", "squared_relu"] = Field(
        "gelu", description="of the feed-forward layers"
    )
    max_length: PositiveInt = Field(1024, description="longest row the model accepts")
    rotary_emb_dim: PositiveInt = Field(64, description="channels of each head that carry position")
    tie_embeddings: bool = Field(True, description="share the embedding with the output projection")
    local_init_layers: int = Field(
        2, ge=0, description="first layers whose heads start out attending to their nearest neighbours"
    )
    causal_block: PositiveInt | None = Field(
        None,
        description="a token attends to its own block of so many positions and to earlier ones, so finished blocks are cached exactly (--cache block); null = both ways",
    )
    use_flex_attn: bool = Field(
        False,
        description="FlexAttention for packed rows on CUDA, best without dropout; a CPU attends document by document all the same",
    )
    kind: Literal["rotary", "instruction_trace"] = Field(
        "rotary",
        description="rotary for any tokens; instruction_trace also counts instructions and arguments, for traces",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        if isinstance(given, Mapping):
            preset = given.get("preset", "small")
            return {**PRESETS.get(preset, {}), **given} if isinstance(preset, str) else given
        return given


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"d_model": 256, "num_layers": 4, "nhead": 4, "max_length": 512},
    "small": {"d_model": 384, "num_layers": 6, "nhead": 6, "max_length": 1024},
    "base": {"d_model": 768, "num_layers": 12, "nhead": 12, "max_length": 1024},
    "large": {"d_model": 1024, "num_layers": 24, "nhead": 16, "max_length": 2048},
}


class OptimConfig(Section):
    """The optimiser and the course of the learning rate."""

    name: Literal["adamw", "muon"] = Field(
        "adamw", description="adamw; or muon for the matrices inside blocks with adamw for the rest"
    )
    lr: Positive = Field(1e-3, description="peak learning rate of AdamW")
    muon_lr: Positive = Field(0.02, description="muon: peak learning rate of the matrices")
    weight_decay: NonNegative = Field(
        0.1, description="decoupled decay of matrices; biases, norms and embeddings have none"
    )
    beta1: float = Field(0.9, ge=0.0, lt=1.0, description="AdamW's first moment")
    beta2: float = Field(0.98, ge=0.0, lt=1.0, description="AdamW's second moment")
    warmup: Share = Field(0.05, description="share of all steps over which the learning rate rises")
    decay: Literal["cosine", "linear", "constant", "wsd"] = Field(
        "cosine", description="course after warm-up; wsd = constant, then linear over the last fifth"
    )
    final_lr: Share = Field(0.02, description="learning rate at the last step, as a share of the peak")
    clip: NonNegative = Field(1.0, description="largest norm of the gradient; 0 = no clipping")
    ema: float = Field(
        0.0, ge=0.0, lt=1.0, description="decay of the averaged weights that are evaluated and saved; 0 = none"
    )


class TrainConfig(Section):
    """How long, how much at a time, how often to look."""

    steps: PositiveInt = Field(1000, description="optimiser steps")
    batch_size: PositiveInt = Field(32, description="rows per optimiser step, over all devices and accumulation steps")
    accumulate: PositiveInt = Field(1, description="forward-backward passes per optimiser step")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="auto = bf16 where the processor has it, else fp32"
    )
    compile: Literal["auto"] | bool = Field(
        "auto",
        description="torch.compile of the blocks, a minute or two once; auto = on an accelerator, where the run is long enough to earn it back",
    )
    checkpoint_activations: bool = Field(
        False,
        description="keep one activation a block and make the others again: less memory, about a quarter more time",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="kind of processor to train on; auto = the fastest that is here"
    )
    devices: Literal["auto"] | PositiveInt = Field("auto", description="processors to train on")
    nodes: PositiveInt = Field(1, description="machines to train on")
    evaluate_every: PositiveInt = Field(200, description="steps between validations")
    evaluate_rows: PositiveInt = Field(
        256, description="held-out rows per validation; the same rows and the same noise each time"
    )
    checkpoint_every: PositiveInt = Field(200, description="steps between checkpoints")
    log_every: PositiveInt = Field(10, description="steps between log lines")
    resume: bool = Field(
        True,
        description="continue from the run folder's last checkpoint; false moves an earlier run aside and starts anew",
    )

    @model_validator(mode="after")
    def _accumulate_divides(self) -> TrainConfig:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"train.batch_size={self.batch_size} rows cannot be cut into train.accumulate={self.accumulate} equal passes: "
                "make one a multiple of the other"
            )
        return self


class Config(Section):
    """Everything a run is."""

    seed: int = Field(0, description="of data order, noise, weights and samples; data.seed is that of the split")
    run: str = Field("runs/default", min_length=1, description="folder that the run writes to and resumes from")
    data: DataConfig = Field(default_factory=DataConfig, description="where text comes from and how it becomes rows")
    model: ModelConfig = Field(
        default_factory=lambda: ModelConfig.model_validate({}), description="sizes of the network"
    )
    objective: ObjectiveConfig = Field(
        default_factory=ObjectiveConfig, description="what is hidden, how the loss weighs it"
    )
    optim: OptimConfig = Field(default_factory=OptimConfig, description="the optimiser and the learning rate")
    train: TrainConfig = Field(
        default_factory=TrainConfig, description="how long, how much at a time, how often to look"
    )

    @model_validator(mode="after")
    def _rows_fit(self) -> Config:
        if self.data.block_size > self.model.max_length:
            raise ValueError(
                f"data.block_size={self.data.block_size} is longer than model.max_length={self.model.max_length}: lower the first or raise the second"
            )
        return self


def _set_dotted(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, leaf = key.split(".")
    for section in sections:
        inner = tree.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ValueError(f"{key}: {section!r} is a value, not a section, so nothing can be set inside it.")
        tree = inner
    tree[leaf] = value


def _known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, info in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            keys += _known_keys(info.annotation, f"{prefix}{name}.")
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
                _known_keys(Config),
                key=lambda k: (k.split(".")[-1] != key.split(".")[-1], k.rpartition(".")[0] != section),
            )
            lines.append(f"There is no config key {key!r}.{nearest(key, known, '.')}")
        elif problem["type"] == "value_error":
            lines.append(str(problem["ctx"]["error"]) + ".")
        elif problem["type"] == "string_type" and isinstance(problem["input"], bool | int | float):
            lines.append(
                f"{key} = {problem['input']!r}: text was expected, and YAML reads this as a {type(problem['input']).__name__}. Put it in quotes."
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
        f"The config ({origin}) cannot be used. "
        + " ".join(unique)
        + " `unmask train --print-config` shows every key with its meaning."
    )


def load_config(
    path: str | Path | None = None, overrides: Sequence[str] = (), base: Mapping[str, Any] | None = None
) -> Config:
    """Read a config: defaults, then ``base``, then the YAML file, then ``key.sub=value`` overrides.

    Args:
        path: YAML file, or None.
        overrides: ``section.key=value``; the type of the key decides how the value is read (see ``override``).
        base: values between the defaults and the file, as a nested mapping.

    Raises:
        ValueError: a missing or unreadable file, an unknown key (the nearest is named), a value of the wrong type.
    """
    tree: dict[str, Any] = {k: dict(v) if isinstance(v, Mapping) else v for k, v in (base or {}).items()}
    origin = []
    if path is not None:
        path = Path(path)
        if not path.is_file():
            raise ValueError(
                f"There is no config file {path}. `unmask train --print-config > {path}` writes one to start from."
            )
        try:
            read = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
        if not isinstance(read, dict) and read is not None:
            raise ValueError(
                f"{path} holds a {type(read).__name__}, and a config is a mapping such as 'train: {{steps: 1000}}'."
            )
        for key, value in (read or {}).items():
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


def _scalar(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()


def _choices(annotation: Any) -> str:
    if typing.get_origin(annotation) is Literal:
        return " | ".join(str(a) for a in typing.get_args(annotation))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return " | ".join(filter(None, (_choices(a) for a in typing.get_args(annotation))))
    return ""


def config_yaml(config: Section, comments: bool = True, indent: str = "") -> str:
    """The config as YAML that reads back to the same config, each value with its meaning as a comment."""
    lines: list[str] = []
    for name, info in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, Section):
            lines.append(f"{indent}{name}:" + (f"  # {info.description}" if comments else ""))
            lines.append(config_yaml(value, comments, indent + "  ").rstrip("\n"))
            continue
        line = f"{indent}{name}: {_scalar(value)}"
        if comments:
            choices = _choices(info.annotation)
            line = f"{line:<34}  # {info.description}" + (
                f" [{choices}]" if choices and choices not in str(info.description) else ""
            )
        lines.append(line)
    return "\n".join(lines) + "\n"


def save_config(config: Config, path: str | Path) -> None:
    """Write the config, comments and all, in one piece."""
    write_text(path, config_yaml(config))
