"""The value of ``key=value``, parsed by the type of its key.

    text            verbatim: ``run=007`` is the folder ``007``, ``data.field=no`` the field ``no``
    text or null    verbatim, but ``null``, ``~`` and the empty value are null
    number          decimal: ``train.steps=0100`` is 100, never octal
    other types     YAML: ``true``, ``off``, ``null``

Quotes around a text value are removed, as in YAML: ``data.store='null'`` is the folder ``null``.
"""

from __future__ import annotations

import types
import typing
from typing import Any, Literal

import yaml
from pydantic import BaseModel

_NULL = ("", "null", "Null", "NULL", "~")


def field_type(model: type[BaseModel], key: str) -> Any:
    """Return the annotation of a dotted key, or None for an unknown key."""
    *sections, leaf = key.split(".")
    inner: Any = model
    for section in sections:
        info = inner.model_fields.get(section)
        inner = None if info is None else info.annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return None
    return inner.model_fields[leaf].annotation if leaf in inner.model_fields else None


def parse_value(text: str, annotation: Any) -> Any:
    """Parse the text of a value for a key of type ``annotation``.

    Text that does not match the type is returned unchanged; validation of the config then refuses it with a message.
    """
    members = set(_members(annotation))
    stripped = text.strip()
    if type(None) in members and stripped in _NULL:
        return None
    if str in members:
        return _unquoted(stripped)
    if stripped in members:  # a value of a Literal
        return stripped
    if members & {int, float} and bool not in members:
        return _number(stripped)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _members(annotation: Any) -> list[Any]:
    """Return the types and literal values that an annotation allows."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return [member for part in typing.get_args(annotation) for member in _members(part)]
    if origin is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    return list(typing.get_args(annotation)) if origin is Literal else [annotation]


def _unquoted(text: str) -> str:
    if len(text) < 2 or text[0] not in "'\"" or text[-1] != text[0]:
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, str) else text


def _number(text: str) -> Any:
    for parse in (int, float):
        try:
            return parse(text)
        except ValueError:
            continue
    return text


def flat_keys(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a nested mapping to dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flat_keys(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
