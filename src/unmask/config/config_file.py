"""A config as commented YAML."""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any, Literal

import yaml

from unmask.config.section import Section
from unmask.storage import write_text


def config_yaml(config: Section, comments: bool = True, indent: str = "") -> str:
    """Return a config as YAML that reads back to an equal config.

    Args:
        config: the config, or a section of one.
        comments: append the description of each key as a comment.
        indent: prefix of every line.
    """
    lines: list[str] = []
    for name, info in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, Section):
            lines.append(f"{indent}{name}:" + (f"  # {info.description}" if comments else ""))
            lines.append(config_yaml(value, comments, indent + "  ").rstrip("\n"))
            continue
        line = f"{indent}{name}: {_scalar(value)}"
        if comments:
            choices = _choices(info.annotation)
            line = f"{line:<34}  # {info.description}" + (
                f" [{choices}]" if choices and choices not in str(info.description) else ""
            )
        lines.append(line)
    return "\n".join(lines) + "\n"


def save_config(config: Section, path: str | Path) -> None:
    """Write a config with its comments, atomically."""
    write_text(path, config_yaml(config))


def _scalar(value: Any) -> str:
    return str(yaml.safe_dump(value, default_flow_style=True, width=1000)).removesuffix("\n...\n").strip()


def _choices(annotation: Any) -> str:
    if typing.get_origin(annotation) is Literal:
        return " | ".join(str(a) for a in typing.get_args(annotation))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return " | ".join(filter(None, (_choices(a) for a in typing.get_args(annotation))))
    return ""
