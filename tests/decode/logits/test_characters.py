"""No partial character is placed, for any order, number of steps and neighbouring masks."""

import pytest
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.contracts import SpecialIds
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.decode.canvas import Canvas
from unmask.decode.logits.characters import WholeCharacters
from unmask.decode.loop import fill_canvas
from unmask.decode.named import make_rules
from unmask.decode.observers.alternatives import Alternatives
from unmask.decode.predictor import MLMPredictor

BYTES = Tokenizer.train(["日本 the cat é ☃ 😀 a house"] * 3, 285)
SPECIAL = SpecialIds.of(BYTES)
PARTS = WholeCharacters.of(BYTES)
MASK = SPECIAL.mask


class Guess(torch.nn.Module):
    """Random logits per position that prefer partial characters, independent of the context."""

    max_length = 64

    def __init__(self, seed=0, prefer=3.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(64, len(BYTES), generator=torch.Generator().manual_seed(seed)))
        self.weight.data[:, PARTS.parts] += prefer

    def forward(self, x_t, attention_mask=None, positions=None, block_mask=None):
        return self.weight[: x_t.shape[1]].expand(len(x_t), -1, -1)


def halves(ids):
    return "\ufffd" in BYTES.decode(ids, skip_special_tokens=False)


def decode(rows, seed=0, **options):
    rules = make_rules(
        options.pop("max_steps", 4),
        special=SPECIAL,
        constraint=PARTS,
        allow_eos=options.pop("allow_eos", False),
        **options,
    )
    return fill_canvas(
        Guess(seed), Canvas.infill(torch.tensor(rows), SPECIAL), rules, special=SPECIAL, seed=seed
    ).ids.tolist()


@pytest.mark.parametrize(
    "options",
    [
        {}, {"order": "top_prob"}, {"order": "left_to_right"}, {"order": "drawn_prob"}, {"max_steps": 1}, {"temperature": 0.0},
        {"block_length": 2, "max_steps": 8}, {"remask": "cap", "max_steps": 12}, {"order": "top_prob", "remask": "confidence", "max_steps": 12}, {"order": "top_prob", "threshold": 0.1},
        {"top_k": 2}, {"top_p": 0.5}, {"allow_eos": True}, {"order": "ancestral"}, {"order": "first_hitting", "max_steps": 16},
    ],
    ids=str,
)  # fmt: skip
def test_fillings_are_whole_characters(options):
    rows = [[MASK] * 11, [*BYTES.encode("a c"), MASK, *BYTES.encode("t"), MASK, MASK, MASK, MASK][:11] + [MASK] * 3]
    rows = [row[:11] + [MASK] * (11 - len(row)) for row in rows]
    parts = set(PARTS.parts.tolist())
    placed = 0
    for seed in range(12):
        for row in decode(rows, seed, **dict(options)):
            assert not halves(row)
            placed += len(parts & set(row))
    assert placed or options.get("top_k") or options.get("temperature") == 0.0, (
        "characters of several tokens are written too"
    )


def test_a_single_position_holds_no_partial_character_and_two_may_share_one():
    for seed in range(30):
        (one,) = decode([[*BYTES.encode("a"), MASK, *BYTES.encode("b")]], seed)
        assert one[1] not in PARTS.parts
    pairs = [decode([[MASK, MASK]], seed)[0] for seed in range(30)]
    assert any(pair[0] in PARTS.parts for pair in pairs) and not any(map(halves, pairs))


def test_alternatives_of_a_single_position_are_whole_characters():
    seen = Alternatives(len(BYTES))
    rules = make_rules(2, special=SPECIAL, constraint=PARTS, order="top_prob", allow_eos=False)
    fill_canvas(
        Guess(),
        Canvas.infill(torch.tensor([[*BYTES.encode("a"), MASK, *BYTES.encode("b")]]), SPECIAL),
        rules,
        special=SPECIAL,
        seed=0,
        observers=[seen],
    )
    ((ids, odds),) = seen.found.values()
    assert not set(ids) & set(PARTS.parts.tolist()) and sum(odds) == pytest.approx(1.0, abs=1e-5)


@given(st.text(st.sampled_from("日本é☃😀a "), min_size=1, max_size=6), st.data())
@settings(max_examples=60, deadline=None)
def test_masked_bytes_of_given_characters_are_completed(text, data):
    ids = BYTES.encode(text)
    hidden = data.draw(st.sets(st.integers(0, len(ids) - 1), min_size=1))
    row = [MASK if place in hidden else id for place, id in enumerate(ids)]
    (filled,) = decode([row], data.draw(st.integers(0, 5)), max_steps=data.draw(st.integers(1, 4)))
    assert not halves(filled)


def test_a_row_is_filled_alike_alone_and_in_a_batch():
    rows = [[MASK] * 6, [*BYTES.encode("日")[:1], MASK, MASK, MASK, MASK, MASK]]
    both = decode(rows)
    rules = make_rules(4, special=SPECIAL, constraint=PARTS, allow_eos=False)
    canvas = Canvas.infill(torch.tensor(rows[1:]), SPECIAL, row_ids=torch.tensor([1]))
    assert fill_canvas(Guess(), canvas, rules, special=SPECIAL, seed=0).ids.tolist() == both[1:]


def test_a_given_partial_character_affects_its_own_position_only():
    broken = [*BYTES.encode("日")[:1], *BYTES.encode("a"), MASK, MASK]
    (filled,) = decode([broken])
    assert not halves(filled[2:])


def test_the_predictor_places_whole_characters_with_any_byte_tokenizer():
    predictor = MLMPredictor(3, 5, BYTES, Guess(), seed=0)
    assert "\ufffd" not in "".join(predictor.predict({"input_ids": torch.tensor([BYTES.encode("a")] * 8)})["text"])
    theirs = MLMPredictor(3, 5, BYTES.to_transformers(), Guess(), seed=0)
    assert isinstance(theirs.rules.constraint, WholeCharacters)


def test_byte_fallback_tokens_are_partial_characters():
    vocabulary = {"<unk>": 0, "▁a": 1, "日": 2, **{f"<0x{byte:02X}>": 3 + byte for byte in range(256)}}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    backend.decoder = tokenizers.decoders.Sequence([tokenizers.decoders.ByteFallback(), tokenizers.decoders.Fuse()])
    found = WholeCharacters.of(Tokenizer(backend, {}))
    assert found.parts.tolist() == [3 + byte for byte in range(0x80, 0x100)]
    backend.decoder = tokenizers.decoders.Metaspace()
    reading = Tokenizer(backend, {})
    assert WholeCharacters.of(reading) is None
    assert {vocabulary["<0x0A>"], vocabulary["<0xE4>"]} <= set(reading.all_special_ids), (
        "written out, such a token is no text"
    )


def test_words_alone_need_no_constraint():
    assert (
        WholeCharacters.of(
            Tokenizer(tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "[MASK]": 1}, "a")), {"mask": "[MASK]"})
        )
        is None
    )
    assert WholeCharacters.of(None) is None


def test_a_placed_eos_ends_the_text_and_a_given_one_does_not():
    row = [*BYTES.encode("a"), MASK, SPECIAL.eos, *BYTES.encode(" house")]
    text = MLMPredictor(1, None, BYTES, Guess(), seed=0).predict({"input_ids": torch.tensor([row])})["text"][0]
    assert text.startswith("a") and text.endswith(" house")
    ended = MLMPredictor(1, 2, BYTES, Guess(), seed=0).decode(
        {"ids": torch.tensor([[*BYTES.encode("a"), SPECIAL.eos, 9]]), "output_start_idx": torch.tensor([1])}
    )
    assert ended[0] == ["a"]
