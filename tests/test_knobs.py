"""No dead options: a test sets every option and every config key.

These walk the command line and the config tree and look for each name in the tests. A mention proves
little by itself, but an option without any mention is certainly untested.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from unmask.cli.main import app
from unmask.config.section import Section
from unmask.config.tree import Config

TESTS = Path(__file__).parent
HERE = Path(__file__).name


def written(folder: Path) -> str:
    return "\n".join(p.read_text(encoding="utf-8") for p in folder.rglob("*.py") if p.name != HERE)


def commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its name, those of groups within groups too: ``classify train``."""
    for name, command in group.commands.items():
        inner = hasattr(command, "commands")
        yield from commands(command, f"{before}{name} ") if inner else [(before + name, command)]


def test_every_option_of_every_command_is_used_by_a_test_of_the_command_line():
    text = written(TESTS / "cli")
    silent, seen = [], 0
    found = list(commands(typer.main.get_command(app)))
    assert {"train", "classify train", "classify predict"} <= {name for name, _ in found}
    for name, command in found:
        for parameter in command.params:
            flags = [flag for flag in (*parameter.opts, *parameter.secondary_opts) if flag.startswith("-")]
            seen += len(flags)
            if flags and not any(re.search(re.escape(flag) + r"(?![\w-])", text) for flag in flags):
                silent.append(f"{name} {flags[0]}")
    assert seen > 50 and not silent, f"no test uses {silent}"


def keys(section: type[Section], prefix: str = "") -> list[str]:
    found = []
    for name, info in section.model_fields.items():
        kind = info.annotation
        nested = isinstance(kind, type) and issubclass(kind, Section)
        found += keys(kind, f"{prefix}{name}.") if nested else [prefix + name]  # type: ignore[arg-type]
    return found


def test_every_config_key_is_set_by_a_test():
    text = written(TESTS)
    silent = [key for key in keys(Config) if key not in text and f'"{key.split(".")[-1]}"' not in text]
    assert not silent, f"no test sets {silent}"
