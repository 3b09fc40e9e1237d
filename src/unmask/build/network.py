"""From the ``model`` section of a config to a network with fresh weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

from unmask.config.model_config import ModelConfig
from unmask.config.train_config import TrainConfig
from unmask.config.tree import Config
from unmask.contracts import SpecialIds
from unmask.data.traces.granularity import require_next
from unmask.devices import choose_device
from unmask.models.networks import NETWORKS, Network
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.nn.execution import BlockRunner, can_compile


def network_sizes(config: ModelConfig) -> dict[str, Any]:
    """Return the keys of the ``model`` section that are arguments of a network."""
    return config.model_dump(exclude={"preset", "kind", *(k for k in ModelConfig.model_fields if k.startswith("init"))})


def build_model(config: ModelConfig, tokenizer: Any, seed: int) -> RotaryTransformerMLMModel:
    """Return a network with fresh weights, which depend on ``seed`` alone.

    Args:
        config: the ``model`` section.
        tokenizer: a tokenizer or ``SpecialIds``; it provides the vocabulary size and the special ids.
        seed: random seed of the initial weights. The global random state is left unchanged.

    Raises:
        ValueError: a network for instruction traces with a tokenizer without ``[NEXT]``, or inconsistent sizes.
    """
    if config.kind not in NETWORKS:
        raise ValueError(
            f"model.kind={config.kind} has no network of its own: give the model to start from with model.init=PATH, and leave "
            "model.kind out."
        )
    special, kind = SpecialIds.of(tokenizer), NETWORKS[config.kind]
    id_of: dict[str, Callable[[], int]] = {
        "padding_idx": lambda: special.pad or 0,
        "mask_idx": lambda: special.mask,
        "next_idx": lambda: require_next(tokenizer, f"model.kind={config.kind}"),
    }
    arguments: dict[str, Any] = {name: id_of[name]() for name in kind.ids}
    arguments |= network_sizes(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind.network(special.vocab_size, **arguments)


LONG_RUN = 3e16  # multiply-adds above which compilation pays off: five minutes at 100 TFLOP/s


def build_runner(config: TrainConfig, parameters: int, tokens_per_step: int) -> BlockRunner:
    """Return the execution of the transformer blocks: eager or compiled, with or without activation checkpointing.

    ``auto`` compiles on an accelerator, except under ``train.strategy=fsdp``, if the run is long: ``6 * parameters * tokens`` multiply-adds (Kaplan et al. 2020)
    exceed ``LONG_RUN``. On a CPU, compiled blocks are no faster than eager ones (docs/performance.md).

    Args:
        config: the ``train`` section.
        parameters: number of parameters of the network.
        tokens_per_step: tokens per optimiser step.
    """
    device = choose_device(config.device).type
    is_long = 6.0 * parameters * tokens_per_step * config.steps >= LONG_RUN
    whole = config.strategy != "fsdp"  # one program cannot include the hooks that gather parts of weights
    compiled = config.compile is True or (config.compile == "auto" and device != "cpu" and is_long and whole)
    if compiled and not can_compile(device):
        warnings.warn(
            "train.compile needs a C++ compiler, and none was found: the blocks run uncompiled. Install g++ (or set CXX to "
            "another compiler), or set train.compile=off.",
            stacklevel=2,
        )
        compiled = False
    return BlockRunner(compiled=compiled, checkpoint_activations=config.checkpoint_activations)


def prepare_execution(network: Network, config: Config) -> None:
    """Set how a network runs in training: compilation and activation checkpointing.

    Raises:
        ValueError: ``train.compile=true`` for a network of ``transformers``.
    """
    if isinstance(network, RotaryTransformerMLMModel):
        parameters = sum(p.numel() for p in network.parameters())
        tokens = config.train.batch_size * config.data.block_size
        network.run_block = build_runner(config.train, parameters, tokens)
        return
    if config.train.compile is True:
        raise ValueError(
            "train.compile=true compiles the blocks of this package's networks, and model.init is a network of transformers. Leave "
            "train.compile out."
        )
    if config.train.checkpoint_activations:
        network.model.gradient_checkpointing_enable()
