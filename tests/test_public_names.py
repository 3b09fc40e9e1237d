"""Every public name is importable flat, and is what its own module calls by that name."""

import importlib

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
