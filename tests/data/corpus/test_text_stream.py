"""Text streams: what is compressed reads like what is not, a byte-order mark is no text, and every fault has its place."""

import bz2
import codecs
import gzip
import io
import lzma
import os
import threading

import pyarrow as pa
import pytest

from unmask.data.corpus.text_stream import COMPRESSED, Input, open_text


def zstd(data):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(data)
    return sink.getvalue().to_pybytes()


COMPRESS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".lzma": lambda b: lzma.compress(b, lzma.FORMAT_ALONE),
    ".zst": zstd,
    ".zstd": zstd,
}
BODY = "".join(f"line {i} é\n" for i in range(20_000)).encode()


def read(path):
    with open_text(Input.of(path)) as file:
        return file.read()


def test_every_compression_has_a_test():
    assert set(COMPRESS) == set(COMPRESSED)


@pytest.mark.parametrize("suffix", COMPRESSED)
def test_compressed_text_reads_whole_or_is_refused(tmp_path, suffix):
    path, packed = tmp_path / f"a.txt{suffix}", COMPRESS[suffix](BODY)
    path.write_bytes(packed)
    assert read(path) == BODY.decode()
    for damaged in (packed[: len(packed) // 2], packed[:-3]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.txt.* cannot be decompressed .*damaged or cut off"):
            read(path)
    path.write_bytes(BODY)
    with pytest.raises(ValueError, match="cannot be decompressed"):
        read(path)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_all_members_and_frames_are_read(tmp_path, suffix):
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(b"".join(COMPRESS[suffix](part) for part in (BODY, b"", b"between\n", BODY)))
    assert read(path) == (BODY + b"between\n" + BODY).decode()


@pytest.mark.parametrize("encoding, mark", [
    ("utf-8", codecs.BOM_UTF8), ("utf-16-le", codecs.BOM_UTF16_LE), ("utf-16-be", codecs.BOM_UTF16_BE), ("utf-32-le", codecs.BOM_UTF32_LE),
])  # fmt: skip
def test_a_byte_order_mark_is_no_text(tmp_path, encoding, mark):
    (tmp_path / "a.txt").write_bytes(mark + "one é\r\ntwo 😀\n".encode(encoding))
    assert read(tmp_path / "a.txt") == "one é\ntwo 😀\n"


def test_line_ends_and_what_is_none():
    text = "a\u2028b\u2029c\x85d\x0ce\x0bf\x1cg\x1dh\x1ei\rj\r\nk\n"
    first = text[: text.index("\r")]
    for end, lines in (("anywhere", [first + "\n", "j\n", "k\n"]), ("at \\n", [first + "\rj\r\n", "k\n"])):
        with open_text(Input("here", "here", io.BytesIO(text.encode())), lines_end=end) as file:
            assert list(file) == lines


@pytest.mark.parametrize("before", [0, 1, 70_000, 65_535, 65_536, 200_000])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_bad_byte_has_a_line_a_column_and_an_offset(tmp_path, before, compressed):
    data = (
        b"x" * (before % 7)
        + b"\n" * (before // 2)
        + b"y" * (before - before // 2)
        + "é".encode()
        + b"ab\xe9 rest\nmore\n"
    )
    bad = data.index(b"\xe9 rest")
    line = data.count(b"\n", 0, bad) + 1
    column = bad - data.rfind(b"\n", 0, bad)
    path = tmp_path / ("a.txt.gz" if compressed else "a.txt")
    path.write_bytes(gzip.compress(data) if compressed else data)
    with (
        pytest.raises(ValueError, match=rf"{path}.*line {line}, byte 0xe9 at column {column}, offset {bad}\).*iconv"),
        open_text(Input.of(path)) as file,
    ):
        for _ in file:
            pass
    with pytest.raises(ValueError, match=rf"line {line}, byte 0xe9 at column {column}, offset {bad}\)"):
        read(path)


@pytest.mark.parametrize("data, message", [
    ("wide".encode("utf-16-le"), "zero bytes, like UTF-16 without a byte-order mark"),
    (codecs.BOM_UTF16_LE + b"a\x00\x00\xd8b\x00", r"byte-order mark of UTF-16.*offset 4\)"),
    (gzip.compress(b"text", mtime=0), r"begins like a \.gz file"),
    (b"cut \xe2\x82", r"line 1, byte 0xe2 at column 5, offset 4\)"),
])  # fmt: skip
def test_what_is_not_utf8_says_what_it_is_like(tmp_path, data, message):
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.txt")


def test_a_pipe_reads_like_a_file():
    out, into = os.pipe()

    def write():
        with open(into, "wb") as file:
            for part in (b"\xef", b"\xbb", b"\xbf", b"caf", b"\xc3", b"\xa9\n", BODY):
                file.write(part)
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    with open(out, "rb") as stream, open_text(Input("standard input", "-", stream)) as file:
        assert file.read() == "café\n" + BODY.decode()
    writer.join()


def test_an_empty_file_is_empty_text(tmp_path):
    for name in ("a.txt", "a.txt.gz", "a.txt.zst"):
        (tmp_path / name).write_bytes(b"")
        assert read(tmp_path / name) == ""


def test_a_file_that_cannot_be_opened_is_no_damaged_one(tmp_path):
    for suffix in ("", *COMPRESSED):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / f"absent.txt{suffix}")
