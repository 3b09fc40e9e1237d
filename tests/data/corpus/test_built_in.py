"""Built-in corpora: enough text, in a fixed order, normalised, and distinct."""

import re

import pytest

from unmask.data import standard_library
from unmask.data.corpus import built_in as corpora
from unmask.data.corpus.built_in import normalise, plain


@pytest.mark.parametrize("name, least_bytes", [("python-docs", 1_500_000), ("python-code", 5_000_000)])
def test_a_built_in_corpus_is_large_clean_and_distinct(name, least_bytes):
    documents = corpora.documents(name)
    texts = [document.text for document in documents]
    assert sum(len(text.encode()) for text in texts) > least_bytes
    assert len(documents) > 300
    assert len(set(texts)) == len(texts) == len({document.name for document in documents})
    assert not any(re.search(r"\r|[ \t]$|\n{4}", text, re.MULTILINE) for text in texts)


def test_the_order_does_not_depend_on_the_file_system(monkeypatch):
    names = standard_library.module_paths()
    listing = standard_library.Path.rglob
    monkeypatch.setattr(standard_library.Path, "rglob", lambda *asked: reversed(list(listing(*asked))))
    assert standard_library.module_paths() == names


def test_docstrings_are_under_their_qualified_names():
    text = {document.name: document.text for document in corpora.documents("python-docs")}
    assert (
        "textwrap.TextWrapper.fill\n\nfill(text : string) -> string\n\nReformat the single paragraph"
        in text["docstrings/textwrap"]
    )
    assert not any(name.startswith(("docstrings/test.", "docstrings/idlelib")) for name in text)


def test_normalise():
    assert normalise("\n\na  \r\nb\t\n\n\n\n\n c\r\n") == "a\nb\n\n\n c"


def test_the_documentation_is_plain_text_without_rules():
    assert (
        plain("Title\n=====\n\u201cit\u2019s\u201d \u2013 so\u2026\n  ----\na == b\n====")
        == 'Title\n"it\'s" - so...\na == b\n'
    )
    texts = [document.text for document in corpora.documents("python-docs")]
    assert not any(re.search(r"[\u2018\u2019\u201c\u201d]|^[=\-~*]{4,}$", text, re.MULTILINE) for text in texts)
