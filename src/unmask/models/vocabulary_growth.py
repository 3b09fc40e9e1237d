"""More tokens for a trained network: new rows start as the mean of the old ones, and old logits stay as they are."""

from __future__ import annotations

from typing import Any

import torch

from unmask.models.rotary_mlm import RotaryTransformerMLMModel


def grow_transformers(model: Any, known: int, size: int) -> None:
    """Give a language model of ``transformers`` rows for the ids from ``known`` to ``size``, in place.

    Args:
        model: a model with input embeddings.
        known: number of ids that were trained; each new row is the mean of theirs.
        size: number of ids afterwards. Rows that exist already, unused, are set as well.
    """
    if size <= known:
        return
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        means = [part.detach()[:known].mean(0) for part in _rows(model)]
        if size > model.get_input_embeddings().weight.shape[0]:
            model.resize_token_embeddings(size, mean_resizing=False)
        for part, mean in zip(_rows(model), means, strict=True):
            part[known:size] = mean


def _rows(model: Any) -> list[torch.Tensor]:
    """Return the parameters with a row per id: embedding, output projection, and bias."""
    parts = [model.get_input_embeddings().weight]
    output = model.get_output_embeddings()
    parts += [] if output is None else [output.weight]
    return parts + ([] if getattr(output, "bias", None) is None else [output.bias])


def rebuilt(network: RotaryTransformerMLMModel, known: int, **changes: Any) -> RotaryTransformerMLMModel:
    """Return a copy of a network with other constructor arguments and the same weights.

    Args:
        network: the network.
        known: number of ids that were trained.
        changes: constructor arguments; a larger ``num_embeddings`` adds rows that are the mean of the first ``known``.
    """
    with torch.random.fork_rng(devices=[]):
        copy = type(network)(**{**network.config, **changes})
    before = network.state_dict()
    with torch.no_grad():
        for name, weight in copy.state_dict().items():
            old = before[name]
            weight[: len(old)] = old
            if len(weight) > len(old):
                weight[len(old) :] = old[:known].mean(0)
    return copy
