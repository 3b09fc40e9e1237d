"""Files and folders to the traces of each binary in them; what runs inside the worker processes."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from unmask.data.traces.elf import Function, Unreadable, read_binary
from unmask.data.traces.split import keyed_position
from unmask.data.traces.sweep import Sweep, Trace
from unmask.suggestions import nearest

_BYTES_PER_INSTRUCTION = 4  # about, in every architecture
T = TypeVar("T")
_BEYOND = "beyond the number of instructions asked for"


@dataclass(frozen=True)
class Candidate:
    """A file that may be a binary: its path, the name it goes by in the corpus, and its size in bytes; and how many
    instructions of it are wanted, None = all, the choice among them being keyed with ``seed``."""

    path: str
    name: str
    size: int
    share: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Skipped:
    """A file that gave no traces, and why, in a few words."""

    name: str
    reason: str


class TracedFunction(NamedTuple):
    name: str
    address: int
    code: bytes
    trace: Trace


@dataclass(frozen=True)
class TracedBinary:
    """The distinct functions of one binary.

    Attributes:
        found: how many functions it holds, with repetitions.
        instructions, undecoded: of all that were disassembled: instructions, and bytes that are none.
        left_out: functions that are not among ``functions``, by reason.
    """

    name: str
    architecture: str
    functions: list[TracedFunction]
    found: int
    instructions: int
    undecoded: int
    left_out: Counter[str] = field(default_factory=Counter)


def find_files(paths: Iterable[str | os.PathLike[str]], most_bytes: int) -> tuple[list[Candidate], list[Skipped]]:
    """The ELF files among ``paths`` and in the folders among them, sorted by name, and what is none.

    A folder is walked without following links. A file in it is called by its path inside the folder.

    Raises:
        ValueError: a path that does not exist.
    """
    candidates: dict[str, Candidate] = {}
    skipped: dict[str, Skipped] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = (Path(folder) / name for folder, _, names in os.walk(path) for name in names)
            named = [(file, file.relative_to(path).as_posix()) for file in inside if not file.is_symlink()]
        elif path.exists():
            named = [(path, path.name)]
        else:
            beside = [str(path.parent / other.name) for other in path.parent.iterdir()] if path.parent.is_dir() else []
            raise ValueError(
                f"There is no file or folder '{path}'.{nearest(str(path), beside)} Give binaries, or folders that hold some."
            )
        for file, name in named:
            place = os.path.realpath(file)
            looked = _look(file, os.fsencode(name).decode("utf-8", "replace"), most_bytes)
            if isinstance(looked, Skipped):
                skipped[place] = looked
            else:
                candidates[place] = looked
    return sorted(candidates.values(), key=lambda c: (c.name, c.path)), sorted(skipped.values(), key=lambda s: s.name)


def _look(file: Path, name: str, most_bytes: int) -> Candidate | Skipped:
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would wait for ever
            return Skipped(name, "not a regular file")
        with open(file, "rb") as opened:
            magic = opened.read(4)
    except OSError as error:
        return Skipped(name, f"not readable ({error.strerror})")
    if magic != b"\x7fELF":
        return Skipped(name, "not an ELF file")
    if status.st_size > most_bytes:
        return Skipped(name, f"larger than {most_bytes / 2**20:g} MiB")
    return Candidate(str(file), name, status.st_size)


def trace_file(candidate: Candidate) -> TracedBinary | Skipped:
    """Read, find, disassemble: one file, in a worker."""
    try:
        with open(candidate.path, "rb") as file:
            data = file.read(candidate.size + 1)
    except OSError as error:
        return Skipped(candidate.name, f"not readable ({error.strerror})")
    try:
        return trace_binary(candidate.name, data, candidate.share, candidate.seed)
    except Unreadable as reason:
        return Skipped(candidate.name, str(reason))


def trace_binary(name: str, data: bytes, share: int | None = None, seed: int = 0) -> TracedBinary:
    """Traces of the functions of an ELF file, each once, by address.

    Args:
        share, seed: see ``distinct_traces``.

    Raises:
        Unreadable: there are none, or they cannot be read.
    """
    binary = read_binary(data)
    sweep = Sweep(binary.architecture, binary.image)
    traced = distinct_traces(
        name, binary.architecture, [(f, f) for f in binary.functions], lambda f: sweep(f.address, f.code), share, seed
    )
    traced.left_out.update(binary.left_out)
    return traced


def distinct_traces(
    name: str,
    architecture: str,
    functions: list[tuple[Function, T]],
    trace: Callable[[T], Trace],
    share: int | None,
    seed: int,
) -> TracedBinary:
    """The distinct traces of the functions of one binary, in its order.

    Args:
        functions: each with what ``trace`` makes its trace of.
        share: at most how many instructions to take, None = all. Functions are tried in the order of a keyed hash of their
            code; those that do not fit are left out, mostly without being disassembled.
        seed: the key.
    """
    order = list(range(len(functions)))
    if share is not None:
        order.sort(key=lambda n: (keyed_position(seed, functions[n][0].code), n))
    taken: dict[str, tuple[int, TracedFunction]] = {}
    left_out: Counter[str] = Counter()
    instructions = undecoded = used = 0
    for number in order:
        function, source = functions[number]
        if share is not None and len(function.code) // _BYTES_PER_INSTRUCTION > share - used:
            left_out[_BEYOND] += 1
            continue
        made = trace(source)
        instructions += made.instructions
        undecoded += made.undecoded
        if made.text in taken:
            left_out["the same as another"] += 1
        elif share is not None and made.instructions > share - used:
            left_out[_BEYOND] += 1
        else:
            taken[made.text] = (number, TracedFunction(*function, made))
            used += made.instructions
    kept = [function for _, function in sorted(taken.values(), key=lambda pair: pair[0])]
    return TracedBinary(name, architecture, kept, len(functions), instructions, undecoded, left_out)
