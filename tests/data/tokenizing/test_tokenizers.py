"""Tokenizers: text survives exactly, special tokens inside text stay text, masks in prompts become masks."""

import json
import pickle

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from unmask.contracts import SpecialIds
from unmask.data.tokenizing.splitting import LONGEST_COUNTED_WORD
from unmask.data.tokenizing.tokenizers import SMALLEST_VOCABULARY, SPECIAL_TOKENS, Tokenizer

TRAINED = Tokenizer.train(
    ["def f(x):\n        return x + 12345  # [MASK] the cat's hat\n\n\n", "ordinary words, é ☃"] * 3, 330
)
text = st.text(st.characters(exclude_categories=["Cs"]))
hostile = st.lists(st.one_of(text, st.sampled_from([*SPECIAL_TOKENS.values(), " ", "\n", "\r\n", "\t\t", "    "]))).map(
    "".join
)


@given(hostile)
def test_decode_inverts_encode_for_every_text(text):
    assert TRAINED.decode(TRAINED.encode(text), skip_special_tokens=False) == text
    assert TRAINED.decode(TRAINED.encode(text)) == text


@given(hostile)
def test_no_text_produces_a_special_id(text):
    assert not set(TRAINED.encode(text)) & set(TRAINED.all_special_ids)
    assert TRAINED.encode_batch([text, "x"]) == [TRAINED.encode(text), TRAINED.encode("x")]


@given(st.lists(text.filter(lambda t: "[MASK]" not in t and not t.endswith(" ")), min_size=2, max_size=5))
def test_a_prompt_has_one_mask_per_written_mask_and_its_text_around_them(pieces):
    ids = TRAINED.encode("[MASK]".join(pieces), allow_mask=True)
    expected = TRAINED.encode(pieces[0])
    for piece in pieces[1:]:
        expected += [TRAINED.mask_token_id, *TRAINED.encode(piece)]
    assert ids == expected


def test_a_mask_absorbs_the_space_that_belongs_to_the_masked_word():
    hidden = TRAINED.encode("the cat's hat")
    assert TRAINED.encode("the [MASK]'s hat", allow_mask=True) == [
        *TRAINED.encode("the"), TRAINED.mask_token_id, *TRAINED.encode("'s hat")
    ]  # fmt: skip
    assert TRAINED.decode(hidden) == "the cat's hat"
    indented = TRAINED.encode("\n    [MASK]", allow_mask=True)
    assert TRAINED.decode(indented, skip_special_tokens=False) == "\n   [MASK]"


def test_the_special_tokens_are_the_first_ids_and_special_ids_reads_them():
    assert SpecialIds.of(TRAINED) == SpecialIds(mask=1, vocab_size=len(TRAINED), pad=0, bos=2, eos=3, others=(4,))
    assert [TRAINED.token_text(i) for i in range(5)] == ["[PAD]", "[MASK]", "[BOS]", "[EOS]", "[UNK]"]
    assert TRAINED.vocab_size == len(TRAINED) == 311
    assert TRAINED.decode([2, *TRAINED.encode("x"), 3]) == "x"


@given(text)
def test_token_texts_join_to_the_text_when_no_character_is_split(text):
    pieces = [TRAINED.token_text(id) for id in TRAINED.encode(text)]
    joined = "".join(pieces)
    if not any(len(piece) == 4 * piece.count("<") and piece.startswith("<") for piece in pieces):
        assert joined == text


def test_split_characters_are_shown_as_bytes_and_unknown_ids_are_refused():
    euro = [TRAINED.token_text(id) for id in TRAINED.encode("€")]
    assert "".join(euro) == "<E2><82><AC>"
    with pytest.raises(ValueError, match="from 0 to 310"):
        TRAINED.token_text(311)


def test_digits_come_in_threes_and_an_indentation_is_one_token():
    pieces = lambda text: [piece for piece, _ in TRAINED._backend.pre_tokenizer.pre_tokenize_str(text)]  # noqa: E731
    assert pieces("1234567") == ["123", "456", "7"]
    assert pieces("\n        return x") == ["Ċ", "Ġ" * 7, "Ġreturn", "Ġx"]
    assert pieces("_name.x") == ["_name", ".", "x"]


def test_training_is_a_function_of_the_texts_and_not_of_their_order(documents):
    texts = [document.text for document in documents]
    assert Tokenizer.train(texts, 500).fingerprint == Tokenizer.train(reversed(texts), 500).fingerprint
    assert Tokenizer.train(texts, 500).fingerprint != Tokenizer.train(texts[:60], 500).fingerprint


def test_a_vocabulary_without_room_for_the_bytes_is_refused():
    assert len(Tokenizer.train(["x"], SMALLEST_VOCABULARY)) == SMALLEST_VOCABULARY
    with pytest.raises(ValueError, match=f"at least {SMALLEST_VOCABULARY}"):
        Tokenizer.train(["x"], SMALLEST_VOCABULARY - 1)


def test_save_load_and_pickle_keep_everything(tmp_path):
    TRAINED.save(tmp_path)
    for other in (
        Tokenizer.load(tmp_path),
        Tokenizer.load(tmp_path / "tokenizer.json"),
        pickle.loads(pickle.dumps(TRAINED)),
    ):
        assert other.fingerprint == TRAINED.fingerprint
        assert other.encode("x [MASK]") == TRAINED.encode("x [MASK]")
        assert other.encode("x [MASK]", allow_mask=True) == TRAINED.encode("x [MASK]", allow_mask=True)


def test_unusual_special_names_survive_save_and_load(tmp_path):
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({"<blank>": 0, "</s>": 1, "a": 2, "<s>": 3}, unk_token="a")
    )
    original = Tokenizer(backend, {"mask": "<blank>", "eos": "</s>"})
    original.save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert (loaded.mask_token_id, loaded.eos_token_id, loaded.bos_token_id) == (0, 1, None)
    assert loaded.fingerprint == original.fingerprint


def test_a_hugging_face_folder_names_its_specials(tmp_path):
    vocabulary = {
        token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s"])
    }
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    backend.enable_truncation(3)
    backend.save(str(tmp_path / "tokenizer.json"))
    names = {"mask_token": {"content": "[MASK]"}, "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(names))
    loaded = Tokenizer.load(tmp_path)
    special = SpecialIds.of(loaded)
    assert (special.mask, special.pad, special.bos, special.eos) == (4, 0, 2, 3)
    assert loaded.encode("the cats [MASK] the cats", allow_mask=True) == [5, 6, 7, 4, 5, 6, 7]
    assert loaded.mask_token_id not in loaded.encode("the [MASK]")


def test_transformers_sees_the_same_tokenizer():
    other = TRAINED.to_transformers()
    assert SpecialIds.of(other) == SpecialIds.of(TRAINED)
    assert other("the cat's\n\n  hat", add_special_tokens=False).input_ids == TRAINED.encode("the cat's\n\n  hat")


def test_a_tokenizer_without_a_mask_is_refused_where_a_mask_is_needed(tmp_path):
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    backend.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="no mask token"):
        SpecialIds.of(Tokenizer.load(tmp_path))


def test_invalid_tokenizer_files_are_explained(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "tokenizer.json").write_text('{"half": ')
    with pytest.raises(ValueError, match="not valid JSON"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="can read"):
        Tokenizer.load(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no tokenizer\.json"):
        Tokenizer.load(tmp_path / "empty")
    with pytest.raises(ValueError, match="no tokenizer at"):
        Tokenizer.load(tmp_path / "missing.json")


def test_an_unreachable_hub_tokenizer_is_explained(monkeypatch):
    import huggingface_hub

    def offline(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(ValueError, match=r"could not be downloaded.*ConnectionError"):
        Tokenizer.load("someone/something")


def test_an_excessive_vocabulary_size_is_refused():
    with pytest.raises(ValueError, match="largest tokenizer"):
        Tokenizer.train(["a few words"], 10**12)


@pytest.mark.parametrize("letter", ["a", "ж", "!", " ", "\n"])
def test_training_counts_long_words_in_parts_so_that_its_time_is_linear(letter):
    """The longest token reveals the longest part: from 5,000 equal letters, BPE would learn a token of 4,096."""
    tokenizer = Tokenizer.train([letter * 5000], 400)
    longest = max(len(tokenizer.decode([id])) for id in range(len(tokenizer)))
    assert LONGEST_COUNTED_WORD // 2 <= longest <= LONGEST_COUNTED_WORD


def test_the_trained_tokenizer_cuts_no_word():
    word = "ACDEFGHIKLMNPQRSTVWY" * 100
    tokenizer = Tokenizer.train([word], 300)
    assert len(tokenizer.backend.pre_tokenizer.pre_tokenize_str(word)) == 1
    assert tokenizer.decode(tokenizer.encode(word)) == word
    short = ["x" * LONGEST_COUNTED_WORD, "y" * (LONGEST_COUNTED_WORD // 2)]
    assert {"x" * LONGEST_COUNTED_WORD, "y" * (LONGEST_COUNTED_WORD // 2)} <= set(
        Tokenizer.train(short, 400).backend.get_vocab()
    )
