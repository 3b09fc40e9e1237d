"""CPython bytecode in the format of traces."""

import dis

import pytest

from unmask.data.traces import bytecode
from unmask.data.traces.binary_files import Candidate
from unmask.data.traces.bytecode import architecture, module_files, trace_code, trace_module
from unmask.data.traces.corpus import disassemble
from unmask.data.traces.table import read_traces
from unmask.data.traces.trace_tokenizer import trace_tokenizer


def sample(n, *, big=18446744073709551615):
    while n < 300:
        n = n * 2 - -7
    return "text", n, 1.5, big


def test_every_instruction_is_in_the_trace():
    trace = trace_code(sample.__code__)
    entries = [entry.split() for entry in trace.text.split(" [NEXT] ")]
    instructions = list(dis.get_instructions(sample.__code__))
    assert [entry[0] for entry in entries] == [i.opname.lower() for i in instructions] and len(
        entries
    ) == trace.instructions
    for entry, instruction in zip(entries, instructions, strict=True):
        jumps = instruction.opcode in (*dis.hasjrel, *dis.hasjabs)
        assert jumps == (entry[1:2] == ["rel"])
        if jumps:
            assert instruction.offset + int(entry[2]) in {i.offset for i in instructions if i.is_jump_target}
        assert len(entry) == (3 if jumps else 1 if instruction.arg is None else 2)
    operators = {word for entry in entries for word in entry[1:2]}
    assert {"<", "*", "-"} <= operators
    backward = [e for e in entries if e[1:2] == ["rel"] and e[2].startswith("-")]
    assert backward  # the loop


@pytest.mark.parametrize(("source", "words"), [("lambda: 300", "300"), ("lambda: -5", "-5"), ("lambda: 1000000000000000000000000000000", "int"), ("lambda: 'a'", "str"),
                                               ("lambda: 1.5", "float"), ("lambda: True", "bool")])  # fmt: skip
def test_constants_are_integers_or_types(source, words):
    texts = trace_code(eval(source).__code__).text.split()
    assert words in texts


def test_modules_are_traced_once_each(tmp_path):
    (tmp_path / "m.py").write_text(
        "def f(a):\n    return a + 1\n\ndef g(b):\n    return b + 1\n\nclass C:\n    def h(self):\n        return f(2)\n"
    )
    (tmp_path / "bad.py").write_text("def (")
    traced = trace_module(Candidate(str(tmp_path / "m.py"), "m", 1))
    assert traced.architecture == architecture() and [f.name for f in traced.functions] == ["<module>", "f", "C", "C.h"]
    assert traced.found == 5 and traced.left_out == {"duplicates of another": 1}  # g is f with other names
    assert [f.address for f in traced.functions][1:] == [1, 7, 8]
    assert trace_module(Candidate(str(tmp_path / "bad.py"), "bad", 1)).reason == "does not compile"
    texts = [f.trace.text for f in traced.functions]
    tokenizer = trace_tokenizer(texts)
    assert [tokenizer.decode(tokenizer.encode(text)) for text in texts] == texts


def test_the_standard_library_is_a_corpus(tmp_path, monkeypatch):
    some = [m for m in module_files() if m.name.startswith(("json", "bisect", "abc", "html"))]
    assert len(some) > 6
    monkeypatch.setattr("unmask.data.traces.corpus.module_files", lambda: some)
    done = disassemble(["python"], tmp_path / "p.parquet", workers=1, max_instructions=3000)
    rows = list(read_traces(tmp_path / "p.parquet"))
    assert {row["architecture"] for row in rows} == {bytecode.architecture()} and {row["split"] for row in rows} == {
        "train",
        "test",
    }
    assert 1000 < done.instructions <= 3000 and done.left_out["beyond max_instructions"] > 0
