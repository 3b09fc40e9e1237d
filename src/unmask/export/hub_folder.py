"""Write a trained model as a folder that transformers loads without ``unmask``.

    config.json, model.safetensors                  sizes and weights
    tokenizer.json, tokenizer_config.json           tokenizer with the roles of its special tokens
    configuration_, modeling_, generation_unmask.py the code, for ``trust_remote_code=True``
    modules.json, 1_Pooling/, sentence_bert_config.json   mean pooling, for sentence-transformers
    README.md                                       model card
    unmask_export.json                              source and SHA-256 of every file

The folder appears in one rename. A folder is overwritten only if every file in it is as an earlier export wrote it.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from safetensors.torch import save_file

import unmask
from unmask.contracts import SpecialIds
from unmask.data.tokenizing.token_bytes import parts_of_characters
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.export import hub_code
from unmask.export.hub_card import hub_card
from unmask.export.hub_weights import hub_sizes, hub_weights
from unmask.export.publishing import check_name, push
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.runs import load_run
from unmask.storage import atomic_folder, digest, read_json, write_json

MANIFEST = "unmask_export.json"
CODE = ("configuration_unmask.py", "modeling_unmask.py", "generation_unmask.py")
AUTO_MAP = {
    "AutoConfig": "configuration_unmask.UnmaskConfig",
    "AutoModel": "modeling_unmask.UnmaskModel",
    "AutoModelForMaskedLM": "modeling_unmask.UnmaskForMaskedLM",
    "AutoModelForSequenceClassification": "modeling_unmask.UnmaskForSequenceClassification",
    "AutoModelForTokenClassification": "modeling_unmask.UnmaskForTokenClassification",
}


@dataclass(frozen=True)
class Export:
    """An exported folder.

    Attributes:
        folder: where it is.
        source: the checkpoint it was made of.
        step: optimiser steps of the checkpoint.
        parameters: number of weights.
        files: names inside the folder, ascending.
        url: of the commit on the hub, or None.
    """

    folder: Path
    source: Path
    step: int
    parameters: int
    files: tuple[str, ...]
    url: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as a mapping for JSON."""
        return {
            "folder": str(self.folder),
            "source": str(self.source),
            "step": self.step,
            "parameters": self.parameters,
            "files": list(self.files),
            "url": self.url,
        }


def export_run(
    run: str | Path,
    folder: str | Path,
    *,
    checkpoint: str = "last",
    license: str | None = None,
    push_to: str | None = None,
    private: bool = False,
) -> Export:
    """Write a run's model as a Hugging Face folder.

    Args:
        run: a run folder or a checkpoint.
        folder: where to write. It must be new, empty, or an unchanged export.
        checkpoint: of a run: ``"last"``, or ``"best"`` by validation loss.

        Other options

        license: identifier for the model card, such as ``apache-2.0``; None states none.
        push_to: a repository name on the hub, to which the folder is uploaded; None = no upload.
        private: whether a new repository is private.

    Returns:
        What was written.

    Raises:
        ValueError: there is no such run, the folder holds other files, or the hub refused the upload.

    Examples:
        >>> from tempfile import mkdtemp
        >>> from unmask import load_config
        >>> from unmask.config.config_file import save_config
        >>> from unmask.models.files import write_manifest, write_model
        >>> run, tokenizer = Path(mkdtemp()), Tokenizer.train(["a cat"], 261)
        >>> tokenizer.save(run)
        >>> network = RotaryTransformerMLMModel(len(tokenizer), 16, 1, 2, mask_idx=tokenizer.mask_token_id)
        >>> write_model(run, network.config, network.state_dict())
        >>> save_config(load_config(None, []), run / "run.yaml")
        >>> write_manifest(run, step=0)
        >>> written = export_run(run, run / "exported")  # for a trained model: export_run("runs/demo", "exported/demo")
        >>> "model.safetensors" in written.files
        True
    """
    target = Path(folder)
    if push_to is not None:
        check_name(push_to)
    _refuse_other_files(target)
    loaded = load_run(run, checkpoint)
    if not isinstance(loaded.model, RotaryTransformerMLMModel):
        raise ValueError(
            f"{run} holds a {type(loaded.model.model).__name__} of transformers, and export is for networks of this package. In Python, "
            f"unmask.load({str(run)!r}).model.model.save_pretrained(FOLDER) writes it."
        )
    network = loaded.model
    card = hub_card(loaded, name=push_to or target.resolve().name, license=license)
    retired = None
    try:
        with atomic_folder(target) as temporary:
            _write(temporary, network, loaded.tokenizer, card)
            facts = {"source": str(loaded.folder), "step": loaded.step, "unmask": unmask.__version__}
            files = {name: digest(temporary / name) for name in _names(temporary)}
            write_json(temporary / MANIFEST, {**facts, "files": files})
            _refuse_other_files(target)
            retired = _retire(target)
    finally:
        if retired is not None and target.exists():
            shutil.rmtree(retired, ignore_errors=True)
        elif retired is not None:  # the new folder did not take the place of the old one
            retired.rename(target)
    url = None if push_to is None else push(target, push_to, private)
    parameters = sum(p.numel() for p in network.parameters())
    return Export(target, loaded.folder, loaded.step, parameters, tuple(_names(target)), url)


def _write(folder: Path, network: RotaryTransformerMLMModel, tokenizer: Tokenizer, card: str) -> None:
    """Write everything but the manifest."""
    from unmask.export.hub_code.configuration_unmask import UnmaskConfig

    weights = hub_weights(network)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(folder.stat().st_mode & 0o666)  # readable by whoever can read the folder
    special = SpecialIds.of(tokenizer)
    config = UnmaskConfig(
        **hub_sizes(network)
        | {"mask_token_id": special.mask, "bos_token_id": special.bos, "eos_token_id": special.eos}
        | {"pad_token_id": special.pad if special.pad is not None else network.padding_idx},
        diffusion=_diffusion(network, tokenizer, special),
        architectures=["UnmaskForMaskedLM"],
        auto_map=AUTO_MAP,
        dtype=str(weights["model.embedding.weight"].dtype).removeprefix("torch."),
    )
    config.save_pretrained(folder)
    for name, text in tokenizer_files(tokenizer, network.max_length).items():
        (folder / name).write_text(text, encoding="utf-8")
    copy_code(folder)
    for name, content in _pooling(network).items():
        (folder / name).parent.mkdir(exist_ok=True)
        write_json(folder / name, content)
    (folder / "README.md").write_text(card, encoding="utf-8")


def copy_code(folder: Path) -> None:
    """Copy the Python files of the exported classes into a folder."""
    for name in CODE:
        shutil.copyfile(Path(hub_code.__file__).with_name(name), folder / name)


def _diffusion(network: RotaryTransformerMLMModel, tokenizer: Tokenizer, special: SpecialIds) -> dict[str, Any]:
    """Return the defaults of ``diffusion_generate``: those of ``unmask generate --order top_prob --temperature 0``."""
    size = network.num_tokens
    never = {id for id in special.all if id < size} | set(range(special.vocab_size, size))
    parts = {str(id): data.hex() for id, data in sorted(parts_of_characters(tokenizer).items()) if id < size}
    return {
        "max_new_tokens": min(64, network.max_length // 2),
        "steps": None,
        "temperature": 0.0,
        "suppress_token_ids": sorted(never),
        "character_parts": parts,
    }


def tokenizer_files(tokenizer: Tokenizer, max_length: int) -> dict[str, str]:
    """Return the tokenizer's files, name -> text, such that transformers encodes a text as this package does.

    A tokenizer of another model may add tokens around a text (``[CLS]``); the network was trained without them, so that step is left out.

    Examples:
        >>> tokenizer = Tokenizer.train(["a cat"], 261)
        >>> json.loads(tokenizer_files(tokenizer, 128)["tokenizer_config.json"])["model_max_length"]
        128
    """
    files = tokenizer.files()
    settings = {
        "padding_side": "right",
        "truncation_side": "right",
        **{f"{role}_token": token for role, token in tokenizer.special_tokens.items()},  # [CLS] as bos, too
        **json.loads(files["tokenizer_config.json"]),
        "model_max_length": max_length,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    content = json.loads(files["tokenizer.json"])
    backend = tokenizer.backend
    if backend.encode("a").ids != backend.encode("a", add_special_tokens=False).ids:
        content["post_processor"] = None
    return files | {
        "tokenizer_config.json": json.dumps(settings, indent=2) + "\n",
        "tokenizer.json": json.dumps(content, indent=2, ensure_ascii=False) + "\n",
    }


def _pooling(network: RotaryTransformerMLMModel) -> dict[str, Any]:
    """Return the files of sentence-transformers: the encoder, then the mean of its hidden states."""
    kinds = ("sentence_transformers.models.Transformer", "sentence_transformers.models.Pooling")
    return {
        "modules.json": [
            {"idx": number, "name": str(number), "path": path, "type": kind}
            for number, (path, kind) in enumerate(zip(("", "1_Pooling"), kinds, strict=True))
        ],
        "sentence_bert_config.json": {"max_seq_length": network.max_length, "do_lower_case": False},
        "1_Pooling/config.json": {
            "word_embedding_dimension": network.width,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
    }


def _names(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def _refuse_other_files(folder: Path) -> None:
    """Refuse a folder whose content is not an unchanged export.

    Raises:
        ValueError: the path is a file, or holds files that would be lost.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file. Give the name of a new folder with --output.")
    names = set(_names(folder)) - {MANIFEST}
    if not names and not (folder / MANIFEST).is_file():
        return
    manifest = read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else {}
    written = manifest.get("files", {}) if isinstance(manifest, dict) else {}
    other = sorted(name for name in names if name not in written or digest(folder / name) != written[name])
    if other:
        raise ValueError(
            f"{folder} holds files that no export wrote, or that were changed since: {', '.join(other[:4])}. Give another folder with "
            "--output, or move these files away."
        )


def _retire(folder: Path) -> Path | None:
    """Rename an earlier export to a temporary name beside it, so that the new one can take its place."""
    if not folder.exists():
        return None
    retired = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}.tmp")
    folder.rename(retired)
    return retired
