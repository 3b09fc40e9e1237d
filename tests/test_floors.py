"""The house stands on its floors: imports point down, light modules stay light, files stay readable."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import unmask

SOURCE = Path(unmask.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

# A module may import its own floor and those below it. Rooms on one floor may see each other, except where said.
FLOORS = [
    {"contracts", "randomness", "storage", "arrays", "permutation", "section", "objective_config", "config", "override", "allocator", "devices"},
    {"ops"},
    {"nn"},
    {"models", "data"},
    {"decode"},
    {"train", "evaluate", "tasks"},
    {"nonautoregressive"},
    {"build", "build_objective", "resume"},
    {"text"},
    {"measure"},
    {"cli", "serve", "__main__"},
]
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}
APART = {("data", "models"), ("data", "nn"), ("train", "decode"), ("train", "evaluate"), ("evaluate", "decode"), ("cli", "serve")}


def room_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(file: Path) -> dict[str, int]:
    """Every room of unmask that the file imports anywhere (inside functions too), with the line."""
    rooms = {}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relatively; write unmask.…"
            names = [node.module or ""]
            names += [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "unmask" else []
        for name in names:
            parts = name.split(".")
            if parts[0] == "unmask" and len(parts) > 1:
                rooms[parts[1]] = node.lineno
    return rooms


@pytest.mark.parametrize("file", [f for f in FILES if f.parent != SOURCE or f.name != "__init__.py"], ids=lambda f: str(f.relative_to(SOURCE)))
def test_imports_point_down(file):
    room = room_of(file)
    assert room in FLOOR_OF, f"{room} is on no floor: give it one in docs/architecture.md and here"
    for other, line in imported_rooms(file).items():
        if other not in FLOOR_OF:
            continue  # a public name taken from the package itself
        assert FLOOR_OF[other] <= FLOOR_OF[room], f"{file}:{line} {room} reaches up to {other}"
        assert (room, other) not in APART, f"{file}:{line} {room} must not know {other}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_a_file_is_one_noun(file):
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 350, "split it"
    assert file.stem not in {"utils", "helpers", "common", "misc"}
    assert ast.get_docstring(ast.parse(text)) or not text.strip(), "a module opens with what it is"


def imports_of(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


HEAVY = ["lightning", "pytorch_lightning", "transformers", "datasets", "matplotlib", "pandas", "torch._dynamo", "torch._inductor"]


@pytest.mark.parametrize("heavy", HEAVY)
def test_importing_the_package_is_light(heavy):
    assert heavy not in _package_imports()


def _package_imports(cache={}) -> set[str]:  # noqa: B006
    if not cache:
        cache["all"] = imports_of("import unmask")
    return cache["all"]


@pytest.mark.parametrize(
    "module",
    ["unmask.contracts", "unmask.ops.corruption", "unmask.models.rotary_mlm", "unmask.data.collators", "unmask.data.store",
     "unmask.train.loss", "unmask.evaluate.likelihood", "unmask.evaluate.baselines"],
)  # fmt: skip
def test_library_modules_import_no_framework(module):
    heavy = {"lightning", "pytorch_lightning", "transformers", "datasets", "matplotlib", "torch._inductor"}
    assert not heavy & imports_of(f"import {module}")


@pytest.mark.parametrize("module", ["unmask.config", "unmask.storage", "unmask.data.encoding"])
def test_some_rooms_need_no_torch(module):
    assert "torch" not in imports_of(f"import {module}")
