"""The page of results: every figure with its command, wall time, machine and seeds, from the JSON files.

    python examples/reproduce/page.py

Of each result the full version is shown, or the reduced one where no other was measured.
"""

import json
from pathlib import Path
from typing import Any

from reporting import table

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "results.md"
OPENING = """# Results

Known results of the literature, measured again with this library. `make reproduce-quick` runs reduced versions of results 1 to 3 with pass marks, and ends with an error
where one is missed. `make reproduce` runs all of them. Each result is a script of `examples/reproduce`, and its figures come from the commands below it. "Published" figures
are those of the cited papers, on their data and sizes. Where processor time is far below wall time, the machine had other work. `examples/reproduce/page.py` writes this
page from the JSON files.
"""


def measured(folder: Path = HERE / "results") -> list[dict[str, Any]]:
    """Return the results of a folder in their order: the full version of each, or else the quick one."""
    found: dict[int, dict[str, Any]] = {}
    for size in ("quick", "full"):
        for file in sorted(folder.glob(f"*.{size}.json")):
            report = json.loads(file.read_text(encoding="utf-8"))
            found[report["result"]] = report
    return [found[number] for number in sorted(found)]


def section(report: dict[str, Any]) -> str:
    """Return the section of a result: table, remarks, time, machine, seeds and commands."""
    machine = report["machine"]
    accelerator = f", {machine['accelerator']}" if "accelerator" in machine else ""
    reduced = " (reduced)" if report["size"] == "quick" else ""
    facts = (
        f"`{report['command']}`: {report['seconds']:,.0f} s of wall time, {report['processor_seconds']:,.0f} s of processor time, on {machine['processor']} with "
        f"{machine['threads']} of {machine['cores']} cores{accelerator}. Seed {', '.join(map(str, report['seeds']))}. PyTorch {machine['torch']}."
    )
    commands = [f"{each['command']}    # {each['seconds']:,.0f} s" for each in report["commands"]]
    remarks = [f"- {note}" for note in report["notes"]]
    parts = [
        f"## {report['result']}. {report['title']}{reduced}",
        "\n".join(table(report["figures"])),
        *(["\n".join(remarks)] if remarks else []),
        facts,
    ]
    return "\n\n".join([*parts, "```\n" + "\n".join(commands) + "\n```"])


def page(folder: Path = HERE / "results") -> str:
    """Return the page of the results of a folder."""
    return "\n".join([OPENING, *(section(report) + "\n" for report in measured(folder))])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"Wrote {PAGE}.")
