"""Open what others trained: a model of ``transformers``, a diffusion language model with its own code, a Lightning file.

The network and its tokenizer come together: the mask and the shift of the logits are facts of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unmask.data.tokenizing.mask_role import with_mask
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.export.hub_weights import to_network
from unmask.export.registration import MODEL_TYPE, register
from unmask.models.diffusion_lms import DiffusionLM
from unmask.models.hf import HuggingFaceMLM
from unmask.models.hf_files import open_transformers, task_of
from unmask.models.lightning_files import beside, open_lightning
from unmask.models.networks import Network
from unmask.models.own_code import own_code, refuse_untrusted
from unmask.models.published_call import call_of
from unmask.models.shift_evidence import TEXT, choose_shift, shift_evidence


@dataclass(frozen=True)
class ForeignOptions:
    """How to use a model that others trained.

    Attributes:
        trust_remote_code: run code that comes with the weights.
        shift: the prediction of a token is read one position earlier; None = as published, or as its text tells.
        mask_token: text or id of the mask; None = that of the tokenizer or the config.
        attention_block: tokens of an attention block (block diffusion); None = as published.
        tokenizer: a tokenizer, for weights without one.
    """

    trust_remote_code: bool = False
    shift: bool | None = None
    mask_token: str | int | None = None
    attention_block: int | None = None
    tokenizer: str | Path | None = None

    def refuse_given(self, what: str) -> None:
        """Raise an error if an option that is not used was given.

        Raises:
            ValueError: it was.
        """
        options = {"--shift": self.shift, "--mask-token": self.mask_token, "--attention-block": self.attention_block}
        given = [name for name, value in options.items() if value is not None]
        if given:
            raise ValueError(
                f"{', '.join(given)} {'is' if len(given) == 1 else 'are'} for diffusion language models with their own code, and {what}. Leave it out."
            )


def open_foreign(
    name: str | Path,
    options: ForeignOptions,
    dtype: torch.dtype | None = None,
    dropout: float | None = None,
    seed: int = 0,
) -> tuple[Network, Tokenizer]:
    """Return a masked language model of others and its tokenizer.

    Args:
        name: folder or hub name.
        options: how to use it.
        dtype: dtype of the weights; None = as saved.
        dropout: replaces every dropout probability of the config; None = as saved.
        seed: random seed of weights that the files lack.

    Raises:
        ValueError: no such model, no masked language model, code that is not trusted or fails, or options that the network contradicts.
    """
    from transformers import AutoConfig

    register()
    code = own_code(name)
    if code is not None:
        refuse_untrusted(name, code, options.trust_remote_code)
        model = open_transformers(name, "masked", dropout, seed, dtype, code)
        return adapted(model, Tokenizer.load(options.tokenizer or name), str(name), options)
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"'{name}' is neither a folder here nor a model on the Hugging Face hub ({str(error).splitlines()[0]}). Give a run "
            "folder, a checkpoint, or a model folder; `unmask demo` creates runs/demo."
        ) from None
    options.refuse_given(f"{name} is a {config.model_type}")
    if config.model_type != MODEL_TYPE and task_of(config) == "causal":
        raise ValueError(
            f"{name} is a causal language model ({config.model_type}), which predicts tokens from the left alone. Adapt it first: "
            f"unmask train model.init={name} data.source=…; the run is then a masked language model."
        )
    model = open_transformers(name, "masked", dropout, seed, dtype)
    tokenizer = Tokenizer.load(options.tokenizer or name)
    if config.model_type == MODEL_TYPE:  # written by `unmask export`
        return to_network(model), tokenizer
    refuse_small(model, tokenizer, str(name))
    return HuggingFaceMLM(model, tokenizer.mask_token_id), tokenizer


def adapted(model: Any, tokenizer: Tokenizer, name: str, options: ForeignOptions) -> tuple[HuggingFaceMLM, Tokenizer]:
    """Return a network with its own code as a masked language model, and its tokenizer with a mask.

    Raises:
        ValueError: no mask, more tokens than embeddings, or a shift or attention other than claimed.
    """
    known = DiffusionLM.of(model.config)
    tokenizer = with_mask(tokenizer, options.mask_token, known.mask_id)
    refuse_small(model, tokenizer, name)
    block = known.block_length if options.attention_block is None else options.attention_block
    network = HuggingFaceMLM(call_of(model, block), tokenizer.mask_token_id)
    unknown = set(tokenizer.all_special_ids)
    ids = torch.tensor([i for i in tokenizer.encode(TEXT) if i not in unknown], dtype=torch.int64)
    assert network.mask_idx is not None
    ids = ids[: network.max_length].to(next(model.parameters()).device)
    seen = shift_evidence(network, ids, network.mask_idx)
    network.shift = choose_shift(name, options.shift, known.shift, seen)
    return network, tokenizer


def refuse_small(model: Any, tokenizer: Tokenizer, name: str) -> None:
    """Raise an error if a tokenizer has more ids than the network has rows.

    Raises:
        ValueError: it has.
    """
    rows = int(model.config.get_text_config().vocab_size)
    if rows < len(tokenizer):
        raise ValueError(
            f"{name} has {rows} token embeddings, and its tokenizer has {len(tokenizer)} ids: the two do not belong together."
        )


def open_lightning_model(
    path: Path, options: ForeignOptions, sizes: dict[str, Any], also: dict[str, Any] | None = None
) -> tuple[Network, Tokenizer, int | None]:
    """Return the network of a Lightning checkpoint, its tokenizer, and its optimiser step.

    Args:
        path: the file.
        options: ``tokenizer``, where no ``tokenizer.json`` lies beside the file or one folder up.
        sizes: constructor arguments that neither weights nor hyperparameters tell.
        also: more of them, left out where the class has no such argument.

    Raises:
        ValueError: see ``open_lightning``; or no tokenizer, or one of another size.
    """
    options.refuse_given(f"{path} is a checkpoint of another kind")
    found = options.tokenizer or beside(path, "tokenizer.json")
    if found is None:
        raise ValueError(
            f"{path} holds weights alone. Put the tokenizer.json of its training beside it, or name it: tokenizer=… (in a config: data.tokenizer)."
        )
    tokenizer = Tokenizer.load(found)
    network, step = open_lightning(path, also, **sizes)
    if network.num_tokens < len(tokenizer):
        raise ValueError(
            f"{path} has {network.num_tokens} token embeddings, and {found} has {len(tokenizer)} ids: the two do not belong together."
        )
    if tokenizer.mask_token_id is not None:
        network.mask_idx = network.config["mask_idx"] = tokenizer.mask_token_id
    return network, tokenizer, step
