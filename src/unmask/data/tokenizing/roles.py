"""Which tokens of a tokenizer are special, and what for: read from the files beside ``tokenizer.json``, and written again.

    tokenizer_config.json     roles (``mask_token``, ``pad_token``, ...), greatest length, chat template, further settings
    special_tokens_map.json   roles, where an older library wrote them apart
    chat_template.jinja       the chat template, where a newer library writes it apart

A ``tokenizer.json`` alone names no roles. Where the files beside it name none either, tokens with the usual names have them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers

from unmask.storage import read_json

CONFIG = "tokenizer_config.json"
SPECIALS = "special_tokens_map.json"
TEMPLATE = "chat_template.jinja"

_USUAL_NAMES = {
    "mask": ("[MASK]", "<mask>", "<|mask|>", "<|mdm_mask|>"),
    "pad": ("[PAD]", "<pad>", "<|pad|>", "<|padding|>"),
    "bos": ("[BOS]", "<s>", "<bos>", "<|startoftext|>", "<|begin_of_text|>", "[CLS]", "<cls>"),
    "eos": ("[EOS]", "</s>", "<eos>", "<|endoftext|>", "<|end_of_text|>", "[SEP]"),
    "unk": ("[UNK]", "<unk>"),
    "next": ("[NEXT]",),
}
_STAND_INS = {"bos": "cls", "eos": "sep"}  # BERT-like tokenizers have these instead
_OF_ANOTHER_PLACE = ("tokenizer_class", "auto_map", "name_or_path", "tokenizer_file", "vocab_file", "merges_file")


def read_settings(folder: Path) -> dict[str, Any]:
    """All that the files beside a ``tokenizer.json`` say, as one ``tokenizer_config.json`` would say it."""
    said: dict[str, Any] = {}
    for name in (SPECIALS, CONFIG):
        if (folder / name).exists():
            said |= {key: value for key, value in read_json(folder / name).items() if value is not None}
    if (folder / TEMPLATE).exists():
        said["chat_template"] = (folder / TEMPLATE).read_text(encoding="utf-8")
    return said


def roles(settings: Mapping[str, Any], backend: tokenizers.Tokenizer) -> dict[str, str]:
    """The text of each special token by role: what the settings say; if they say nothing, the usual names that exist."""
    found = {role: token for role in _USUAL_NAMES if (token := _said(settings, role)) is not None}
    if any(f"{role}_token" in settings for role in _USUAL_NAMES):
        return found
    usual = {
        role: next((name for name in names if backend.token_to_id(name) is not None), None)
        for role, names in _USUAL_NAMES.items()
    }
    return {role: token for role, token in usual.items() if token is not None} | found


def named(settings: Mapping[str, Any]) -> set[str]:
    """Every token that the settings call special: by a role of any name, or in a list of extra ones."""
    found = [value for key, value in settings.items() if key.endswith("_token")]
    for key in ("extra_special_tokens", "additional_special_tokens"):
        extra = settings.get(key) or ()
        found += extra.values() if isinstance(extra, dict) else extra
    return {text for token in found if isinstance(text := _text(token), str)}


def config_with_roles(settings: Mapping[str, Any], special_tokens: Mapping[str, str]) -> dict[str, Any]:
    """A ``tokenizer_config.json`` that says the settings and the roles, for a folder with nothing but ``tokenizer.json``."""
    kept = {
        key: _plain(value)
        for key, value in settings.items()
        if key not in _OF_ANOTHER_PLACE and key != "added_tokens_decoder"
    }
    for role, token in special_tokens.items():
        if _said(settings, role) != token:
            stands_in = token in ("[CLS]", "[SEP]", "<cls>") and f"{_STAND_INS.get(role)}_token" not in settings
            kept[f"{_STAND_INS[role] if stands_in else role}_token"] = token
    return {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False} | kept


def _said(settings: Mapping[str, Any], role: str) -> str | None:
    return _text(settings.get(f"{role}_token") or settings.get(f"{_STAND_INS.get(role)}_token"))


def _text(token: Any) -> Any:
    """The text of a token that is written out with its properties, or as text alone."""
    return token["content"] if _is_token(token) else token


def _plain(value: Any) -> Any:
    """A setting with its tokens as text: their properties are in ``tokenizer.json``."""
    return [_plain(item) for item in value] if isinstance(value, list) else _text(value) if _is_token(value) else value


def _is_token(value: Any) -> bool:
    return isinstance(value, dict) and "content" in value
