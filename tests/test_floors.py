"""The house stands on its floors: imports point down, light modules stay light, files stay readable."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import unmask

SOURCE = Path(unmask.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

# A module may import its own floor and those below it. Rooms on one floor may see each other, except where said.
FLOORS = [
    {
        "contracts",
        "network_protocols",
        "randomness",
        "storage",
        "arrays",
        "permutation",
        "suggestions",
        "config",
        "allocator",
        "launch",
        "devices",
        "registry",
        "special_ids",
        "shared_counts",
    },
    {"ops"},
    {"nn"},
    {"models", "data", "collate", "run_folder"},
    {"decode"},
    {"training", "evaluate", "tasks"},
    {"nonautoregressive"},
    {"runs", "resume"},
    {"build", "export"},
    {"text", "report", "interop"},
    {"measure", "serve", "harness", "studies"},
    {"cli", "__main__"},
]
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}
APART = {
    ("data", "models"), ("data", "nn"), ("collate", "models"), ("collate", "nn"), ("models", "data"), ("models", "collate"),
    ("training", "decode"), ("training", "evaluate"), ("evaluate", "decode"),
}  # fmt: skip


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
            copied = (
                file.parent.name == "hub_code"
            )  # files of an exported folder, which import each other without unmask
            assert node.level == 0 or copied, f"{file}:{node.lineno} imports relatively; write unmask.…"
            names = [node.module or ""]
            names += [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "unmask" else []
        for name in names:
            parts = name.split(".")
            if parts[0] == "unmask" and len(parts) > 1:
                rooms[parts[1]] = node.lineno
    return rooms


@pytest.mark.parametrize(
    "file",
    [f for f in FILES if f.parent != SOURCE or f.name != "__init__.py"],
    ids=lambda f: str(f.relative_to(SOURCE)),
)
def test_imports_point_down(file):
    room = room_of(file)
    assert room in FLOOR_OF, f"{room} is on no floor: give it one in docs/architecture.md and here"
    for other, line in imported_rooms(file).items():
        if other not in FLOOR_OF:
            continue  # a public name taken from the package itself
        assert FLOOR_OF[other] <= FLOOR_OF[room], f"{file}:{line} {room} reaches up to {other}"
        assert (room, other) not in APART, f"{file}:{line} {room} must not know {other}"


def module_of(file: Path) -> str:
    return ".".join(("unmask", *file.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


def imported_modules(file: Path, modules: set[str]) -> set[str]:
    """The modules of unmask that a file imports anywhere, inside functions too, but for those that only type checkers see."""
    found: set[str] = set()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    hidden = {
        id(n)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for n in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found & modules - {"unmask"}


def test_no_file_imports_itself_by_way_of_others():
    """Kahn: take away whoever imports nobody that is left; what remains stands on a circle."""
    modules = {module_of(file): file for file in FILES}
    imports = {
        name: imported_modules(file, set(modules)) - {name} for name, file in modules.items() if name != "unmask"
    }
    while done := {name for name, others in imports.items() if not others & set(imports)}:
        imports = {name: others for name, others in imports.items() if name not in done}
    assert not imports, f"these files stand on a circle of imports: {sorted(imports)}"


def test_a_module_name_occurs_once():
    """Commands are named for what they run, so ``cli`` does not count; nor do packages."""
    names = Counter(
        file.stem
        for file in FILES
        if file.stem not in {"__init__", "__main__"} and "cli" not in file.relative_to(SOURCE).parts[:1]
    )
    assert not {name for name, count in names.items() if count > 1}


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


HEAVY = [
    "lightning",
    "pytorch_lightning",
    "transformers",
    "datasets",
    "matplotlib",
    "pandas",
    "torch._dynamo",
    "torch._inductor",
]


@pytest.mark.parametrize("heavy", HEAVY)
def test_importing_the_package_is_light(heavy):
    assert heavy not in _package_imports()


def _package_imports(cache={}) -> set[str]:  # noqa: B006
    if not cache:
        cache["all"] = imports_of("import unmask")
    return cache["all"]


@pytest.mark.parametrize(
    "module",
    ["unmask.contracts", "unmask.ops.corruption", "unmask.models.rotary_mlm", "unmask.collate.padded", "unmask.data.store.token_store",
     "unmask.training.loss", "unmask.evaluate.likelihood", "unmask.evaluate.baselines"],
)  # fmt: skip
def test_library_modules_import_no_framework(module):
    heavy = {"lightning", "pytorch_lightning", "transformers", "datasets", "matplotlib", "torch._inductor"}
    assert not heavy & imports_of(f"import {module}")


@pytest.mark.parametrize("module", ["unmask.config.tree", "unmask.storage", "unmask.data.corpus.encoding"])
def test_some_rooms_need_no_torch(module):
    assert "torch" not in imports_of(f"import {module}")
