"""State dicts of the libraries whose names this package keeps, in both directions: key maps that change no number.

    layout              class of the checkpoint                            weights of ours
    rotary              ``RotaryTransformerMLMModel``                      the same class
    instruction_trace   ``InstructionTraceTransformerEncoderForMaskedLM``  ``InstructionTraceMLMModel(published_layout=True)``

A fused matrix of ours is the concatenation of theirs (query, key and value; of every head, in traces). Biases that the
rotary layout lacks are zero here, so they must be zero on the way back. Logits agree up to the order of sums.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unmask.models.instruction_trace import InstructionTraceMLMModel
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.models.tied_weights import load_weights
from unmask.registry import Registry

State = Mapping[str, Tensor]
_NORMS = {"norm1": "attention_norm", "norm2": "feedforward_norm"}
_ROTARY = {"attn_qkv": "qkv", "o_proj": "out", "mlp.0": "up", "mlp.2": "down", **_NORMS}
_TRACE = {"attention.output": "out", "ff.linear1": "up", "ff.linear2": "down", **_NORMS}
_TRACE_OUTSIDE = {
    "encoder.embedding.token": "embedding",
    "encoder.embedding.instruction": "instruction",
    "encoder.embedding.argument": "argument",
    "encoder.embedding.norm": "embedding_norm",
    "head.transform": "head.transform",
    "head.norm": "head.norm",
    "head.decode": "head.decode",
}
_ROTARY_OUTSIDE = {
    "embed_tokens": "embedding",
    "output_layer.norm_final": "head.norm",
    "output_layer.linear": "head.projection",
}
_ROTARY_SIZES = ("nhead", "padding_idx", "mask_idx", "dropout", "activation", "layer_norm_eps", "max_length")
_TRACE_SIZES = {"heads": "nhead", "next_token_id": "next_idx", "mask_token_id": "mask_idx", "dropout": "dropout", "eps": "layer_norm_eps"}  # fmt: skip


@dataclass(frozen=True)
class PublishedLayout:
    """One layout of weights.

    Attributes:
        mark: a key that only this layout has.
        sizes: weights, and arguments of the published class -> arguments of our class.
        read, write: key maps from theirs to ours and back; ``write`` takes a network.
        network: our class.
        arguments: names that ``sizes`` reads.
    """

    mark: str
    sizes: Callable[[State, Mapping[str, Any]], dict[str, Any]]
    read: Callable[[State], dict[str, Tensor]]
    write: Callable[[Any], dict[str, Tensor]]
    network: type[RotaryTransformerMLMModel]
    arguments: tuple[str, ...]


def import_state(state: State, arguments: Mapping[str, Any] | None = None) -> RotaryTransformerMLMModel:
    """Return the network of a published state dict, in evaluation mode.

    Args:
        state: weights under the names of their library; prefixes ``model.`` and ``_orig_mod.`` are dropped.
        arguments: constructor arguments of the published class that no shape reveals, such as ``nhead`` and
            ``activation`` (rotary), ``next_token_id`` and ``mask_token_id`` (traces); others are not read.

    Raises:
        ValueError: weights of another layout, or an argument that is missing or does not fit the shapes.

    Examples:
        >>> import torch
        >>> network = RotaryTransformerMLMModel(num_embeddings=20, d_model=16, num_layers=1, nhead=2).eval()
        >>> theirs = export_state(network)
        >>> ids = torch.tensor([[5, 1, 7]])
        >>> torch.equal(import_state(theirs, {"nhead": 2})(ids), network(ids))
        True
    """
    state, arguments = bare(state), arguments or {}
    layout = layout_of(state)
    try:
        return load_weights(layout.network(**layout.sizes(state, arguments)), layout.read(state)).eval()
    except (RuntimeError, TypeError, KeyError) as error:
        raise ValueError(
            f"The weights do not fit a {layout.network.__name__} with {dict(arguments)}: {' '.join(str(error).split())[:300]}"
        ) from error


def export_state(network: RotaryTransformerMLMModel) -> dict[str, Tensor]:
    """Return the weights of a network under the names of the library whose class name it keeps.

    Args:
        network: a ``RotaryTransformerMLMModel``, or an ``InstructionTraceMLMModel`` with ``published_layout``.

    Raises:
        ValueError: the layout has no place for a weight that is not zero, or for the network's layers.

    Examples:
        >>> network = RotaryTransformerMLMModel(num_embeddings=20, d_model=16, num_layers=1, nhead=2)
        >>> sorted(export_state(network))[:2]
        ['embed_tokens.weight', 'encoder.0.attn_qkv.weight']
    """
    name = "instruction_trace" if isinstance(network, InstructionTraceMLMModel) else "rotary"
    if name == "instruction_trace" and not network.config["published_layout"]:
        raise ValueError(
            "This network of instruction traces has rotary positions, which the published encoder lacks, so its weights have no place there. "
            "Networks imported from that layout can be written back; for others use `unmask export`."
        )
    return LAYOUTS[name].write(network)


def bare(state: State) -> dict[str, Tensor]:
    """Return the weights of the network alone, without the prefixes of Lightning modules and ``torch.compile``."""
    plain = {name.replace("_orig_mod.", ""): tensor for name, tensor in state.items()}
    inner = {name.removeprefix("model."): tensor for name, tensor in plain.items() if name.startswith("model.")}
    return inner or plain


def layout_of(state: State) -> PublishedLayout:
    """Return the layout of a state dict without prefixes.

    Raises:
        ValueError: it has none of them.
    """
    for layout in LAYOUTS.values():
        if layout.mark in state:
            return layout
    marks = ", ".join(f"{layout.mark} ({name})" for name, layout in LAYOUTS.items())
    raise ValueError(
        f"These weights have none of the published layouts, which are known by a key: {marks}. The first keys are "
        f"{', '.join(list(state)[:4]) or 'none'}. Give a checkpoint of the rotary masked language model or of the instruction-trace encoder."
    )


def _renamed(state: State, layer: str, inside: Mapping[str, str], outside: Mapping[str, str]) -> dict[str, Tensor]:
    """Rename weights: ``layer`` + number + a name of ``inside``, or a name of ``outside``; others are left out."""
    pattern = re.compile(rf"{re.escape(layer)}(\d+)\.(.+)\.(weight|bias)")
    found = {}
    for name, tensor in state.items():
        match = pattern.fullmatch(name)
        stem, _, kind = name.rpartition(".")
        if match and match[2] in inside:
            found[f"blocks.{match[1]}.{inside[match[2]]}.{match[3]}"] = tensor
        elif stem in outside:
            found[f"{outside[stem]}.{kind}"] = tensor
    return found


def _back(network: RotaryTransformerMLMModel, layer: str, inside: Any, outside: Any) -> dict[str, Tensor]:
    ours = {name.replace("blocks.", layer, 1): tensor.detach() for name, tensor in network.state_dict().items()}
    inside, outside = ({value: key for key, value in names.items()} for names in (inside, outside))
    found = {}
    for name, tensor in ours.items():
        stem, _, kind = name.rpartition(".")
        number, _, part = stem.removeprefix(layer).partition(".")
        if stem.startswith(layer) and part in inside:
            found[f"{layer}{number}.{inside[part]}.{kind}"] = tensor
        elif stem in outside:
            found[f"{outside[stem]}.{kind}"] = tensor
    return found


def _count(state: State, layer: str) -> int:
    return len({name.removeprefix(layer).split(".")[0] for name in state if name.startswith(layer)})


def _given(arguments: Mapping[str, Any], name: str, meaning: str) -> Any:
    if name not in arguments:
        raise ValueError(
            f"The weights do not tell {meaning}, and the checkpoint has no hyperparameter {name}. Give it: {name}=…."
        )
    return arguments[name]


def _rotary_sizes(state: State, arguments: Mapping[str, Any]) -> dict[str, Any]:
    vocabulary, width = state["embed_tokens.weight"].shape
    given = {name: arguments[name] for name in _ROTARY_SIZES if name in arguments}
    angles = state.get("encoder.0.rotary_emb.inv_freq")
    rotated = arguments.get("rotary_emb_dim", 64) if angles is None else 2 * len(angles)
    activation = {"gelu": "gelu_tanh"}.get(given.get("activation", "relu"), given.get("activation", "relu"))
    return given | {
        "num_embeddings": vocabulary,
        "d_model": width,
        "num_layers": _count(state, "encoder."),
        "nhead": _given(arguments, "nhead", "the number of attention heads"),
        "dim_feedforward": state["encoder.0.mlp.0.weight"].shape[0],
        "rotary_emb_dim": rotated,
        "activation": activation,  # the published gelu is the one by a tanh
        "final_layer_without_normalization": "output_layer.norm_final.weight" not in state,
    }


def _read_rotary(state: State) -> dict[str, Tensor]:
    weights = _renamed(state, "encoder.", _ROTARY, _ROTARY_OUTSIDE)
    for name in [name for name in weights if name.endswith("qkv.weight") or name == "head.projection.weight"]:
        weights[name.replace("weight", "bias")] = weights[name].new_zeros(len(weights[name]))
    return weights


def _write_rotary(network: RotaryTransformerMLMModel) -> dict[str, Tensor]:
    if network.config["activation"] not in ("relu", "gelu_tanh") or network.config["rotary_base"] != 10_000.0:
        raise ValueError(
            "The published rotary class has the activations relu and gelu_tanh and rotary_base=10000, and this network has "
            f"activation={network.config['activation']!r} and rotary_base={network.config['rotary_base']}. Use `unmask export`."
        )
    found = _back(network, "encoder.", _ROTARY, _ROTARY_OUTSIDE)
    for name in [name for name in found if name.endswith(("attn_qkv.bias", "linear.bias"))]:
        if bool(found.pop(name).any()):
            raise ValueError(
                f"The published rotary class has no {name}, and this network's is not zero (model.local_init_layers starts it "
                "elsewhere, and training moves it). Use `unmask export`, whose classes have it."
            )
    angles = network.rotary.angle_per_step.detach()
    return found | {f"encoder.{i}.rotary_emb.inv_freq": angles for i in range(len(network.blocks))}


def _trace_sizes(state: State, arguments: Mapping[str, Any]) -> dict[str, Any]:
    vocabulary, width = state["encoder.embedding.token.weight"].shape
    heads = {name.split(".")[5] for name in state if name.startswith("encoder.layers.0.attention.heads.")}
    given = {ours: arguments[name] for name, ours in _TRACE_SIZES.items() if name in arguments}
    if "next_idx" not in given:
        _given(arguments, "next_token_id", "the id of [NEXT]")
    return given | {
        "num_embeddings": vocabulary,
        "d_model": width,
        "num_layers": _count(state, "encoder.layers."),
        "nhead": len(heads),
        "dim_feedforward": state["encoder.layers.0.ff.linear1.weight"].shape[0],
        "max_length": state["encoder.embedding.instruction.weight"].shape[0],
        "padding_idx": None,
        "activation": "gelu",
        "published_layout": True,
    }


def _read_traces(state: State) -> dict[str, Tensor]:
    weights = _renamed(state, "encoder.layers.", _TRACE, _TRACE_OUTSIDE)
    for layer in range(_count(state, "encoder.layers.")):
        heads = f"encoder.layers.{layer}.attention.heads."
        for kind in ("weight", "bias"):
            parts = [
                state[f"{heads}{head}.{part}.{kind}"]
                for part in ("q", "k", "v")
                for head in range(_count(state, heads))
            ]
            weights[f"blocks.{layer}.qkv.{kind}"] = torch.cat(parts)
    return weights


def _write_traces(network: RotaryTransformerMLMModel) -> dict[str, Tensor]:
    found = _back(network, "encoder.layers.", _TRACE, _TRACE_OUTSIDE)
    heads = network.config["nhead"]
    for name, tensor in network.state_dict().items():
        if ".qkv." in name:
            _, layer, _, kind = name.split(".")
            parts = tensor.detach().unflatten(0, (3, heads, -1))
            for part, of_part in zip(("q", "k", "v"), parts, strict=True):
                for head, rows in enumerate(of_part):
                    found[f"encoder.layers.{layer}.attention.heads.{head}.{part}.{kind}"] = rows.clone()
    return found


LAYOUTS: Registry[PublishedLayout] = Registry(
    "published layout",
    {
        "rotary": (
            PublishedLayout(
                "embed_tokens.weight",
                _rotary_sizes,
                _read_rotary,
                _write_rotary,
                RotaryTransformerMLMModel,
                (*_ROTARY_SIZES, "rotary_emb_dim"),
            ),
            "`RotaryTransformerMLMModel` of the masked language model package",
        ),
        "instruction_trace": (
            PublishedLayout(
                "encoder.embedding.token.weight",
                _trace_sizes,
                _read_traces,
                _write_traces,
                InstructionTraceMLMModel,
                tuple(_TRACE_SIZES),
            ),
            "`InstructionTraceTransformerEncoderForMaskedLM`",
        ),
    },
)
