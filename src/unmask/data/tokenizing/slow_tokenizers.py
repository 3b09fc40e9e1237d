"""Advice for tokenizers without a ``tokenizer.json``: the command that converts the older files."""

from __future__ import annotations

import shlex
from pathlib import Path

_NONE = "Pass a tokenizer.json or a folder that holds one; without a tokenizer, `unmask prepare` trains one."


def how_to_convert(path: Path) -> str:
    """Return the shell command that converts a folder, or a file in it, to a tokenizer.json, in one or two sentences."""
    folder = path if path.is_dir() else path.parent
    target = str(folder / "tokenizer.json")
    names = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    chosen = {path.name} if path.is_file() else names
    if names & {"config.json", "tokenizer_config.json"} and any(_is_slow(name) for name in names):
        more = " (first: pip install sentencepiece protobuf)" if any(name.endswith(".model") for name in names) else ""
        code = f"from transformers import AutoTokenizer as A; A.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
        return f"It is the folder of an older tokenizer; convert it once{more}: {_python(code)} Then pass the folder."
    vocabulary = next((name for name in sorted(chosen) if name.endswith(".txt") and name != "merges.txt"), None)
    if vocabulary is not None and (path.is_file() or vocabulary == "vocab.txt"):
        code = f"from tokenizers import BertWordPieceTokenizer as T; T({str(folder / vocabulary)!r}, lowercase=True).save({target!r})"
        return (
            f"If {vocabulary} is a vocabulary of word pieces, convert it once (lowercase=False if it is cased): {_python(code)} "
            f"Then pass {target}."
        )
    if {"vocab.json", "merges.txt"} <= names and (chosen & {"vocab.json", "merges.txt"}):
        files = f"{str(folder / 'vocab.json')!r}, {str(folder / 'merges.txt')!r}"
        code = f"from tokenizers import ByteLevelBPETokenizer as T; T({files}).save({target!r})"
        return f"vocab.json and merges.txt are a byte-level tokenizer; convert it once: {_python(code)} Then pass {target}."
    if any(name.endswith(".model") for name in chosen):
        return (
            "A SentencePiece *.model is converted by transformers' tokenizer class of its model, which writes tokenizer.json with "
            "save_pretrained(folder)."
        )
    return _NONE


def _is_slow(name: str) -> bool:
    return name.endswith(".model") or name in ("vocab.txt", "vocab.json")


def _python(code: str) -> str:
    return f"`python -c {shlex.quote(code)}`."
