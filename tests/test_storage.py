"""Files are whole or absent, whatever fails and whenever."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from unmask import storage
from unmask.storage import atomic_file, atomic_folder, digest, read_json, sweep_temporaries, write_json, write_text


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Fails:
    """Stands in for a function and raises at its n-th call."""

    def __init__(self, function, error, at=0):
        self.function, self.error, self.left = function, error, at

    def __call__(self, *args, **kwargs):
        if self.left == 0:
            raise self.error
        self.left -= 1
        return self.function(*args, **kwargs)


FULL = OSError(errno.ENOSPC, "No space left on device")
QUOTA = OSError(errno.EDQUOT, "Disk quota exceeded")
BROKEN = OSError(errno.EIO, "Input/output error")
STOPPED = KeyboardInterrupt()


@pytest.mark.parametrize("error", [FULL, QUOTA, BROKEN, STOPPED], ids=["full", "quota", "broken", "stopped"])
@pytest.mark.parametrize("stage", ["open", "write", "fsync", "replace"])
def test_a_failed_file_leaves_what_was_there(tmp_path, monkeypatch, stage, error):
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "before")
    with monkeypatch.context() as patch, pytest.raises(type(error)) as raised:
        if stage == "open":
            patch.setattr(Path, "write_text", Fails(None, error))
        elif stage in ("fsync", "replace"):
            patch.setattr(os, stage, Fails(None, error))
        if stage == "write":
            with atomic_file(path) as temporary:
                temporary.write_bytes(b"half of wh")
                raise error
        write_text(path, "after")
    assert everything(tmp_path) == {"deep/file.txt": b"before"}
    if error in (FULL, QUOTA):
        assert (
            "disk is full" in str(raised.value) and str(path) in str(raised.value) and raised.value.errno == error.errno
        )
    if error is BROKEN:
        assert raised.value is BROKEN
    write_text(path, "after")
    assert path.read_text() == "after"


@pytest.mark.parametrize("error", [FULL, BROKEN, STOPPED], ids=["full", "broken", "stopped"])
@pytest.mark.parametrize(("stage", "at"), [("mkdir", 0), ("body", 0), ("fsync", 0), ("fsync", 1), ("rename", 0)])
def test_a_failed_folder_leaves_nothing(tmp_path, monkeypatch, stage, at, error):
    path = tmp_path / "folder"

    def fill():
        with atomic_folder(path) as temporary:
            (temporary / "a").write_text("a")
            (temporary / "inner").mkdir()
            (temporary / "inner" / "b").write_text("b")
            if stage == "body" and failing:
                raise error

    failing = True
    with monkeypatch.context() as patch, pytest.raises(type(error)):
        if stage in ("fsync", "rename"):
            patch.setattr(os, stage, Fails(getattr(os, stage), error, at))
        elif stage == "mkdir":
            failing_mkdir = Fails(Path.mkdir, error, 1)
            patch.setattr(Path, "mkdir", lambda *args, **options: failing_mkdir(*args, **options))
        fill()
    assert not list(tmp_path.iterdir())
    failing = False
    fill()
    assert everything(tmp_path) == {"folder/a": b"a", "folder/inner/b": b"b"}


def test_a_folder_never_replaces_one(tmp_path):
    path = tmp_path / "folder"
    for content in ("one", "two"):
        try:
            with atomic_folder(path) as temporary:
                (temporary / "x").write_text(content)
        except OSError:
            assert content == "two"
    assert everything(tmp_path) == {"folder/x": b"one"}


def test_a_file_appears_only_when_complete(tmp_path):
    path = tmp_path / "f"
    with atomic_file(path) as temporary:
        temporary.write_text("new")
        assert not path.exists() and temporary.parent == path.parent
    assert everything(tmp_path) == {"f": b"new"}


def test_two_writers_do_not_meet(tmp_path):
    path = tmp_path / "f"
    with atomic_file(path) as one, atomic_file(path) as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert everything(tmp_path) == {"f": b"one"}  # the outer one finishes last


def test_data_reach_the_disk_before_the_name_does(tmp_path, monkeypatch):
    order = []
    for name in ("fsync", "replace", "rename"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (order.append(name), real(*args))[1])
    write_text(tmp_path / "f", "text")
    assert order == ["fsync", "replace", "fsync"]
    order.clear()
    with atomic_folder(tmp_path / "d") as temporary:
        (temporary / "x").write_text("x")
    assert order[0] == "fsync" and order[-2:] == ["rename", "fsync"]


def test_sweeping_removes_only_what_was_half_written(tmp_path):
    (tmp_path / ".f.0011.tmp").write_text("half")
    (tmp_path / ".d.0022.tmp").mkdir()
    (tmp_path / ".d.0022.tmp" / "x").write_text("half")
    (tmp_path / "kept.tmp").write_text("whole")
    (tmp_path / ".hidden").write_text("whole")
    sweep_temporaries(tmp_path)
    assert everything(tmp_path) == {".hidden": b"whole", "kept.tmp": b"whole"}


def test_temporaries_are_what_sweeping_finds(tmp_path, monkeypatch):
    """A process that is killed cleans nothing up; the next one must recognise what it left."""
    monkeypatch.setattr(Path, "unlink", lambda *args, **options: None)
    monkeypatch.setattr(storage.shutil, "rmtree", lambda *args, **options: None)
    for manager in (atomic_file, atomic_folder):
        with pytest.raises(RuntimeError), manager(tmp_path / "x") as temporary:
            (temporary if manager is atomic_file else temporary / "y").write_text("half")
            raise RuntimeError
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.undo()
    sweep_temporaries(tmp_path)
    assert not list(tmp_path.iterdir())


def test_json_round_trip_and_damage(tmp_path):
    value = {"é": [1, 2.5, None, True], "nested": {"a": "b"}}
    write_json(tmp_path / "v.json", value)
    assert read_json(tmp_path / "v.json") == value and "é" in (tmp_path / "v.json").read_text(encoding="utf-8")
    for damaged in (b'{"half": ', b"\xff\xfe\x00"):
        (tmp_path / "v.json").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"v\.json is not valid JSON"):
            read_json(tmp_path / "v.json")


def test_digest(tmp_path):
    data = bytes(range(256)) * 5000
    (tmp_path / "f").write_bytes(data)
    assert digest(tmp_path / "f") == hashlib.sha256(data).hexdigest()
