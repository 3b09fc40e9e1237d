"""Every family has one registry: names, members and descriptions, from which docs and error texts are built."""

from pathlib import Path
from typing import get_args

import pytest

from unmask.config.objective_config import ObjectiveConfig
from unmask.config.tree import ModelConfig
from unmask.contracts import Confidence
from unmask.nn.encoder import ACTIVATIONS
from unmask.ops.confidence import CONFIDENCES, DOUBTS
from unmask.ops.schedule import SCHEDULES
from unmask.ops.scheme import MASK_RATE_LAWS, POSITION_SAMPLERS
from unmask.ops.weighting import NORMALISERS, WEIGHTINGS, Normaliser
from unmask.registry import Registry

FAMILIES = [SCHEDULES, MASK_RATE_LAWS, POSITION_SAMPLERS, WEIGHTINGS, NORMALISERS, CONFIDENCES, ACTIVATIONS]
SCHEMES = Path(__file__).parents[1] / "docs" / "schemes.md"


@pytest.mark.parametrize("registry", FAMILIES, ids=lambda r: r.kind)
def test_the_documentation_has_the_table_of_every_family(registry):
    assert registry.table() in SCHEMES.read_text(encoding="utf-8"), (
        f"put this into docs/schemes.md:\n{registry.table()}"
    )


# Names of the config without a registered member, each with its reason.
BUILT_FROM_OPTIONS = {
    "schedule": {"polynomial"},  # has a parameter, power
    "weighting": {"schedule"},  # the weight of the objective's own schedule
    "normaliser": {"row"},  # use_num_masked_factor of the loss
}


@pytest.mark.parametrize(
    ("config", "field", "registry"),
    [
        (ObjectiveConfig, "schedule", SCHEDULES),
        (ObjectiveConfig, "mask_rate_law", MASK_RATE_LAWS),
        (ObjectiveConfig, "selection", POSITION_SAMPLERS),
        (ObjectiveConfig, "weighting", WEIGHTINGS),
        (ObjectiveConfig, "normaliser", NORMALISERS),
        (ModelConfig, "activation", ACTIVATIONS),
    ],
)
def test_the_names_of_the_config_are_those_of_the_registry(config, field, registry):
    names = set(get_args(config.model_fields[field].annotation))
    assert names == set(registry) | BUILT_FROM_OPTIONS.get(field, set())


def test_the_names_of_the_types_are_those_of_the_registry():
    assert get_args(Normaliser) == tuple(NORMALISERS)
    assert set(get_args(Confidence)) == set(CONFIDENCES)
    assert set(DOUBTS) == set(CONFIDENCES.values())


def test_an_unknown_name_raises_an_error_with_all_names():
    registry = Registry("colour", {"red": (1, "like blood"), "blue": (2, "like the sky")})
    assert registry.choose("blue") == 2 and len(registry) == 2 and "green" not in registry
    with pytest.raises(ValueError, match=r"no colour 'green'. Choose one of red, blue"):
        registry.choose("green")
