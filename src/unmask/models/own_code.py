"""Networks whose class is not part of ``transformers``: code that comes with the weights and runs only if it is trusted.

A checkpoint of such a network holds that code, in ``code`` of its ``config.json``: file name -> text. It runs again only
under the same condition.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from unmask.models.published_call import call_of
from unmask.models.tied_weights import load_weights

AUTO = ("AutoModelForMaskedLM", "AutoModelForCausalLM", "AutoModel")
HOW = "--trust-remote-code (in Python: trust_remote_code=True)"


def own_code(name: str | Path) -> dict[str, str] | None:
    """Return ``auto_map`` of a folder or hub model whose class is not part of ``transformers``; None = it is, or no config.

    No code is run.
    """
    import transformers
    from transformers.models.auto import configuration_auto

    try:
        config, _ = transformers.PreTrainedConfig.get_config_dict(name)
    except (OSError, ValueError):
        return None  # the caller reports it
    code = config.get("auto_map") or {}
    if not any(kind in code for kind in AUTO):
        return None
    known: Any = configuration_auto.CONFIG_MAPPING
    shipped: Any = vars(configuration_auto)["CONFIG_MAPPING_NAMES"]
    kind, classes = config.get("model_type"), config.get("architectures") or ()
    registered = kind in known and kind not in shipped  # by the importing program, such as our exports
    theirs = kind in shipped and any(hasattr(transformers, each) for each in classes)
    return None if registered or theirs else dict(code)


def refuse_untrusted(name: str | Path, code: Mapping[str, str], trusted: bool) -> None:
    """Raise an error unless code is trusted.

    Raises:
        ValueError: it is not; the message says what to read and what to type.
    """
    if not trusted:
        files = sorted(
            {f"{str(value).rpartition('--')[2].split('.')[0]}.py" for value in code.values() if isinstance(value, str)}
        )
        raise ValueError(
            f"{name} is no class of transformers: its network is code that comes with it ({', '.join(files)}), and running it means trusting "
            f"it. Read these files first, then add {HOW}."
        )


def has_own_code(model: Any) -> bool:
    """Tell whether the class of a model is not part of ``transformers``."""
    import transformers

    return getattr(transformers, type(model).__name__, None) is not type(model)


def describe_code(model: Any) -> dict[str, Any]:
    """Return the class, the config and the code of a network, for JSON.

    Raises:
        ValueError: a class that was not loaded by ``transformers`` with its code.
    """
    kind, config = type(model), type(model.config)
    if not kind.__module__.startswith("transformers_modules."):
        raise ValueError(
            f"{kind.__name__} is no class of transformers, and its code did not come with a model folder, so a checkpoint of it could not be "
            "loaded. Start from a folder or hub name that holds its code."
        )
    folder = Path(str(sys.modules[kind.__module__].__file__)).parent
    files = {
        file.name: file.read_text(encoding="utf-8")
        for file in sorted(folder.glob("*.py"))
        if file.name != "__init__.py"
    }
    return {
        "model_class": f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}",
        "config_class": f"{config.__module__.rpartition('.')[2]}.{config.__name__}",
        "transformers": json.loads(model.config.to_json_string(use_diff=False)),
        "code": files,
    }


def rebuild_code(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Any:
    """Return the network that :func:`describe_code` described, running its code; called as it was.

    Raises:
        TypeError: the code fails.
        RuntimeError: weights that do not fit the config.
    """
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    with TemporaryDirectory() as folder:
        for file, text in config["code"].items():
            if Path(file).name != file or not file.endswith(".py"):
                raise TypeError(f"{file!r} is no name of a file of code")
            (Path(folder) / file).write_text(text, encoding="utf-8")
        try:
            made: Any
            kind: Any
            made, kind = (get_class_from_dynamic_module(config[key], folder) for key in ("config_class", "model_class"))
            dtype = next(iter(weights.values())).dtype
            with torch.random.fork_rng(devices=[]):
                model = kind(made.from_dict(dict(config["transformers"]))).to(dtype)
        except Exception as error:  # any class of error, from any code
            raise TypeError(f"its code fails: {type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
    inner = {name.removeprefix("model."): value for name, value in weights.items()}
    if not set(inner) & set(model.state_dict()):  # behind a PublishedCall
        inner = {name.removeprefix("model."): value for name, value in inner.items()}
    return call_of(load_weights(model, inner).eval(), config.get("causal_block"))
