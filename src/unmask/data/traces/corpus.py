"""From many binaries to one file of traces: every function once, no function on both sides of the split.

Two corpora are built in (``BUILT_IN_TRACES``): ``wheels``, the native libraries of installed packages, and ``python``,
CPython bytecode of the standard library.

Training binaries come first, then test binaries, each by name. A trace that already occurred is a duplicate and left
out, so no trace of a training binary is in the test set, in whatever order files are found.
"""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import blake2b
from importlib import import_module

from unmask.data.cores import available_cores
from unmask.data.traces.binary_files import (
    DUPLICATES,
    Candidate,
    Skipped,
    TracedBinary,
    TracedFunction,
    find_files,
    trace_file,
)
from unmask.data.traces.bytecode import module_files, trace_module
from unmask.data.traces.isolation import Failure, isolated
from unmask.data.traces.split import family, held_out_families
from unmask.data.traces.table import BUILT_IN_TRACES, TraceRow, write_traces
from unmask.data.traces.wheels import wheel_libraries, wheel_versions
from unmask.suggestions import nearest

BUILT_IN_INSTRUCTIONS = 1_000_000  # size of a built-in corpus that is read as a source
TEST_FRACTION = 0.1
_FILE_BYTES_PER_INSTRUCTION = 3  # files are rarely denser, as an instruction has about four bytes
VERSION = 1  # increment when the traces change for unchanged binaries

Progress = Callable[[int, int, int], None]  # files done, total files, instructions so far


@dataclass
class Summary:
    """Counts of everything that was read, written and left out; ``functions`` and ``instructions`` were written."""

    files: int = 0
    binaries: int = 0
    skipped: Counter[str] = field(default_factory=Counter)  # files, by reason
    skipped_examples: dict[str, str] = field(default_factory=dict)  # the first file of each reason
    functions_found: int = 0
    left_out: Counter[str] = field(default_factory=Counter)  # functions, by reason
    instructions_found: int = 0
    undecoded_bytes: int = 0
    functions: int = 0
    instructions: int = 0
    train_functions: int = 0
    test_functions: int = 0
    test_binaries: int = 0
    seconds: float = 0.0

    def skip(self, skipped: Skipped) -> None:
        """Count a skipped file."""
        self.skipped[skipped.reason] += 1
        self.skipped_examples.setdefault(skipped.reason, skipped.name)


def disassemble(
    paths: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    test_fraction: float = TEST_FRACTION,
    seed: int = 0,
    max_instructions: int | None = None,
    workers: int | None = None,
    seconds: float = 60.0,
    megabytes: float = 64.0,
    progress: Progress | None = None,
) -> Summary:
    """Disassemble binaries into a file of traces.

    Args:
        paths: ELF files and folders of them, or one name of ``BUILT_IN_TRACES``.
        out: the Parquet file to write; it appears once complete.

    Other Parameters:
        test_fraction: fraction of the binaries that form the test set; see ``unmask.data.traces.split``.
        seed: seed of that choice, and of the functions kept under ``max_instructions``.
        max_instructions: largest number of instructions to write, divided among the binaries; None = all. The others
            are mostly not even disassembled.
        workers: processes (None = one per core); the file does not depend on it. In a script, call this under
            ``if __name__ == "__main__":``.
        seconds: processor time per file; slower files are skipped.
        megabytes: larger files are skipped.
        progress: called with ``(files done, total files, instructions so far)``.

    Returns:
        Counts of everything read, written and left out.

    Raises:
        ValueError: a path does not exist, a limit is not positive, or no function was found.
        ImportError: Capstone is not installed.
    """
    if seconds <= 0 or megabytes <= 0 or (workers is not None and workers < 1):
        raise ValueError(
            f"The limits are {seconds} seconds, {megabytes} MiB and {workers} workers; each must be greater than zero."
        )
    started = time.monotonic()
    work = _work([os.fspath(path) for path in paths], int(megabytes * 2**20), test_fraction, seed, max_instructions)
    summary = Summary(files=len(work.ordered) + len(work.skipped))
    for skipped in work.skipped:
        summary.skip(skipped)
    with write_traces(out) as writer:
        traced = work.traced(workers or available_cores(), seconds, _memory(megabytes))
        for number, rows in enumerate(gather(traced, work.held_out, summary), 1):
            writer.write(rows)
            if progress is not None:
                progress(number, len(work.ordered), summary.instructions_found)
        if not summary.functions:
            raise ValueError(_nothing(summary))
    summary.seconds = time.monotonic() - started
    return summary


@cache
def built_in_rows(name: str, max_instructions: int = BUILT_IN_INSTRUCTIONS) -> tuple[TraceRow, ...]:
    """Return the rows of a built-in corpus: some tens of megabytes, computed once per process.

    Args:
        name: one of ``BUILT_IN_TRACES``.
        max_instructions: largest number of instructions.

    Raises:
        ValueError: there is no such corpus, or not on this operating system.
    """
    if name not in BUILT_IN_TRACES:
        raise ValueError(
            f"There is no built-in corpus of traces '{name}'.{nearest(name, BUILT_IN_TRACES)} The built-in ones are: "
            f"{', '.join(BUILT_IN_TRACES)}."
        )
    work = _work([name], 2**26, TEST_FRACTION, 0, max_instructions)
    rows = gather(work.traced(available_cores(), 60.0, _memory(64)), work.held_out, Summary())
    return tuple(row for some in rows for row in some)


def built_in_version(name: str) -> str:
    """Return the versions that the traces of a built-in corpus depend on."""
    code = f"python {platform.python_version()}" if name == "python" else wheel_versions()
    return f"traces:{name}/{VERSION}/{code}"


@dataclass(frozen=True)
class _Work:
    """Files in the order of writing, the function that traces each, the held-out families, and the skipped files."""

    function: Callable[[Candidate], TracedBinary | Skipped]
    ordered: list[Candidate]
    held_out: set[str]
    skipped: list[Skipped]

    def traced(self, workers: int, seconds: float, memory: int) -> Iterator[TracedBinary | Skipped]:
        results = isolated(self.function, self.ordered, max(1, min(workers, len(self.ordered))), seconds, memory)
        for candidate, result in zip(self.ordered, results, strict=True):
            yield Skipped(candidate.name, result.reason) if isinstance(result, Failure) else result


def _work(paths: list[str], most_bytes: int, test_fraction: float, seed: int, max_instructions: int | None) -> _Work:
    if max_instructions is not None and max_instructions < 1:
        raise ValueError(
            f"max_instructions is {max_instructions}; pass the largest number of instructions to keep, at least 1, or "
            "None."
        )
    built_in = [path for path in paths if path in BUILT_IN_TRACES and not os.path.exists(path)]
    if built_in and len(paths) > 1:
        raise ValueError(
            f"'{built_in[0]}' is a built-in corpus and cannot be combined with other paths ({len(paths)} were given). "
            "Pass it alone."
        )
    function: Callable[[Candidate], TracedBinary | Skipped] = trace_file
    skipped: list[Skipped] = []
    if built_in == ["python"]:
        function, candidates = trace_module, module_files()
    else:
        _require_libraries()
        if built_in == ["wheels"]:
            candidates = wheel_libraries()
        else:
            candidates, skipped = find_files(paths, most_bytes)
    held_out = held_out_families((c.name for c in candidates), test_fraction, seed)
    ordered = sorted(candidates, key=lambda c: (family(c.name) in held_out, c.name, c.path))
    if max_instructions is not None:
        ordered = _with_limits(ordered, max_instructions, seed)
    return _Work(function, ordered, held_out, skipped)


def _with_limits(candidates: list[Candidate], instructions: int, seed: int) -> list[Candidate]:
    """Divide a number of instructions among binaries equally, except that small ones need less."""
    left = instructions
    limits = {}
    smallest_first = sorted(candidates, key=lambda c: (c.size, c.name, c.path))
    for number, candidate in enumerate(smallest_first):
        limits[candidate] = min(candidate.size // _FILE_BYTES_PER_INSTRUCTION, left // (len(candidates) - number))
        left -= limits[candidate]
    return [replace(candidate, max_instructions=limits[candidate], seed=seed) for candidate in candidates]


def gather(
    traced: Iterable[TracedBinary | Skipped],
    held_out: set[str],
    summary: Summary,
) -> Iterator[list[TraceRow]]:
    """Yield the rows of each binary in turn, without duplicates, and update ``summary``.

    Args:
        traced: traced or skipped binaries, training side first.
        held_out: families of the test set.
        summary: counts to update.
    """
    seen: set[bytes] = set()
    for binary in traced:
        if isinstance(binary, Skipped):
            summary.skip(binary)
            yield []
            continue
        taken = [f for f in binary.functions if _is_new(f, seen)]
        side = "test" if family(binary.name) in held_out else "train"
        written = sum(function.trace.instructions for function in taken)
        summary.binaries += 1
        summary.test_binaries += side == "test"
        summary.functions_found += binary.found
        summary.instructions_found += binary.instructions
        summary.undecoded_bytes += binary.undecoded
        summary.left_out.update(binary.left_out)
        summary.left_out[DUPLICATES] += len(binary.functions) - len(taken)
        summary.functions += len(taken)
        summary.instructions += written
        summary.train_functions += len(taken) if side == "train" else 0
        summary.test_functions += len(taken) if side == "test" else 0
        yield [
            TraceRow(
                binary.architecture,
                binary.name,
                f.name,
                f.address,
                f.code,
                f.trace.instructions,
                f.trace.undecoded,
                f.trace.text,
                side,
            )
            for f in taken
        ]


def _is_new(function: TracedFunction, seen: set[bytes]) -> bool:
    key = blake2b(function.trace.text.encode(), digest_size=16).digest()
    if key in seen:
        return False
    seen.add(key)
    return True


def _nothing(summary: Summary) -> str:
    reasons = "; ".join(
        f"{count:,} {reason} (such as {summary.skipped_examples[reason]})"
        for reason, count in summary.skipped.most_common(4)
    )
    return (
        f"No function was found in {summary.files:,} files{f': {reasons}' if reasons else ''}. Pass linked ELF "
        "programs or libraries for x86, x86-64 or AArch64, or folders of them; no file of traces was written."
    )


def _require_libraries() -> None:
    """Check for Capstone before any worker starts.

    Raises:
        ImportError: Capstone is not installed.
    """
    try:
        import_module("capstone")
    except ImportError as error:
        raise ImportError(
            "Disassembling needs `capstone`, which is not installed. Type: pip install 'unmask[traces]'"
        ) from error


def _memory(megabytes: float) -> int:
    """Return the address space of one worker: libraries, the file, its instructions as text, and their copy."""
    return int(2 * 2**30 + 40 * megabytes * 2**20)
