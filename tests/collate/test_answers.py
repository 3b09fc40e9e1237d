"""Supervised fine-tuning rows and chats: only answers are masked and scored."""

import pytest
import tokenizers
import torch
from transformers import PreTrainedTokenizerFast

from unmask.collate.answers import SupervisedMLMCollator
from unmask.contracts import SpecialIds
from unmask.data.supervised import chat_row
from unmask.ops.mask_rates import ConstantMaskRate
from unmask.ops.position_sampling import bernoulli
from unmask.ops.replacement import Replacement
from unmask.ops.scheme import Corruption

SPECIAL = SpecialIds(mask=1, vocab_size=40, pad=0, eos=3)
ALL = Corruption(ConstantMaskRate(1.0), bernoulli, Replacement(1))
CHAT = [
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "good day"},
    {"role": "user", "content": "who"},
    {"role": "assistant", "content": "me"},
]
TEMPLATE = (
    "{% for m in messages %}<s> {{ m['role'] }} {{ m['content'] }} </s> {% endfor %}"
    "{% if add_generation_prompt %}<s> assistant {% endif %}"
)


@pytest.fixture
def chat_tokenizer():
    words = ["[PAD]", "[MASK]", "<s>", "</s>", "user", "assistant", "hello", "good", "day", "who", "me"]
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[PAD]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", mask_token="[MASK]", eos_token="</s>")
    made.chat_template = TEMPLATE
    return made


def test_a_chats_answers_are_learnt_with_their_end_and_its_headers_are_given(chat_tokenizer):
    row = chat_row(CHAT, chat_tokenizer)
    words = chat_tokenizer.convert_ids_to_tokens(row["input_ids"])
    assert words == [
        "<s>",
        "user",
        "hello",
        "</s>",
        "<s>",
        "assistant",
        "good",
        "day",
        "</s>",
        "<s>",
        "user",
        "who",
        "</s>",
        "<s>",
        "assistant",
        "me",
        "</s>",
    ]
    learnt = [word for word, answer in zip(words, row["loss_mask"], strict=True) if answer]
    assert learnt == ["good", "day", "</s>", "me", "</s>"]


def test_only_answers_are_masked_and_the_last_survives_truncation(chat_tokenizer):
    collator = SupervisedMLMCollator(chat_tokenizer, 9, ALL)
    batch = collator([chat_row(CHAT, chat_tokenizer), chat_row(CHAT[:2], chat_tokenizer)])
    assert batch["input_ids"].shape == (2, 9)
    hidden = [[chat_tokenizer.decode([t]) for t in row[row != -100].tolist()] for row in batch["target_ids"]]
    assert hidden == [["</s>", "me", "</s>"], ["good", "day", "</s>"]]
    assert torch.equal(batch["noise_mask"], batch["target_ids"] != -100)


@pytest.mark.parametrize("make, message", [
    (lambda t: chat_row(CHAT[:1], t), "no answer to train on"),
    (lambda t: SupervisedMLMCollator(SPECIAL, 8)([{"input_ids": [5, 6], "loss_mask": [1]}]), "as long as"),
    (lambda t: SupervisedMLMCollator(SPECIAL, 8)([{"input_ids": [5, 6]}]), "'loss_mask'"),
    (lambda t: SupervisedMLMCollator(SPECIAL, 10, pad_to_multiple_of=4), "do not fit"),
])  # fmt: skip
def test_errors_name_the_remedy(chat_tokenizer, make, message):
    with pytest.raises(ValueError, match=message):
        make(chat_tokenizer)


def test_a_template_that_rewrites_earlier_messages_is_refused(chat_tokenizer):
    chat_tokenizer.chat_template = "{{ messages[-1]['content'] }} " + TEMPLATE
    with pytest.raises(ValueError, match="only append"):
        chat_row(CHAT, chat_tokenizer)
    chat_tokenizer.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        chat_row(CHAT, chat_tokenizer)
