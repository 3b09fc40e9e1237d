"""The registries of networks: those that a config builds, and those that a checkpoint can hold.

    NETWORKS        value of ``model.kind`` -> class, built from the sizes of the ``model`` section
    ARCHITECTURES   ``architecture`` in ``config.json`` of a checkpoint -> function of that config and the weights

A new network of this package is one entry of ``NETWORKS``. Networks of ``transformers`` start from existing weights
(``model.init``), so they are in ``ARCHITECTURES`` only. A test compares the registry with the values that the config allows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from unmask.models.causal_lm import CausalLMAsMLM
from unmask.models.hf import HuggingFaceMLM
from unmask.models.hf_files import describe_transformers, rebuild_transformers
from unmask.models.instruction_trace import InstructionTraceMLMModel
from unmask.models.learned_positions import LearnedPositionMLMModel
from unmask.models.own_code import describe_code, has_own_code, rebuild_code
from unmask.models.published_call import PublishedCall
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.models.tied_weights import load_weights

Network = RotaryTransformerMLMModel | HuggingFaceMLM | CausalLMAsMLM
"""A network that a checkpoint can hold."""


@dataclass(frozen=True)
class NetworkKind:
    """One network of the registry.

    Attributes:
        network: the class. Its constructor takes the vocabulary size, ``ids`` and the keys of the ``model`` section.
        ids: constructor arguments that are token ids: ``padding_idx``, ``mask_idx``, ``next_idx``.
    """

    network: type[RotaryTransformerMLMModel]
    ids: tuple[str, ...] = ("padding_idx", "mask_idx")


NETWORKS: dict[str, NetworkKind] = {
    "rotary": NetworkKind(RotaryTransformerMLMModel),
    "learned_positions": NetworkKind(LearnedPositionMLMModel),
    "instruction_trace": NetworkKind(InstructionTraceMLMModel, ("padding_idx", "mask_idx", "next_idx")),
}


def _rebuild(
    network: type[RotaryTransformerMLMModel], config: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> Network:
    return load_weights(network(**config), weights)


def _rebuild_masked(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Network:
    rebuild = rebuild_code if "code" in config else rebuild_transformers
    return HuggingFaceMLM(rebuild(config, weights), config["mask_idx"], config.get("shift", False))


def _rebuild_causal(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Network:
    model = rebuild_transformers(config, weights)
    return CausalLMAsMLM(model, config["mask_idx"], config["bos_idx"], config["shift"])


Rebuild = Callable[[Mapping[str, Any], Mapping[str, Tensor]], Network]
ARCHITECTURES: dict[str, Rebuild] = {
    **{kind.network.__name__: partial(_rebuild, kind.network) for kind in NETWORKS.values()},
    "HuggingFaceMLM": _rebuild_masked,
    "CausalLMAsMLM": _rebuild_causal,
}
"""Name of the class -> function of ``config.json`` (without ``architecture``) and weights."""


def original_of(network: HuggingFaceMLM) -> Any:
    """Return the network as its authors wrote it, without an adapter of its call."""
    return network.model.model if isinstance(network.model, PublishedCall) else network.model


def describe_network(network: Network) -> dict[str, Any]:
    """Return the ``config.json`` of a network: ``architecture``, and all that its class is rebuilt from.

    Raises:
        ValueError: a class that is not part of ``transformers`` and did not come with a model folder.
    """
    config: dict[str, Any] = {"architecture": type(network).__name__}
    if isinstance(network, RotaryTransformerMLMModel):
        return config | network.config
    if isinstance(network, CausalLMAsMLM):
        config |= {"bos_idx": network.bos_idx, **describe_transformers(network.model)}
    elif has_own_code(original := original_of(network)):
        config |= {"causal_block": network.causal_block, **describe_code(original)}
    else:
        config |= describe_transformers(network.model)
    config |= {"mask_idx": network.mask_idx, "shift": network.shift}
    return config
