"""The value of ``key=value``, read by the type of its key.

    text            as it stands: ``run=007`` is the folder ``007``, ``data.field=no`` the field ``no``
    text or nothing the same, but ``null``, ``~`` and an empty value are nothing
    a number        as a decimal number: ``train.steps=0100`` is 100, never octal
    anything else   as YAML: ``true``, ``off``, ``null``

Quotes around a whole text are taken off, as YAML does: ``data.store='null'`` is the folder ``null``.
"""

from __future__ import annotations

import types
import typing
from typing import Any, Literal

import yaml
from pydantic import BaseModel

_NOTHING = ("", "null", "Null", "NULL", "~")


def field_type(model: type[BaseModel], key: str) -> Any:
    """The annotation of a dotted key; None if there is no such key."""
    *sections, leaf = key.split(".")
    inner: Any = model
    for section in sections:
        info = inner.model_fields.get(section)
        inner = None if info is None else info.annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return None
    return inner.model_fields[leaf].annotation if leaf in inner.model_fields else None


def parse_value(text: str, annotation: Any) -> Any:
    """Read the text of a value for a key of type ``annotation``; what does not fit is left for the config to refuse."""
    members = set(_members(annotation))
    written = text.strip()
    if type(None) in members and written in _NOTHING:
        return None
    if str in members:
        return _unquoted(written)
    if written in members:  # one of a few words
        return written
    if members & {int, float} and bool not in members:
        return _number(written)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _members(annotation: Any) -> list[Any]:
    """The types and words that an annotation allows."""
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
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text
