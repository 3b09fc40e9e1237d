"""Rows with labels: fields, labels, the split, and the token that carries the label of a word."""

from collections import Counter

import numpy as np
import pytest
import tokenizers

from unmask import Tokenizer
from unmask.data.labelled_rows import LabelledRow, encode_rows, hold_out, label_ids, label_names

TEXTS = ["the cat sees the moon.", "a dog, my aunt's old trees"]


def byte_level():
    return Tokenizer.train(TEXTS, 280)


def word_pieces():
    """BERT's kind: ``##`` continues a word, and the template puts ``[CLS]`` and ``[SEP]`` around a text."""
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *"abcdefghijklmnopqrstuvwxyz.,'",
        *("##" + c for c in "abcdefghijklmnopqrstuvwxyz.,'"),
    ]
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return Tokenizer(backend, {"pad": "[PAD]", "mask": "[MASK]", "unk": "[UNK]"})


def words_of(text, labels=None):
    return LabelledRow.of_words("w", {"text": text, "label": labels}, "text", None if labels is None else "label")


@pytest.mark.parametrize("template", [False, True])
@pytest.mark.parametrize("build", [byte_level, word_pieces])
def test_the_label_of_a_word_stands_at_its_first_token(build, template):
    tokenizer, rows = build(), [words_of(text) for text in TEXTS]
    for row, (ids, heads) in zip(rows, encode_rows(tokenizer, rows, None, template=template), strict=True):
        assert len(heads) == len(row.words) and (np.diff(heads) > 0).all()
        for word, start, stop in zip(row.words, heads, [*heads[1:], len(ids) - (ids[-1] == 3)], strict=True):
            spelled = "".join(tokenizer.token_text(i).removeprefix("##") for i in ids[start:stop])
            assert spelled.strip() == word
    assert encode_rows(tokenizer, rows[:1], None)[0].ids.tolist() == tokenizer.encode(TEXTS[0])


def test_words_come_as_lists_of_texts_or_ids_and_as_texts():
    assert words_of("a dog").words == words_of(["a", "dog"]).words == ("a", "dog")
    assert words_of([5, 7]).text == "5 7"
    assert words_of(["New York", "is"], ["x", 1]).labels == ("x", "1")


def test_cut_texts_keep_the_template_and_words_are_never_cut():
    row, tokenizer = LabelledRow.of_text("t:1", {"text": TEXTS[0]}, "text", None), word_pieces()
    whole = encode_rows(tokenizer, [row], None, template=True)[0].ids
    cut = encode_rows(tokenizer, [row], 8, template=True, truncate=True)[0].ids
    assert cut.tolist() == [*whole[:7], whole[-1]] and cut[0] == 2 and cut[-1] == 3
    plain = encode_rows(tokenizer, [row], 8, truncate=True)[0].ids
    assert plain.tolist() == whole[1:9].tolist()
    with pytest.raises(ValueError, match=r"t:1: the row has .* --truncate"):
        encode_rows(tokenizer, [row], 8)
    with pytest.raises(ValueError, match="split it into shorter rows"):
        encode_rows(tokenizer, [words_of(TEXTS[0])], 8, truncate=True)


def rows_of(counts):
    return [
        LabelledRow(f"{name}{n}", f"{name} {n}", None, (name,)) for name, many in counts.items() for n in range(many)
    ]


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_the_split_is_exact_and_keeps_the_shares_of_labels(fraction):
    rows = rows_of({"a": 60, "b": 20, "c": 20})
    train, held = hold_out(rows, fraction, seed=0)
    assert len(held) == int(100 * fraction) and sorted(r.place for r in train + held) == sorted(r.place for r in rows)
    for label, share in Counter(row.labels[0] for row in held).items():
        assert abs(share - fraction * {"a": 60, "b": 20, "c": 20}[label]) < 1
    assert hold_out(rows, fraction, seed=0) == (train, held) != hold_out(rows, fraction, seed=1)


def test_a_label_of_one_row_stays_in_training():
    for seed in range(8):
        train, held = hold_out(rows_of({"a": 4, "b": 1}), 0.5, seed)
        assert {row.labels[0] for row in train} == {"a", "b"} and held
    tagged = [words_of("x y", ["A", "B"]), words_of("x z", ["A", "C"])]
    train, held = hold_out(tagged, 0.5, 0)
    assert len(train) == 2 and not held
    assert hold_out(tagged, 0.0, 0)[1] == []


def test_labels_are_ordered_by_value_or_by_spelling():
    assert label_names(rows_of({"10": 1, "9": 1, "-1": 1})) == ("-1", "9", "10")
    assert label_names(rows_of({"b": 1, "10": 1, "9": 1})) == ("10", "9", "b")
    assert [ids.tolist() for ids in label_ids([words_of("x y", ["B", "A"])], ("A", "B"))] == [[1, 0]]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: LabelledRow.of_text("f:3", {"txt": "a"}, "text", None), "f:3: has no field 'text'. .*txt.*--text"),
        (lambda: LabelledRow.of_text("f:3", {"text": "a"}, "text", "label"), "no field 'label'.*--label"),
        (lambda: LabelledRow.of_text("f:3", {"text": " "}, "text", None), "is empty.*Drop the row"),
        (lambda: LabelledRow.of_text("f:3", {"text": None}, "text", None), "is empty"),
        (lambda: LabelledRow.of_text("f:3", {"text": 1.5}, "text", None), "holds float.*--text"),
        (lambda: LabelledRow.of_text("f:3", {"text": "a", "l": None}, "text", "l"), "no label"),
        (lambda: LabelledRow.of_text("f:3", {"text": "a", "l": ["x"]}, "text", "l"), "--tokens"),
        (lambda: words_of("a b", ["x"]), "2 words.* 1 labels"),
        (lambda: words_of(["a", " "]), "none of them empty"),
        (lambda: words_of([]), "none of them empty"),
        (lambda: words_of(3), "holds int"),
        (lambda: label_names(rows_of({"a": 3})), "all have the label 'a'"),
        (lambda: label_names([LabelledRow("f:1", "a")]), "none has a label"),
        (lambda: label_ids(rows_of({"c": 1}), ("a", "b")), "'c' does not occur in the training rows.*a, b"),
        (lambda: hold_out(rows_of({"a": 3}), 1.0, 0), "below 1"),
    ],
)  # fmt: skip
def test_unusable_rows_are_refused_with_their_place(make, message):
    with pytest.raises(ValueError, match=message):
        make()
