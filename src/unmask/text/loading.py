"""Load a trained model: a run, a checkpoint, an export, a Hugging Face model, or a Lightning checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from unmask.build.foreign import ForeignOptions, open_foreign, open_lightning_model
from unmask.devices import choose_device, choose_dtype
from unmask.models.hf_files import is_hugging_face
from unmask.models.lightning_files import is_lightning_file
from unmask.runs import load_run
from unmask.text.model import TrainedModel


def load(
    path: str | Path,
    checkpoint: str = "last",
    device: str | torch.device = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    shift: bool | None = None,
    mask_token: str | int | None = None,
    attention_block: int | None = None,
    tokenizer: str | Path | None = None,
    sizes: Mapping[str, Any] | None = None,
) -> TrainedModel:
    """Load a trained model: a run, a checkpoint, an export, a masked LM of Hugging Face, or a Lightning checkpoint.

    Args:
        path: a run folder, a checkpoint, a Hugging Face model folder, a hub name such as ``bert-base-uncased``, or a
            Lightning file (``.ckpt``) of the libraries whose names this package keeps.
        checkpoint: checkpoint of a run: ``"last"``, or ``"best"`` by validation loss.
        device: ``cpu``, ``cuda``, ``mps``, or ``auto`` for the fastest device present.
        dtype: dtype of the weights: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for the saved dtype.

    Other Parameters:
        trust_remote_code: run code that comes with the weights (LLaDA, Dream and others); read it first.
        shift: such a network predicts a token one position earlier; None = as published, checked on plain text.
        mask_token: text or id of its mask; None = that of the tokenizer, the config, or the published class.
        attention_block: tokens of its attention block (block diffusion); None = as published.
        tokenizer: tokenizer of a Lightning file; None = the ``tokenizer.json`` beside it.
        sizes: arguments of the class of a Lightning file that neither weights nor hyperparameters tell, such as ``nhead``.

    Returns:
        The model, ready to fill, generate, score, embed and evaluate.

    Raises:
        ValueError: no finished checkpoint, a damaged one, a model that is not a masked language model, code that is not
            trusted, options that the network contradicts, or an absent device.

    Examples:
        >>> import unmask
        >>> unmask.load("./no-such-run")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: There is no model at no-such-run...
    """
    folder, target = Path(path).expanduser(), choose_device(device)
    kind = choose_dtype(dtype, target)
    options = ForeignOptions(trust_remote_code, shift, mask_token, attention_block, tokenizer)
    if is_lightning_file(folder):
        network, tokens, step = open_lightning_model(folder, options, dict(sizes or {}))
        return TrainedModel(network.to(target, kind).eval(), tokens, folder, step, dtype=dtype)
    if sizes:
        raise ValueError(f"sizes={dict(sizes)} are for Lightning files, and {path} states its own. Leave them out.")
    if is_hugging_face(path):
        network, tokens = open_foreign(folder if folder.exists() else str(path), options, kind)
        return TrainedModel(network.to(target).eval(), tokens, Path(path), dtype=dtype)
    options.refuse_given(f"{path} is a run")
    run = load_run(path, checkpoint, device, dtype, trust_remote_code)
    return TrainedModel(run.model.eval(), run.tokenizer, run.folder, run.step, run.config, run.dtype)
