"""Instructions per second and core from files to traces, beside Capstone with operand detail.

    python benchmarks/disassemble.py [PATH …] [--seconds 20] [--json out.json]

Ours is the complete work of ``unmask disassemble``: reading, locating functions, disassembling, words of every operand,
and removal of duplicates. The peer is Capstone on the code of the same functions, with detail on and a loop over the
operands of every instruction. Both run in this process, on one core; the peer processes as many functions as fit its
time. Without paths: the library of this Python, the installed wheels, and /usr/bin.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import sysconfig
import time
from pathlib import Path

from unmask.data.traces.binary_files import find_files, trace_binary
from unmask.data.traces.elf import Unreadable, read_binary
from unmask.data.traces.sweep import capstone
from unmask.data.traces.wheels import wheel_libraries


def python_library() -> Path:
    """The shared library of this Python, or its executable where it is static."""
    name, folder = sysconfig.get_config_var("INSTSONAME"), sysconfig.get_config_var("LIBDIR")
    library = Path(folder or "") / str(name)
    return library if library.is_file() else Path(sys.executable).resolve()


def groups(paths: list[str]) -> dict[str, list[str]]:
    if paths:
        return {path: [c.path for c in find_files([path], 2**26)[0]] for path in paths}
    found = {"Python": [str(python_library())], "wheels": [c.path for c in wheel_libraries()]}
    if Path("/usr/bin").is_dir():
        found["/usr/bin"] = [c.path for c in find_files(["/usr/bin"], 2**26)[0]]
    return found


def ours(files: list[str], seconds: float) -> dict[str, float]:
    done = {"files": 0, "functions": 0, "instructions": 0, "bytes": 0}
    begun, used = time.perf_counter(), time.process_time()
    for file in files:
        try:
            traced = trace_binary(file, Path(file).read_bytes())
        except Unreadable:
            continue
        done["files"] += 1
        done["functions"] += traced.found
        done["instructions"] += traced.instructions
        done["bytes"] += Path(file).stat().st_size
        if time.perf_counter() - begun > seconds:
            break
    spent = time.process_time() - used
    return {**done, "seconds": spent, "per_second": done["instructions"] / spent}


def peer(files: list[str], seconds: float) -> dict[str, float]:
    """Capstone with detail: registers, immediates and memory operands, as objects."""
    instructions = 0
    spent = 0.0
    for file in files:
        try:
            binary = read_binary(Path(file).read_bytes())
        except Unreadable:
            continue
        handle = capstone(binary.architecture)
        handle.detail = True
        for function in binary.functions:
            used = time.process_time()
            for instruction in handle.disasm(function.code, function.address):
                if instruction.id:
                    [(operand.type, operand.reg, operand.imm, operand.mem.disp) for operand in instruction.operands]
                instructions += 1
            spent += time.process_time() - used
            if spent > seconds:
                return {"instructions": instructions, "seconds": spent, "per_second": instructions / spent}
    return {"instructions": instructions, "seconds": spent, "per_second": instructions / max(spent, 1e-9)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--seconds", type=float, default=20.0, help="for ours, a group; the peer has a quarter")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = {}
    print(f"{'':24} {'files':>6} {'functions':>10} {'instructions':>13} {'ours/s':>10} {'detail/s':>10} {'ratio':>6}")
    for name, files in groups(arguments.paths).items():
        random.Random(0).shuffle(files)  # the time may end before the files do
        mine, theirs = ours(files, arguments.seconds), peer(files, arguments.seconds / 4)
        results[name] = {"ours": mine, "capstone with detail": theirs}
        print(
            f"{name[-24:]:24} {mine['files']:6,} {mine['functions']:10,} {mine['instructions']:13,} {mine['per_second']:10,.0f} "
            f"{theirs['per_second']:10,.0f} {mine['per_second'] / theirs['per_second']:6.1f}"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of this process: {peak:,.0f} MiB")
    if arguments.json:
        arguments.json.write_text(json.dumps({**results, "peak_mib": peak}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
