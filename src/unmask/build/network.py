"""From the ``model`` section of a config to a network with fresh weights."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from unmask.config.tree import ModelConfig, TrainConfig
from unmask.contracts import SpecialIds
from unmask.data.traces.granularity import require_next
from unmask.devices import choose_device
from unmask.models.instruction_trace import InstructionTraceMLMModel
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.nn.execution import BlockRunner, can_compile


def build_model(config: ModelConfig, tokenizer: Any, seed: int) -> RotaryTransformerMLMModel:
    """A network with fresh weights, the same for the same seed whatever was drawn before."""
    special = SpecialIds.of(tokenizer)
    sizes = config.model_dump(exclude={"preset", "kind"})
    ids: dict[str, Any] = {"padding_idx": special.pad or 0, "mask_idx": special.mask}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.kind == "instruction_trace":
            next_idx = require_next(tokenizer, "model.kind=instruction_trace")
            return InstructionTraceMLMModel(special.vocab_size, next_idx=next_idx, **ids, **sizes)
        return RotaryTransformerMLMModel(special.vocab_size, **ids, **sizes)


LONG_RUN = 3e16  # multiplications and additions that earn a compilation back: five minutes at 100 TFLOP/s


def build_runner(config: TrainConfig, parameters: int, tokens_per_step: int) -> BlockRunner:
    """How a run's blocks are run.

    ``auto`` compiles for an accelerator, where a run is long enough (``6 * parameters * tokens``, Kaplan et al. 2020). On a CPU compiled
    blocks were as fast as eager ones, whose products and attention are the same (docs/performance.md).
    """
    device = choose_device(config.device).type
    is_long = 6.0 * parameters * tokens_per_step * config.steps >= LONG_RUN
    wanted = config.compile is True or (config.compile == "auto" and device != "cpu" and is_long)
    if wanted and not can_compile(device):
        warnings.warn(
            "train.compile wants a C++ compiler, and there is none here: blocks run uncompiled. Install g++ (or name one in CXX), or "
            "set train.compile=off.",
            stacklevel=2,
        )
        wanted = False
    return BlockRunner(compiled=wanted, checkpoint_activations=config.checkpoint_activations)
