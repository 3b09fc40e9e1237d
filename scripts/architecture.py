"""Draw the floors and list the files: the generated parts of ``docs/architecture.md``.

python scripts/architecture.py           write them
python scripts/architecture.py --check   fail if they are out of date
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from tests.test_floors import FILES, FLOORS, SOURCE, imported_rooms, room_of  # noqa: E402

PAGE, PICTURE = ROOT / "docs" / "architecture.md", ROOT / "docs" / "architecture.svg"
BEGIN, END = "<!-- files:begin -->", "<!-- files:end -->"
WIDTH, ROW, BOX, HIGH, EDGE = 960, 92, 118, 44, 24


def rooms() -> dict[str, list[Path]]:
    """The files of each room."""
    found: dict[str, list[Path]] = {}
    for file in FILES:
        if file.parent != SOURCE or file.stem != "__init__":
            found.setdefault(room_of(file), []).append(file)
    return found


def arrows(files: dict[str, list[Path]]) -> Counter[tuple[str, str]]:
    """How many files of a room import another room."""
    floor = {room: number for number, names in enumerate(FLOORS) for room in names}
    pairs: Counter[tuple[str, str]] = Counter()
    for room, members in files.items():
        for file in members:
            pairs.update((room, other) for other in imported_rooms(file) if other in floor and other != room)
    return pairs


def picture() -> str:
    """The floors as an SVG: a box a room, an arrow where a room imports another one. The ground floor, which all import, has none."""
    files = rooms()
    shown = [sorted(room for room in floor if room in files and room != "__main__") for floor in FLOORS]
    shown = [floor for floor in shown if floor]
    box: dict[str, tuple[float, int, float]] = {}
    for number, floor in enumerate(shown):
        wide = min(BOX, (WIDTH - 10) / len(floor) - 10)
        gap = (WIDTH - len(floor) * wide) / (len(floor) + 1)
        aside = ((number % 3) - 1) * 130 if len(floor) == 1 else 0  # so that arrows pass beside lone boxes
        y = EDGE + (len(shown) - 1 - number) * ROW
        for place, room in enumerate(floor):
            box[room] = (gap + place * (wide + gap) + aside, y, wide)
    height = EDGE * 2 + (len(shown) - 1) * ROW + HIGH
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" role="img">',
        "<title>Rooms of unmask on their floors; an arrow points from a room to one that it imports</title>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerUnits="userSpaceOnUse" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#8a8fa3"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for (room, other), count in sorted(arrows(files).items()):
        if room not in box or other not in box or other in shown[0]:
            continue
        (x, y, wide), (to_x, to_y, to_wide) = box[room], box[other]
        if y == to_y:
            continue
        lines.append(
            f'<path d="M{x + wide / 2:.0f} {y + HIGH} C{x + wide / 2:.0f} {y + HIGH + 30} '
            f'{to_x + to_wide / 2:.0f} {to_y - 30} {to_x + to_wide / 2:.0f} {to_y - 2}" '
            f'fill="none" stroke="#8a8fa3" stroke-width="{min(3.0, 0.6 + count / 8):.1f}" opacity="0.55" marker-end="url(#head)"/>'
        )
    for room, (x, y, wide) in box.items():
        detail = f"{len(files[room])} file" + "s" * (len(files[room]) > 1)
        lines.append(
            f'<rect x="{x:.0f}" y="{y}" width="{wide:.0f}" height="{HIGH}" rx="7" fill="#eef1fb" stroke="#5c6bc0"/>'
        )
        size = 13 if len(room) < 14 else 11
        lines.append(
            f'<text x="{x + wide / 2:.0f}" y="{y + 19}" text-anchor="middle" font-size="{size}" fill="#1a237e">{room}</text>'
        )
        lines.append(
            f'<text x="{x + wide / 2:.0f}" y="{y + 35}" text-anchor="middle" font-size="10" fill="#555">{detail}</text>'
        )
    return "\n".join([*lines, "</svg>", ""])


def summary(file: Path) -> str:
    """The first sentence of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    first = docstring.split("\n\n")[0].replace("\n", " ").strip()
    return first.split(". ")[0].removesuffix(".").replace("|", "\\|")


def file_list() -> str:
    """A table a room, top floor first: file, first sentence of its docstring."""
    files, lines = rooms(), []
    for floor in reversed(FLOORS):
        for room in sorted(floor & files.keys()):
            members = sorted(files[room], key=lambda file: (file.stem != "__init__", str(file)))
            about = [(str(file.relative_to(SOURCE)), summary(file)) for file in members if summary(file)]
            title = f"### {room}"
            if members[0].stem == "__init__" and summary(members[0]):
                title, about = f"### {room}\n\n{summary(members[0])}.", about[1:]
            lines += [title, "", "| file | |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in about), ""]
    return "\n".join(lines)


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    new = {PAGE: f"{before}{BEGIN}\n\n{file_list()}\n{END}{after}", PICTURE: picture()}
    if "--check" in sys.argv:
        stale = [p.name for p, content in new.items() if not p.is_file() or p.read_text(encoding="utf-8") != content]
        if stale:
            raise SystemExit(f"{', '.join(stale)}: out of date. Run: python scripts/architecture.py")
        return
    for path, content in new.items():
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
