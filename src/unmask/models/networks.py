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
    return HuggingFaceMLM(rebuild_transformers(config, weights), config["mask_idx"])


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


def describe_network(network: Network) -> dict[str, Any]:
    """Return the ``config.json`` of a network: ``architecture``, and all that its class is rebuilt from.

    Raises:
        ValueError: a network of ``transformers`` whose class is not part of that package.
    """
    config: dict[str, Any] = {"architecture": type(network).__name__}
    if isinstance(network, RotaryTransformerMLMModel):
        return config | network.config
    config |= {"mask_idx": network.mask_idx, **describe_transformers(network.model)}
    if isinstance(network, CausalLMAsMLM):
        config |= {"bos_idx": network.bos_idx, "shift": network.shift}
    return config
