"""Every command takes a model that others trained: a folder of transformers, an export, one with its own code, a Lightning file."""

import json

import pytest
import torch
import transformers

from tests.models.own_code_folders import SENTENCES, bare_tokenizer, own_code_folder
from tests.models.published_encoders import RotaryEncoder
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.export.hub_folder import export_run

KINDS = ("bert", "dream", "llada2", "export", "lightning")
TEXTS = ("the cat sees a {} house.", "One, two, {}")


@pytest.fixture(autouse=True, scope="module")
def _offline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def models(trained, tmp_path_factory, _offline):
    """Options of ``--model`` for each kind, and the text of its mask."""
    home = tmp_path_factory.mktemp("others")
    tokenizer = Tokenizer.train(SENTENCES, 300)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=len(tokenizer) + 3, max_position_embeddings=64, pad_token_id=0, **sizes)
    transformers.BertForMaskedLM(config).save_pretrained(home / "bert")
    tokenizer.save(home / "bert")
    theirs = RotaryEncoder(len(tokenizer), 16, 1, 2, 24, 4)
    (home / "lightning").mkdir()
    torch.save(
        {"state_dict": theirs.state_dict(), "hyper_parameters": {"nhead": 2, "max_length": 64}},
        home / "lightning" / "last.ckpt",
    )
    tokenizer.save(home / "lightning")
    export_run(trained, home / "export")
    for kind in ("dream", "llada2"):
        own_code_folder(kind, home / kind)
    trust = "--trust-remote-code"
    return home, {
        "bert": (["--model", home / "bert"], "[MASK]"),
        "export": (["--model", home / "export"], "[MASK]"),
        "lightning": (["--model", home / "lightning" / "last.ckpt"], "[MASK]"),
        "dream": (["--model", home / "dream", trust, "--shift"], "<|mask|>"),
        "llada2": (["--model", home / "llada2", trust, "--attention-block", "4", "--mask-token", "<|mask|>"], "<|mask|>"),
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_command_runs(kind, models, unmask, tmp_path):
    options, mask = models[1][kind]
    filled = unmask("fill", *(text.format(mask) for text in TEXTS), *options, "--json")
    assert filled.code == 0, filled.err
    answers = json.loads(filled.out)
    assert len(answers) == 2 and all(answer["blanks"][0] for answer in answers)
    generated = unmask("generate", "--prompt", "the", "--new-tokens", 6, "--steps", 3, *options, "--json")
    assert generated.code == 0 and json.loads(generated.out), generated.err
    form = ["--bound"] if kind == "llada2" else []  # its tokens do not attend to later blocks
    scored = unmask("score", *SENTENCES[1:2], *options, *form, "--json")
    assert scored.code == 0 and json.loads(scored.out)["rows"][0]["nats"] < 0, scored.err
    (tmp_path / "text.txt").write_text("\n".join(SENTENCES[1:3]))
    evaluated = unmask("evaluate", *options, "--data", tmp_path / "text.txt", "--samples", 1, "--json")
    assert evaluated.code == 0 and json.loads(evaluated.out)["models"]["trained"], evaluated.err


def test_without_trust_and_with_options_that_do_not_apply_it_says_what_to_type(models, unmask):
    home, _ = models
    refused = unmask("fill", "a <|mask|>", "--model", home / "dream")
    assert refused.code == 1 and "--trust-remote-code" in refused.err and "modeling_own.py" in refused.err
    refused = unmask("fill", "a [MASK]", "--model", home / "bert", "--no-shift")
    assert refused.code == 1 and "--shift is for diffusion language models" in refused.err


def test_a_causal_model_is_refused_with_the_command_that_adapts_it(unmask, tmp_path):
    config = transformers.GPT2Config(vocab_size=300, n_embd=16, n_layer=1, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    bare_tokenizer(None).save(tmp_path / "gpt2")
    refused = unmask("fill", "a [MASK]", "--model", tmp_path / "gpt2")
    assert refused.code == 1 and "unmask train model.init=" in refused.err


RESERVED = ("[unused12]", "<null_1>", "<|reserved_special_token_7|>")


def test_reserved_tokens_and_rows_beyond_the_tokenizer_are_never_placed(unmask, tmp_path):
    """A network that predicts nothing else: fills, candidates and generations have none of them."""
    import tokenizers

    words = ["[PAD]", "[UNK]", "[MASK]", *RESERVED, "the", "cat", "sees"]
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({word: id for id, word in enumerate(words)}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = Tokenizer(backend, {"mask": "[MASK]", "pad": "[PAD]"}, {"mask_token": "[MASK]", "pad_token": "[PAD]"})
    tokenizer.save(tmp_path / "model")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=len(words) + 4, max_position_embeddings=32, pad_token_id=0, **sizes)
    model = transformers.BertForMaskedLM(config)
    with torch.no_grad():
        model.cls.predictions.bias[[*range(6), *range(len(words), len(words) + 4)]] = 50.0
    model.save_pretrained(tmp_path / "model")
    answers = json.loads(unmask("fill", "the [MASK] sees [MASK]", "--model", tmp_path / "model", "--json").out)
    alternatives = [each["token"] for blank in answers[0]["blanks"] for each in blank]
    assert alternatives and set(alternatives) <= {"the", "cat", "sees"}, alternatives
    made = json.loads(
        unmask("generate", "--prompt", "the", "--new-tokens", 8, "--model", tmp_path / "model", "--json").out
    )
    assert set(made[0]["text"].split()) <= {"the", "cat", "sees"}, made
