"""Networks of ``transformers`` in model folders: described as a mapping, rebuilt offline, opened by folder or hub name.

    model_class    name of the class, such as ``BertForMaskedLM``
    transformers   its config as a mapping

A class that is not part of ``transformers`` is described with its code (``own_code``).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from unmask.models.own_code import AUTO
from unmask.models.tied_weights import load_weights
from unmask.storage import digest

Task = Literal["masked", "causal"]


def describe_transformers(model: Any) -> dict[str, Any]:
    """Return the class and the config of a model of ``transformers``, for JSON.

    Raises:
        ValueError: a class that is not part of ``transformers``.
    """
    import transformers

    name = type(model).__name__
    if getattr(transformers, name, None) is not type(model):
        raise ValueError(
            f"{name} is no class of transformers {transformers.__version__}, so a checkpoint of it could not be loaded without its "
            "own code. Start from a network whose class is part of transformers."
        )
    return {"model_class": name, "transformers": json.loads(model.config.to_json_string(use_diff=False))}


def rebuild_transformers(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Any:
    """Return the model that :func:`describe_transformers` described, with weights named ``model.…``.

    Raises:
        TypeError: a class or a config that the installed ``transformers`` lacks.
        RuntimeError: weights that do not fit the config.
    """
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    name, values = config["model_class"], dict(config["transformers"])
    kind = getattr(transformers, name, None)
    if kind is None or values.get("model_type") not in CONFIG_MAPPING:
        raise TypeError(f"transformers {transformers.__version__} has no {name}; install transformers 5 or later")
    dtype = next(iter(weights.values())).dtype
    with torch.random.fork_rng(devices=[]):
        model = kind(CONFIG_MAPPING[values["model_type"]].from_dict(values)).to(dtype)
    return load_weights(model, {weight.removeprefix("model."): value for weight, value in weights.items()}).eval()


def task_of(config: Any) -> Task | None:
    """Return the task of a config: masked or causal language modelling; None for any other."""
    from transformers.models.auto import modeling_auto as auto

    masked, causal = auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    names = set(getattr(config, "architectures", None) or ())
    if names & set(masked.values()):
        return "masked"
    if names & set(causal.values()):
        return "causal"
    return "masked" if config.model_type in masked else "causal" if config.model_type in causal else None


def open_transformers(
    name: str | Path,
    task: Task,
    dropout: float | None = None,
    seed: int = 0,
    dtype: torch.dtype | None = torch.float32,
    code: Mapping[str, str] | None = None,
) -> Any:
    """Load a language model of ``transformers``, or one with its own code.

    Args:
        name: folder or hub name.
        task: head of the model.
        dropout: probability that replaces every dropout probability of the config; None = as saved.
        seed: random seed of weights that the files lack.
        dtype: dtype of the weights; None = as saved.
        code: ``auto_map`` of trusted code, which is run.

    Raises:
        ValueError: no such model, or code that fails.
    """
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

    kind: Any = AutoModelForMaskedLM if task == "masked" else AutoModelForCausalLM
    if code is not None:
        kind = getattr(transformers, next(each for each in AUTO if each in code))
    trusted, dtypes = code is not None, {} if dtype is None else {"dtype": dtype}
    with torch.random.fork_rng(devices=[]), _code_failing(name) if trusted else nullcontext():
        torch.manual_seed(seed)
        config = AutoConfig.from_pretrained(name, trust_remote_code=trusted)
        if dropout is not None:
            set_dropout(config, dropout)
        model, report = kind.from_pretrained(
            name, config=config, output_loading_info=True, trust_remote_code=trusted, **dtypes
        )
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        warnings.warn(
            f"{name} lacks {len(missing)} weights of a {type(model).__name__}, which start at random values: {', '.join(missing[:4])}.",
            stacklevel=2,
        )
    return model.eval()


@contextmanager
def _code_failing(name: str | Path) -> Iterator[None]:
    """Turn whatever the code of a model raises into one paragraph."""
    import transformers

    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # any class of error, from any code
        raise ValueError(
            f"The code of {name} fails under transformers {transformers.__version__} ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]}). Install what it needs, or a version of transformers that it was written for."
        ) from error


@contextmanager
def without_reports() -> Iterator[None]:
    """Turn off the progress bars and load reports of ``transformers``, and restore them afterwards."""
    from transformers.utils import logging as reports

    logging: Any = reports  # has no types
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def set_dropout(config: Any, dropout: float) -> None:
    """Set every dropout probability of a config of ``transformers``."""
    for part in {id(c): c for c in (config, config.get_text_config())}.values():
        for key, value in vars(part).items():
            if ("dropout" in key or key.endswith("pdrop")) and isinstance(value, float):
                setattr(part, key, dropout)


def dropout_of(config: Any) -> float:
    """Return the dropout probability of the residual branches of a config of ``transformers``."""
    text = config.get_text_config()
    for key in ("hidden_dropout_prob", "hidden_dropout", "resid_pdrop", "dropout", "mlp_dropout", "attention_dropout"):
        value = getattr(text, key, None)
        if isinstance(value, float):
            return value
    return 0.0


def weights_digest(folder: Path) -> str | None:
    """Return the SHA-256 of the weights in a folder of ``transformers``.

    Of several files it is the digest of their names and digests. None = no weights.
    """
    for pattern in ("model*.safetensors", "pytorch_model*.bin"):
        files = sorted(folder.glob(pattern))
        if len(files) == 1:
            return digest(files[0])
        if files:
            return sha256("".join(f"{file.name} {digest(file)}\n" for file in files).encode()).hexdigest()
    return None


def local_folder(name: str | Path) -> Path | None:
    """Return the folder of a model that has been loaded: itself, or its snapshot in the cache of the hub."""
    if Path(name).is_dir():
        return Path(name)
    from transformers.utils.hub import cached_file

    file = cached_file(str(name), "config.json", local_files_only=True, _raise_exceptions_for_missing_entries=False)
    return None if file is None else Path(file).parent


def is_hugging_face(path: str | Path) -> bool:
    """Tell whether a path is a model folder of ``transformers`` or the name of a model on the hub; otherwise it is a run."""
    folder = Path(path).expanduser()
    if folder.exists():
        return (folder / "config.json").is_file() and not (folder / "checkpoint.json").is_file()
    return not str(path).startswith((".", "/", "~", "runs/")) and str(path).count("/") <= 1
