"""Small ELF files written by hand, and functions assembled by hand to put into them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

MACHINES = {"x86": (3, False), "x86-64": (62, True), "aarch64": (183, True)}


@dataclass(frozen=True)
class Code:
    """A function: its name, its bytes, and its expected trace."""

    name: str
    code: bytes
    trace: str = ""


def _arm(*words: int) -> bytes:
    return struct.pack(f"<{len(words)}I", *words)


GOLDEN = {
    "x86-64": [
        Code(
            "first",
            bytes.fromhex("55 4889e5 897dfc 8b45fc 83f8c0 7e07 e80010f0ff eb05 488d0500200000 64488b042528000000 48b8ffffffffffffffff 5d c3"),
            "push rbp [NEXT] mov rbp rsp [NEXT] mov dword [ rbp - 4 ] edi [NEXT] mov eax dword [ rbp - 4 ] [NEXT] cmp eax -64 [NEXT] "
            "jle rel 9 [NEXT] call ext [NEXT] jmp rel 7 [NEXT] lea rax [ rip + ext ] [NEXT] mov rax qword [ fs + 40 ] [NEXT] "
            "movabs rax 18446744073709551615 [NEXT] pop rbp [NEXT] ret",
        ),
        Code(
            "second",
            bytes.fromhex("f3 48ab f0 0fc104 8f 62f1fd4928c1 c5f877 06 e8f2ffffff"),
            "rep stosq qword [ rdi ] rax [NEXT] lock xadd dword [ rdi + rcx * 4 ] eax [NEXT] vmovapd zmm0 { k1 } zmm1 [NEXT] "
            "vzeroupper [NEXT] .byte 6 [NEXT] call rel -9",
        ),
    ],
    "x86": [
        Code(
            "first",
            bytes.fromhex("55 89e5 8b4508 83c005 75f8 e8fbfff0ff 8d0c8d00000000 5d c20800"),
            "push ebp [NEXT] mov ebp esp [NEXT] mov eax dword [ ebp + 8 ] [NEXT] add eax 5 [NEXT] jne rel -6 [NEXT] call ext [NEXT] "
            "lea ecx [ ecx * 4 ] [NEXT] pop ebp [NEXT] ret 8",
        ),
    ],
    "aarch64": [
        Code(
            "first",
            _arm(0xA9BF7BFD, 0x910003FD, 0xB4000060, 0x94100000, 0x90000080, 0xF9400BE1, 0x4EA11C22, 0xFFFFFFFF, 0x54FFFFA1, 0xA8C17BFD, 0xD65F03C0),
            "stp x29 x30 [ sp -16 ] ! [NEXT] mov x29 sp [NEXT] cbz x0 rel 12 [NEXT] bl ext [NEXT] adrp x0 ext [NEXT] "
            "ldr x1 [ sp 16 ] [NEXT] mov v2.16b v1.16b [NEXT] .byte 255 255 255 255 [NEXT] b.ne rel -12 [NEXT] "
            "ldp x29 x30 [ sp ] 16 [NEXT] ret",
        ),
    ],
}  # fmt: skip


def _cie(pad: int) -> bytes:
    body = struct.pack("<IB", 0, 1) + b"zR\0" + bytes([1, 0x78, 16, 1, 0x1B]) + b"\0" * pad
    body += b"\0" * (-len(body) % 4)
    return struct.pack("<I", len(body)) + body


def frames(ranges: list[tuple[int, int]], address: int, pad: int = 3) -> bytes:
    """Return an ``.eh_frame`` at ``address`` for functions ``(begin, length)``."""
    table = _cie(pad)
    for begin, length in ranges:
        place = len(table)
        body = struct.pack("<IiIB", place + 4, begin - (address + place + 8), length, 0) + b"\0" * 3
        table += struct.pack("<I", len(body)) + body
    return table + b"\0" * 4


def write_elf(
    architecture: str,
    functions: list[Code],
    *,
    base: int = 0,
    fixed: bool = False,
    symbols: bool = True,
    with_frames: bool = True,
    sections: bool = True,
    gap: int = 5,
    stubs: bytes = b"",
    kind: int | None = None,
    frameless: int = 0,
) -> bytes:
    """An ELF file whose one segment is the whole file, loaded at ``base``.

    Args:
        fixed: linked for this place (``ET_EXEC``), otherwise for any (``ET_DYN``).
        symbols: write ``.symtab``; a stripped file has none.
        with_frames: write ``.eh_frame``.
        sections: write section headers; without, ``.eh_frame`` is found by its header.
        gap: bytes of padding between functions; negative = by how much they overlap.
        frameless: how many functions at the end only have a symbol.
        stubs: code of a ``.plt`` in front of them, with a frame.
    """
    machine, wide = MACHINES[architecture]
    header_size, segment_size, section_size, symbol_size = (64, 56, 64, 24) if wide else (52, 32, 40, 16)
    text_at = 0x200
    text, places = stubs, []
    for function in functions:
        places.append(base + text_at + len(text))
        text = (text + function.code + b"\xcc" * gap)[: gap if gap < 0 else None]
    pieces = [(".text", 1, 6, text_at + len(stubs), text[len(stubs) :])]
    if stubs:
        pieces.append((".plt", 1, 6, text_at, stubs))
    at = text_at + len(text)
    frame_header = None
    if with_frames:
        ranges = list(zip(places, (len(f.code) for f in functions), strict=True))[: len(functions) - frameless]
        at += -at % 8
        frame_header = at
        header = bytes([1, 0x1B, 0x03, 0x3B]) + struct.pack("<iI", 12 - 4, 0)
        pieces.append((".eh_frame_hdr", 1, 2, at, header))
        at += 12
        table = frames([*([(base + text_at, len(stubs))] if stubs else []), *ranges], base + at)
        pieces.append((".eh_frame", 1, 2, at, table))
        at += len(table)
    if symbols:
        names, table = b"\0", b"\0" * symbol_size
        for function, place in zip(functions, places, strict=True):
            fields = {"name": len(names), "value": place, "size": len(function.code)}
            table += (
                struct.pack("<IBBHQQ", fields["name"], 0x12, 0, 1, fields["value"], fields["size"])
                if wide
                else struct.pack("<IIIBBH", fields["name"], fields["value"], fields["size"], 0x12, 0, 1)
            )
            names += function.name.encode() + b"\0"
        pieces += [(".symtab", 2, 0, at, table), (".strtab", 3, 0, at + len(table), names)]
        at += len(table) + len(names)
    strings = b"\0"
    headers = [b"\0" * section_size]
    pieces.append((".shstrtab", 3, 0, at, b""))
    numbers = {piece[0]: n for n, piece in enumerate(pieces, 1)}
    string_table = b"\0" + b"".join(piece[0].encode() + b"\0" for piece in pieces)
    for name, sort, flags, offset, content in pieces:
        content = string_table if name == ".shstrtab" else content
        link = numbers.get(".strtab", 0) if name == ".symtab" else 0
        values = (
            len(strings), sort, flags, base + offset if flags else 0, offset, len(content), link, 0, 1, symbol_size if sort == 2 else 0,
        )  # fmt: skip
        headers.append(struct.pack("<IIQQQQIIQQ" if wide else "<10I", *values))
        strings += name.encode() + b"\0"
    end = at + len(string_table)
    body = bytearray(end)
    for name, _, _, offset, content in pieces:
        content = string_table if name == ".shstrtab" else content
        body[offset : offset + len(content)] = content
    segments = [(1, 5, 0, base, end)]
    if frame_header is not None:
        segments.append((0x6474E550, 4, frame_header, base + frame_header, 12))
    for number, (sort, flags, offset, address, size) in enumerate(segments):
        values = (
            (sort, flags, offset, address, address, size, size, 4096)
            if wide
            else (sort, offset, address, address, size, size, flags, 4096)
        )
        struct.pack_into("<IIQQQQQQ" if wide else "<8I", body, header_size + number * segment_size, *values)
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + b"\0" * 9
    counts = (
        header_size,
        segment_size,
        len(segments),
        section_size,
        len(headers) if sections else 0,
        len(headers) - 1 if sections else 0,
    )
    start = struct.pack(
        "<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH",
        kind if kind is not None else 2 if fixed else 3, machine, 1, base + text_at, header_size, end if sections else 0, 0, *counts,
    )  # fmt: skip
    body[:header_size] = ident + start
    return bytes(body) + (b"".join(headers) if sections else b"")
