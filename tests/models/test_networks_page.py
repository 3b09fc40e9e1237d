"""``docs/networks.md`` says of every masked-LM family which path it takes."""

import importlib.util

import pytest

from tests.blocks import ROOT
from tests.models.hf_families import families
from unmask.models.diffusion_lms import DIFFUSION_LMS

spec = importlib.util.spec_from_file_location("networks_script", ROOT / "scripts" / "networks.py")
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
PAGE = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")


def test_every_family_and_every_published_class_is_listed():
    assert script.listed(PAGE) == families()
    assert (
        PAGE.partition("<!-- diffusion:begin -->")[2].partition("<!-- diffusion:end -->")[0].strip()
        == DIFFUSION_LMS.table()
    )


@pytest.mark.parametrize("kind", ["bert", "roberta", "fnet", "bart"])
def test_some_rows_are_as_they_are_found(kind):
    assert script.row(kind) in PAGE


@pytest.mark.slow
def test_the_table_is_as_it_is_found():
    assert script.with_table(PAGE) == PAGE, "run `python scripts/networks.py`"
