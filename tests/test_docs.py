"""The documentation keeps its promises: blocks run, links lead somewhere, docstrings describe what is there."""

import doctest
import inspect
import re
import runpy
import shutil
import subprocess
import sys

import pytest
import torch

import unmask
from tests.blocks import ROOT, Place, blocks, shorter

PAGES = sorted(p for p in (ROOT / "docs").rglob("*.md") if p.name != "log.md")
RUNNABLE = [page for page in PAGES if blocks(page)]


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp("project"))


def pages(*languages):
    """Pages whose blocks are of these languages."""
    return pytest.mark.parametrize(
        "page",
        [page for page in RUNNABLE if {language for language, _ in blocks(page)} <= set(languages)],
        ids=lambda p: str(p.relative_to(ROOT / "docs")),
    )


@pages("python")
def test_the_blocks_of_a_page_of_python_run_as_one_program(page, tmp_path):
    program = "\n".join(block for _, block in blocks(page))
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pages("bash", "python")
def test_every_block_of_a_page_runs(page, place):
    """In order, in a folder without earlier runs; blocks of Python stand alone."""
    if "bash" not in {language for language, _ in blocks(page)}:
        pytest.skip("runs as one program, see above")
    shutil.rmtree(place.copy / "runs", ignore_errors=True)
    for language, block in blocks(page):
        place.run(language, block)


def test_a_test_shortens_what_takes_long_and_nothing_else():
    assert shorter("unmask train --preset tiny run=runs/a train.steps=900").startswith(
        "unmask train --preset tiny run=runs/a train.steps=900 train.steps=2"
    )
    for line in ("unmask train run=runs/a", "unmask evaluate --model runs/a"):
        assert shorter(line) == line


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    reference = (tmp_path / "site" / "reference" / "python" / "index.html").read_text(encoding="utf-8")
    missing = [name for name in unmask.__all__ if f".{name}" not in reference]
    assert not missing, f"the reference has no chapter for {missing}"


def test_every_public_name_has_a_chapter_of_the_reference():
    chapters = runpy.run_path(str(ROOT / "scripts/docs_hooks.py"))["public_names"]()
    assert not [name for name in unmask.__all__ if not re.search(rf"^::: .*\.{name}$", chapters, re.MULTILINE)]


PUBLIC = [name for name in unmask.__all__ if callable(getattr(unmask, name))]


def documented_names(docstring: str) -> set[str]:
    """The names that the ``Args`` and ``Other Parameters`` of a docstring describe."""
    names: set[str] = set()
    for section in re.findall(
        r"^(?:Args|Other Parameters|Attributes):\n((?:(?:    .*)?\n)*)", docstring + "\n", flags=re.MULTILINE
    ):
        for line in re.findall(r"^    ([\w*]+(?:, [\w*]+)*):", section, flags=re.MULTILINE):
            names |= {name.strip().lstrip("*") for name in line.split(",")}
    return names


@pytest.mark.parametrize("name", PUBLIC)
def test_a_docstring_names_the_arguments_that_there_are(name):
    """All of them, or none where it refers to another docstring."""
    value = getattr(unmask, name)
    docstring = inspect.getdoc(value) or ""
    assert docstring.split("\n")[0].strip(), f"{name} has no summary"
    parts = re.search(r"^(Args|Other Parameters):", docstring, flags=re.MULTILINE)
    if parts is None:
        return
    parameters = {p for p in inspect.signature(value).parameters if p not in {"self", "args", "kwargs"}}
    described = documented_names(docstring)
    fields = set(getattr(value, "__annotations__", {})) | {n for n, _ in inspect.getmembers(value)}
    assert described <= parameters | fields, (
        f"{name} describes what it has not: {sorted(described - parameters - fields)}"
    )
    assert parameters <= described, f"{name} does not describe {sorted(parameters - described)}"


EXAMPLE_NAMES = {name: getattr(unmask, name) for name in unmask.__all__} | {
    "unmask": unmask,
    "torch": torch,
    "__name__": "__main__",
}


@pytest.mark.parametrize("name", PUBLIC)
def test_the_example_of_a_public_name_runs(name, tmp_path, monkeypatch):
    """Under ``from unmask import *`` and ``import torch``, as the reference page says."""
    value = getattr(unmask, name)
    monkeypatch.chdir(tmp_path)
    finder = doctest.DocTestFinder(recurse=inspect.isclass(value))
    tests = [t for t in finder.find(value, name, module=False, globs=EXAMPLE_NAMES) if t.examples]
    assert tests, f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    printed: list[str] = []
    for test in tests:
        runner.run(test, out=printed.append)
    assert not runner.failures, "".join(printed)
