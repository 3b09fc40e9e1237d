"""Traces through the command line: train by config, evaluate by class, fill instructions."""

import json
from pathlib import Path

import pytest

from tests.data.traces.elves import GOLDEN, write_elf
from tests.training.conftest import config_of
from unmask.build.run import train
from unmask.data.traces.trace_tokenizer import trace_tokenizer
from unmask.models.instruction_trace import InstructionTraceMLMModel
from unmask.runs import load_run

REGISTERS = ("rbx", "rbp", "r12", "r13")


def functions():
    """Functions that save a register, use it, and restore it; eighty different ones."""
    for number in range(80):
        saved, offset = REGISTERS[number % 4], 8 * (number % 9)
        body = [f"mov {saved} rdi", f"mov eax dword [ {saved} + {offset} ]", "test eax eax", f"add eax {number}"][
            : 2 + number % 3
        ]
        yield " [NEXT] ".join([f"push {saved}", *body, f"pop {saved}", "ret"])


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    (folder / "traces.txt").write_text("\n".join(functions()) + "\n")
    trace_tokenizer(functions(), 2400).save(folder)
    return {
        "run": str(folder / "run"),
        "data": {
            "source": str(folder / "traces.txt"),
            "unit": "line",
            "tokenizer": str(folder / "tokenizer.json"),
            "block_size": 32,
            "valid_fraction": 0.2,
        },
        "model": {
            "preset": None,
            "d_model": 32,
            "num_layers": 2,
            "nhead": 2,
            "max_length": 64,
            "kind": "instruction_trace",
        },
        "objective": {"name": "bert", "probability": 0.3, "granularity": "operand"},
        "optim": {"name": "muon", "lr": 0.02},
        "train": {
            "steps": 120,
            "batch_size": 16,
            "evaluate_every": 60,
            "checkpoint_every": 60,
            "evaluate_rows": 16,
            "precision": "fp32",
        },
    }


@pytest.fixture(scope="module")
def traced(tree):
    train(config_of(tree))
    return tree["run"]


def test_a_trace_run_saves_its_architecture_and_resumes(traced, tree):
    loaded = load_run(traced)
    assert (
        type(loaded.model) is InstructionTraceMLMModel and loaded.model.next_idx == loaded.tokenizer.next_token_id == 5
    )
    longer = {**tree, "train": {**tree["train"], "steps": 121}}
    assert train(config_of(longer)).name == "step-00000121"


def test_evaluate_reports_accuracy_by_class_beside_baselines(unmask, traced):
    answer = unmask("evaluate", "--model", traced, "--samples", 1, "--json")
    assert answer.code == 0, answer.err
    classes = json.loads(answer.out)["classes"]
    assert {"all", "mnemonic", "register", "popped register", "immediate", "bracket"} <= set(
        classes
    ) and "special" not in classes
    assert sum(found["tokens"] for kind, found in classes.items() if kind != "all") == classes["all"]["tokens"]
    assert set(classes["all"]["models"]) == {"trained", "unigram", "two neighbours"}
    assert classes["bracket"]["models"]["trained"]["accuracy"] > 0.8
    shown = unmask("evaluate", "--model", traced, "--samples", 1, "--documents", 4)
    assert "popped register" in shown.out


def test_fill_shows_alternatives_and_fills_instructions_together(unmask, traced):
    answer = unmask(
        "fill",
        "push rbx [NEXT] mov rbx rdi [NEXT] mov eax dword [ rbx + 8 ] [NEXT] pop [MASK] [NEXT] ret",
        "--model",
        traced,
        "--json",
    )
    assert answer.code == 0, answer.err
    (found,) = json.loads(answer.out)
    assert found["text"].startswith("push rbx [NEXT] mov rbx rdi [NEXT]") and found["text"].endswith("[NEXT] ret")
    assert len(found["blanks"]) == 1 and len(found["blanks"][0]) == 5
    whole = unmask(
        "fill", "push rbp [NEXT] [MASK] [MASK] [MASK] [NEXT] pop rbp [NEXT] ret", "--model", traced, "--jsonl"
    )
    filled = json.loads(whole.out)
    assert filled["text"].split(" [NEXT] ")[::2] == ["push rbp", "pop rbp"] and "[MASK]" not in filled["text"]
    assert len(filled["text"].split(" [NEXT] ")) == 4, "no [NEXT] is ever placed"


def test_unknown_words_are_named_before_a_fill_and_at_and_t_syntax_is_refused(unmask, traced):
    answer = unmask(
        "fill", "push rbx [NEXT] mov eax, dword ptr [rbx+0x8] [NEXT] pop [MASK] [NEXT] ret", "--model", traced, "--json"
    )
    assert answer.code == 0 and len(json.loads(answer.out)) == 1
    for part in ("'eax,' (write 'eax')", "'ptr' (leave it out)", "(write '[ rbx + 8 ]')"):
        assert part in answer.err
    assert (
        "rare or absent" not in unmask("fill", "push rbx [NEXT] pop [MASK] [NEXT] ret", "--model", traced, "--json").err
    )
    refused = unmask("fill", "push %rbx [NEXT] pop [MASK]", "--model", traced)
    assert refused.code == 1 and "AT&T" in refused.err and not refused.out


def test_one_blank_of_any_length(unmask, traced):
    text = "push rbp [NEXT] [MASK] [NEXT] pop rbp [NEXT] ret"
    answer = unmask("fill", text, "--model", traced, "--longest", 4, "--top", 3, "--json")
    assert answer.code == 0, answer.err
    (found,) = json.loads(answer.out)
    (blank,) = found["blanks"]
    assert len(blank) == 3 and found["text"] == text.replace("[MASK]", blank[0]["token"].strip())
    assert [b["probability"] for b in blank] == sorted((b["probability"] for b in blank), reverse=True)
    once = unmask("fill", text, "--model", traced, "--longest", 1, "--json")
    assert len(json.loads(once.out)[0]["blanks"][0]) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fill", "mov [MASK] [MASK]", "--longest", "3", "--regex", "rax"], "has 2"),
        (["fill", "mov [MASK]", "--longest", "0"], "--longest 0"),
        (["fill", "mov [MASK]", "--longest", "2", "--watch"], "leave one of them out"),
    ],
)
def test_bad_input(unmask, traced, arguments, words):
    answer = unmask(*arguments, "--model", traced)
    assert answer.code == 1 and words in answer.err


@pytest.mark.parametrize(
    ("key", "value"), [("model.kind", "instruction_trace"), ("objective.granularity", "instruction")]
)
def test_text_has_no_instructions(unmask, corpus, tmp_path, key, value):
    answer = unmask(
        "train",
        f"data.source={corpus}",
        "data.vocab_size=300",
        f"run={tmp_path / 'run'}",
        f"{key}={value}",
        "--preset",
        "tiny",
    )
    assert answer.code == 1 and key in answer.err and "[NEXT]" in answer.err and "disassemble" in answer.err


def test_the_granularity_is_masked_as_a_whole(tree):
    """By config, over the rows of a store, and NEXT never hidden nor drawn."""
    from unmask.build.run import build_collator
    from unmask.data.tokenizing.tokenizers import Tokenizer

    tokenizer = Tokenizer.load(tree["data"]["tokenizer"])
    row = [
        *tokenizer.encode("push rbx [NEXT] mov eax dword [ rbx + 8 ] [NEXT] add eax 12 [NEXT] ret"),
        tokenizer.eos_token_id,
    ]
    parts = {
        "token": [[i] for i in range(17)],
        "operand": [[0], [1], [3], [4], [5, 6, 7, 8, 9, 10], [12], [13], [14], [16]],
        "instruction": [[0, 1], [3, 4, 5, 6, 7, 8, 9, 10], [12, 13, 14], [16]],
    }
    assert len(row) == 18
    for grain, units in parts.items():
        objective = {
            "name": "bert",
            "probability": 0.3,
            "random_replace_prob": 0.5,
            "mask_replace_prob": 0.5,
            "granularity": grain,
        }
        config = config_of({**tree, "objective": objective, "data": {**tree["data"], "block_size": 18}})
        made = build_collator(config, tokenizer, 0)([{"input_ids": row, "example_id": n} for n in range(500)])
        hidden, seen = made["noise_mask"], made["input_ids"]
        assert not hidden[:, [2, 11, 15, 17]].any() and int((seen == tokenizer.next_token_id).sum()) == 1500
        fates = [{tuple(f) for f in hidden[:, unit].tolist()} for unit in units if not set(unit) & {2, 11, 15}]
        assert all(
            fate == {(False,) * len(unit), (True,) * len(unit)}
            for fate, unit in zip(fates, [u for u in units if not set(u) & {2, 11, 15}], strict=True)
        )
        first = [unit[0] for unit in units if not set(unit) & {2, 11, 15}]
        assert abs(float(hidden[:, first].float().mean()) - 0.3) < 0.04
        if grain == "operand":
            together = (hidden[:, 3] == hidden[:, 4]).float().mean()
            assert float(together) < 0.9, "operands of one instruction have coins of their own"


def test_traces_are_scored_by_token_word_and_as_a_store(unmask, traced):
    text = next(functions())
    rows = [
        json.loads(line)
        for line in unmask("score", text, "--model", traced, "--per", "token", "--jsonl").out.splitlines()
    ]
    assert rows and "[NEXT]" not in {row["text"].strip() for row in rows}  # it is never masked
    words = unmask("score", text, "--model", traced, "--per", "word", "--form", "word_l2r", "--jsonl")
    assert words.code == 0 and 0 < len(words.out.splitlines()) <= len(rows), words.err
    stored = unmask("score", "--input", Path(traced) / "data" / "valid", "--model", traced, "--jsonl")
    assert stored.code == 0 and json.loads(stored.out.splitlines()[0])["nats"] < 0, stored.err


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """A program of two functions, written by hand."""
    path = tmp_path_factory.mktemp("program") / "program"
    path.write_bytes(write_elf("x86-64", GOLDEN["x86-64"]))
    return path


def test_a_function_of_a_program_is_filled_part_by_part(unmask, traced, program):
    shown = ["fill", "--binary", program, "--function", "first", "--model", traced]
    answer = unmask(*shown, "--hide", "operand", "--grammar", "--jsonl")
    assert answer.code == 0, answer.err
    parts = [json.loads(line) for line in answer.out.splitlines()]
    instructions = GOLDEN["x86-64"][0].trace.split(" [NEXT] ")
    assert [part["given"] for part in parts] == [instructions[part["instruction"] - 1] for part in parts]
    assert [part["hidden"] for part in parts if part["instruction"] == 4] == ["mov", "eax", "dword [ rbp - 4 ]"]
    for part in parts:
        assert part["text"].split(" [NEXT] ")[part["instruction"] - 1] == part["filled"] and part["function"] == "first"
        assert len(part["blanks"]) == part["prompt"].count("[MASK]") and all(part["blanks"])
    text = unmask(*shown, "--hide", "4").out
    assert "4  mov eax dword [ rbp - 4 ]  →  " in text and "%" in text
    whole = unmask(*shown, "--hide", "instruction", "--longest", 2, "--json")
    assert len(json.loads(whole.out)) == len(instructions) and "hidden" in whole.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--function", "frist", "--binary"], "no function 'frist'. Did you mean 'first'"),
        (["--function", "first", "--hide", "99", "--binary"], "instructions 1 to"),
        (["--binary"], "belong together"),
        (["--function", "first", "--grammar", "--regex", "rax", "--binary"], "Choose one"),
    ],
)
def test_a_program_that_cannot_be_filled(unmask, traced, program, options, words):
    answer = unmask("fill", *options, program, "--model", traced)
    assert answer.code == 1 and words.lower() in answer.err.lower(), answer.err
    text = unmask("fill", "--function", "first", "--binary", __file__, "--model", traced)
    assert text.code == 1 and "not an ELF file" in text.err
