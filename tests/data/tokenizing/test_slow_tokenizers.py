"""The advice for an older tokenizer is a command that works."""

import json
import re
import shlex
import subprocess
import sys

import pytest

from unmask.data.tokenizing.tokenizers import Tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "."]


def advice(path) -> str:
    with pytest.raises(ValueError) as raised:
        Tokenizer.load(path)
    assert "damaged" not in str(raised.value) and "delete" not in str(raised.value)
    return str(raised.value)


def follow(text: str) -> None:
    words = shlex.split(re.search(r"`(python -c .*?)`\.", text)[1])
    done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("given", ["vocab.txt", ""])
def test_the_advice_converts_a_word_piece_vocabulary(tmp_path, given):
    folder = tmp_path / "a model's"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    follow(advice(folder / given))
    tokenizer = Tokenizer.load(folder)
    assert [tokenizer.token_text(i) for i in tokenizer.encode("The cats.")] == ["the", "cat", "##s", "."]


@pytest.mark.slow
def test_the_advice_converts_the_folder_of_an_older_model(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    follow(advice(tmp_path))
    assert Tokenizer.load(tmp_path).mask_token == "[MASK]"


def test_the_advice_converts_a_byte_level_vocabulary_with_merges(tmp_path):
    from tests.data.families import family

    family("bytes").backend.model.save(str(tmp_path))
    follow(advice(tmp_path / "vocab.json"))
    assert Tokenizer.load(tmp_path).encode("the cat")


def test_sentencepiece_models_and_unknown_files_get_their_own_advice(tmp_path):
    (tmp_path / "spiece.model").write_bytes(b"\x0a")
    assert "save_pretrained" in advice(tmp_path / "spiece.model")
    (tmp_path / "poem.md").write_text("roses")
    assert "tokenizer.json" in advice(tmp_path / "poem.md")
