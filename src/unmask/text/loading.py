"""Load a trained model: a run, a checkpoint, or a Hugging Face masked language model."""

from __future__ import annotations

from pathlib import Path

import torch

from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.devices import choose_device, choose_dtype
from unmask.export.hub_weights import to_network
from unmask.export.registration import MODEL_TYPE, register
from unmask.models.hf import HuggingFaceMLM
from unmask.models.hf_files import is_hugging_face
from unmask.runs import load_run
from unmask.text.model import TrainedModel


def load(
    path: str | Path, checkpoint: str = "last", device: str | torch.device = "auto", dtype: str = "auto"
) -> TrainedModel:
    """Load a trained model: a run, a checkpoint, or a Hugging Face masked language model.

    Args:
        path: a run folder, a checkpoint, a Hugging Face model folder, or a hub name such as ``bert-base-uncased``.
        checkpoint: checkpoint of a run: ``"last"``, or ``"best"`` by validation loss.
        device: ``cpu``, ``cuda``, ``mps``, or ``auto`` for the fastest device present.
        dtype: dtype of the weights: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for the saved dtype.

    Returns:
        The model, ready to fill, generate, score, embed and evaluate.

    Raises:
        ValueError: no finished checkpoint, a damaged one, a model that is not a masked language model, or an absent device.

    Examples:
        >>> import unmask
        >>> unmask.load("./no-such-run")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: There is no model at no-such-run...
    """
    folder = Path(path).expanduser()
    if is_hugging_face(path):
        return _load_hugging_face(folder if folder.exists() else str(path), device, dtype)
    run = load_run(path, checkpoint, device, dtype)
    return TrainedModel(run.model.eval(), run.tokenizer, run.folder, run.step, run.config, run.dtype)


def _load_hugging_face(name: Path | str, device: str | torch.device, dtype: str) -> TrainedModel:
    from transformers import AutoModelForMaskedLM

    target = choose_device(device)
    kind = choose_dtype(dtype, target)
    register()
    try:
        network = AutoModelForMaskedLM.from_pretrained(name, **({} if kind is None else {"dtype": kind}))
    except OSError as error:
        raise ValueError(
            f"'{name}' is neither a folder here nor a model on the Hugging Face hub ({str(error).splitlines()[0]}). Give a run "
            "folder, a checkpoint, or a model folder; `unmask demo` creates runs/demo."
        ) from None
    is_export = network.config.model_type == MODEL_TYPE  # written by `unmask export`
    model = (to_network(network) if is_export else HuggingFaceMLM(network)).to(target).eval()
    return TrainedModel(model, Tokenizer.load(name), Path(name), dtype=dtype)
