"""Where tokens stand in instructions, and instructions and operands as units: as read one token at a time."""

import pytest
import torch

from tests.naive.instructions import operands, places
from unmask.ops.corruption import (
    bert_corruption,
    count_corruption,
    scheduled_corruption,
    uniform_corruption,
    whole_words,
)
from unmask.ops.instructions import WholeInstructions, WholeOperands, instruction_positions
from unmask.ops.schedule import SCHEDULES
from unmask.randomness import Noise, row_keys

NEXT, MASK = 2, 1
WORDS = [
    "[PAD]",
    "[MASK]",
    "[NEXT]",
    "[SEP]",
    "mov",
    "push",
    "ret",
    "rax",
    "rbp",
    "dword",
    "rel",
    "[",
    "]",
    "+",
    "7",
    "##123",
]
ID = {word: id for id, word in enumerate(WORDS)}
SPECIAL = (0, 1, 2, 3)


def table(words):
    return torch.tensor([word in words for word in WORDS])


GRAINS = {
    "instruction": WholeInstructions(NEXT),
    "operand": WholeOperands(NEXT, ~table({"##123"}), table({"["}), table({"]"}), table({"dword", "rel"})),
}
every_grain = pytest.mark.parametrize("grain", GRAINS.values(), ids=GRAINS)


def encode(text):
    return torch.tensor([[ID[word] for word in text.split()]])


def test_places_by_hand():
    ids = encode("push rbp [NEXT] mov rax dword [ rbp + 7 ] [NEXT] ret [SEP] mov rax rax")
    instruction, argument = instruction_positions(ids, NEXT)
    assert instruction.tolist() == [[0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2]]
    assert argument.tolist() == [[0, 1, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2, 3, 4]]
    segments = torch.tensor([[0] * 14 + [1] * 3])
    instruction, argument = instruction_positions(ids, NEXT, segment_ids=segments)
    assert instruction[0, -3:].tolist() == [0, 0, 0] and argument[0, -3:].tolist() == [0, 1, 2]


@pytest.mark.parametrize("seed", range(20))
def test_places_are_those_of_a_reader(seed):
    """Any padding (left, right, holes), any segments; what padding holds is not read."""
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 5, (6, 23), generator=g)
    real = torch.rand(6, 23, generator=g) < 0.8
    segments = (torch.rand(6, 23, generator=g) < 0.15).cumsum(-1)
    for mask in (None, real):
        for segment in (None, segments):
            found = torch.stack(instruction_positions(ids, NEXT, mask, segment), -1)
            for row in range(6):
                rows = (
                    ids[row],
                    real[row] if mask is not None else real[row] | True,
                    (segments * (segment is not None))[row],
                )
                assert [tuple(p) for p in found[row].tolist()] == places(*(r.tolist() for r in rows), NEXT)


def test_hiding_anything_but_next_moves_nothing():
    ids = encode("push rbp [NEXT] mov rax dword [ rbp + 7 ] [NEXT] ret")
    before = torch.stack(instruction_positions(ids, NEXT))
    assert torch.equal(before, torch.stack(instruction_positions(ids.where(ids == NEXT, MASK), NEXT)))


def test_operands_by_hand():
    ids = encode("push 7 ##123 [NEXT] mov dword [ rbp + 7 ##123 ] rax [NEXT] mov rel 7 [SEP] [ rax")
    eligible = ~torch.isin(ids, torch.tensor(SPECIAL))
    unit = GRAINS["operand"](ids, eligible)
    assert unit.tolist() == [[0, 1, 1, 3, 4, 5, 5, 5, 5, 5, 5, 5, 12, 13, 14, 15, 15, 17, 18, 18]]
    whole = GRAINS["instruction"](ids, eligible)
    assert whole.tolist() == [[0, 0, 0, 3, 4, 4, 4, 4, 4, 4, 4, 4, 4, 13, 14, 14, 14, 17, 18, 18]]


def test_a_bracket_that_never_closes_ends_with_its_instruction():
    ids = encode("mov [ rax [NEXT] mov rax rbp [NEXT] mov rax [ rbp 7 ]")
    unit = GRAINS["operand"](ids, ids > 3)
    assert unit.tolist() == [[0, 1, 1, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10, 10]]


@pytest.mark.parametrize("seed", range(10))
def test_operands_are_those_of_a_reader(seed):
    g = torch.Generator().manual_seed(seed)
    pieces = ["rax", "7", "dword [ rax + 7 ]", "[ rbp ]", "rel 7", "rbp"]
    texts = []
    for _ in range(12):
        picked = [
            pieces[i] for i in torch.randint(0, len(pieces), (int(torch.randint(0, 4, (), generator=g)),), generator=g)
        ]
        texts.append(" ".join(["mov", *picked]))
    ids = encode(" [NEXT] ".join(texts))
    unit = GRAINS["operand"](ids, ids > 3)[0].tolist()
    found = [[WORDS[ids[0, i]] for i, u in enumerate(unit) if u == start] for start in sorted(set(unit))]
    wanted = [operand for text in texts for operand in [*operands(text.split(), {"dword", "rel"}), ["[NEXT]"]]][:-1]
    assert found == wanted


SCHEMES = {
    "bert": bert_corruption(MASK, len(WORDS), SPECIAL, 0.3),
    "coins": uniform_corruption(MASK),
    "exact": uniform_corruption(MASK, exact=True),
    "cosine": scheduled_corruption(MASK, SCHEDULES["cosine"]),
    "maskgit": count_corruption(MASK, SCHEDULES["cosine"]),
}


@every_grain
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_units_are_masked_together_at_the_stated_rate_and_next_never(scheme, grain):
    """E[noise / p] = 1 at every position that may be hidden, and all tokens of a unit share their fate."""
    rows = 30_000
    row = encode("push 7 ##123 [NEXT] mov dword [ rbp + 7 ] rax [NEXT] mov rel 7 [SEP] [PAD]")
    ids = row.expand(rows, -1)
    eligible = ids > 3
    _, scored, p = whole_words(scheme, grain)(ids, eligible, Noise(row_keys(0, 0, torch.arange(rows))))
    assert not (scored & ~eligible).any()
    unit = grain(ids[:1], eligible[:1])[0]
    assert torch.equal(scored, scored[:, unit] & eligible) and torch.equal(p, p[:, unit])
    ratio = torch.where(scored, 1 / p.double(), 0.0)[:, eligible[0]]
    assert ((ratio.mean(0) - 1).abs() < 4.5 * ratio.std(0) / rows**0.5 + 2e-3).all(), ratio.mean(0)
    first = eligible[0] & (unit == torch.arange(len(unit)))
    share = scored[:, first].double().mean(-1)
    assert abs(float(share.mean()) - float(p[:, 0].double().mean())) < 0.01
