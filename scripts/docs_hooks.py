"""What the documentation site takes from the code: public names, config keys, commands; and formulas as MathML.

MkDocs calls the ``on_…`` functions (``hooks`` in ``mkdocs.yml``). Formulas become MathML at build time, so pages need no script and work offline.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from typing import Any

import latex2mathml.converter
import typer
from pydantic import BaseModel

import unmask
from unmask.cli.main import app
from unmask.config.tree import Config

# Chapters of the Python reference: a title, and the modules whose public names it lists.
CHAPTERS = {
    "The front door": ("text.",),
    "Training and runs": ("build.", "runs", "config.", "training."),
    "Text and tokens": ("data.",),
    "Collators": ("collate.",),
    "Corruption": ("ops.",),
    "Networks": ("models.", "nn."),
    "Decoding": ("decode.",),
    "Evaluation": ("evaluate.", "report"),
    "Studies": ("studies.",),
    "MaskGIT": ("nonautoregressive.",),
    "Tasks": ("tasks.",),
    "Batches and contracts": ("contracts", "network_protocols", "randomness", "special_ids"),
}


def public_names() -> str:
    """List every public name under its chapter, for mkdocstrings to expand."""
    lines: list[str] = []
    for title, homes in CHAPTERS.items():
        names = sorted((n for n, home in unmask._HOME_OF.items() if home.startswith(homes)), key=str.casefold)
        lines += [f"## {title}", ""] if names else []
        for name in names:
            lines += [f"::: unmask.{unmask._HOME_OF[name]}.{name}", ""]
    return "\n".join(lines)


def config_keys() -> str:
    """Tabulate the config: key, default, meaning."""
    lines: list[str] = []

    def add(model: type[BaseModel], prefix: str, title: str) -> None:
        lines.extend([f"## {title}", "", "| key | default | meaning |", "|---|---|---|"])
        sections = []
        for name, info in model.model_fields.items():
            kind = info.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                sections.append((kind, name))
            else:
                default = info.get_default(call_default_factory=True)
                shown = "null" if default is None else str(default).lower() if isinstance(default, bool) else default
                lines.append(f"| `{prefix}{name}` | `{shown}` | {_cell(str(info.description))} |")
        lines.append("")
        for kind, name in sections:
            add(kind, f"{prefix}{name}.", f"{prefix}{name}")

    add(Config, "", "Top level")
    return "\n".join(lines)


def commands() -> str:
    """Tabulate every command's arguments and options; commands of a group follow each other."""
    lines: list[str] = []
    found: list[tuple[str, Any]] = []
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        group = getattr(command, "commands", None)
        found += [(name, command)] if group is None else [(f"{name} {each}", inner) for each, inner in group.items()]
    for name, command in found:
        lines += [
            f"## unmask {name}",
            "",
            _cell(command.help or ""),
            "",
            "| option | default | meaning |",
            "|---|---|---|",
        ]
        for parameter in command.params:
            if parameter.name == "help":
                continue
            flags = [f for f in (*parameter.opts, *parameter.secondary_opts) if f.startswith("-")]
            shown = ", ".join(f"`{flag}`" for flag in flags) or f"`{parameter.name}`"
            default = "" if parameter.default is None or not flags else f"`{parameter.default}`"
            lines.append(f"| {shown} | {default} | {_cell(getattr(parameter, 'help', None) or '')} |")
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """A text as one cell of a table: no line ends, bars and markup escaped."""
    return re.sub(r"([|\[\]<*_])", r"\\\1", " ".join(text.split()))


GENERATED: dict[str, Callable[[], str]] = {
    "<!-- generated: public names -->": public_names,
    "<!-- generated: config keys -->": config_keys,
    "<!-- generated: commands -->": commands,
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the markers of generated parts."""
    for marker, generate in GENERATED.items():
        if marker in markdown:
            markdown = markdown.replace(marker, generate())
    return markdown


def on_page_content(content: str, **_: Any) -> str:
    """Turn formulas into MathML."""
    return re.sub(r'<(span|div) class="arithmatex">(.*?)</\1>', _formula, content, flags=re.DOTALL)


def _formula(match: re.Match[str]) -> str:
    text = html.unescape(match[2]).strip()
    block = text.startswith("\\[")
    return latex2mathml.converter.convert(text[2:-2].strip(), display="block" if block else "inline")


def generated_pages() -> Iterator[tuple[str, str]]:
    """Each marker with what replaces it, for tests."""
    for marker, generate in GENERATED.items():
        yield marker, generate()
