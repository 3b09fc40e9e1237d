"""Every command block of the README runs, in order, as a new user would run it."""

import re

import pytest

from tests.blocks import ROOT, Place, blocks

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_starts_with_a_short_introduction_and_has_no_dead_links():
    first = README.index("```bash")
    assert README[:first].count("\n") < 12 and README.count("\n") <= 100
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).is_file(), target


@pytest.mark.slow
def test_every_block_runs(tmp_path):
    """In a copy of the project, with the environment of this test standing in for the one that set-up makes."""
    place = Place(tmp_path)
    assert len(blocks(ROOT / "README.md")) >= 5
    for language, block in blocks(ROOT / "README.md"):
        place.run(language, block)
