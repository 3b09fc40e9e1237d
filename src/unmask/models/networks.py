"""The registry of networks: every value of ``model.kind`` in a config, with its class.

A new network is one entry of ``NETWORKS``; building, saving and loading read the entry. A test compares the registry with
the values that the config allows.
"""

from __future__ import annotations

from dataclasses import dataclass

from unmask.models.instruction_trace import InstructionTraceMLMModel
from unmask.models.rotary_mlm import RotaryTransformerMLMModel


@dataclass(frozen=True)
class NetworkKind:
    """One network of the registry.

    Attributes:
        network: the class. Its constructor takes the vocabulary size, ``ids`` and the keys of the ``model`` section.
        tied_weight: name of the output weight that equals ``embedding.weight`` under ``tie_embeddings``.
        ids: constructor arguments that are token ids: ``padding_idx``, ``mask_idx``, ``next_idx``.
    """

    network: type[RotaryTransformerMLMModel]
    tied_weight: str
    ids: tuple[str, ...] = ("padding_idx", "mask_idx")


NETWORKS: dict[str, NetworkKind] = {
    "rotary": NetworkKind(RotaryTransformerMLMModel, "head.projection.weight"),
    "instruction_trace": NetworkKind(
        InstructionTraceMLMModel, "head.decode.weight", ("padding_idx", "mask_idx", "next_idx")
    ),
}
ARCHITECTURES: dict[str, NetworkKind] = {kind.network.__name__: kind for kind in NETWORKS.values()}
"""The same entries by class name, as ``config.json`` of a checkpoint stores them."""
