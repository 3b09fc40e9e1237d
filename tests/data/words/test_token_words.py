"""Words of tokens: the tokenizer's own answer, and white space where it has none."""

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors, trainers

from unmask.data.tokenizing.kinds import TOKENIZER_KINDS, train_tokenizer
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.data.words.token_words import NO_WORD, knows_words, tokenize_with_words

TEXTS = ["the unbelievable cats sat on the mat", "a naïve  déjà vu, don't! 12345", "unhappy  日本 cats\tsat ", "x"]


def metaspace(kind):
    backend = tokenizers.Tokenizer(models.Unigram() if kind == "unigram" else models.BPE(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer if kind == "unigram" else trainers.BpeTrainer
    backend.train_from_iterator(
        TEXTS * 4, trainer(vocab_size=60, special_tokens=["[UNK]", "[MASK]"], show_progress=False)
    ) if kind != "unigram" else backend.train_from_iterator(
        TEXTS * 4,
        trainer(vocab_size=60, special_tokens=["[UNK]", "[MASK]"], unk_token="[UNK]", show_progress=False),
    )
    return Tokenizer(backend, {"mask": "[MASK]", "unk": "[UNK]"})


def every_tokenizer():
    for kind in TOKENIZER_KINDS:
        if kind != "ids":
            yield kind, train_tokenizer(kind, TEXTS * 3, 300)
    for kind in ("unigram", "bpe"):
        yield f"metaspace {kind}", metaspace(kind)


@pytest.mark.parametrize(
    ("kind", "tokenizer"), list(every_tokenizer()), ids=lambda each: each if isinstance(each, str) else ""
)
def test_words_are_those_of_the_tokenizer_or_of_white_space(kind, tokenizer):
    own = knows_words(tokenizer.backend)
    assert own == (kind not in ("characters", "bytes"))
    for text, found in zip(TEXTS, tokenize_with_words(tokenizer, TEXTS), strict=True):
        assert found.ids.tolist() == tokenizer.encode(text)
        assert (np.diff(found.words) >= 0).all() and (np.diff(found.words) <= 1).all() and found.words[0] == 0
        if own:
            theirs = tokenizer.backend.encode(text, add_special_tokens=False).word_ids
            changes = np.array(theirs[1:]) != np.array(theirs[:-1])
            assert np.array_equal(np.diff(found.words) == 1, changes)
        else:  # one word per white-space word, each with the characters of that word
            spelled = ["" for _ in range(found.words[-1] + 1)]
            seen = set()
            for (start, stop), word in zip(found.offsets, found.words, strict=True):
                spelled[word] += "".join(text[i] for i in range(start, stop) if i not in seen)
                seen |= set(range(start, stop))
            assert [each.strip() for each in spelled] == text.split()


def test_ids_are_words_of_their_own():
    tokenizer = train_tokenizer("ids", ["3 1 2"], 9)
    assert tokenize_with_words(tokenizer, ["3 1 1"])[0].words.tolist() == [0, 1, 2]


def test_tokens_of_the_template_belong_to_no_word():
    tokenizer = train_tokenizer("wordpiece", TEXTS * 3, 80)
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    names = tokenizer.special_tokens
    tokenizer.backend.post_processor = processors.TemplateProcessing(
        single=f"{names['bos']} $A {names['eos']}", special_tokens=[(names["bos"], bos), (names["eos"], eos)]
    )
    framed, plain = (tokenize_with_words(tokenizer, [TEXTS[0]], template=each)[0] for each in (True, False))
    assert framed.ids.tolist() == [bos, *plain.ids, eos] and framed.added.tolist() == [
        True,
        *[False] * len(plain.ids),
        True,
    ]
    assert framed.words.tolist() == [NO_WORD, *plain.words, NO_WORD]


def test_other_tokenizers_and_text_that_is_none_are_refused():
    with pytest.raises(ValueError, match="Words of tokens need"):
        tokenize_with_words(object(), ["a"])
    with pytest.raises(ValueError, match="UTF-8"):
        tokenize_with_words(train_tokenizer("bytes", ["a"], 261), ["\ud800"])
