"""Built-in corpora: text that is part of every Python installation, so nothing is downloaded.

    python-docs   the language reference behind ``help()``, and the docstrings of the standard library
    python-code   the source of the standard library

Documents have a fixed order, and every text occurs once.
"""

from __future__ import annotations

import ast
import inspect
import platform
import re
import tokenize
import warnings
from collections.abc import Callable, Iterator
from functools import cache

from unmask.data.document import Document
from unmask.data.standard_library import module_paths

VERSION = 2  # increment when the documents change for an unchanged Python
_SHORTEST = 200  # characters; shorter documents are of little use for training


def normalise(text: str) -> str:
    r"""Normalise white space: ``\n`` at line ends, no trailing white space, at most two blank lines in a row."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = re.sub(r"[ \t\f\v]+$", "", text, flags=re.MULTILINE)
    return re.sub(r"\n{4,}", "\n\n\n", text).strip("\n")


_TYPOGRAPHY = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2013": "-",
        "\u2014": "-",
        "\u2026": "...",
        "\u00a0": " ",
    }
)


def plain(text: str) -> str:
    """Replace typographic quotes, dashes and spaces by those of ASCII, and drop rules: lines of one repeated character.

    A small vocabulary then spends no tokens on them, and a model of the text writes none.
    """
    return re.sub(r"^[ \t]*([=\-~*_+#^])\1{3,}[ \t]*(?:\n|\Z)", "", text.translate(_TYPOGRAPHY), flags=re.MULTILINE)


def _modules() -> Iterator[tuple[str, str, ast.Module]]:
    """Yield ``(dotted name, source, syntax tree)`` of every module that parses."""
    for name, path in module_paths():
        try:
            with tokenize.open(path) as file:
                source = file.read()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source)
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue
        yield name, source, tree


def _docstrings(node: ast.AST, name: str) -> Iterator[str]:
    """Yield ``qualified.name``, a blank line and the docstring, for ``node`` and its classes and functions."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        docstring = ast.get_docstring(node, clean=False)
        if docstring:
            yield f"{name}\n\n{inspect.cleandoc(docstring)}"
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstrings(child, f"{name}.{child.name}")


def _python_docs() -> Iterator[Document]:
    from pydoc_data.topics import topics

    for topic, text in sorted(topics.items()):
        yield Document(f"topic/{topic}", plain(text))
    for name, _, tree in _modules():
        yield Document(f"docstrings/{name}", plain("\n\n".join(_docstrings(tree, name))))


def _python_code() -> Iterator[Document]:
    for name, source, _ in _modules():
        yield Document(name, source)


BUILT_IN: dict[str, Callable[[], Iterator[Document]]] = {"python-docs": _python_docs, "python-code": _python_code}


@cache
def documents(name: str) -> tuple[Document, ...]:
    """Return the normalised, distinct documents of a built-in corpus: a few megabytes, read once per process.

    Args:
        name: a key of ``BUILT_IN``.
    """
    distinct: dict[str, Document] = {}
    for document in BUILT_IN[name]():
        text = normalise(document.text)
        if len(text) >= _SHORTEST:
            distinct.setdefault(text, Document(document.name, text))
    return tuple(distinct.values())


def version(name: str) -> str:
    """Return what the text of a built-in corpus depends on: the extraction and the Python version."""
    return f"{name}/{VERSION}/python-{platform.python_version()}"
