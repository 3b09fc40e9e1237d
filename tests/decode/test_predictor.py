"""MLMPredictor: the documented options, batches and errors."""

import pickle

import pytest
import torch

from tests.naive.decoding import EOS, FIRST_WORD, MASK, PAD, TableModel, specials, table
from unmask.contracts import SpecialIds
from unmask.decode.given_rows import read_batch
from unmask.decode.named import make_rules
from unmask.decode.predictor import MLMPredictor
from unmask.models.rotary_mlm import RotaryTransformerMLMModel

SPECIAL = SpecialIds(mask=MASK, pad=PAD, eos=EOS, vocab_size=20)


class Letters:
    """A tokenizer whose id 3 is "a", 4 is "b", and so on."""

    mask_token_id, pad_token_id, eos_token_id = MASK, PAD, EOS
    all_special_ids = [MASK, PAD, EOS]  # noqa: RUF012

    def __len__(self):
        return 20

    def decode(self, ids, skip_special_tokens=True):
        names = {MASK: "?", PAD: "_", EOS: "."}
        kept = [i for i in ids if not (skip_special_tokens and i in names)]
        return "".join(names.get(i, chr(ord("a") + i - FIRST_WORD)) for i in kept)


def negated(logits):
    return -logits


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return RotaryTransformerMLMModel(20, 16, 1, 2, padding_idx=PAD, mask_idx=MASK, max_length=16).double()


def predictor(model, **options):
    return MLMPredictor(**{"max_steps": 4, "tokenizer": Letters(), "model": model, "seed": 0, **options})


PROMPTS = {
    "input_ids": torch.tensor([[PAD, PAD, 5, 6], [7, 8, 9, 10]]),
    "attention_mask": torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]]),
}


def test_a_prefix_is_continued_by_max_new_tokens(model):
    out = predictor(model, max_new_tokens=6).predict(PROMPTS)
    assert out["loss"] is None
    assert out["ids"].shape == (2, 10) and torch.equal(out["ids"][:, :4], PROMPTS["input_ids"])
    assert out["output_start_idx"].tolist() == [4, 4] and out["output_start_idx"].dtype == torch.int64
    assert out["steps_taken"] == [4, 4] and all(t > 0 for t in out["time_taken"])
    assert out["text"][0].startswith("cd") and out["text"][1].startswith("efgh")


def test_left_padding_changes_no_token(model):
    both = predictor(model, max_new_tokens=6).predict(PROMPTS)["ids"][0, 2:]
    alone = predictor(model, max_new_tokens=6).predict({"input_ids": PROMPTS["input_ids"][:1, 2:]})["ids"][0]
    assert torch.equal(both, alone)


def test_infilling_fills_its_own_masks_and_keeps_the_fixed(model):
    ids = torch.tensor([[5, MASK, 7, MASK, MASK, PAD]])
    fixed = torch.tensor([[False, False, True, False, True, False]])
    out = predictor(model).predict({"input_ids": ids, "fixed_positions_mask": fixed})
    assert out["ids"][0, [0, 2, 4, 5]].tolist() == [5, 7, MASK, PAD]
    assert not torch.isin(out["ids"][0, [1, 3]], torch.tensor([MASK, PAD, EOS])).any()
    assert out["output_start_idx"].tolist() == [1]


def test_unconditional_rows_of_masks(model):
    out = predictor(model, allow_eos=False).predict({"input_ids": torch.full((3, 8), MASK)})
    assert out["output_start_idx"].tolist() == [0, 0, 0]
    assert [len(text) for text in out["text"]] == [8, 8, 8]


def test_rows_are_keyed_by_example_id_where_there_is_one(model):
    ids = torch.full((2, 8), MASK)
    by_index = predictor(model).predict({"input_ids": ids})["ids"]
    by_id = predictor(model).predict({"input_ids": ids, "example_id": torch.tensor([1, 0])})["ids"]
    assert torch.equal(by_id.flip(0), by_index) and not torch.equal(by_id, by_index)


def test_the_batch_is_not_changed(model):
    batch = {"input_ids": torch.full((2, 8), MASK)}
    predictor(model).predict(batch)
    assert (batch["input_ids"] == MASK).all()


def test_text_ends_at_the_first_eos_of_the_output():
    words = [[1.0, 1e-9], [1e-9, 1.0]]
    logits = table([words[i % 2] for i in range(6)], special_logit=-99.0)
    logits[4, EOS] = 99.0
    model = TableModel(logits)
    batch = {"input_ids": torch.tensor([[FIRST_WORD, EOS]])}
    greedy = {"model": model, "max_new_tokens": 4, "temperature": 0.0, "special": specials(2)}
    out = predictor(**greedy).predict(batch)
    assert out["ids"][0].tolist() == [3, EOS, 3, 4, EOS, 4]
    assert out["text"] == ["aab"]
    assert predictor(**greedy, skip_special_tokens=False).predict(batch)["text"] == ["a.ab."]
    assert predictor(**greedy, allow_eos=False).predict(batch)["text"][0] == "aabab"


def test_decode_reads_ids_alone():
    rows = torch.tensor([[PAD, 3, 4, EOS, 5]])
    assert predictor(None).decode({"ids": rows})[0] == ["ab"]
    assert predictor(None).decode({"ids": rows, "output_start_idx": torch.tensor([4])})[0] == ["abc"]


def test_decode_accepts_step_results_and_returns_their_ids(model):
    steps, reader = [], predictor(model, allow_eos=False)

    class Keep:
        def update_history(self, step_results):
            steps.append(step_results)

    reader.observers = (Keep(),)
    final = reader.predict({"input_ids": torch.full((2, 6), MASK)})
    for step in steps:
        text, sequence = reader.decode(step)
        assert torch.equal(sequence, step["x"]) and torch.equal(step["x"], step["output_ids"])
        assert [len(t) for t in text] == (sequence != MASK).sum(-1).tolist()
    text, sequence = reader.decode(final)
    assert text == final["text"] and torch.equal(sequence, final["ids"])
    assert reader.decode({"x": steps[0]["x"], "ids": final["ids"]})[0] == reader.decode({"x": steps[0]["x"]})[0]
    with pytest.raises(ValueError, match="results with x or ids"):
        reader.decode({"text": []})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"confidence": "top_prob"},
        {"noise_schedule": "cosine"},
        {"rules": make_rules(4, block_length=2)},
        {"rules": make_rules(4, remask="cap")},
    ],
)
def test_rows_without_masked_positions_take_no_forward_pass(options):
    words = TableModel(table([[0.5, 0.5]] * 4))
    rows = torch.tensor([[5, 6, 7, 8], [5, 6, PAD, PAD]])
    told = []

    class Keep:
        def begin(self, canvas, special):
            told.append("begin")

        def update_history(self, step_results):
            told.append("step")

        def end(self, decoded):
            told.append("end")

    for ids in (rows, rows[:0], rows[:, :0]):
        out = predictor(words, observers=[Keep()], **options).predict({"input_ids": ids})
        assert torch.equal(out["ids"], ids) and out["steps_taken"] == [0] * len(ids) == out["time_taken"]
        assert out["output_start_idx"].tolist() == [ids.shape[1]] * len(ids)
    assert words.forward_passes == 0 and told == ["begin", "end"] * 3
    assert predictor(words, **options).predict({"input_ids": rows})["text"] == ["cdef", "cd"]


def test_a_row_without_masked_positions_may_have_any_length(model):
    assert predictor(model).predict({"input_ids": torch.full((1, 40), 5)})["steps_taken"] == [0]


def test_ids_and_masks_of_any_dtype_are_equivalent(model):
    ids = torch.tensor([[5, MASK, 7, MASK, PAD], [MASK, 6, MASK, 8, 9]])
    real = ids != PAD
    expected = predictor(model).predict({"input_ids": ids, "attention_mask": real})["ids"]
    for given in (ids.int(), ids.short(), ids.to(torch.uint8), ids.tolist(), ids.numpy()):
        for mask in (real, real.int(), real.double(), real.tolist(), real.numpy()):
            assert torch.equal(predictor(model).predict({"input_ids": given, "attention_mask": mask})["ids"], expected)
    keys = [torch.tensor([0, 1]), [0, 1], torch.tensor([0, 1], dtype=torch.int32)]
    for key in keys:
        assert torch.equal(
            predictor(model).predict({"input_ids": ids, "attention_mask": real, "example_id": key})["ids"], expected
        )


def test_a_predictor_is_a_module_that_holds_its_model(model):
    made = predictor(model, max_new_tokens=3)
    assert isinstance(made, torch.nn.Module) and made.model is model
    assert set(made.state_dict()) == {f"model.{name}" for name in model.state_dict()}
    copied = pickle.loads(pickle.dumps(predictor(model, max_new_tokens=3, logits_hook=negated)))
    plain = predictor(model, max_new_tokens=3, logits_hook=negated)
    assert torch.equal(copied(PROMPTS)["ids"], plain.predict(PROMPTS)["ids"])
    assert next(made.to(torch.float32).model.parameters()).dtype == torch.float32
    made.to(torch.float64)
    made.train()
    made.predict(PROMPTS)
    assert model.training, "left as it was"
    made.eval()
    assert not model.training


def test_the_model_may_be_replaced_at_any_time(model):
    made, words = predictor(None), TableModel(table([[0.5, 0.5]] * 4))
    for other in (model, words, None, words, model, None, model):
        made.model = other
        assert made.model is other and len(list(made.children())) == (other is model)


def test_a_critic_moves_with_its_predictor(model):
    judge = torch.nn.Linear(2, 2)
    judge.forward = lambda *_, **__: None
    made = predictor(model, rules=make_rules(4, special=SPECIAL, order="critic", critic_model=judge))
    assert set(dict(made.named_children())) == {"model", "critic_model"}
    own = predictor(model, rules=make_rules(4, special=SPECIAL, order="critic", critic_model=model))
    assert set(dict(own.named_children())) == {"model"}


def test_every_option_changes_the_outcome(model):
    batch = {"input_ids": torch.full((4, 12), MASK)}
    plain = predictor(model).predict(batch)["ids"]
    for options in (
        {"max_steps": 2},
        {"noise_schedule": "quadratic"},
        {"top_k": 1},
        {"top_p": 0.2},
        {"confidence": "top_prob"},
        {"temperature": 3.0},
        {"seed": 1},
        {"logits_hook": lambda logits: -logits},
        {"logits_hook": lambda logits, view, where: logits.roll(1, -1)},
    ):
        assert not torch.equal(predictor(model, **options).predict(batch)["ids"], plain), options
    sure = predictor(model, confidence="entropy").predict(batch)["ids"]
    for options in ({"threshold": 0.0}, {"confidence_temperature": 5.0}):
        assert not torch.equal(predictor(model, confidence="entropy", **options).predict(batch)["ids"], sure), options


def test_greedy_needs_no_seed(model):
    batch = {"input_ids": torch.full((2, 8), MASK)}
    greedy = {"temperature": 0.0, "confidence": "prob_diff", "seed": None}
    assert torch.equal(
        predictor(model, **greedy).predict(batch)["ids"], predictor(model, **greedy).predict(batch)["ids"]
    )


def test_a_logits_hook_cannot_allow_a_forbidden_id(model):
    def insist(logits):
        logits[:, [MASK, PAD]] = 1e9
        return logits

    ids = predictor(model, logits_hook=insist).predict({"input_ids": torch.full((2, 8), MASK)})["ids"]
    assert not torch.isin(ids, torch.tensor([MASK, PAD])).any()


def test_special_ids_come_from_the_model_where_there_is_no_tokenizer(model):
    out = predictor(model, tokenizer=None).predict({"input_ids": torch.full((1, 4), MASK)})
    assert out["text"] == [" ".join(map(str, out["ids"][0].tolist()))]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"top_k": 3, "top_p": 0.9}, "Choose one"),
        ({"confidence": "top_prob", "threshold": 1.5}, r"outside \[0, 1\]"),
        ({"confidence": "top_prob", "threshold": -0.1}, r"outside \[0, 1\]"),
        ({"threshold": 0.9}, "confidence is None"),
        ({"confidence": "margin"}, "prob_diff"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"top_k": 0}, "top_k=0"),
        ({"noise_schedule": "cosin"}, "cosine"),
    ],
)
def test_invalid_options_are_refused(model, options, says):
    with pytest.raises(ValueError, match=says):
        predictor(model, **options)


@pytest.mark.parametrize(
    ("options", "batch", "says"),
    [
        ({}, {"ids": [[MASK]]}, "got a dictionary of ids"),
        ({}, {"input_ids": "text"}, "cannot be made a tensor"),
        ({}, {"input_ids": [["a", "b"]]}, "encode text first"),
        ({}, {"input_ids": [[MASK, 5], [MASK]]}, "Pad rows"),
        ({}, {"input_ids": torch.zeros(2, 4)}, "integers are expected"),
        ({}, {"input_ids": torch.zeros(2, 4, dtype=torch.bool)}, "integers are expected"),
        ({}, {"input_ids": torch.tensor([[MASK, -100]])}, "ids begin at 0"),
        (
            {},
            {"input_ids": torch.full((2, 4), MASK), "attention_mask": torch.full((2, 4), -1e9)},
            "other numbers than 0 and 1",
        ),
        (
            {},
            {"input_ids": torch.full((2, 4), MASK), "fixed_positions_mask": [[True]]},
            "fixed_positions_mask has shape",
        ),
        ({}, {"input_ids": torch.full((2, 4), MASK), "positions": torch.arange(4)}, "one position per token"),
        ({}, {"input_ids": torch.full((2, 4), MASK), "example_id": [1, 2, 3]}, "one integer per row"),
        ({"max_new_tokens": 13}, PROMPTS, "A row of 17 tokens"),
        ({"model": None}, PROMPTS, "has no model"),
        ({}, {"input_ids": torch.tensor([MASK, 5])}, r"give a batch \[B, L\]"),
        ({}, {"input_ids": torch.full((2, 4), MASK), "attention_mask": torch.ones(2, 3)}, "one entry per token"),
    ],
)
def test_batches_that_cannot_be_decoded_are_refused(model, options, batch, says):
    with pytest.raises(ValueError, match=says):
        predictor(options.pop("model", model), **options).predict(batch)


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        ("text", "got a str"),
        (["text"], "got a list"),
        (torch.full((2, 4), MASK), "got a Tensor"),
        ({}, "dictionary of nothing"),
    ],
)
def test_invalid_batches_are_refused(batch, says):
    with pytest.raises(ValueError, match=f"a batch of token ids.*{says}"):
        read_batch(batch)
