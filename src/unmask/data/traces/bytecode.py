"""CPython bytecode of the standard library in the format of traces: a corpus that requires only Python.

    load_fast 0 [NEXT] load_const 42 [NEXT] binary_op + [NEXT] pop_jump_if_false rel 18 [NEXT] return_value

The operand of a jump is its distance in bytes, as in machine code. Comparisons and arithmetic have their operator,
integer constants their value, other constants their type, and all other instructions the number in the bytecode. Names
of variables are omitted, as in machine code. A "binary" is a module, the "name" a function's qualified name, the
"address" its line.
"""

from __future__ import annotations

import dis
import platform
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from types import CodeType

from unmask.data.standard_library import module_paths
from unmask.data.traces.binary_files import Candidate, Skipped, TracedBinary, distinct_traces
from unmask.data.traces.elf import Function
from unmask.data.traces.sweep import Trace
from unmask.data.traces.trace_tokenizer import NEXT

_JUMPS = frozenset([*dis.hasjrel, *dis.hasjabs, *getattr(dis, "hasjump", ())])
_OPERATORS = frozenset([*dis.hascompare, dis.opmap.get("BINARY_OP", -1)])
_CONSTANTS = frozenset(dis.hasconst)
_INTEGERS = range(-(2**63), 2**64)


def architecture() -> str:
    """Return the architecture of these traces, which includes the version: ``python-3.11``."""
    return f"python-{'.'.join(platform.python_version_tuple()[:2])}"


def module_files() -> list[Candidate]:
    """List the modules of the standard library, by name."""
    return [Candidate(str(path), name, path.stat().st_size) for name, path in module_paths()]


def trace_module(module: Candidate) -> TracedBinary | Skipped:
    """Trace the distinct code objects of one module, by line."""
    try:
        code = SourceFileLoader(module.name, module.path).get_code(module.name)
    except (SyntaxError, ValueError, OSError):
        return Skipped(module.name, "does not compile")
    codes = list(_codes(code)) if isinstance(code, CodeType) else []
    functions = [(Function(c.co_qualname, max(c.co_firstlineno, 0), c.co_code), c) for c in codes]
    return distinct_traces(module.name, architecture(), functions, trace_code, module.max_instructions, module.seed)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def trace_code(code: CodeType) -> Trace:
    """Trace one code object, without the code objects inside it."""
    texts = [
        " ".join([instruction.opname.lower(), *_operand(instruction)]) for instruction in dis.get_instructions(code)
    ]
    return Trace(f" {NEXT} ".join(texts), len(texts), 0)


def _operand(instruction: dis.Instruction) -> list[str]:
    if instruction.arg is None:
        return []
    if instruction.opcode in _JUMPS:
        return ["rel", str(instruction.argval - instruction.offset)]
    if instruction.opcode in _OPERATORS:
        return instruction.argrepr.split() or [str(instruction.arg)]
    if instruction.opcode in _CONSTANTS:
        value = instruction.argval
        return [str(value)] if type(value) is int and value in _INTEGERS else [type(value).__name__.lower()]
    return [str(instruction.arg)]
