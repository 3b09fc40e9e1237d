"""The key map between our networks and the exported classes: configuration and weights, in both directions.

    ours                            exported
    embedding, blocks               model.embedding, model.layers
    instruction, argument, norm     model.instruction, model.argument, model.norm       (instruction traces)
    head.norm, head.projection      lm_head.norm, lm_head.decoder                       (text)
    head.transform, head.decode     lm_head.dense, lm_head.decoder                      (instruction traces)

The map only renames, so logits agree up to the order of floating-point sums, and a round trip is bit-equal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from unmask.models.instruction_trace import MAX_ARGUMENTS, InstructionTraceMLMModel
from unmask.models.learned_positions import LearnedPositionMLMModel
from unmask.models.rotary_mlm import RotaryTransformerMLMModel

_TEXT_HEAD = {"norm": "norm", "projection": "decoder"}
_TRACE_HEAD = {"transform": "dense", "norm": "norm", "decode": "decoder"}
_DIFFERS = {"num_embeddings": "vocab_size", "d_model": "hidden_size", "num_layers": "num_hidden_layers", "nhead": "num_attention_heads", "padding_idx": "pad_token_id", "mask_idx": "mask_token_id", "activation": "hidden_act", "max_length": "max_position_embeddings", "tie_embeddings": "tie_word_embeddings"}  # fmt: skip
_SAME = ("dropout", "layer_norm_eps", "rotary_base", "causal_block")


def hub_sizes(network: RotaryTransformerMLMModel) -> dict[str, Any]:
    """Return the arguments of ``UnmaskConfig`` that describe a network.

    Raises:
        ValueError: an autoregressive network, or one with the layers of the published encoder of instruction traces.

    Examples:
        >>> network = RotaryTransformerMLMModel(num_embeddings=32, d_model=16, num_layers=1, nhead=2)
        >>> hub_sizes(network)["intermediate_size"]
        64
    """
    if isinstance(network, LearnedPositionMLMModel):
        raise ValueError(
            "The exported classes have no learned positions, and this network has model.kind=learned_positions. Use the run itself "
            "(unmask.load), or train with model.kind=rotary."
        )
    config = network.config
    if network.shift:
        raise ValueError(
            "This network is autoregressive (shift=True), and the exported class predicts masked tokens: it cannot be exported. Use it with "
            "unmask.load, or export a network of objective.name=diffusion or block_diffusion."
        )
    if config.get("published_layout"):
        raise ValueError(
            "This network has the layers of the published encoder of instruction traces, and exported folders have others. Write it back in "
            "its own layout: unmask.models.published_layouts.export_state(network)."
        )
    sizes = {theirs: config[ours] for ours, theirs in _DIFFERS.items()} | {name: config[name] for name in _SAME}
    sizes["intermediate_size"] = config["dim_feedforward"] or 4 * config["d_model"]
    sizes["rotary_dim"] = 2 * len(network.rotary.angle_per_step)
    sizes["final_norm"] = not config["final_layer_without_normalization"]
    if isinstance(network, InstructionTraceMLMModel):
        sizes |= {"next_token_id": network.next_idx, "max_arguments": MAX_ARGUMENTS}
    return sizes


def hub_weights(network: RotaryTransformerMLMModel) -> dict[str, Tensor]:
    """Return a network's weights under the exported names; a tied projection is left out.

    Examples:
        >>> network = RotaryTransformerMLMModel(num_embeddings=32, d_model=16, num_layers=1, nhead=2, tie_embeddings=True)
        >>> sorted(hub_weights(network))[:3]
        ['lm_head.decoder.bias', 'lm_head.norm.bias', 'lm_head.norm.weight']
    """
    traces = isinstance(network, InstructionTraceMLMModel)
    names = {name: _hub_name(name, traces) for name in network.state_dict()}
    if network.config["tie_embeddings"]:
        names = {ours: theirs for ours, theirs in names.items() if theirs != "lm_head.decoder.weight"}
    return {theirs: network.state_dict()[ours].detach().contiguous().cpu() for ours, theirs in names.items()}


def to_network(model: Any) -> RotaryTransformerMLMModel:
    """Return the network of this package that equals an exported masked language model.

    Args:
        model: an ``UnmaskForMaskedLM``, from this package's code or from a folder's.

    Returns:
        A ``RotaryTransformerMLMModel`` or an ``InstructionTraceMLMModel`` in evaluation mode, on the model's device, with its dtype.

    Raises:
        ValueError: the model is of another type, or has no vocabulary head.

    Examples:
        >>> import torch
        >>> from unmask.export.hub_code.modeling_unmask import UnmaskConfig, UnmaskForMaskedLM
        >>> config = UnmaskConfig(vocab_size=32, hidden_size=16, num_attention_heads=2, num_hidden_layers=1, rotary_dim=8)
        >>> model = UnmaskForMaskedLM(config).eval()
        >>> ids = torch.tensor([[5, 1, 7]])
        >>> torch.allclose(to_network(model)(ids), model(ids).logits, atol=1e-5)
        True
    """
    config = model.config
    if getattr(config, "model_type", None) != "unmask" or not hasattr(model, "lm_head"):
        raise ValueError(
            f"{type(model).__name__} is no masked language model of `unmask export`. Load one with "
            "unmask.export.register() and transformers.AutoModelForMaskedLM.from_pretrained(folder)."
        )
    if config.architectures and "UnmaskForMaskedLM" not in config.architectures:
        raise ValueError(
            f"{config.name_or_path or 'This model'} was saved as {', '.join(config.architectures)}, which has no vocabulary head. Load it "
            "with transformers, or give the folder of a masked language model."
        )
    options = {ours: getattr(config, theirs) for ours, theirs in _DIFFERS.items()}
    options |= {name: getattr(config, name) for name in _SAME}
    options |= {
        "dim_feedforward": config.intermediate_size,
        "rotary_emb_dim": config.rotary_dim,
        "final_layer_without_normalization": not config.final_norm,
        "num_embeddings": model.get_input_embeddings().weight.shape[0],
    }
    traces = config.next_token_id is not None
    network: RotaryTransformerMLMModel
    if traces:
        network = InstructionTraceMLMModel(next_idx=config.next_token_id, **options)
    else:
        network = RotaryTransformerMLMModel(**options)
    state: Mapping[str, Tensor] = model.state_dict()
    network.load_state_dict({name: state[_hub_name(name, traces)] for name in network.state_dict()})
    first = next(model.parameters())
    return network.to(first.device, first.dtype).eval()


def _hub_name(name: str, traces: bool) -> str:
    """Return the exported name of one of our weights."""
    if not name.startswith("head."):
        return "model." + re.sub(r"^blocks\.", "layers.", name)
    _, part, kind = name.split(".")
    return f"lm_head.{(_TRACE_HEAD if traces else _TEXT_HEAD)[part]}.{kind}"
