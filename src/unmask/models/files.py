"""Model folders: ``config.json`` and ``model.safetensors``, with a manifest that proves them complete.

    config.json         architecture, and the network's arguments
    model.safetensors   its weights, or ``sharded/`` with parts of them (unmask.models.weight_files)
    checkpoint.json     manifest: format, version, and the size and SHA-256 of every file in the folder

A folder without a manifest, or with files that do not match it, is never loaded. A run keeps several such folders under
``checkpoints/``, with an ``index.json`` that names the last and the best.
"""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from unmask.models.networks import ARCHITECTURES, Network
from unmask.models.own_code import refuse_untrusted
from unmask.models.tied_weights import tied_names
from unmask.models.weight_files import WEIGHTS, read_weights, weight_files
from unmask.storage import digest, read_json, write_json

FORMAT = "unmask checkpoint"
VERSION = 1
MANIFEST = "checkpoint.json"
INDEX = "index.json"


def write_model(folder: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Write the config of a network (``describe_network``) and its weights; :func:`write_manifest` completes the folder.

    A tied weight is written once, under its first name.
    """
    write_config(folder, config)
    tied = tied_names(weights)
    unique = {name: tensor.detach().contiguous().cpu() for name, tensor in weights.items() if name not in tied}
    save_file(unique, folder / WEIGHTS)


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write the config of a network (``describe_network``)."""
    write_json(folder / "config.json", {"architecture": "RotaryTransformerMLMModel", **config})


def write_manifest(folder: Path, **facts: Any) -> None:
    """Write the manifest of all files in the folder, with further ``facts`` (step, metrics)."""
    files = {
        str(file.relative_to(folder)): {"bytes": file.stat().st_size, "sha256": digest(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }
    write_json(folder / MANIFEST, {"format": FORMAT, "version": VERSION, **facts, "files": files})


def verify_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a folder after checking every file against it.

    Raises:
        ValueError: no manifest, one of another program or a newer version, or a file that is missing or damaged.
    """
    if not (folder / MANIFEST).is_file():
        raise ValueError(
            f"{folder} is not a checkpoint of unmask: it has no {MANIFEST}. Give a run folder of `unmask train`, its "
            "checkpoints folder, or one checkpoint inside it."
        )
    manifest = read_json(folder / MANIFEST)
    if (
        not isinstance(manifest, dict)
        or manifest.get("format") != FORMAT
        or not isinstance(manifest.get("files"), dict)
    ):
        raise ValueError(f"{folder / MANIFEST} was not written by unmask, so this checkpoint cannot be read.")
    if manifest.get("version") != VERSION:
        raise ValueError(
            f"{folder} has checkpoint version {manifest.get('version')}, and this version of unmask reads {VERSION}. Use the "
            "version of unmask that wrote it."
        )
    weights = [str(file.relative_to(folder)) for file in weight_files(folder)] or [WEIGHTS]
    for name in ("config.json", *weights):
        if name not in manifest["files"]:
            raise ValueError(
                f"The checkpoint {folder} is damaged: {MANIFEST} does not list {name}. Use another checkpoint of the run."
            )
    for name, facts in manifest["files"].items():
        file = folder / name
        if not file.is_file():
            raise ValueError(
                f"The checkpoint {folder} is damaged: {name} is missing. Use another checkpoint of the run."
            )
        if file.stat().st_size != facts["bytes"] or digest(file) != facts["sha256"]:
            raise ValueError(
                f"The checkpoint {folder} is damaged: {name} has changed since it was written ({file.stat().st_size} bytes now, "
                f"{facts['bytes']} then). Use another checkpoint of the run, or train again."
            )
    return manifest


def read_model(folder: Path, trust_remote_code: bool = False) -> Network:
    """Load the network of a complete folder, in evaluation mode, on the CPU.

    Args:
        folder: the checkpoint.
        trust_remote_code: run code that the checkpoint holds.

    Raises:
        ValueError: the folder is incomplete or damaged, its weights do not fit its config, or it holds code that is not trusted.
    """
    verify_manifest(folder)
    config = read_json(folder / "config.json")
    architecture = config.pop("architecture", None) if isinstance(config, dict) else None
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"{folder} contains a {architecture}, and this version of unmask loads {', '.join(ARCHITECTURES)}."
        )
    if "code" in config:
        refuse_untrusted(folder, {file: file for file in config["code"]}, trust_remote_code)
    try:
        model = ARCHITECTURES[architecture](config, read_weights(folder))
    except (TypeError, KeyError) as error:  # unknown or missing arguments
        raise ValueError(f"{folder / 'config.json'} was written by another version of unmask ({error}).") from error
    except (RuntimeError, SafetensorError) as error:  # wrong names or shapes, or not a safetensors file
        raise ValueError(
            f"The weights in {folder} do not fit its config: {' '.join(str(error).split())[:300]}"
        ) from error
    return model.eval()


def resolve_checkpoint(path: str | Path, which: str = "last") -> Path:
    """Return the checkpoint folder of a run folder, a checkpoints folder, or a checkpoint folder itself.

    Args:
        path: one of the three.
        which: ``"last"`` or ``"best"``, where an index has both.

    Raises:
        ValueError: no such path, or no finished checkpoint.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"There is no model at {path}. Give a run folder; `unmask demo` creates one at runs/demo.")
    for folder in (path, path / "checkpoints"):
        if (folder / INDEX).is_file():
            index = read_json(folder / INDEX)
            name = index.get(which) if isinstance(index, dict) and which in ("last", "best") else None
            if not isinstance(name, str) or not (folder / name).is_dir():
                raise ValueError(
                    f"{folder} has no checkpoint {which!r}: a run keeps its last and, after its first validation, its best one. Give "
                    "--checkpoint last or best, or the path of a step folder."
                )
            return folder / name
    if (path / "config.json").is_file():
        return path
    raise ValueError(
        f"{path} contains no finished checkpoint. If it is a run folder, train a little longer: `unmask train run={path}`."
    )


def usable_checkpoint(folder: Path) -> Path:
    """Return the checkpoint to resume from: the last one, or the best one if the last is missing or damaged.

    A damaged one is renamed and the index moved back, so that training writes that step again.

    Args:
        folder: a run's ``checkpoints``.

    Raises:
        ValueError: both are missing or damaged.
    """
    try:
        last = resolve_checkpoint(folder)
        verify_manifest(last)
        return last
    except ValueError as damage:
        try:
            best = resolve_checkpoint(folder, "best")
            verify_manifest(best)
        except ValueError:
            raise damage from None
        index = read_json(folder / INDEX)
        broken = folder / str(index.get("last"))
        if broken.is_dir():
            broken.rename(
                next(p for n in itertools.count(1) if not (p := folder / f"damaged-{broken.name}.{n}").exists())
            )
        write_json(folder / INDEX, {**index, "last": best.name})
        warnings.warn(f"{damage} Training continues from the best checkpoint, {best.name}.", stacklevel=2)
        return best
