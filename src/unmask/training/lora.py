"""Low-rank adaptation (LoRA, Hu et al. 2021, 2106.09685, eq. 3) through PEFT: ``W x + (alpha / rank) B A x``, with ``W`` fixed.

    add_adapters       replace linear layers by adapted ones, in place; only A, B and new embedding rows are trained
    AdaptedLayers      names of the adapted layers, with which weights are merged and restored

A checkpoint holds the merged weights ``W + (alpha / rank) B A`` under the names of the plain network, so that everything that
reads a model reads it. ``lora.safetensors`` beside them holds ``W``, ``A`` and ``B``, with which training resumes exactly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, cast

import torch
import torch.nn.functional as F
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from unmask.nn.linear import Linear
from unmask.training.optim import in_block

_ADAPTER = "default"
_PART = re.compile(rf"^(?P<layer>.+)\.(?P<part>base_layer\.\w+|lora_[AB]\.{_ADAPTER}\.weight)$")


class AdaptedLinear(PeftLinear):
    """An adapted :class:`unmask.nn.linear.Linear`, with all ways in which the encoder calls one."""

    def linear_of(self, recomputed: Callable[..., Tensor], x: Tensor, *parameters: Tensor) -> Tensor:
        """Return ``self(recomputed(x, *parameters))``."""
        return cast(Tensor, self(recomputed(x, *parameters)))

    def rows_of(self, x: Tensor, rows: slice) -> Tensor:
        """Return some of the outputs, computed alone."""
        down, up = (cast(Tensor, side[_ADAPTER].weight) for side in (self.lora_A, self.lora_B))
        plain: Tensor = cast(Linear, self.get_base_layer()).rows_of(x, rows)
        return plain + F.linear(F.linear(x, down), up[rows]) * float(self.scaling[_ADAPTER])


@dataclass(frozen=True)
class AdaptedLayers:
    """The adapted layers of a network.

    Attributes:
        transposed: name of each layer -> whether its weight is ``[inputs, outputs]``, as in GPT-2.
        scaling: ``alpha / rank``.
    """

    transposed: Mapping[str, bool]
    scaling: float

    def merge(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the weights of the plain network, merged, and the parts of the adapted layers.

        Args:
            weights: those of the adapted network.
        """
        parts = {name: value for name, value in weights.items() if self._layer_of(name) is not None}
        merged = {name: value for name, value in weights.items() if name not in parts}
        for name, value in parts.items():
            layer, part = _split(name)
            if part == "base_layer.weight":
                up, down = (weights[f"{layer}.lora_{side}.{_ADAPTER}.weight"].float() for side in "BA")
                change = self.scaling * (up @ down)
                change = change.T if self.transposed[layer] else change
                merged[f"{layer}.weight"] = (value.float() + change).to(value.dtype)
            elif part.startswith("base_layer."):
                merged[f"{layer}.{part.removeprefix('base_layer.')}"] = value
        return merged, parts

    def restore(self, merged: Mapping[str, Tensor], parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of the adapted network; the inverse of :meth:`merge`.

        Raises:
            ValueError: the parts of other layers.
        """
        found = {_split(name)[0] for name in parts}
        if found != set(self.transposed):
            raise ValueError(
                f"This checkpoint has adapters of {len(found)} layers, and the run has {len(self.transposed)}. Resume with the "
                "train.lora_targets of the run."
            )
        own = {f"{layer}.{name}" for layer in found for name in ("weight", "bias")}
        return {**{name: value for name, value in merged.items() if name not in own}, **parts}

    def _layer_of(self, name: str) -> str | None:
        match = _PART.match(name)
        return match["layer"] if match and match["layer"] in self.transposed else None


def _split(name: str) -> tuple[str, str]:
    match = _PART.match(name)
    assert match is not None, name
    return match["layer"], match["part"]


def add_adapters(
    network: nn.Module,
    rank: int,
    alpha: float | None = None,
    targets: Sequence[str] = (),
    *,
    seed: int = 0,
    trained_rows: int | None = None,
) -> AdaptedLayers:
    """Give linear layers adapters, in place, and exclude all other weights from training.

    ``B`` is zero at first, so the network is unchanged.

    Args:
        network: the network.
        rank: number of columns of ``B``.
        alpha: the scale is ``alpha / rank``; None = ``2 * rank``.
        targets: patterns of layer names (``fnmatch``); none = every linear layer inside the transformer blocks.
        seed: of the first ``A``; the global random state is left unchanged.
        trained_rows: number of ids that had been trained; the embeddings of later ids are trained too. None = all had been.

    Raises:
        ValueError: patterns that match no linear layer, or a rank that exceeds a layer.
    """
    layers = {name: m for name, m in network.named_modules() if isinstance(m, nn.Linear | Conv1D)}
    chosen = {name: m for name, m in layers.items() if _is_target(name, targets)}
    for pattern in targets:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise ValueError(
                f"train.lora_targets: no linear layer matches {pattern!r}. There are {', '.join(list(layers)[:8])}, … A pattern "
                f"covers the whole name: write '*{pattern.strip('*')}*' to match a part."
            )
    if not chosen:
        raise ValueError(
            f"train.lora_rank: {type(network).__name__} has no linear layers inside numbered blocks. Name some with "
            f"train.lora_targets, such as {', '.join(list(layers)[:4])}."
        )
    narrow = min(min(m.weight.shape) for m in chosen.values())
    if rank > narrow:
        raise ValueError(
            f"train.lora_rank={rank} exceeds the narrowest adapted layer, {narrow}: give at most {narrow}."
        )
    transposed = {name: isinstance(m, Conv1D) for name, m in chosen.items()}
    config = LoraConfig(
        r=rank,
        lora_alpha=cast(int, 2 * rank if alpha is None else alpha),
        target_modules=list(chosen),
        fan_in_fan_out=all(transposed.values()),
    )
    config._register_custom_module({Linear: AdaptedLinear})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, network)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(f".lora_A.{_ADAPTER}." in name or f".lora_B.{_ADAPTER}." in name)
    if trained_rows is not None:
        _train_new_rows(network, trained_rows)
    return AdaptedLayers(transposed, (2 * rank if alpha is None else alpha) / rank)


def _is_target(name: str, targets: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in targets) if targets else in_block(name)


def _train_new_rows(network: Any, trained_rows: int) -> None:
    """Train the token embeddings of ids from ``trained_rows`` on; the gradient of earlier rows is zero."""

    def new_rows_only(gradient: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(gradient[:trained_rows]), gradient[trained_rows:]])

    inner = getattr(network, "model", network)  # a network of transformers in its adapter
    embedding = inner.get_input_embeddings() if hasattr(inner, "get_input_embeddings") else network.embedding
    embedding.weight.requires_grad_(True)
    embedding.weight.register_hook(new_rows_only)
    embedding.weight.fixed_rows = trained_rows  # for the count of trained parameters
