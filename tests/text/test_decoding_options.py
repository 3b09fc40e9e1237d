"""``DecodingOptions`` are the options of ``make_rules``, so that editors complete what ``fill`` and ``generate`` accept."""

import inspect

import pytest

from unmask import DecodingOptions, TrainedModel, make_rules

OWN = {"steps": "int | None", "regex": "str | None"}
EXPLICIT = {"max_steps", "order", "temperature"}  # parameters of the methods themselves; steps is max_steps


def test_the_options_are_those_of_make_rules_with_the_same_types():
    """After a change of ``make_rules``: make the same one in ``unmask.text.decoding_options``."""
    rules = {n: p.annotation for n, p in inspect.signature(make_rules).parameters.items() if n not in EXPLICIT}
    options = {name: hint.__forward_arg__ for name, hint in DecodingOptions.__annotations__.items()}
    assert options == OWN | rules


@pytest.mark.parametrize("method", ["fill", "generate", "stream"])
def test_the_methods_take_them(method):
    parameters = inspect.signature(getattr(TrainedModel, method)).parameters
    assert "DecodingOptions" in str(parameters["options"].annotation)
    assert not set(parameters) & set(DecodingOptions.__annotations__)
