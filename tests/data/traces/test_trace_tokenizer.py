"""The trace tokenizer: every trace round-trips, every 64-bit integer is short, and no word is unknown."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.contracts import SpecialIds
from unmask.data.corpus.sources import Source
from unmask.data.preparation import prepare
from unmask.data.store.token_store import TokenStore
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.data.traces.classes import TOKEN_CLASSES, TokenClasses
from unmask.data.traces.trace_tokenizer import NEXT, SMALLEST_TRACE_VOCABULARY, trace_tokenizer
from unmask.data.words.text_words import word_table

WORDS = [
    "mov",
    "push",
    "pop",
    "rep",
    "stosq",
    "lock",
    "xadd",
    "rax",
    "rbp",
    "r8d",
    "xmm0",
    "v0.16b",
    "dword",
    "qword",
    "[",
    "]",
    "+",
    "-",
    "*",
    "rel",
    "ext",
    "ret",
    "jne",
]
TRACES = [f"{' '.join(WORDS)} [NEXT] {' '.join(WORDS)}", "once"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return trace_tokenizer(TRACES)


integers = st.integers(-(2**63), 2**64 - 1)
words = st.one_of(
    st.sampled_from([*WORDS, NEXT]),
    integers.map(str),
    st.text(st.characters(codec="ascii", exclude_categories=["Z", "C"]), min_size=1, max_size=12),
    st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=4),
).filter(lambda word: NEXT not in word or word == NEXT)
traces = st.lists(words, max_size=30).map(" ".join)


@given(traces)
@settings(max_examples=300, deadline=None)
def test_every_trace_round_trips(tokenizer, trace):
    ids = tokenizer.encode(trace)
    assert tokenizer.decode(ids) == trace
    assert tokenizer.encode_batch([trace]) == [ids]
    assert not {tokenizer.backend.token_to_id("[UNK]"), tokenizer.mask_token_id, tokenizer.pad_token_id} & set(ids)


@given(integers)
@settings(max_examples=200, deadline=None)
def test_an_integer_is_its_groups_of_three_digits(tokenizer, value):
    texts = [tokenizer.token_text(id) for id in tokenizer.encode(str(value))]
    magnitude = str(abs(value))
    assert len(texts) == -(-len(magnitude) // 3) + (value < 0) <= 8
    assert f"{abs(value):,}" == ",".join(texts[value < 0 :]).strip()


def test_a_word_is_one_token_at_any_position(tokenizer):
    first, after_next, after_mask = (
        tokenizer.encode(t, allow_mask=True) for t in ("mov rax", "ret [NEXT] mov rax", "[MASK] mov rax")
    )
    assert first == after_next[-2:] == after_mask[-2:] and len(first) == 2
    assert after_mask[0] == tokenizer.mask_token_id and len(after_mask) == 3
    assert after_next[1] == tokenizer.next_token_id


def test_a_prompt_with_masks_round_trips(tokenizer):
    prompt = "mov rax [MASK] [MASK] [NEXT] [MASK] [NEXT] ret"
    ids = tokenizer.encode(prompt, allow_mask=True)
    assert [tokenizer.token_text(id).strip() for id in ids] == prompt.split()
    assert tokenizer.decode(ids, skip_special_tokens=False) == prompt
    assert tokenizer.mask_token_id not in tokenizer.encode(prompt)  # in a corpus it is text
    assert tokenizer.decode(tokenizer.encode(prompt)) == prompt


def test_special_tokens_have_their_roles(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.fingerprint == tokenizer.fingerprint
    for one in (tokenizer, again):
        ids = [one.backend.token_to_id(t) for t in ("[PAD]", "[UNK]", "[SEP]", "[CLS]", "[MASK]", NEXT)]
        assert ids == [0, 1, 2, 3, 4, 5] == one.all_special_ids
        assert (one.pad_token_id, one.eos_token_id, one.bos_token_id, one.mask_token_id, one.next_token_id) == (
            0,
            2,
            3,
            4,
            5,
        )
        assert SpecialIds.of(one).all == (0, 1, 2, 3, 4, 5)  # [NEXT] is never hidden and never drawn


def test_transformers_read_it(tokenizer, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    trace = "mov rax -7151620 [NEXT] vunseen13 [ rbp - 4 ]"
    assert theirs(trace, add_special_tokens=False).input_ids == tokenizer.encode(trace)
    assert theirs.mask_token_id == tokenizer.mask_token_id


def test_rare_words_are_spelled_and_frequent_words_get_the_ids():
    whole = trace_tokenizer(["a a a b b c"], min_count=1)
    assert [len(whole.encode(w)) for w in "abc"] == [1, 1, 1]
    assert [len(trace_tokenizer(["a a a b b c"]).encode(w)) for w in "abc"] == [1, 1, 2]
    small = trace_tokenizer(["a a a b b c"], vocab_size=SMALLEST_TRACE_VOCABULARY + 1)
    assert [len(small.encode(w)) for w in "abc"] == [1, 2, 2] and len(small) == SMALLEST_TRACE_VOCABULARY + 1


def test_the_order_of_traces_does_not_matter():
    shuffled = random.Random(0).sample(WORDS * 3, 3 * len(WORDS))
    assert (
        trace_tokenizer([" ".join(shuffled)]).fingerprint
        == trace_tokenizer(reversed([" ".join(WORDS)] * 3)).fingerprint
    )


@pytest.mark.parametrize(("wrong", "said"), [({"vocab_size": 100}, "needs at least"), ({"min_count": 0}, "1 or more")])
def test_bad_sizes_are_explained(wrong, said):
    with pytest.raises(ValueError, match=said):
        trace_tokenizer(TRACES, **wrong)


def test_a_long_run_of_digits_costs_linear_time(tokenizer):
    text = "1" * 100_000
    ids = tokenizer.encode(text)
    assert len(ids) < 34_000 and tokenizer.decode(ids) == text


def test_token_stores_are_made_with_it(tokenizer, tmp_path):
    lines = [f"mov rax {n} [NEXT] jne rel -{n} [NEXT] ret" for n in range(60)]
    (tmp_path / "t.txt").write_text("\n".join(lines))
    done = prepare(
        Source.parse(str(tmp_path / "t.txt"), unit="line"),
        tmp_path / "out",
        tokenizer=tokenizer,
        workers=1,
        valid_fraction=0.2,
    )
    store = TokenStore.open(done.train)
    assert store.n_documents == done.train_documents and done.train_documents + done.valid_documents == 60


def test_classes_by_position(tokenizer):
    trace = "lock xadd dword [ rbp - 4 ] rax [NEXT] rep stosq [NEXT] jne rel -7151620 [NEXT] unseen13 zz9 -5 + 28 [NEXT] rax v0.16b"
    ids = tokenizer.encode(trace)
    names = TokenClasses(tokenizer).names(ids)
    found = [(tokenizer.token_text(i).strip(), n) for i, n in zip(ids, names, strict=True)]
    m, r, i, b, o, s, x = "mnemonic", "register", "immediate", "bracket", "operator", "size", "other"
    assert found == [
        ("lock", m), ("xadd", m), ("dword", s), ("[", b), ("rbp", r), ("-", o), ("4", i), ("]", b), ("rax", r), (NEXT, "special"),
        ("rep", m), ("stosq", m), (NEXT, "special"),
        ("jne", m), ("rel", x), ("-", i), ("7", i), ("151", i), ("620", i), (NEXT, "special"),
        *((c, m) for c in ["", *"unseen13"]), *((c, x) for c in ["", *"zz9"]), ("-", i), ("5", i), ("+", o), ("28", i), (NEXT, "special"),
        ("rax", m), ("v0.16b", r),
    ]  # fmt: skip


def test_classes_of_rows_are_those_of_each_row(tokenizer):
    row = tokenizer.encode("mov rax 4 [NEXT] ret")
    masked = [tokenizer.mask_token_id, *row[1:]]
    both = TokenClasses(tokenizer)(np.array([row, masked]))
    assert both.shape == (2, len(row)) and (both[:, 1:] == both[0, 1:]).all()
    assert TOKEN_CLASSES[both[1, 0]] == "special"
    packed = TokenClasses(tokenizer).names([*row, tokenizer.eos_token_id, *row, tokenizer.pad_token_id])
    assert packed[: len(row)] == packed[len(row) + 1 : -1] == TokenClasses(tokenizer).names(row)


@pytest.mark.parametrize(
    "register",
    [
        "rax",
        "eax",
        "ax",
        "al",
        "ah",
        "sil",
        "r8",
        "r8d",
        "r15w",
        "r9b",
        "rip",
        "rsp",
        "rflags",
        "xmm31",
        "zmm0",
        "k7",
        "st(3)",
        "cr0",
        "x0",
        "w30",
        "xzr",
        "wsp",
        "v31.4s",
        "q7",
        "d8",
        "lr",
        "fp",
        "p0/z",
        "z3.d",
    ],
)
def test_registers_are_known(register):
    made = trace_tokenizer([f"mov {register}"], min_count=1)
    assert TokenClasses(made).names(made.encode(f"mov {register}")) == ["mnemonic", "register"]


def test_words_of_text_tokenizers_apply(tokenizer):
    ids = torch.tensor([tokenizer.encode("mov rax 1234")])
    assert word_table(tokenizer).word_starts(ids, torch.ones_like(ids, dtype=torch.bool)).tolist() == [
        [True, True, True, False]
    ]
