"""From files and folders to the traces of each binary; this module runs inside the worker processes."""

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

_BYTES_PER_INSTRUCTION = 4  # roughly, on every architecture
T = TypeVar("T")
DUPLICATES = "duplicates of another"
_BEYOND = "beyond max_instructions"


@dataclass(frozen=True)
class Candidate:
    """A file that may be a binary.

    Attributes:
        path: path of the file.
        name: name of the binary in the corpus.
        size: size in bytes.
        max_instructions: largest number of instructions to keep; None = all.
        seed: key of the choice among its functions.
    """

    path: str
    name: str
    size: int
    max_instructions: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Skipped:
    """A file without traces, and the reason in a few words."""

    name: str
    reason: str


class TracedFunction(NamedTuple):
    """A function and its trace; ``code`` lies at ``address``."""

    name: str
    address: int
    code: bytes
    trace: Trace


@dataclass(frozen=True)
class TracedBinary:
    """The distinct functions of one binary.

    Attributes:
        name: name of the binary in the corpus.
        architecture: its architecture.
        functions: the functions that were kept.
        found: number of functions in the binary, repetitions included.
        instructions, undecoded: numbers of disassembled instructions, and of bytes that are no instruction.
        left_out: numbers of other functions, by reason.
    """

    name: str
    architecture: str
    functions: list[TracedFunction]
    found: int
    instructions: int
    undecoded: int
    left_out: Counter[str] = field(default_factory=Counter)


def find_files(paths: Iterable[str | os.PathLike[str]], most_bytes: int) -> tuple[list[Candidate], list[Skipped]]:
    """List the ELF files in paths and folders, sorted by name, and the files that are skipped.

    Folders are walked without following links. The name of a file is its path inside the folder.

    Args:
        paths: files and folders.
        most_bytes: larger files are skipped.

    Raises:
        ValueError: a path does not exist.
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
                f"There is no file or folder '{path}'.{nearest(str(path), beside)} Pass binaries, or folders that hold "
                "some."
            )
        for file, name in named:
            real = os.path.realpath(file)
            result = _inspect(file, os.fsencode(name).decode("utf-8", "replace"), most_bytes)
            if isinstance(result, Skipped):
                skipped[real] = result
            else:
                candidates[real] = result
    return sorted(candidates.values(), key=lambda c: (c.name, c.path)), sorted(skipped.values(), key=lambda s: s.name)


def _inspect(file: Path, name: str, most_bytes: int) -> Candidate | Skipped:
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would block
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
    """Read and disassemble one file, in a worker."""
    try:
        with open(candidate.path, "rb") as file:
            data = file.read(candidate.size + 1)
    except OSError as error:
        return Skipped(candidate.name, f"not readable ({error.strerror})")
    try:
        return trace_binary(candidate.name, data, candidate.max_instructions, candidate.seed)
    except Unreadable as reason:
        return Skipped(candidate.name, str(reason))


def trace_binary(name: str, data: bytes, max_instructions: int | None = None, seed: int = 0) -> TracedBinary:
    """Trace the functions of an ELF file, each distinct trace once, by address.

    Args:
        name: name of the binary in the corpus.
        data: contents of the file.
        max_instructions, seed: see ``distinct_traces``.

    Raises:
        Unreadable: the file holds no function, or cannot be read.
    """
    binary = read_binary(data)
    sweep = Sweep(binary.architecture, binary.image)
    functions = [(f, f) for f in binary.functions]
    traced = distinct_traces(
        name, binary.architecture, functions, lambda f: sweep(f.address, f.code), max_instructions, seed
    )
    traced.left_out.update(binary.left_out)
    return traced


def distinct_traces(
    name: str,
    architecture: str,
    functions: list[tuple[Function, T]],
    trace: Callable[[T], Trace],
    max_instructions: int | None,
    seed: int,
) -> TracedBinary:
    """Trace the functions of one binary and keep each distinct trace once, in the binary's order.

    Args:
        name, architecture: of the binary.
        functions: each with the argument of ``trace``.
        trace: disassembles one function.
        max_instructions: largest number of instructions to keep; None = all. Functions are tried in the order of a
            keyed hash of their code; those that do not fit are left out, mostly without being disassembled.
        seed: key of the hash.
    """
    order = list(range(len(functions)))
    if max_instructions is not None:
        order.sort(key=lambda n: (keyed_position(seed, functions[n][0].code), n))
    taken: dict[str, tuple[int, TracedFunction]] = {}
    left_out: Counter[str] = Counter()
    instructions = undecoded = used = 0
    for number in order:
        function, source = functions[number]
        if max_instructions is not None and len(function.code) // _BYTES_PER_INSTRUCTION > max_instructions - used:
            left_out[_BEYOND] += 1
            continue
        traced = trace(source)
        instructions += traced.instructions
        undecoded += traced.undecoded
        if traced.text in taken:
            left_out[DUPLICATES] += 1
        elif max_instructions is not None and traced.instructions > max_instructions - used:
            left_out[_BEYOND] += 1
        else:
            taken[traced.text] = (number, TracedFunction(*function, traced))
            used += traced.instructions
    kept = [function for _, function in sorted(taken.values(), key=lambda pair: pair[0])]
    return TracedBinary(name, architecture, kept, len(functions), instructions, undecoded, left_out)
