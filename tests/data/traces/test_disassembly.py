"""Disassembly: golden traces, every byte accounted for, and independence of addresses and names."""

import struct
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("capstone")

from tests.data.traces.elves import GOLDEN, Code, frames, write_elf
from unmask.data.traces.binary_files import trace_binary
from unmask.data.traces.elf import LONGEST_FUNCTION, Unreadable, read_binary
from unmask.data.traces.frames import frame_ranges
from unmask.data.traces.instruction_text import ARCHITECTURES, InstructionText
from unmask.data.traces.sweep import Sweep, capstone
from unmask.data.traces.trace_tokenizer import trace_tokenizer


def traces(data: bytes) -> list[str]:
    return [function.trace.text for function in trace_binary("x", data).functions]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_golden_traces(architecture):
    golden = GOLDEN[architecture]
    traced = trace_binary("x", write_elf(architecture, golden))
    assert traced.architecture == architecture
    assert [(f.name, f.code, f.trace.text) for f in traced.functions] == [(g.name, g.code, g.trace) for g in golden]
    assert [f.trace.instructions for f in traced.functions] == [g.trace.count("[NEXT]") + 1 for g in golden]
    assert traced.undecoded == {"x86": 0, "x86-64": 1, "aarch64": 4}[architecture]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("other", [{"base": 0x7F0000}, {"base": 0x400000, "fixed": True}, {"gap": 21}, {"symbols": False},
                                   {"with_frames": False}, {"symbols": False, "sections": False}])  # fmt: skip
def test_addresses_and_names_change_no_trace(architecture, other):
    golden = GOLDEN[architecture]
    assert traces(write_elf(architecture, golden, **other)) == [g.trace for g in golden]
    renamed = [Code(f"another_{n}", g.code) for n, g in enumerate(golden)]
    assert traces(write_elf(architecture, renamed, **other)) == [g.trace for g in golden]


def _fixed_function(base: int) -> list[Code]:
    """mov edi, address; mov rax, [address]; mov eax, [rax * 8 + address]; a number that is none; ret"""
    address = struct.pack("<I", base + 0x230)
    code = (
        b"\xbf" + address + b"\x48\x8b\x04\x25" + address + b"\x8b\x04\xc5" + address + bytes.fromhex("b900000010 c3")
    )
    return [Code("f", code)]


def test_addresses_of_a_fixed_binary_are_not_in_its_traces():
    at = {
        base: traces(write_elf("x86-64", _fixed_function(base), base=base, fixed=True)) for base in (0x400000, 0x800000)
    }
    assert at[0x400000] == at[0x800000]
    assert at[0x400000] == [
        "mov edi ext [NEXT] mov rax qword [ ext ] [NEXT] mov eax dword [ rax * 8 + ext ] [NEXT] mov ecx 268435456 [NEXT] ret"
    ]
    anywhere = traces(write_elf("x86-64", _fixed_function(0x400000)))  # without a fixed place a number is a number
    assert anywhere[0].startswith("mov edi 4194864 ")


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=5), st.sampled_from(ARCHITECTURES))
@settings(max_examples=20, deadline=None)
def test_stripping_changes_no_trace(codes, architecture):
    functions = [Code(f"n{n}", code) for n, code in enumerate(codes)]
    whole = traces(write_elf(architecture, functions))
    assert whole == traces(write_elf(architecture, functions, symbols=False, base=0x10000))
    assert whole == traces(write_elf(architecture, functions, symbols=False, sections=False))


@given(st.binary(min_size=1, max_size=300), st.sampled_from(ARCHITECTURES))
@settings(max_examples=150, deadline=None)
def test_every_byte_is_in_the_trace_or_accounted_for(code, architecture):
    address = 0x40000000
    trace = Sweep(architecture)(address, code)
    swept = list(capstone(architecture).disasm_lite(code, address))
    rest = code[sum(size for _, size, _, _ in swept) :]
    if rest:  # Capstone stops before a last piece that is shorter than an instruction
        assert architecture == "aarch64" and len(rest) < 4
        swept.append((0, len(rest), ".byte", " ".join(map(str, rest))))
    entries = trace.text.split(" [NEXT] ")
    assert len(entries) == len(swept) == trace.instructions
    data = [entry.split() for entry in entries if entry.startswith(".byte")]
    assert (
        sum(len(words) - 1 for words in data)
        == trace.undecoded
        == sum(size for _, size, name, _ in swept if name == ".byte")
    )
    for entry, (_, _, mnemonic, operands) in zip(entries, swept, strict=True):
        assert entry.split()[: len(mnemonic.split())] == mnemonic.split()
        assert entry == " ".join(entry.split()) and entry.isascii()
        if "rel" in entry.split() or "ext" in entry.split():
            continue
        # No part of the operands is lost but commas, number signs and the word "ptr"; integers keep their value.
        assert _canonical(entry[len(mnemonic) :]) == _canonical(operands.replace(":[", "+").replace("ptr ", ""))


def _canonical(text: str) -> str:
    import re

    text = re.sub(r"0x[0-9a-f]+", lambda found: str(int(found[0], 16)), text)
    text = re.sub(r"[0-9]+\.[0-9]+", lambda found: str(float(found[0])), text)
    return re.sub(r"[\s,#\[]", "", text)


def test_the_cache_of_words_changes_no_trace(monkeypatch):
    """The cache of texts changes no words, full or empty."""
    code = b"".join(g.code for g in GOLDEN["x86-64"]) * 3
    expected = Sweep("x86-64")(0, code)
    monkeypatch.setattr("unmask.data.traces.instruction_text._CACHED", 1)
    sweep = Sweep("x86-64")
    assert sweep(0, code) == expected == sweep(0, code)
    assert len(sweep._text.known) <= 1


@pytest.mark.parametrize(
    ("mnemonic", "operands", "words"),
    [
        ("jmp", "0x1010", "jmp rel 16"), ("jmp", "0xfff", "jmp ext"), ("jmp", "0x1100", "jmp ext"), ("bnd jmp", "0x10ff", "bnd jmp rel 255"),
        ("push", "0x1010", "push 4112"), ("jmp", "qword ptr [rip - 0x10]", "jmp qword [ rip + ext ]"), ("loop", "0x1000", "loop rel 0"),
        ("mov", "rax, -0x8000000000000000", "mov rax -9223372036854775808"), ("fld", "st(1)", "fld st(1)"),
        ("vaddps", "zmm1 {k2} {z}, zmm0, dword ptr [rax - 4]{1to16}", "vaddps zmm1 { k2 } { z } zmm0 dword [ rax - 4 ] { 1to16 }"),
        ("vaddps", "zmm0, zmm1, zmm2, {rn-sae}", "vaddps zmm0 zmm1 zmm2 { rn-sae }"),
    ],
)  # fmt: skip
def test_words_of_x86(mnemonic, operands, words):
    assert InstructionText("x86-64")(mnemonic, operands, 0x1000, 0x1000, 0x1100) == words


@pytest.mark.parametrize(
    ("mnemonic", "operands", "words"),
    [
        ("tbz", "w0, #3, #0x1010", "tbz w0 3 rel 16"), ("b.eq", "#0x2000", "b.eq ext"), ("adrp", "x1, #0x1000", "adrp x1 ext"),
        ("adr", "x1, #0x1008", "adr x1 rel 8"), ("ldr", "x1, #0x1008", "ldr x1 rel 8"), ("ldr", "x0, [x1, #0x10]!", "ldr x0 [ x1 16 ] !"),
        ("ldr", "x0, [x1], #-8", "ldr x0 [ x1 ] -8"), ("movk", "x0, #0x12, lsl #16", "movk x0 18 lsl 16"),
        ("fmov", "d0, #1.50000000", "fmov d0 1.5"), ("ld2", "{v19.b, v20.b}[0xf], [x14]", "ld2 { v19.b v20.b } [ 15 ] [ x14 ]"),
        ("fmla", "z5.s, p3/m, z0.s, z5.s", "fmla z5.s p3/m z0.s z5.s"), ("b", "#0x1000", "b rel 0"), ("brk", "#0x1000", "brk 4096"),
    ],
)  # fmt: skip
def test_words_of_aarch64(mnemonic, operands, words):
    assert InstructionText("aarch64")(mnemonic, operands, 0x1000, 0x1000, 0x1100) == words


def test_frames_define_functions_if_they_cover_the_code():
    long, short = Code("long", b"\x90" * 60 + b"\xc3"), Code("short", bytes.fromhex("31c0c3"))
    whole, stripped = (
        traces(write_elf("x86-64", [long, short], frameless=1, symbols=symbols)) for symbols in (True, False)
    )
    assert whole == stripped and len(whole) == 1
    thin = traces(write_elf("x86-64", [short, long], frameless=1))
    assert thin == ["xor eax eax [NEXT] ret", "nop [NEXT] " * 60 + "ret"]


def test_linker_stubs_are_left_out():
    golden = GOLDEN["x86-64"]
    binary = read_binary(write_elf("x86-64", golden, stubs=b"\xff\x25\x00\x00\x00\x00" * 4))
    assert [f.name for f in binary.functions] == [g.name for g in golden] and binary.left_out == {"linker stubs": 1}


def test_overlong_and_overlapping_functions_are_counted():
    code = Code("huge", b"\x90" * (LONGEST_FUNCTION + 1))
    binary = read_binary(write_elf("x86-64", [GOLDEN["x86-64"][0], code]))
    assert len(binary.functions) == 1 and binary.left_out == {f"longer than {LONGEST_FUNCTION // 1024} KiB": 1}
    overlapping = read_binary(write_elf("x86-64", [GOLDEN["x86-64"][0], Code("f", b"\x90" * 9)], gap=-4))
    assert overlapping.left_out == {"overlaps another": 1}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not an ELF file"), (b"#!/bin/sh\n", "not an ELF file"), (b"\x7fELF", "cut off or damaged"),
        (b"\x7fELF" + b"\xff" * 200, "cut off or damaged"), (write_elf("x86", [])[:60], "cut off or damaged"),
        (write_elf("x86-64", [], symbols=False, with_frames=False), "no function found"),
        (write_elf("x86-64", GOLDEN["x86-64"], symbols=False, with_frames=False), "no function found"),
        (write_elf("x86-64", GOLDEN["x86-64"], kind=1), "an object file that is not linked"),
        (write_elf("x86-64", GOLDEN["x86-64"], kind=4), "neither a program nor a library"),
        (write_elf("x86-64", GOLDEN["x86-64"]).replace(struct.pack("<HH", 3, 62), struct.pack("<HH", 3, 8), 1), "of another architecture"),
    ],
)  # fmt: skip
def test_unreadable_files_have_a_reason(data, reason):
    with pytest.raises(Unreadable, match=reason):
        read_binary(data)


@given(st.data(), st.sampled_from(ARCHITECTURES))
@settings(max_examples=120, deadline=None)
def test_damaged_files_are_read_or_refused(data, architecture):
    """Overwritten headers, tables and code, and truncated files, yield a result or a reason without delay."""
    whole = bytearray(write_elf(architecture, GOLDEN[architecture]))
    ends = [0, 64, 0x200, 0x240, len(whole)]
    for _ in range(data.draw(st.integers(1, 6))):
        part = data.draw(st.integers(0, 3))
        place = data.draw(st.integers(ends[part], ends[part + 1] - 1))
        value = data.draw(st.sampled_from([b"\0", b"\1", b"\xff", b"\xff" * 4, b"\xff" * 8, b"\0" * 8, b"\x40\0\0\0"]))
        whole[place : place + len(value)] = value
    cut = data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))
    try:
        binary = read_binary(bytes(whole[:cut]))
    except Unreadable as reason:
        assert 3 <= len(str(reason)) <= 60
        return
    ends_at = 0
    for function in binary.functions:
        assert function.code and function.address >= ends_at
        ends_at = function.address + len(function.code)


@given(st.binary(max_size=400), st.booleans())
@settings(max_examples=200, deadline=None)
def test_arbitrary_bytes_are_safe_as_a_frame_table(table, wide):
    assert all(0 <= begin < 2**64 and 0 <= length < 2**64 for begin, length in frame_ranges(table, 0, wide))
    prefix = frames([(0x1000, 16)], 0)[:-4]
    assert next(frame_ranges(prefix + table, 0, wide)) == (0x1000, 16)


def test_frames_with_an_unknown_augmentation_are_left_out():
    """The fields before the encoding of such a common entry have unknown size, so its frames would be misread."""
    table = frames([(0x1000, 16)], 0)
    assert list(frame_ranges(table, 0, True)) == [(0x1000, 16)]
    assert list(frame_ranges(table.replace(b"zR\0", b"zX\0"), 0, True)) == []
    assert list(frame_ranges(table.replace(b"zR\0", b"yR\0"), 0, True)) == []


def _a_binary() -> Path:
    import numpy

    folder = Path(numpy.__file__).parent / "linalg"
    return next(iter(sorted(folder.glob("*umath*.so"))), Path(sysconfig.get_path("stdlib")))


@pytest.mark.skipif(not _a_binary().is_file(), reason="NumPy's libraries are no .so files here")
def test_frames_are_those_that_pyelftools_reads():
    pytest.importorskip("elftools")
    from elftools.dwarf.callframe import FDE
    from elftools.elf.elffile import ELFFile

    with open(_a_binary(), "rb") as file:
        elf = ELFFile(file)
        entries = elf.get_dwarf_info(relocate_dwarf_sections=False).EH_CFI_entries()
        theirs = [(e["initial_location"], e["address_range"]) for e in entries if isinstance(e, FDE)]
        section = elf.get_section_by_name(".eh_frame")
        ours = list(frame_ranges(section.data(), section["sh_addr"], elf.elfclass == 64))
    assert len(ours) > 50 and ours == theirs


@pytest.mark.skipif(not _a_binary().is_file(), reason="NumPy's libraries are no .so files here")
def test_traces_of_a_real_library_come_back_from_the_tokenizer():
    texts = traces(_a_binary().read_bytes())
    assert len(texts) > 30
    tokenizer = trace_tokenizer(texts[::2])
    for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
        assert tokenizer.decode(ids) == text
