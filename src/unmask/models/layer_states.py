"""Hidden states of any layer of a network: 0 = embeddings, the last = what the vocabulary head reads.

Layers are numbered as ``hidden_states`` of ``transformers``. Rows run without padding, in groups of equal length, so
padding changes nothing, whatever the network does with it.

Shapes: ids ``[B, L]`` in, states ``[B, L, D]`` out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unmask.models.causal_lm import CausalLMAsMLM
from unmask.models.hf import HuggingFaceMLM
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.models.unpadded import equal_lengths, in_parts


def layer_states(
    model: object, layer: int, ids: Int[Tensor, "batch seq"], real: Bool[Tensor, "batch seq"]
) -> Float[Tensor, "batch seq width"]:
    """Return the hidden states of one layer; zero at padding.

    Args:
        model: a network of this package, or one of ``transformers`` behind its adapter.
        layer: 0 = embeddings, 1 = output of the first block; negative numbers count from the last.
        ids: token ids.
        real: True = real token.

    Raises:
        ValueError: a network without numbered layers, or no such layer.

    Examples:
        >>> model = RotaryTransformerMLMModel(20, 16, 2, 2, mask_idx=0, padding_idx=1).eval()
        >>> ids = torch.tensor([[5, 6, 7]])
        >>> last = layer_states(model, -1, ids, ids > 0)
        >>> torch.allclose(last, model.hidden_states(ids), atol=1e-6)
        True
    """
    if isinstance(model, RotaryTransformerMLMModel):
        run = _of_blocks(model, layer)
    elif isinstance(model, HuggingFaceMLM | CausalLMAsMLM):
        run = _of_transformers(model, layer)
    else:
        raise ValueError(f"{type(model).__name__} has no numbered layers: leave the layer out to read the last one.")
    return in_parts(run, list(equal_lengths(real)), ids)


def _place(layer: int, layers: int) -> int:
    """Return the index of a layer among ``layers + 1`` states."""
    if not -layers - 1 <= layer <= layers:
        raise ValueError(
            f"This network has layers 0 (embeddings) to {layers}, and layer {layer} was asked for. Choose one of them, or -1 for the last."
        )
    return layer % (layers + 1)


class _Reached(Exception):
    """The input of the wanted block is known; later blocks need not run."""


def _of_blocks(model: RotaryTransformerMLMModel, layer: int) -> Callable[[Tensor], Tensor]:
    blocks = list(model.blocks)
    place = _place(layer, len(blocks))
    if place == len(blocks):
        return model.hidden_states

    def run(ids: Tensor) -> Tensor:
        reached: list[Tensor] = []

        def keep(block: nn.Module, arguments: tuple[Any, ...]) -> None:
            reached.append(arguments[0])
            raise _Reached

        handle = blocks[place].register_forward_pre_hook(keep)
        try:
            model.hidden_states(ids)
        except _Reached:
            pass
        finally:
            handle.remove()
        return reached[0].view(*ids.shape, -1)

    return run


def _of_transformers(model: HuggingFaceMLM | CausalLMAsMLM, layer: int) -> Callable[[Tensor], Tensor]:
    def run(ids: Tensor) -> Tensor:
        with _all_states(model.model.base_model) as outputs:
            model.hidden_states(ids, torch.ones_like(ids, dtype=torch.bool))
        states = outputs[-1]
        chosen: Tensor = states[_place(layer, len(states) - 1)]
        return chosen[:, : ids.shape[1]]  # a shifted causal model runs on one more token, the first

    return run


@contextmanager
def _all_states(encoder: nn.Module) -> Iterator[list[tuple[Tensor, ...]]]:
    """Record the states of all layers of every call of a ``transformers`` encoder."""
    outputs: list[tuple[Tensor, ...]] = []

    def ask(module: nn.Module, args: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, given | {"output_hidden_states": True}

    def keep(module: nn.Module, args: Any, given: dict[str, Any], output: Any) -> None:
        outputs.append(output.hidden_states)

    handles = [
        encoder.register_forward_pre_hook(ask, with_kwargs=True),
        encoder.register_forward_hook(keep, with_kwargs=True),
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
