"""Rows of other tools: padding that came with them is no text, in any collator, and excluded tokens stay excluded."""

import numpy as np
import pytest
import torch

from unmask.collate.answers import SupervisedMLMCollator
from unmask.collate.infill import DefaultInfillMLMCollator, MLMInfillWithExactTargetPredCollator
from unmask.collate.labels import MaskedLMCollator
from unmask.collate.packed import PackedMLMCollator
from unmask.collate.padded import DefaultMLMCollator
from unmask.collate.seq2seq import MLMSeq2SeqCollator, MLMSeq2SeqPredCollator, MLMSeq2SeqTrainCollator
from unmask.contracts import SpecialIds
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.ops.mask_rates import ConstantMaskRate
from unmask.ops.position_sampling import bernoulli
from unmask.ops.replacement import Replacement
from unmask.ops.scheme import Corruption

PAD, MASK, BOS, EOS, VOCAB = 0, 1, 2, 3, 40
SPECIAL = SpecialIds(mask=MASK, vocab_size=VOCAB, pad=PAD, bos=BOS, eos=EOS)
ALL = Corruption(ConstantMaskRate(1.0), bernoulli, Replacement(MASK))


def ids(i, n):
    return [5 + (i + j) % 30 for j in range(n)]


PLAIN = [{"input_ids": ids(i, 1 + i % 7), "example_id": i} for i in range(20)]
TAUGHT = [{**row, "loss_mask": [j % 3 > 0 for j in range(len(row["input_ids"]))]} for row in PLAIN]
ASKED = [{"prompt_ids": ids(i, i % 5), "target_ids": ids(i + 3, 1 + i % 6), "example_id": i} for i in range(20)]
BLANKS = [
    {"prompt_ids": [5, *[MASK] * (i % 5), 6], "input_ids": [5, *ids(i, i % 5), 6], "example_id": i} for i in range(20)
]
CASES = {
    "default": (lambda: DefaultMLMCollator(SPECIAL, 16, None, seed=1), PLAIN),
    "default, longest": (lambda: DefaultMLMCollator(SPECIAL, 16, None, False, "max", seed=1), PLAIN),
    "default, bare": (lambda: DefaultMLMCollator(SPECIAL, 16, None, False, None, False, False, seed=1), PLAIN),
    "supervised": (lambda: SupervisedMLMCollator(SPECIAL, 16, seed=1), TAUGHT),
    "infill": (lambda: DefaultInfillMLMCollator(SPECIAL, 16, "linear", seed=1), BLANKS),
    "infill, to decode": (lambda: MLMInfillWithExactTargetPredCollator(SPECIAL, 16), BLANKS),
    "prompt and answer": (lambda: MLMSeq2SeqTrainCollator(SPECIAL, None, 9, 5, seed=1), ASKED),
    "prompt beside answer": (lambda: MLMSeq2SeqCollator(SPECIAL, None, 9, 5, truncate="max", seed=1), ASKED),
    "prompt, to decode": (lambda: MLMSeq2SeqPredCollator(SPECIAL, None, 9, 5), ASKED),
}
ONES = {"prompt_ids": "prompt_attention_mask", "target_ids": "target_attention_mask", "input_ids": "attention_mask"}


def padded(row, left, right, flag):
    """The row as a tokenizer pads it, with PAD on either side and the mask of what is real."""
    made = {}
    for name, value in row.items():
        if not isinstance(value, list):
            made[name] = value
            continue
        fill = PAD if name.endswith("_ids") else 1
        made[name] = [fill] * left + value + [fill] * right
        if name in ONES:
            mask = ONES[name] if "target_ids" in row else "attention_mask"
            made[mask] = flag([0] * left + [1] * len(value) + [0] * right)
    return made


FLAGS = {
    "list": list,
    "bool": lambda v: [bool(x) for x in v],
    "torch": lambda v: torch.tensor(v).bool(),
    "numpy": np.array,
    "floats": lambda v: np.array(v, dtype=np.float32),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "left, right, flag",
    [(0, 4, "list"), (3, 0, "bool"), (2, 2, "torch"), (0, 1, "numpy"), (1, 0, "floats"), (0, 0, "list")],
)
def test_padding_that_came_with_the_rows_changes_nothing(case, left, right, flag):
    make, rows = CASES[case]
    expected, found = make()(rows), make()([padded(row, left, right, FLAGS[flag]) for row in rows])
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_columns_are_read_alike():
    rows = [padded(row, 0, 7 - len(row["input_ids"]), list) for row in PLAIN]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    for make in (CASES["default"][0], CASES["default, bare"][0]):
        expected, found = make()(PLAIN), make()(columns)
        assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_padding_of_given_rows_changes_no_logit():
    torch.manual_seed(0)
    net = RotaryTransformerMLMModel(
        VOCAB, d_model=16, num_layers=1, nhead=2, padding_idx=PAD, mask_idx=MASK, max_length=16, dropout=0.0
    ).eval()
    make, rows = CASES["default, bare"]
    batch = make()([padded(row, 2, 3, list) for row in rows])
    for i, row in enumerate(rows):
        alone = make()([row])
        with torch.no_grad():
            whole = net(batch["input_ids"], batch["attention_mask"], batch["positions"])[i][batch["attention_mask"][i]]
            assert torch.allclose(whole, net(alone["input_ids"])[0], atol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("left", [False, True])
def test_packed_rows_are_padded_by_their_mask_too(shared, segments, left):
    """Also where PAD is EOS, and where another id fills the row."""
    special = SpecialIds(mask=MASK, vocab_size=VOCAB, pad=EOS if shared else PAD, eos=EOS)
    text, fill = [5, 6, EOS, 7, EOS], [9, 9, 9]
    row = {
        "input_ids": fill + text if left else text + fill,
        "attention_mask": [0] * 3 + [1] * 5 if left else [1] * 5 + [0] * 3,
    }
    if segments:
        row["segment_ids"] = [9] * 3 + [0, 0, 0, 1, 1] if left else [0, 0, 0, 1, 1, 9, 9, 9]
    batch = PackedMLMCollator(special, 8, ALL)([row])
    assert batch["attention_mask"].int().tolist() == [[1] * 5 + [0] * 3]
    assert batch["input_ids"].tolist() == [[MASK, MASK, EOS, MASK, EOS, *[special.pad] * 3]]
    assert batch["target_ids"].tolist() == [[5, 6, -100, 7, *[-100] * 4]] and batch["positions"].tolist() == [
        [0, 1, 2, 0, 1, 0, 0, 0]
    ]
    assert batch["segment_ids"].tolist() == [[0, 0, 0, 1, 1, 2, 2, 2]]
    assert (batch["p_mask"] > 0).equal(batch["noise_mask"])


def test_what_special_tokens_and_labels_exclude_is_never_hidden_or_scored():
    row = {
        "input_ids": ids(0, 6),
        "special_tokens_mask": [1, 0, 0, 0, 0, 0],
        "labels": [5, 6, -100, 8, -100, 10],
        "token_type_ids": [0] * 6,
    }
    open_to = [False, True, False, True, False, True]
    tail = {"attention_mask": [1] * 5 + [0]}
    for given, expected in ((row, open_to), ({**row, **tail}, [*open_to[:5], False])):
        default = DefaultMLMCollator(SPECIAL, 8, ALL, loss_on_padding=False)([given])
        assert default["noise_mask"][0, 1:7].tolist() == expected and (default["target_ids"][0] != -100).equal(
            default["noise_mask"][0]
        )
        packed = PackedMLMCollator(SPECIAL, 6, ALL)([given])
        assert packed["noise_mask"][0].tolist() == expected and (packed["p_mask"][0] > 0).tolist() == expected
        masked = MaskedLMCollator(MASK, VOCAB, 1.0)([{"attention_mask": [1] * 6, **given}])
        assert (masked["labels"][0] != -100).tolist() == expected
    taught = SupervisedMLMCollator(SPECIAL, 6, ALL)([{k: row[k] for k in ("input_ids", "labels")}])
    assert taught["noise_mask"][0].tolist() == [True, True, False, True, False, True]
    both = SupervisedMLMCollator(SPECIAL, 6, ALL)([{**row, "loss_mask": [0, 0, 1, 1, 1, 1]}])
    assert both["noise_mask"][0].tolist() == [False, False, False, True, False, True]


def test_a_class_label_of_the_row_is_no_label_of_its_tokens():
    rows = [{"input_ids": ids(0, 4), "labels": 1}, {"input_ids": ids(1, 4), "labels": 0}]
    bare = [{"input_ids": row["input_ids"]} for row in rows]
    for columns in (rows, {"input_ids": [r["input_ids"] for r in rows], "labels": np.array([1, 0])}):
        assert torch.equal(
            DefaultMLMCollator(SPECIAL, 8, ALL)(columns)["noise_mask"],
            DefaultMLMCollator(SPECIAL, 8, ALL)(bare)["noise_mask"],
        )


@pytest.mark.parametrize("call, message", [
    (lambda: DefaultMLMCollator(SPECIAL, 8)([{"input_ids": [5, 6], "attention_mask": [1]}]), "'attention_mask' must be as long"),
    (lambda: DefaultMLMCollator(SPECIAL, 8)([{"input_ids": [5, 6], "special_tokens_mask": [1]}]), "'special_tokens_mask' must be as long"),
    (lambda: DefaultMLMCollator(SPECIAL, 8)([{"input_ids": [5, MASK], "labels": [-100, 6]}]), "label 6 for token 1.*before masking"),
    (lambda: DefaultMLMCollator(SPECIAL, 8)([{"input_ids": [5, 6], "attention_mask": [0.5, 1.0]}]), "True and False"),
    (lambda: MLMSeq2SeqTrainCollator(SPECIAL)([{**ASKED[3], "attention_mask": [1] * 3}]), "prompt_attention_mask"),
    (lambda: DefaultMLMCollator(SPECIAL, 8)([[5, 6], [7]]), "Wrap each sequence"),
    (lambda: DefaultMLMCollator(SPECIAL, 8)(torch.tensor([[5, 6]])), "Wrap each sequence"),
    (lambda: DefaultMLMCollator(SPECIAL, 8)({"input_ids": np.array([5, 6])}), "one sequence of tokens"),
    (lambda: DefaultMLMCollator(SPECIAL, 8)([{"input_ids": 5}]), "one sequence of tokens"),
    (lambda: DefaultMLMCollator(SPECIAL, 8)([{"input_ids": [[5], [6]]}]), "one sequence of tokens"),
    (lambda: DefaultMLMCollator(SPECIAL, 8)({"input_ids": []}), "at least one row"),
    (lambda: DefaultMLMCollator(SPECIAL, 8)([{"input_ids": [True, False]}]), "must be integers"),
])  # fmt: skip
def test_what_cannot_be_read_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_row_of_one_row_is_that_row():
    """tokenizer(text, return_tensors="pt") returns such."""
    expected = DefaultMLMCollator(SPECIAL, 8, ALL)([{"input_ids": [5, 6]}])
    found = DefaultMLMCollator(SPECIAL, 8, ALL)(
        [{"input_ids": torch.tensor([[5, 6]], dtype=torch.int32), "attention_mask": torch.ones(1, 2)}]
    )
    assert torch.equal(expected["input_ids"], found["input_ids"])


@pytest.mark.parametrize("flag", FLAGS)
def test_masks_may_be_of_any_type(flag):
    mask, answer = FLAGS[flag]([1, 1, 0]), FLAGS[flag]([0, 1, 1])
    rows = [{"tokens": [5, 6, 7], "mask": mask}]
    assert MaskedLMCollator(MASK, VOCAB, 1.0, mask_replace_prob=1.0, random_replace_prob=0.0)(rows)[
        "labels"
    ].tolist() == [[5, 6, -100]]
    rows = [{"input_ids": [5, 6, 7], "loss_mask": answer}]
    assert SupervisedMLMCollator(SPECIAL, 3, ALL)(rows)["noise_mask"].tolist() == [[False, True, True]]


def test_rows_of_nothing_are_taken():
    empty = {"input_ids": [], "loss_mask": [], "prompt_ids": [], "tokens": [], "mask": []}
    for make in (
        lambda: DefaultMLMCollator(SPECIAL, 6), lambda: SupervisedMLMCollator(SPECIAL, 6), lambda: DefaultInfillMLMCollator(SPECIAL, 6),
        lambda: MLMSeq2SeqTrainCollator(SPECIAL, None, 6, 4), lambda: MLMSeq2SeqCollator(SPECIAL, None, 6, 4), lambda: MLMSeq2SeqPredCollator(SPECIAL, None, 6, 4),
        lambda: MaskedLMCollator(MASK, VOCAB), lambda: MLMSeq2SeqTrainCollator(SPECIAL, None, 6, None, False, False, None, False),
    ):  # fmt: skip
        for rows in ([empty], [empty, empty]):
            batch = make()(rows)
            assert all(value.shape[1] >= 1 and len(value) == len(rows) for value in batch.values())
