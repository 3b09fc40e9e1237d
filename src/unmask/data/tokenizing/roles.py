"""Roles of special tokens, read from and written to the files beside ``tokenizer.json``.

    tokenizer_config.json     roles (``mask_token``, ``pad_token``, ...), maximum length, chat template, further settings
    special_tokens_map.json   roles, in a separate file of older libraries
    chat_template.jinja       the chat template, in a separate file of newer libraries

A ``tokenizer.json`` defines no roles. If the files beside it define none either, tokens with conventional names have them.
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
_ALIASES = {"bos": "cls", "eos": "sep"}  # BERT-like tokenizers have these instead
_LOCAL = ("tokenizer_class", "auto_map", "name_or_path", "tokenizer_file", "vocab_file", "merges_file")  # not portable


def read_settings(folder: Path) -> dict[str, Any]:
    """Merge the files beside a ``tokenizer.json`` into the contents of one ``tokenizer_config.json``."""
    settings: dict[str, Any] = {}
    for name in (SPECIALS, CONFIG):
        if (folder / name).exists():
            settings |= {key: value for key, value in read_json(folder / name).items() if value is not None}
    if (folder / TEMPLATE).exists():
        settings["chat_template"] = (folder / TEMPLATE).read_text(encoding="utf-8")
    return settings


def roles(settings: Mapping[str, Any], backend: tokenizers.Tokenizer) -> dict[str, str]:
    """Return the text of each special token by role, from the settings or else from conventional names."""
    configured = {role: token for role in _USUAL_NAMES if (token := _configured(settings, role)) is not None}
    if any(f"{role}_token" in settings for role in _USUAL_NAMES):
        return configured
    usual = {
        role: next((name for name in names if backend.token_to_id(name) is not None), None)
        for role, names in _USUAL_NAMES.items()
    }
    return {role: token for role, token in usual.items() if token is not None} | configured


def named(settings: Mapping[str, Any]) -> set[str]:
    """Return every token that the settings declare special: by any role, or in a list of extra tokens."""
    tokens = [value for key, value in settings.items() if key.endswith("_token")]
    for key in ("extra_special_tokens", "additional_special_tokens"):
        extra = settings.get(key) or ()
        tokens += extra.values() if isinstance(extra, dict) else extra
    return {text for token in tokens if isinstance(text := _text(token), str)}


def config_with_roles(settings: Mapping[str, Any], special_tokens: Mapping[str, str]) -> dict[str, Any]:
    """Return a ``tokenizer_config.json`` with all settings and roles, portable to any folder with a ``tokenizer.json``."""
    kept = {
        key: _plain(value) for key, value in settings.items() if key not in _LOCAL and key != "added_tokens_decoder"
    }
    for role, token in special_tokens.items():
        if _configured(settings, role) != token:
            as_alias = token in ("[CLS]", "[SEP]", "<cls>") and f"{_ALIASES.get(role)}_token" not in settings
            kept[f"{_ALIASES[role] if as_alias else role}_token"] = token
    return {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False} | kept


def _configured(settings: Mapping[str, Any], role: str) -> str | None:
    text: str | None = _text(settings.get(f"{role}_token") or settings.get(f"{_ALIASES.get(role)}_token"))
    return text


def _text(token: Any) -> Any:
    """Return the text of a token written with its properties, or as text alone."""
    return token["content"] if _is_token(token) else token


def _plain(value: Any) -> Any:
    """Return a setting with its tokens as text; their properties are in ``tokenizer.json``."""
    return [_plain(item) for item in value] if isinstance(value, list) else _text(value) if _is_token(value) else value


def _is_token(value: Any) -> bool:
    return isinstance(value, dict) and "content" in value
