"""TrainedModel: texts in, results out, equal to those of the command line."""

import json

import pytest
import torch

from unmask.text.loading import load
from unmask.text.results import Filling, Results

BLANKS = "the [MASK] sees the [MASK]."


@pytest.fixture(scope="module")
def model(trained):
    return load(trained, device="cpu")


def test_a_string_returns_a_result_and_a_list_returns_a_list(model):
    filling = model.fill(BLANKS, top=3)
    assert filling.prompt == BLANKS and filling.text.startswith("the ") and "[MASK]" not in filling.text
    assert len(filling.blanks) == 2 and len(filling.blanks[0].alternatives) == 3
    assert filling.blanks[0].probability == max(a.probability for a in filling.blanks[0].alternatives)
    assert model.fill([BLANKS, "the cat"], top=3)[0].as_dict() == filling.as_dict()
    assert str(filling).splitlines()[0] == filling.text and repr(filling) == str(filling)
    assert filling.text in filling._repr_html_()


def test_a_list_of_results_prints_and_renders_each():
    fillings = Results([Filling("<b>", "<b>", (), 0), Filling("x", "y", (), 1)])
    assert repr(fillings) == "<b>\ny" and "&lt;b&gt;" in fillings._repr_html_()


def test_one_blank_of_unknown_length(model):
    filling = model.fill("the [MASK] sees", longest=3, top=2)
    assert filling.text.endswith(" sees") and len(filling.blanks[0].alternatives) == 2
    assert model.fill("the [MASK] sees", regex="cat|dog", longest=6).text in ("the cat sees", "the dog sees")


def test_new_tokens_have_texts_and_probabilities(model):
    written = model.generate("the cat", new_tokens=5, seed=3)
    assert written.text.startswith("the cat") and len(written.tokens) == len(written.probabilities) == 5
    assert all(0 < p <= 1 for p in written.probabilities) and written.steps == 5
    assert model.generate(["", "the cat"], new_tokens=5, seed=3)[0].prompt == ""
    with pytest.raises(ValueError, match="new_tokens=0"):
        model.generate("the cat", new_tokens=0)


def test_a_stream_ends_with_the_generated_text_and_can_be_closed_early(model):
    steps = list(model.stream("the cat", new_tokens=6, seed=1))
    assert [s.revealed for s in steps] == [1, 2, 3, 4, 5, 6] and steps[0].text.count("[MASK]") == 5
    assert steps[-1].text == model.generate("the cat", new_tokens=6, seed=1).text
    stream = model.stream("the cat", new_tokens=6, seed=1)
    next(stream)
    stream.close()
    with pytest.raises(ValueError, match="max_length"):
        list(model.stream("the cat", new_tokens=10_000))


def test_scores_and_embeddings(model):
    one, two = model.score(["the cat sees", "sees the cat the"])
    assert one.nats < 0 and model.score("the cat sees").nats == one.nats and two.scored > 0
    assert model.score("the cat sees", bound=True, samples=4).error > 0
    vectors = model.embed(["the cat sees", "a dog"])
    assert vectors.shape == (2, 32) and vectors.dtype == torch.float32
    assert torch.allclose(model.embed("a dog"), vectors[1], atol=1e-5)  # padding changes nothing
    with pytest.raises(ValueError, match="no tokens"):
        model.embed("")


def test_the_command_line_returns_the_same_results(unmask, trained, model):
    filled = json.loads(unmask("fill", BLANKS, "--model", trained, "--json", "--device", "cpu").out)
    assert filled == [model.fill(BLANKS).as_dict()]
    options = ("--new-tokens", 5, "--seed", 3, "--json", "--device", "cpu")
    generated = json.loads(unmask("generate", "--prompt", "the cat", "--model", trained, *options).out)
    assert generated[0]["text"] == model.generate("the cat", new_tokens=5, seed=3).text


@pytest.mark.parametrize("call", ["fill", "generate", "embed"])
def test_an_empty_list_is_refused(model, call):
    with pytest.raises(ValueError, match="There is no"):
        getattr(model, call)([])


def test_a_hugging_face_folder_is_loaded(tmp_path, model):
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(model.tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    model.tokenizer.save(tmp_path / "bert")
    theirs = load(tmp_path / "bert", device="cpu")
    assert "HuggingFaceMLM" in repr(theirs) and theirs.step is None
    assert "[MASK]" not in theirs.fill(BLANKS).text and theirs.embed("the cat").shape == (16,)


def test_an_absent_model_is_explained(tmp_path):
    with pytest.raises(ValueError, match=r"none"):
        load(tmp_path / "none")
