"""The examples in the docstrings of the public names run, and every public name has one."""

import doctest
import importlib

import pytest

import unmask.export

NAMES = [*((name, home) for name, home in unmask.export._HOMES.items()), ("hub_sizes", "hub_weights"), ("hub_weights", "hub_weights"),
         ("tokenizer_files", "hub_folder"), ("check_name", "publishing")]  # fmt: skip


@pytest.mark.parametrize(("name", "home"), NAMES)
def test_examples_run(name, home):
    module = importlib.import_module(f"unmask.export.{home}")
    for test in doctest.DocTestFinder(recurse=False).find(getattr(module, name), name, globs=dict(vars(module))):
        assert not doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed


def test_the_package_example_runs_and_its_names_are_lazy():
    assert not doctest.testmod(unmask.export).failed
    assert all(getattr(unmask.export, name).__name__ == name for name in unmask.export.__all__)
    with pytest.raises(AttributeError, match="choose Export"):
        unmask.export.exprot_run  # noqa: B018
