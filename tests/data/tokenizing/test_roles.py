"""Roles of special tokens survive saving a tokenizer into another folder."""

import json
import pickle

import pytest
import tokenizers
from tokenizers import AddedToken, models, pre_tokenizers
from transformers import AutoTokenizer

from unmask.contracts import SpecialIds
from unmask.data.tokenizing.tokenizers import Tokenizer

TEMPLATE = "{{ messages[0]['content'] }}"
FAMILIES = {  # what stands beside the tokenizer.json
    "pad is eos": {"eos_token": "<|end|>", "pad_token": "<|end|>", "mask_token": "<|hidden|>"},
    "an odd mask": {"mask_token": {"__type": "AddedToken", "content": "<blank>", "lstrip": True, "special": True}, "pad_token": "[PAD]", "eos_token": "</s>", "bos_token": None},
    "like ESM": {
        "tokenizer_class": "EsmTokenizer", "cls_token": "<cls>", "pad_token": "<pad>", "eos_token": "<eos>", "mask_token": "<mask>",
        "unk_token": "<unk>", "model_max_length": 1024,
    },
    "like ModernBERT": {
        "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]", "unk_token": "[UNK]", "model_max_length": 8192,
        "model_input_names": ["input_ids", "attention_mask"],
    },
    "a chat": {
        "eos_token": "<|end|>", "pad_token": "[PAD]", "mask_token": "[MASK]", "sep_token": "<|turn|>", "additional_special_tokens": ["<|user|>"],
        "chat_template": TEMPLATE, "padding_side": "left",
    },
}  # fmt: skip
TOKENS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "<cls>",
    "<pad>",
    "<eos>",
    "<unk>",
    "<mask>",
    "</s>",
    "<|end|>",
    "<|hidden|>",
    "<|turn|>",
    "<|user|>",
    "<blank>",
]
ROLES = ("mask", "pad", "bos", "eos", "unk", "cls", "sep")


def folder_of(path, settings):
    """Create a tokenizer whose vocabulary has the special tokens of many families, so that names alone are ambiguous."""
    vocabulary = {token: id for id, token in enumerate([*TOKENS, "a", "b"])}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens(
        [AddedToken(token, special=True, normalized=False, lstrip=token == "<blank>") for token in TOKENS]
    )
    path.mkdir()
    backend.save(str(path / "tokenizer.json"))
    if settings is not None:
        (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


@pytest.mark.parametrize("name", FAMILIES)
def test_a_tokenizer_saved_again_has_the_same_roles_here_and_in_transformers(name, tmp_path):
    given = folder_of(tmp_path / "given", FAMILIES[name])
    loaded = Tokenizer.load(given)
    loaded.save(tmp_path / "again")
    for other in (Tokenizer.load(tmp_path / "again"), pickle.loads(pickle.dumps(loaded))):
        assert other.fingerprint == loaded.fingerprint and other.special_tokens == loaded.special_tokens
        assert SpecialIds.of(other) == SpecialIds.of(loaded)
        assert other.files() == loaded.files()
    plain = {
        key: value for key, value in FAMILIES[name].items() if key != "tokenizer_class"
    }  # EsmTokenizer reads a vocab.txt
    (given / "tokenizer_config.json").write_text(json.dumps(plain | {"tokenizer_class": "PreTrainedTokenizerFast"}))
    before, after = AutoTokenizer.from_pretrained(given), AutoTokenizer.from_pretrained(tmp_path / "again")
    for theirs in (after, loaded.to_transformers()):
        assert {role: getattr(theirs, f"{role}_token") for role in ROLES} == {
            role: getattr(before, f"{role}_token") for role in ROLES
        }
        assert theirs.all_special_ids == before.all_special_ids
        for setting in ("model_max_length", "chat_template", "padding_side", "model_input_names"):
            assert getattr(theirs, setting) == getattr(before, setting)
        assert theirs("a b <blank> a").input_ids == before("a b <blank> a").input_ids


def test_settings_in_files_of_their_own_are_kept(tmp_path):
    given = folder_of(tmp_path / "given", {"model_max_length": 77})
    (given / "special_tokens_map.json").write_text(
        json.dumps({"mask_token": {"content": "<blank>", "lstrip": True}, "sep_token": "</s>"})
    )
    (given / "chat_template.jinja").write_text(TEMPLATE)
    Tokenizer.load(given).save(tmp_path / "again")
    after = AutoTokenizer.from_pretrained(tmp_path / "again")
    assert (after.mask_token, after.sep_token, after.model_max_length, after.chat_template) == (
        "<blank>",
        "</s>",
        77,
        TEMPLATE,
    )
    assert Tokenizer.load(tmp_path / "again").special_tokens == {"mask": "<blank>", "eos": "</s>"}


def test_without_settings_conventional_names_have_the_roles(tmp_path):
    loaded = Tokenizer.load(folder_of(tmp_path / "given", None))
    assert loaded.special_tokens == {"mask": "[MASK]", "pad": "[PAD]", "bos": "[CLS]", "eos": "</s>", "unk": "[UNK]"}
    loaded.save(tmp_path / "again")
    assert Tokenizer.load(tmp_path / "again").special_tokens == loaded.special_tokens
    theirs = AutoTokenizer.from_pretrained(tmp_path / "again")
    assert (theirs.cls_token, theirs.bos_token, theirs.eos_token) == ("[CLS]", None, "</s>")


def test_tokens_declared_special_by_settings_alone_are_special(tmp_path):
    backend = tokenizers.Tokenizer(
        models.WordLevel({"a": 0, "[MASK]": 1, "<user>": 2, "<turn>": 3, "[UNK]": 4}, unk_token="[UNK]")
    )
    settings = {"mask_token": "[MASK]", "sep_token": "<turn>", "extra_special_tokens": {"user_token": "<user>"}}
    assert Tokenizer(backend, {"mask": "[MASK]"}, settings).all_special_ids == [1, 2, 3, 4]
