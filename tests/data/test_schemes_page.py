"""The page of schemes names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_proof_on_the_page_is_a_test():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "schemes.md").read_text()))
    defined = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)
    }
    assert len(named) > 40 and named <= defined, named - defined
