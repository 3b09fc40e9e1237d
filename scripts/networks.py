"""Write the table of ``docs/networks.md``: how every masked-LM family of the installed ``transformers`` is run.

python scripts/networks.py           write it
python scripts/networks.py --check   fail if it is out of date
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from tests.models.hf_families import families, small_model  # noqa: E402

from unmask.models.hf import HuggingFaceMLM  # noqa: E402

PAGE = ROOT / "docs" / "networks.md"
BEGIN, END = "<!-- families:begin -->", "<!-- families:end -->"


def row(kind: str) -> str:
    """The line of one family: its class, and the path of a small random model, or the reason of a refusal."""
    model = small_model(kind)
    try:
        path = str(HuggingFaceMLM(model).path)
    except ValueError as error:
        path = f"refused: {str(error).split('.')[0].split(' is ', 1)[-1]}"
    head, _, padding = path.partition("; ")
    return f"| `{kind}` | `{type(model).__name__}` | {head} | {padding or '–'} |"


def listed(page: str) -> list[str]:
    """The families that a page lists."""
    table = page.partition(BEGIN)[2].partition(END)[0]
    return [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]


def with_table(page: str) -> str:
    """The page with a new table."""
    before, after = page.partition(BEGIN)[0], page.partition(END)[2]
    lines = ["| family | class | logits | padding |", "|---|---|---|---|", *map(row, families())]
    return f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{after}"


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    new = with_table(page)
    if "--check" not in sys.argv:
        PAGE.write_text(new, encoding="utf-8")
    elif new != page:
        sys.exit("docs/networks.md is out of date: run `python scripts/networks.py`.")
