"""Scores of single texts: what is not scored is counted and never flatters in silence."""

import json
import math

import numpy as np
import pytest
import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers

from tests.evaluate.tiny_models import SPECIAL, ConstantModel, TableModel
from unmask.contracts import SpecialIds
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.evaluate.likelihood import nelbo
from unmask.evaluate.scoring import score_texts
from unmask.evaluate.windows import Windows


def lower_casing():
    """Words in lower case; what is not in the vocabulary is [UNK]."""
    backend = tokenizers.Tokenizer(
        models.WordLevel({"[UNK]": 0, "[MASK]": 1, "the": 2, "cat": 3, "sat": 4, " ": 5}, unk_token="[UNK]")
    )
    backend.normalizer, backend.decoder = normalizers.Lowercase(), decoders.Fuse()
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "isolated")
    backend.add_special_tokens(["[UNK]", "[MASK]"])
    return Tokenizer(backend, {"mask": "[MASK]", "unk": "[UNK]"})


TOKENIZER = lower_casing()


class Uniform(ConstantModel):
    max_length = 16


MODEL = Uniform(torch.zeros(6))
KNOWN, UPPER, PARTLY, UNKNOWN = TEXTS = ["the cat", "The cat", "the ☃☃☃", "☃☃☃"]


@pytest.mark.parametrize("samples", [None, 1, 8])
def test_unknown_words_are_counted_and_gibberish_has_no_score(samples):
    known, upper, partly, unknown = score_texts(MODEL, TOKENIZER, TEXTS, samples=samples)
    assert [s.unscored for s in (known, upper, partly, unknown)] == [0, 0, 1, 1]
    assert [s.scored for s in (known, upper, partly, unknown)] == [3, 3, 2, 0]
    assert [s.exact for s in (known, upper, partly, unknown)] == [True, False, False, False]
    assert known.nats == pytest.approx(-3 * math.log(6)) and partly.nats == pytest.approx(-2 * math.log(6))
    assert known.per_token == pytest.approx(partly.per_token) == pytest.approx(-math.log(6))
    assert math.isnan(unknown.nats) and unknown.as_dict()["nats"] is None and unknown.as_dict()["unscored_tokens"] == 1
    json.dumps([s.as_dict() for s in (known, unknown)], allow_nan=False)
    assert math.isnan(score_texts(MODEL, TOKENIZER, [UNKNOWN], samples=samples)[0].nats)


def test_the_error_of_the_bound_is_the_spread_over_seeds():
    class Letters:
        mask_token_id, all_special_ids = SPECIAL.mask, [SPECIAL.mask, SPECIAL.pad]
        __len__ = lambda self: 6  # noqa: E731
        encode = staticmethod(lambda text: [int(letter) for letter in text])
        decode = staticmethod(lambda ids: "".join(map(str, ids)))

    model = TableModel(4)
    model.max_length = 4
    found = [score_texts(model, Letters(), ["2031", "0123"], samples=12, seed=seed) for seed in range(60)]
    nats, errors = (np.array([[getattr(s, name) for s in scores] for scores in found]) for name in ("nats", "error"))
    assert np.sqrt((errors**2).mean(0)) == pytest.approx(nats.std(0, ddof=1), rel=0.3)
    assert all(
        math.isnan(s.error)
        for s in score_texts(model, Letters(), ["2031"], samples=1) + score_texts(model, Letters(), ["2031"])
    )


def test_bits_per_byte_are_of_the_documents_whose_tokens_spell_their_text():
    def of(texts):
        rows = TOKENIZER.encode_batch(texts)
        return nelbo(MODEL, Windows.of_rows(rows, 8, texts, TOKENIZER.decode), SpecialIds.of(TOKENIZER), samples=2)

    mixed, exact = of(TEXTS), of([KNOWN])
    assert mixed.exact.tolist() == [True, False, False, False] and mixed.altered == 3 and mixed.unscored == 2
    for figure in ("bits_per_byte", "bits_per_word"):
        assert getattr(mixed, figure).value == pytest.approx(getattr(exact, figure).value)
    assert mixed.as_dict()["altered_documents"] == 3 and exact.as_dict()["altered_documents"] == 0
    assert mixed.bits_saved_per_byte(mixed).value == 0
    none = of([UPPER, PARTLY])
    assert (
        not {"bits_per_byte", "bits_per_word", "perplexity_per_word"} & set(none.as_dict())
        and "bits_per_token" in none.as_dict()
    )
    with pytest.raises(ValueError, match="decode to another text"):
        _ = none.bits_per_byte
    unchecked = nelbo(
        MODEL, Windows.of_rows(TOKENIZER.encode_batch(TEXTS), 8, TEXTS), SpecialIds.of(TOKENIZER), samples=1
    )
    assert unchecked.as_dict()["altered_documents"] is None
