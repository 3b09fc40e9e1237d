"""``unmask info``: what a run, a checkpoint, a prepared store or a model folder is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from unmask.cli.options import Json, Which


def info(
    path: Annotated[
        str, typer.Argument(metavar="RUN|STORE|MODEL", help="Run, checkpoint, store, model folder or hub name.")
    ],
    which: Which = "last",
    as_json: Json = False,
) -> None:
    """Say what a run, a prepared store or a model is: kind, sizes, step, objective, tokenizer, and where it came from."""
    from unmask.cli.screen import print_json, show

    facts = describe(path, which)
    if as_json:
        print_json(facts)
        return
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        show(f"{name.replace('_', ' '):<{width}}  {_text(value)}")


def describe(path: str, which: str = "last") -> dict[str, Any]:
    """Return what a path or a hub name is: ``kind`` first; the other keys depend on it.

    Args:
        path: a run, a checkpoint, a store of ``unmask prepare``, a model folder, or a hub name.
        which: checkpoint of a run: ``"last"`` or ``"best"``.

    Raises:
        ValueError: none of them.
    """
    from unmask.models.files import MANIFEST
    from unmask.models.hf_files import is_hugging_face

    folder = Path(path).expanduser()
    if (folder / "arguments.json").is_file() or (folder / "prepared.json").is_file():
        return _prepared(folder)
    if (folder / "store.json").is_file():
        return _store(folder)
    if is_hugging_face(path):
        return _model(path)
    if folder.is_file():
        raise ValueError(
            f"{path} is a file, and info describes folders: a run, a checkpoint, a store of `unmask prepare`, or a model. Give the "
            "folder, or a hub name."
        )
    begun = (folder / "config.yaml").is_file() and not (folder / MANIFEST).is_file()
    if begun and not (folder / "checkpoints" / "index.json").is_file():
        return _begun(folder)
    return _checkpoint(folder, which)


def _checkpoint(path: Path, which: str) -> dict[str, Any]:
    """Describe a run by one of its checkpoints, without loading the network."""
    from unmask.config.tree import load_config
    from unmask.data.tokenizing.tokenizers import Tokenizer
    from unmask.models.files import resolve_checkpoint, verify_manifest
    from unmask.models.weight_files import count_parameters, recorded_digest
    from unmask.storage import read_json

    folder = resolve_checkpoint(path, which)
    manifest, network = verify_manifest(folder), read_json(folder / "config.json")
    facts: dict[str, Any] = {
        "kind": "checkpoint" if folder == path else "run",
        "checkpoint": str(folder),
        "step": manifest["step"],
        "network": network["architecture"],
        "parameters": count_parameters(folder),
    }
    if "model_class" in network:
        facts["model_class"] = network["model_class"]
    if not (folder / "run.yaml").is_file():
        return facts
    config = load_config(folder / "run.yaml")
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    return facts | {
        "of_steps": config.train.steps,
        "layers": config.model.num_layers,
        "width": config.model.d_model,
        "heads": config.model.nhead,
        "max_length": config.model.max_length,
        **_objective(config),
        "tokenizer": _tokenizer(tokenizer),
        "data": config.data.source if config.data.store is None else config.data.store,
        "seed": config.seed,
        "init": manifest.get("init"),
        "generation": _generation(folder),
        "sha256": recorded_digest(manifest, folder),
    }


def _generation(folder: Path) -> str | None:
    """Return the generation defaults of ``unmask tune``, if any."""
    from unmask.text.generation_defaults import GenerationDefaults

    found = GenerationDefaults.of(folder)
    return None if found is None else str(found)


def _begun(folder: Path) -> dict[str, Any]:
    """Describe a run without a checkpoint."""
    from unmask.config.tree import load_config

    config = load_config(folder / "config.yaml")
    return {
        "kind": "run without a checkpoint",
        "of_steps": config.train.steps,
        **_objective(config),
        "data": config.data.source if config.data.store is None else config.data.store,
        "seed": config.seed,
        "init": config.model.init,
        "next": f"unmask train run={folder}",
    }


def _objective(config: Any) -> dict[str, Any]:
    from unmask.build.objective import is_elbo

    return {"objective": config.objective.name, "loss_is_elbo": is_elbo(config.objective)}


def _tokenizer(tokenizer: Any) -> dict[str, Any]:
    """Describe a tokenizer; the special tokens of ready ids are numbers too."""
    from unmask.data.tokenizing.number_tokens import is_number_tokenizer

    special = {role: tokenizer.backend.token_to_id(token) for role, token in tokenizer.special_tokens.items()}
    if not is_number_tokenizer(tokenizer):
        special = dict(tokenizer.special_tokens)
    return {"ids": len(tokenizer), "special": special, "sha256": tokenizer.fingerprint}


def _prepared(folder: Path) -> dict[str, Any]:
    """Describe a folder of ``unmask prepare``."""
    from dataclasses import asdict

    from unmask.data.preparation import Prepared
    from unmask.data.recipe import Recipe
    from unmask.data.tokenizing.tokenizers import Tokenizer

    prepared = Prepared.open(folder)
    recipe = Recipe.read(folder)
    sizes = {key: value for key, value in asdict(prepared).items() if key not in ("folder", "vocab_size")}
    return {
        "kind": "prepared store",
        **sizes,
        "tokenizer": _tokenizer(Tokenizer.load(prepared.tokenizer)),
        "made_from": None if recipe is None else {k: v for k, v in asdict(recipe).items() if v is not None},
    }


def _store(folder: Path) -> dict[str, Any]:
    """Describe one token store of a prepared folder."""
    from unmask.data.store.token_store import TokenStore

    store = TokenStore.open(folder)
    return {
        "kind": "token store",
        "documents": store.n_documents,
        "tokens": store.n_tokens,
        "bytes": int(store.document_bytes.sum()),
        "ids": store.vocab_size,
        "dtype": store.manifest["dtype"],
        "source": store.manifest.get("source"),
    }


def _model(path: str) -> dict[str, Any]:
    """Describe a model of transformers, or an export, by its config and its files."""
    from transformers import AutoConfig

    from unmask.data.tokenizing.tokenizers import Tokenizer
    from unmask.export.registration import MODEL_TYPE, register
    from unmask.models.hf_files import local_folder, task_of, weights_digest
    from unmask.models.weight_files import count_parameters
    from unmask.storage import read_json

    register()
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} is neither a run, a store or a model folder here nor a model on the Hugging Face hub "
            f"({str(error).splitlines()[0]})."
        ) from None
    text, folder = config.get_text_config(), local_folder(path)
    is_export = config.model_type == MODEL_TYPE
    facts: dict[str, Any] = {
        "kind": "export of unmask" if is_export else "Hugging Face model",
        "task": "masked" if is_export else task_of(config),
        "network": ", ".join(config.architectures or [config.model_type]),
        "layers": getattr(text, "num_hidden_layers", None),
        "width": getattr(text, "hidden_size", None),
        "heads": getattr(text, "num_attention_heads", None),
        "max_length": getattr(text, "max_position_embeddings", None),
    }
    if folder is not None and (folder / "model.safetensors").is_file():
        facts["parameters"] = count_parameters(folder)
    try:
        facts["tokenizer"] = _tokenizer(Tokenizer.load(path))
    except ValueError:
        facts["tokenizer"] = None
    if folder is not None and (folder / "unmask_classifier.json").is_file():
        trained = read_json(folder / "unmask_classifier.json")
        facts |= {"kind": "classifier", "task": "labels of words" if trained["tokens"] else "labels of texts"}
        facts |= {"labels": ", ".join(config.id2label.values()), "made_from": trained.get("encoder")}
    if folder is not None and (folder / "unmask_export.json").is_file():
        export = read_json(folder / "unmask_export.json")
        facts |= {"step": export.get("step"), "made_from": export.get("source")}
    return facts | {"sha256": None if folder is None else weights_digest(folder)}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(each)}" for key, each in value.items())
    return (
        "none"
        if value is None
        else f"{value:,}"
        if isinstance(value, int) and not isinstance(value, bool)
        else str(value)
    )
