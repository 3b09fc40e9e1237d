"""Every public name is importable flat, and is what its own module calls by that name."""

import ast
import builtins
import importlib
from pathlib import Path

import pytest

import unmask


@pytest.mark.parametrize("name", unmask.__all__)
def test_flat_names_are_the_ones_of_their_modules(name):
    home = importlib.import_module(f"unmask.{unmask._HOME_OF[name]}")
    assert getattr(unmask, name) is getattr(home, name)
    assert name in dir(unmask)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no public name"):
        unmask.MLMLos  # noqa: B018


def test_type_checkers_see_the_names_that_are_loaded():
    """The imports under TYPE_CHECKING are those of the lazy map, each as itself, which marks it as exported (PEP 484)."""
    tree = ast.parse(Path(unmask.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {}
    for statement in block.body:
        assert isinstance(statement, ast.ImportFrom) and all(alias.asname == alias.name for alias in statement.names)
        seen |= {alias.name: statement.module.removeprefix("unmask.") for alias in statement.names}
    assert seen == unmask._HOME_OF


def test_a_star_import_hides_neither_builtins_nor_the_package():
    names = {}
    exec("import unmask\nfrom unmask import *", names)
    assert not set(unmask.__all__) & set(dir(builtins))
    assert names["unmask"] is unmask and names["load"] is unmask.load
