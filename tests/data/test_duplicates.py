"""Duplicates: the first of each group is kept, whatever the parts, and nothing else is dropped."""

import random
import sys

import numpy as np
import pytest

from tests.data.test_parts import OPTIONS
from tests.data.test_preparation import contents, texts, write_jsonl
from unmask.data import duplicates
from unmask.data.corpus import corpus_parts
from unmask.data.corpus.sources import Source
from unmask.data.duplicates import SIMILARITY, SignatureFiles, SignatureJob, find_duplicates, shingles, write_signatures
from unmask.data.preparation import Prepared, prepare
from unmask.data.recipe import Recipe

pytestmark = pytest.mark.filterwarnings("ignore:.* of the bytes of .* are held out")
WORDS = [f"w{n}" for n in range(4000)]


def found(tmp_path, corpus_texts, kind, size=None):
    """Return the numbers of the dropped documents, from signatures of parts of ``size`` bytes."""
    source = Source.parse(write_jsonl(tmp_path / "a.jsonl", corpus_texts))
    folders = []
    for number, part in enumerate(corpus_parts.Corpus.of(source, size).parts):
        folders.append(tmp_path / f"{size}-{kind}-{number}")
        write_signatures(SignatureJob(part, folders[-1], kind))
    return find_duplicates(SignatureFiles(folders, kind)).tolist()


def jaccard(a, b):
    return len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b))


def near_copies(seed=0, count=25):
    """Texts of 120 words, and copies with some words replaced, shuffled."""
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        original = draw.choices(WORDS, k=120)
        made.append(" ".join(original))
        for replaced in (0, 1, 2, 60):
            copy = list(original)
            for place in draw.sample(range(120), replaced):
                copy[place] = draw.choice(WORDS)
            made.append(" ".join(copy))
    draw.shuffle(made)
    return made


@pytest.mark.parametrize("size", [None, 3000])
@pytest.mark.parametrize("at_once", [2**24, 7])
def test_exact_duplicates_are_those_of_a_set(tmp_path, monkeypatch, size, at_once):
    monkeypatch.setattr(duplicates, "AT_ONCE", at_once)
    draw = random.Random(1)
    given = [f"text number {draw.randrange(60)}" for _ in range(150)]
    seen, expected = set(), []
    for number, text in enumerate(given):
        if text in seen:
            expected.append(number)
        seen.add(text)
    assert found(tmp_path, given, "exact", size) == expected


def test_near_duplicates_are_those_of_all_pairs(tmp_path):
    """Every dropped text has an earlier similar one, and of clearly similar pairs only the first is left."""
    pytest.importorskip("datasketch")
    given = near_copies()
    dropped = found(tmp_path, given, "near")
    assert dropped == found(tmp_path, given, "near", 5000) and 60 < len(dropped) <= 75
    kept = [text for number, text in enumerate(given) if number not in set(dropped)]
    assert max(jaccard(a, b) for i, a in enumerate(kept) for b in kept[:i]) < SIMILARITY + 0.1
    for number in dropped:  # the estimate of 128 minima has a standard error of at most 0.044
        assert max(jaccard(given[number], earlier) for earlier in given[:number]) > SIMILARITY - 0.15


def test_short_texts_and_texts_without_words_have_shingles():
    assert shingles("abcdefg") == {"abcde", "bcdef", "cdefg"} and shingles("ab") == {"ab"} and shingles("!") == {"!"}
    assert shingles("A b, c d e f") == {"a b c d e", "b c d e f"}


@pytest.mark.parametrize("kind", ["exact", "near"])
def test_a_prepared_corpus_has_the_first_of_each_group_and_says_how_many_it_lost(tmp_path, monkeypatch, kind):
    if kind == "near":
        pytest.importorskip("datasketch")
    given = near_copies(count=10)
    corpus = write_jsonl(tmp_path / "corpus.jsonl", given)
    expected = [text for number, text in enumerate(given) if number not in set(found(tmp_path, given, kind))]
    options = {**OPTIONS, "workers": 1, "drop_duplicates": kind}
    prepared = prepare(corpus, tmp_path / "out", **options)
    assert sorted(texts(prepared.train, prepared) + texts(prepared.valid, prepared)) == sorted(expected)
    assert prepared.dropped_documents == len(given) - len(expected)
    assert prepared.dropped_bytes == sum(map(len, given)) - sum(map(len, expected))
    assert Prepared.open(tmp_path / "out") == prepared and Recipe.read(tmp_path / "out").drop_duplicates == kind
    monkeypatch.setattr(corpus_parts, "PART_BYTES", 12000)
    prepare(corpus, tmp_path / "parts", **options)
    assert contents(tmp_path / "parts") == contents(tmp_path / "out")
    with pytest.raises(ValueError, match=r"different: drop_duplicates"):
        prepare(corpus, tmp_path / "out", **{**options, "drop_duplicates": None})


def test_wrong_kinds_and_a_missing_library_are_explained(tmp_path, monkeypatch):
    corpus = write_jsonl(tmp_path / "corpus.jsonl", ["one text", "another text"])
    with pytest.raises(ValueError, match="choose exact"):
        prepare(corpus, tmp_path / "out", **OPTIONS, drop_duplicates="fuzzy")
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(ImportError, match=r"pip install 'unmask\[near-duplicates\]'"):
        prepare(corpus, tmp_path / "out", **OPTIONS, drop_duplicates="near")


def test_equal_signatures_of_many_texts_are_compared_a_few_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(duplicates, "_SAVED_AT_ONCE", 5)
    assert found(tmp_path, ["the same text"] * 23, "exact") == list(np.arange(1, 23))
