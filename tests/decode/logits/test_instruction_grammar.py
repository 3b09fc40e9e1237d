"""The grammar of instructions: every real instruction is accepted, and blanks are filled to well-formed ones only."""

import itertools

import pytest
import torch

from tests.data.traces.elves import GOLDEN
from unmask.contracts import SpecialIds
from unmask.data.traces.trace_tokenizer import trace_tokenizer
from unmask.decode.canvas import Canvas
from unmask.decode.logits.instruction_grammar import instruction_grammar
from unmask.decode.loop import fill_canvas
from unmask.decode.named import make_rules

TRACES = [code.trace for codes in GOLDEN.values() for code in codes]
INSTRUCTIONS = sorted({each for trace in TRACES for each in trace.split(" [NEXT] ")})


@pytest.fixture(scope="module")
def tokenizer():
    return trace_tokenizer(TRACES * 2 + ["mov eax dword [ rbp + rbx * 8 ]"] * 2)


@pytest.fixture(scope="module")
def grammar(tokenizer):
    return instruction_grammar(tokenizer)


def accepts(grammar, ids):
    state = grammar.start
    for id in ids:
        state = grammar.step(state, id)
        if state < 0:
            return False
    return bool(grammar.accepting[state])


@pytest.mark.parametrize("instruction", [each for each in INSTRUCTIONS if not each.startswith(".byte")])
def test_every_instruction_of_a_compiler_is_well_formed(grammar, tokenizer, instruction):
    assert accepts(grammar, tokenizer.encode(instruction))


@pytest.mark.parametrize(
    "text",
    [
        "rax mov",
        "mov mov",
        "mov [ rbp",
        "mov rbp ]",
        "mov dword rax",
        "mov eax [ ]",
        "mov eax + 4",
        "rel 4",
        "mov rel",
        "lock",
    ],
)
def test_other_words_in_a_row_are_not(grammar, tokenizer, text):
    assert not accepts(grammar, tokenizer.encode(text))


def fill(tokenizer, text, grammar, seed):
    """Fill a text with a network that prefers random words."""
    special = SpecialIds.of(tokenizer)

    def model(x_t, attention_mask=None, positions=None, block_mask=None):
        return torch.randn(*x_t.shape, len(tokenizer), generator=torch.Generator().manual_seed(seed)) * 4

    ids = tokenizer.encode(text, allow_mask=True)
    rules = make_rules(8, order="random", constraint=grammar, special=special, allow_eos=False)
    done = fill_canvas(model, Canvas.infill(torch.tensor([ids]), special), rules, special=special, seed=seed)
    return tokenizer.decode(done.ids[0].tolist())


@pytest.mark.parametrize(
    "text",
    [
        "push rbp [NEXT] [MASK] [MASK] [MASK] [MASK] [NEXT] ret",
        "mov [MASK] [ rbp - 4 ] [NEXT] [MASK] rax [NEXT] ret",
        "mov eax dword [ rbp [MASK] [MASK] ]",
        "cmp eax 100 [NEXT] add [MASK] [MASK] 1",
        "[MASK] [MASK]",
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_fillings_are_well_formed_and_the_given_words_stay(tokenizer, grammar, text, seed):
    filled = fill(tokenizer, text, grammar, seed)
    for given, instruction in itertools.zip_longest(text.split(" [NEXT] "), filled.split(" [NEXT] ")):
        assert accepts(grammar, tokenizer.encode(instruction)), instruction
        assert "[MASK]" in given or given == instruction


@pytest.mark.parametrize("seed", range(6))
def test_a_hidden_operand_stays_one_operand(tokenizer, seed):
    one = instruction_grammar(tokenizer, one_operand=True)
    operand = fill(tokenizer, "mov eax [MASK] [MASK] [MASK]", one, seed).removeprefix("mov eax ")
    words = operand.split()
    assert words[0] in ("[", "-", "rel", "{") or len(words) == 1, operand


def test_unknown_words_free_their_instruction_only(tokenizer, grammar):
    for seed in range(3):
        filled = fill(tokenizer, "frobnicate( [MASK] [NEXT] mov [MASK] [ rbp - 4 ]", grammar, seed)
        assert filled.startswith("frobnicate(") and accepts(grammar, tokenizer.encode(filled.split(" [NEXT] ")[1]))
