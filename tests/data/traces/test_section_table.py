"""A damaged or absent section table changes no trace, as loaders do not read it. Programs come from the C compiler."""

import shutil
import struct
import subprocess

import pytest

pytest.importorskip("capstone")

from tests.data.traces.elves import GOLDEN, frames, write_elf
from unmask.data.traces.binary_files import trace_binary
from unmask.data.traces.elf import Unreadable, read_binary
from unmask.data.traces.frames import frame_ranges, last_listed_frame
from unmask.data.traces.headers import read_headers
from unmask.data.traces.instruction_text import ARCHITECTURES
from unmask.data.traces.stubs import is_stub

SOURCE = """
int puts(const char*); int atoi(const char*); extern int (*hook)(int);
int add(int a, int b) { return a + b; }
int by_pointer(int a) { return hook(a); }
int tail(const char *s) { return puts(s); }
int go(int n, char **v) { puts(v[0]); return add(n, atoi(v[0])) + by_pointer(0); }
int (*through)(const char*) = puts;
"""
FLAGS = {
    "plain": [],
    "another linker": ["-fuse-ld=gold"],
    "control-flow protection": ["-fcf-protection", "-Wl,-z,ibtplt", "-Wl,-z,lazy"],
    "no stubs": ["-fno-plt"],
    "sysv hash": ["-Wl,--hash-style=sysv"],
    "one segment": ["-Wl,-z,noseparate-code"],
    "32 bits": ["-m32"],
    "32 bits, protection": ["-m32", "-fcf-protection", "-Wl,-z,ibtplt"],
}


def built(folder, *flags):
    if not shutil.which("gcc"):
        pytest.skip("there is no gcc here")
    (folder / "a.c").write_text(SOURCE)
    done = subprocess.run(
        ["gcc", "-O2", "-shared", "-fPIC", "-nostdlib", *flags, "-o", "lib.so", "a.c"], cwd=folder, capture_output=True
    )
    if done.returncode:
        pytest.skip("this gcc cannot build that")
    return (folder / "lib.so").read_bytes()


def traces(data):
    return sorted(function.trace.text for function in trace_binary("x", data).functions)


def damaged(data):
    """Yield the file with each field of its section table changed, as ``(field, bytes)``."""
    wide = data[4] == 2
    word, entry = (8, 64) if wide else (4, 40)
    table_at, entry_at = (40, 58) if wide else (32, 46)
    offset_at, size_at, address_at = (24, 32, 16) if wide else (16, 20, 12)
    table = int.from_bytes(data[table_at : table_at + word], "little")
    (count,) = struct.unpack_from("<H", data, entry_at + 2)

    def put(*changes):
        changed = bytearray(data)
        for at, value, size in changes:
            changed[at : at + size] = (value % 2 ** (8 * size)).to_bytes(size, "little")
        return bytes(changed)

    yield "absent", put((table_at, 0, word), (entry_at + 2, 0, 4))
    for value in (0, table // 2, table - entry, 0xCD000004B8):
        yield f"table at {value}", put((table_at, value, word))
    for value in (0, 3, count + 1, 0x3000, 0xFFFF):
        yield f"{value} entries", put((entry_at + 2, value, 2))
    for value in (0, 3, 60_000, 0xFFFF):
        yield f"names in {value}", put((entry_at + 4, value, 2))
    for value in (0, 1, entry + 1, 0xFFFF):
        yield f"entries of {value}", put((entry_at, value, 2))
    for number in range(1, count):
        at = table + number * entry
        for value in (0, 7, -1):
            yield f"size of {number} {value}", put((at + size_at, value, word))
        yield f"address of {number}", put((at + address_at, 0x1000, word))
        yield f"offset of {number}", put((at + offset_at, -16, word))
        yield f"kind of {number}", put((at + 4, 1, 4))
        yield f"flags of {number}", put((at + 8, 6, word))
        yield f"name of {number}", put((at, -1, 4))
    yield "all of wild size", put(*[(table + n * entry + size_at, -1, word) for n in range(count)])
    yield "all at one place", put(*[(table + n * entry + address_at, 0x1000, word) for n in range(1, count)])
    yield "cut off", data[:table]


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_a_damaged_section_table_changes_no_trace(tmp_path, flags):
    whole = built(tmp_path, *flags)
    expected = traces(whole)
    assert len(expected) >= 4
    assert {what for what, data in damaged(whole) if traces(data) != expected} == set()


def test_exported_names_are_read_without_sections(tmp_path):
    bare = next(data for what, data in damaged(built(tmp_path)) if what == "absent")
    assert {"add", "by_pointer", "tail", "go"} <= {function.name for function in read_binary(bare).functions}


def test_frames_of_a_static_program_are_located_without_a_header(tmp_path):
    if not shutil.which("gcc"):
        pytest.skip("there is no gcc here")
    (tmp_path / "a.c").write_text(
        "int add(int a, int b) { return a + b; }\nvoid _start(void) { for (;;) add(1, 2); }\n"
    )
    made = subprocess.run(
        ["gcc", "-O0", "-static", "-nostdlib", "-o", "program", "a.c"], cwd=tmp_path, capture_output=True
    )
    if made.returncode:
        pytest.skip("this gcc builds no static programs")
    whole = (tmp_path / "program").read_bytes()
    bare = next(data for what, data in damaged(whole) if what == "absent")
    assert traces(bare) == traces(whole) and len(traces(whole)) == 2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_frames_without_header_or_section_are_located_by_their_contents(architecture):
    golden = GOLDEN[architecture]
    whole = write_elf(architecture, golden, symbols=False, sections=False)
    unnamed = whole.replace(struct.pack("<I", 0x6474E550), struct.pack("<I", 0), 1)  # the segment of the header
    assert traces(unnamed) == sorted(g.trace for g in golden)


def test_invalid_section_tables_are_ignored():
    whole = bytearray(write_elf("x86-64", GOLDEN["x86-64"]))
    assert [s.name for s in read_headers(bytes(whole)).sections][:2] == ["", ".text"]
    whole[40:48] = struct.pack("<Q", 64)  # the program headers, whose first entry is not empty
    assert read_headers(bytes(whole)).sections == ()


def test_bytes_after_the_last_listed_frame_are_not_read():
    """The table has no terminator, and the bytes after it happen to be a valid entry."""
    ranges = [(0x1000, 16), (0x1020, 8), (0x1040, 4)]
    table = frames(ranges, 0x2000)[:-4]
    entries = [n for n in range(0, len(table), 4) if struct.unpack_from("<I", table, n)[0] in (16, 20)]
    last = [0x2000 + place - 0x1F00 for place in entries[-3:-1]]
    header = (
        bytes([1, 0x1B, 0x03, 0x3B])
        + struct.pack("<iI", 0x2000 - 0x1F04, 2)
        + b"".join(struct.pack("<ii", 0, at) for at in last)
    )
    end = last_listed_frame(header, 0x1F00)
    assert list(frame_ranges(table, 0x2000, True)) == ranges
    assert end is not None and list(frame_ranges(table, 0x2000, True, end - 0x2000)) == ranges[:2]
    assert (
        last_listed_frame(header[:12], 0x1F00) is None
        and last_listed_frame(header[:2] + b"\xff" + header[3:], 0x1F00) is None
    )


def test_a_file_that_ends_before_its_segments_is_cut_off():
    whole = write_elf("x86-64", GOLDEN["x86-64"])
    with pytest.raises(Unreadable, match="cut off"):
        read_binary(whole[: len(whole) // 2])


PUSH, JUMP, ENDBR = (
    b"\xff\x35" + struct.pack("<i", 0x1000),
    b"\xff\x25" + struct.pack("<i", 0x1000),
    b"\xf3\x0f\x1e\xfa",
)
NUMBERED = b"\x68\1\0\0\0" + b"\xe9\xe0\xff\xff\xff"
STUBS = {
    "lazy": PUSH + JUMP + b"\x0f\x1f\x40\0" + (JUMP + NUMBERED) * 2,
    "direct": (JUMP + b"\x66\x90") * 3,
    "protected": PUSH + b"\xf2" + JUMP + b"\x0f\x1f\0" + (ENDBR + b"\x68\1\0\0\0\xf2\xe9\xe0\xff\xff\xff\x90") * 2,
    "protected, second": (ENDBR + b"\xf2" + JUMP + b"\x0f\x1f\x44\0\0") * 2,
}  # fmt: skip
FUNCTIONS = {
    "a tail call through a pointer": JUMP,
    "the same, protected": ENDBR + JUMP,
    "a stub and a return": JUMP + NUMBERED + b"\xc3" * 16,
    "nothing": b"",
    "padding": b"\x90" * 16,
}


@pytest.mark.parametrize("code", STUBS.values(), ids=STUBS)
def test_stubs_are_recognised_by_their_shape(code):
    assert is_stub(code, 0x1000, "x86-64", lambda slot: 0x2000 <= slot < 0x3000)
    assert not is_stub(code, 0x1000, "x86-64", lambda slot: False), "what they jump through is data"
    assert not is_stub(code, 0x1000, "aarch64", lambda slot: True)


@pytest.mark.parametrize("code", FUNCTIONS.values(), ids=FUNCTIONS)
def test_functions_that_jump_through_pointers_are_not_stubs(code):
    assert not is_stub(code, 0x1000, "x86-64", lambda slot: True)
