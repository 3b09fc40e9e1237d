"""Public names: importable from the package, seen by type checkers, complete, and documented."""

import ast
import builtins
import collections.abc
import importlib
import inspect
import subprocess
import sys
import tomllib
import types
import typing
from pathlib import Path

import pytest

import unmask

ROOT = Path(__file__).parent.parent

# Classes in public signatures that users only pass on, or that belong to hooks of subclasses.
INTERNAL = {
    "unmask.collate.collator.Assembled",  # between the two halves of a collator
    "unmask.collate.collator.CorruptedBatch",
    "unmask.data.words.text_words.TextWordTable",  # returned by word_table, passed on as a granularity
    "unmask.data.store.window_sequence.WindowSequence",  # returned by TokenStore.windows: a sequence
    "unmask.decode.logits.sampler.Tokens",  # make_rules takes its options one by one
    "unmask.decode.observers.history.StepHistory",  # a mapping by another name
    "unmask.decode.observers.trace.Difference",  # entries of a Trace
    "unmask.decode.observers.trace.Event",
    "unmask.decode.observers.trace.TopTokens",
    "unmask.decode.orders.scores.Draft",  # between the parts of a decoding step
    "unmask.decode.orders.selector.Selection",
    "unmask.models.hf_path.Path",  # how HuggingFaceMLM runs a network
    "unmask.nn.attention.AttentionPlan",  # inside a KVCache
    "unmask.randomness.Stream",  # ids of the library's own random streams
    "unmask.nonautoregressive.conditioning.Conditioned",
    "unmask.ops.schedule.FixedCountTime",  # made by a schedule
    "unmask.ops.whole_words.WordTable",
    "unmask.report.ReportTable",
    "unmask.text.shown_decode.ShownDecode",  # how a result shows itself in a notebook
}


@pytest.mark.parametrize("name", unmask.__all__)
def test_a_public_name_is_that_of_its_module(name):
    home = importlib.import_module(f"unmask.{unmask._HOME_OF[name]}")
    assert getattr(unmask, name) is getattr(home, name)
    assert name in dir(unmask)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no public name"):
        unmask.MLMLos  # noqa: B018


def test_type_checkers_see_the_public_names():
    """The imports under TYPE_CHECKING are those of the lazy map, each as itself, which marks it as exported (PEP 484)."""
    tree = ast.parse(Path(unmask.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {}
    for statement in block.body:
        assert isinstance(statement, ast.ImportFrom) and all(alias.asname == alias.name for alias in statement.names)
        seen |= {alias.name: statement.module.removeprefix("unmask.") for alias in statement.names}
    assert seen == unmask._HOME_OF


def test_a_star_import_shadows_neither_builtins_nor_the_package():
    names = {}
    exec("import unmask\nfrom unmask import *", names)
    assert not set(unmask.__all__) & set(dir(builtins))
    assert names["unmask"] is unmask and names["load"] is unmask.load


def test_the_version_is_that_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert unmask.__version__ == project["version"]


def _callables(value):
    """Yield a public function, or the constructor and the public methods and properties of a class."""
    if not isinstance(value, type):
        yield value
        return
    for name, member in vars(value).items():
        if name == "__init__" or not name.startswith("_"):
            member = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if inspect.isfunction(member):
                yield member


def _hints(value):
    module = importlib.import_module(value.__module__)
    names = {**vars(typing), **vars(collections.abc), **vars(unmask), **vars(module)}
    try:
        return typing.get_type_hints(value, names)
    except (NameError, TypeError):  # an import for type checkers only, or a shape that is no type
        return {}


def _classes(hint):
    if isinstance(hint, type) and not isinstance(hint, types.GenericAlias):
        yield hint
    if isinstance(hint, list | tuple):
        for each in hint:
            yield from _classes(each)
    for each in typing.get_args(hint):
        yield from _classes(each)


def test_every_class_in_a_public_signature_is_public():
    """Of our classes. A user who can receive or pass an object can also name its type."""
    unnamed = {}
    for name in unmask.__all__:
        for function in _callables(getattr(unmask, name)):
            if not getattr(function, "__module__", "").startswith("unmask."):
                continue
            for hint in _hints(function).values():
                for cls in _classes(hint):
                    if cls.__module__.startswith("unmask.") and cls.__name__ not in unmask.__all__:
                        unnamed.setdefault(f"{cls.__module__}.{cls.__name__}", set()).add(f"{name}.{function.__name__}")
    assert not unnamed.keys() - INTERNAL, {k: v for k, v in unnamed.items() if k not in INTERNAL}


def test_public_names_import_without_compilers_trainers_and_model_hubs():
    """Only the Lightning modules need Lightning. Everything else costs little more than torch itself."""
    script = """
import sys, unmask
for name, home in unmask._HOME_OF.items():
    if home not in ("training.module", "training.trace_module"):
        getattr(unmask, name)
heavy = {"torch._dynamo", "torch._inductor", "sympy", "transformers", "lightning", "torchmetrics", "matplotlib", "scipy",
         "datasets", "pandas", "fastapi", "rich", "typer"} & set(sys.modules)
assert not heavy, sorted(heavy)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
