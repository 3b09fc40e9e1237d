"""Folders: every file once despite links, and counts of everything that is not read."""

import os
import warnings
from collections import Counter

import pytest

from unmask.data.corpus.folder import counted, list_folder
from unmask.data.corpus.sources import Source


def fill(folder, names, **texts):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(texts.get(name, f"text of {folder.name}/{name}"))


def names(source):
    return [document.name for document in source.documents()]


def test_links_are_followed_and_each_file_is_read_once(tmp_path):
    root = tmp_path / "c"
    fill(root, ["a.txt", "z/own.txt"])
    fill(tmp_path / "real", ["1.txt", "deep/2.txt"])
    os.symlink("../real", root / "link")
    os.symlink("../real", root / "same")  # the same folder again
    os.symlink("z", root / "b")  # sorts before z, which keeps its own name
    os.symlink("../real/1.txt", root / "one.txt")  # read by its folder
    os.symlink("a.txt", root / "again.txt")
    os.symlink("../../c", tmp_path / "real/deep/round")
    source = Source.parse(root)
    assert names(source) == ["a.txt", "link/1.txt", "link/deep/2.txt", "z/own.txt"]
    assert source.left_out() == ""


def test_a_linked_file_counts_by_the_name_of_the_link(tmp_path):
    """Like a cache of files named by digits, with links that have the actual names."""
    fill(tmp_path, ["blobs/0a1b", "blobs/2c3d"])
    (tmp_path / "first").mkdir()
    for link, target in (
        ("first/a.txt", "../blobs/0a1b"),
        ("first/b.txt", "../blobs/0a1b"),
        ("first/c.txt", "../blobs/2c3d"),
    ):
        os.symlink(target, tmp_path / link)
    source = Source.parse(tmp_path)
    assert names(source) == ["first/a.txt", "first/c.txt"]
    assert source.left_out() == ""


def test_loops_end_and_other_entries_are_counted(tmp_path):
    root = tmp_path / "c"
    fill(root, ["a/1.txt", "a/2.txt", ".git/x.txt", ".hidden.txt"])
    os.symlink("..", root / "a/up")
    os.symlink(".", root / "self")
    os.symlink("..", root / "above")
    os.symlink("nowhere", root / "gone.txt")
    os.symlink("mine", root / "mine")
    os.mkfifo(root / "pipe.txt")
    assert names(Source.parse(root)) == ["a/1.txt", "a/2.txt"]
    others = {
        "dangling link": 2,
        "hidden file": 1,
        "hidden folder": 1,
        "link to a folder above": 1,
        "pipe or device": 1,
    }
    assert list_folder(root).others == Counter(others)


def test_other_suffixes_are_counted_in_a_warning(tmp_path):
    fill(tmp_path, ["a.txt", "b.md", "c.csv", "d.csv", "e.txt.gz.part", "README", "f.fasta.gz"])
    with pytest.raises(ValueError, match="mixes csv and fasta and text files"):
        Source.parse(tmp_path)
    source = Source.parse(f"text:{tmp_path}")
    assert names(source) == ["a.txt", "b.md"]
    with pytest.warns(UserWarning, match=r"Left out: 2 \.csv files, ") as caught:
        source.warn_left_out()
    for part in ("1 .part file", "1 suffixless file", "1 .fasta.gz file"):
        assert part in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (tmp_path / "whole").mkdir()
        fill(tmp_path / "whole", ["a.txt", "b/c.txt"])
        Source.parse(tmp_path / "whole").warn_left_out()


def test_a_prefix_selects_one_format_and_the_warning_names_the_other(tmp_path):
    fill(tmp_path, ["a.txt", "b.jsonl"])
    assert Source.parse(f"text:{tmp_path}").left_out() == "1 .jsonl file"


@pytest.mark.parametrize("name", ["table.xlsx", "reads.fastq", "all.tar.gz", "paper.pdf"])
def test_files_that_are_not_prose_are_refused(tmp_path, name):
    fill(tmp_path, [name])
    for path in (tmp_path / name, tmp_path):
        with pytest.raises(ValueError, match=f"`text:{path}`"):
            Source.parse(path)
        if not name.endswith(".gz"):
            assert len(list(Source.parse(f"text:{path}").documents())) == 1
    fill(tmp_path, ["code.py"])
    assert names(Source.parse(tmp_path)) == ["code.py"]


def test_a_pipe_is_refused_as_a_corpus(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="read several times"):
        Source.parse(tmp_path / "pipe")


def test_counts_are_listed_in_words():
    assert counted(Counter({"link": 1, ".csv file": 1200})) == "1,200 .csv files, 1 link"
    assert counted(Counter({f".{i} file": 20 - i for i in range(10)}), most=1) == "20 .0 files and 135 more"
