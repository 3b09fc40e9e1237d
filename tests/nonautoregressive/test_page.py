"""The guide's ten lines run as written."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "maskgit.md"


def test_the_ten_lines_run():
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)[1]
    found: dict = {}
    exec(code, found)
    assert found["sampled"].shape == (4, 64) and (found["sampled"] < 256).all()
