"""The ``train`` section of the config: length, batch size, hardware, and intervals between reports."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from unmask.config.section import Positive, Section


class TrainConfig(Section):
    """Training length, batch size, hardware, and the intervals of validation, checkpoints and logs."""

    steps: PositiveInt = Field(1000, description="Number of optimiser steps.")
    batch_size: PositiveInt = Field(32, description="Rows per optimiser step, over all devices and accumulation steps.")
    accumulate: PositiveInt = Field(1, description="Forward-backward passes per optimiser step.")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto",
        description="Precision of matrix products; auto = bf16 where the processor supports it natively, else fp32.",
    )
    compile: Literal["auto"] | bool = Field(
        "auto",
        description="Compile the blocks with torch.compile, one or two minutes once; auto = on an accelerator, for long runs.",
    )
    checkpoint_activations: bool = Field(
        False,
        description="Keep one activation per block and recompute the others: less memory, about a quarter more time.",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="Kind of device to train on; auto = the fastest one present."
    )
    devices: Literal["auto"] | PositiveInt = Field(
        "auto",
        description="Number of devices per machine; auto = the processes of the launcher, else all GPUs or one CPU process.",
    )
    nodes: Literal["auto"] | PositiveInt = Field(
        "auto", description="Number of machines; auto = that of the launcher (torchrun, srun), else one."
    )
    strategy: Literal["auto", "ddp", "fsdp"] = Field(
        "auto",
        description="Several processes: ddp = each holds all weights, fsdp = each holds a part; auto = ddp if there are several.",
    )
    evaluate_every: PositiveInt = Field(200, description="Optimiser steps between validations.")
    evaluate_rows: PositiveInt = Field(
        256, description="Rows of the validation split per validation; rows and masks are the same every time."
    )
    checkpoint_every: PositiveInt = Field(200, description="Optimiser steps between checkpoints.")
    keep: PositiveInt = Field(1, description="Number of latest checkpoints to keep, besides the best one.")
    non_finite: Literal["stop", "skip"] = Field(
        "stop",
        description="After a NaN or infinite loss or gradient: stop, or skip that step; non_finite.jsonl lists its examples.",
    )
    log_every: PositiveInt = Field(10, description="Optimiser steps between log lines.")
    logger: Literal["none", "tensorboard", "csv", "wandb", "mlflow"] = Field(
        "tensorboard",
        description="Record of metrics, samples and config beside metrics.csv, by one of Lightning's loggers.",
    )
    freeze: list[str] = Field(
        default_factory=list,
        description="Patterns of parameter names that keep their first values, such as [embedding.*, blocks.0.*].",
    )
    lora_rank: NonNegativeInt = Field(
        0, description="Rank of LoRA adapters of the weights of model.init, which stay fixed; 0 = train the weights."
    )
    lora_alpha: Positive | None = Field(
        None,
        description="Scale of the adapters: their output is multiplied by lora_alpha / lora_rank; null = 2 * rank.",
    )
    lora_targets: list[str] = Field(
        default_factory=list,
        description="Patterns of names of linear layers that get adapters, such as [*.qkv]; empty = all inside the blocks.",
    )
    resume: bool = Field(
        True,
        description="Resume from the last checkpoint of the run folder; false moves an earlier run aside and starts anew.",
    )

    @field_validator("freeze", "lora_targets", mode="before")
    @classmethod
    def _split_patterns(cls, value: Any) -> Any:
        if isinstance(value, str):  # [*.weight] is no YAML list: YAML reads * as a reference
            return [part.strip(" '\"") for part in value.strip().strip("[]").split(",") if part.strip()]
        return value

    @model_validator(mode="after")
    def _adapter_keys_have_an_effect(self) -> TrainConfig:
        given = [key for key in ("lora_alpha", "lora_targets") if getattr(self, key)]
        if given and not self.lora_rank:
            raise ValueError(f"train.{given[0]} has no effect without adapters: set train.lora_rank, such as 8")
        return self

    @model_validator(mode="after")
    def _accumulate_divides(self) -> TrainConfig:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"train.batch_size={self.batch_size} is not a multiple of train.accumulate={self.accumulate}: "
                "every pass of a step has the same number of rows. Change one of the two"
            )
        return self
