"""Prompts of traces: unknown words are named with a likelier spelling, and AT&T syntax is refused."""

import pytest

from unmask.data.traces.trace_tokenizer import trace_tokenizer
from unmask.data.traces.unseen import unseen_words

TRACES = [
    "push rbp [NEXT] mov rbp rsp [NEXT] mov eax dword [ rbp - 4 ] [NEXT] cmp eax -64 [NEXT] jle rel 9 [NEXT] call ext [NEXT] pop rbp [NEXT] ret",
    "mov rax qword [ fs + 40 ] [NEXT] lea rcx [ rcx * 4 ] [NEXT] ldp x29 x30 [ sp ] 16 !",
]
TOKENIZER = trace_tokenizer(TRACES * 2)


@pytest.mark.parametrize(
    "text", [*TRACES, "mov eax [MASK] [NEXT] ret", "[MASK][NEXT]ret", "cmp eax -123456789 [NEXT] ret 1.5 1to16"]
)
def test_known_words_and_numbers_are_not_named(text):
    assert unseen_words(TOKENIZER, [text]) is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("mov eax, ebx", ["'eax,' (write 'eax')"]), ("mov eax dword ptr [ rbp ]", ["'ptr' (leave it out)"]),
        ("mov eax dword [rbp-0x4]", ["'[rbp-0x4]' (write '[ rbp - 4 ]')"]), ("mov rax fs:[0x28]", ["'fs:[0x28]' (write '[ fs + 40 ]')"]),
        ("cmp eax 0x10", ["'0x10' (write '16')"]), ("MOV eax [MASK]", ["'MOV' (write 'mov')"]), ("mov eax,DWORD [ rbp ]", ["write 'eax dword'"]),
        ("retq [NEXT] [MASK]", ["'retq' (did you mean 'ret'?)"]), ("frobnicate [MASK]", ["'frobnicate'"]),
        ("mov ecx, 4 [NEXT] push[MASK]", ["'ecx,'"]), ("ldp x29 x30 [sp] #16", ["'[sp]' (write '[ sp ]')", "'#16' (write '16')"]),
    ],
)  # fmt: skip
def test_unknown_words_are_named_with_a_known_spelling(text, named):
    remark = unseen_words(TOKENIZER, ["ret", text])
    assert remark is not None and "unreliable" in remark
    for part in named:
        assert part in remark
    assert "'mov'" not in remark.replace("(write 'mov')", "") and "MASK" not in remark


@pytest.mark.parametrize(
    "text",
    [
        "mov %eax,%ebx",
        "movl $0x10,-4(%rbp)",
        "push %rbp [NEXT] [MASK]",
        "add $1 eax",
        "call *%rax",
        "[NEXT]mov $-5, x0",
    ],
)
def test_at_and_t_syntax_is_refused(text):
    with pytest.raises(ValueError, match=r"AT&T syntax.*destination"):
        unseen_words(TOKENIZER, [text])


def test_other_tokenizers_are_not_checked():
    class Letters:
        next_token_id = None

    assert unseen_words(Letters(), ["mov %eax, what"]) is None
    many = unseen_words(TOKENIZER, [" ".join(f"word{'x' * n}" for n in range(20))])
    assert many is not None and "and 12 more" in many
