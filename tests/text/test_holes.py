"""Rows with holes: each is filled as if alone, its fields are kept, and only its context is trimmed."""

import itertools
import json

import pytest

import unmask
from tests.decode.test_loop import Counting
from unmask.contracts import SpecialIds
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.decode.lengths import fill_and_score
from unmask.decode.named import make_rules
from unmask.text.filling import fill_rows
from unmask.text.holes import Hole, read_holes
from unmask.text.length_search import LengthSearch, canvases, search_lengths

ROWS = [
    {"id": 7, "before": "the ", "after": " sees the dog.", "file": {"name": "a"}},
    {"prefix": "the cat ", "suffix": " the dog."},
    {"text": "the [MASK] sees the [MASK].", "id": "x"},
    {"text": "the cat sees"},
    {"before": "", "after": " cat"},
    {"text": "the [MASK] sees the cat."},
]


@pytest.fixture(scope="module")
def model(trained):
    return unmask.load(trained)


@pytest.mark.parametrize("options", [{}, {"order": "random", "temperature": 1.5, "longest": 5}])
def test_a_row_is_filled_alone_as_in_any_batch(model, options):
    together = model.fill(ROWS, **options)
    if not options:  # the blanks of a text have keys of their own only where their length is searched
        assert [f.text for f in model.fill(ROWS, batch_size=2)] == [f.text for f in together]
    for row, filling in zip(ROWS, together, strict=True):
        assert model.fill(row, **options).as_dict() == filling.as_dict()
    assert [f.text for f in model.fill(ROWS[::-1], **options)] == [f.text for f in together][::-1]


def test_fields_are_carried_and_the_given_text_is_kept(model):
    first, second, third, fourth, *_ = [filling.as_dict() for filling in model.fill(ROWS)]
    assert {name: first[name] for name in ROWS[0]} == ROWS[0] and list(first)[:4] == list(ROWS[0])
    assert first["text"] == f"the {first['filling']} sees the dog." and "prompt" not in first
    assert second["text"] == f"the cat {second['filling']} the dog." and second["prefix"] == "the cat "
    assert third["id"] == "x" and third["prompt"] == ROWS[2]["text"] and third["text"].count("[MASK]") == 0
    assert fourth["text"] == "the cat sees" and fourth["blanks"] == []


def test_a_mask_token_written_in_the_context_is_text(model):
    filling = model.fill({"before": "the [MASK] ", "after": " cat"})
    assert filling.text.startswith("the [MASK] ") and len(filling.blanks) == 1


def test_the_best_of_several_blanks_beats_the_neighbouring_lengths(model):
    """The score of the kept lengths is that of a decode by itself, and no change of one blank improves it."""
    tokenizer, rules = model.tokenizer, make_rules(8, order="left_to_right", temperature=0.0)
    hole = Hole.of(tokenizer, {"text": "the [MASK] sees the [MASK]."}, "row")
    search = LengthSearch(hole.prompt, rules, 4)
    search_lengths(model.model, tokenizer, [search], rules)
    best, special = search.best, SpecialIds.of(tokenizer)
    row = search.ids(best, special.mask)
    alone, _ = fill_and_score(model.model, [row], rules, special=special, seed=0)
    assert search.found[best].score == pytest.approx(float(alone), abs=1e-4)
    last = search.around(best, 1)
    assert all(search.found[each].score <= search.found[best].score for each in last)
    assert {(n, n) for n in (1, 2, 4)} <= set(search.found) and len(search.found) < 16 + 1


def test_the_candidates_of_a_batch_share_their_forward_passes(model):
    """Ten holes of up to 8 tokens take 8 forward passes, and not 80."""
    counting = Counting(model.model)
    rows = read_holes(model.tokenizer, [{"before": "the ", "after": f" sees the cat{'!' * n}"} for n in range(10)])
    list(fill_rows(counting, model.tokenizer, rows, lambda n: make_rules(n, order="top_prob", temperature=0.0)))
    assert len(counting.rows) == 8 and counting.rows[0] == 80


def test_the_context_is_trimmed_at_its_ends_and_the_blank_never(model):
    limit, said = model.model.max_length, []
    long = {"before": "the cat sees. " * 50 + "the ", "after": " sees the dog." * 50, "id": 1}
    rules = lambda n: make_rules(n, order="top_prob", temperature=0.0)  # noqa: E731
    holes = read_holes(model.tokenizer, [long, ROWS[0], long])
    fillings = list(fill_rows(model.model, model.tokenizer, holes, rules, note=said.append))
    assert len(said) == 1 and "2 of 3 rows" in said[0]
    assert fillings[0].text == long["before"] + fillings[0].filling + long["after"]
    pieces = holes[0].trimmed(limit, 8).prompt.pieces
    assert sum(map(len, pieces)) + 8 == limit and abs(len(pieces[0]) - len(pieces[1])) <= 1
    whole = holes[0].prompt.pieces
    assert whole[0][-len(pieces[0]) :] == pieces[0] and whole[1][: len(pieces[1])] == pieces[1]
    left = Hole.of(model.tokenizer, {**long, "after": "."}, "row").trimmed(limit, 8).prompt.pieces
    assert len(left[1]) == 1 and len(left[0]) == limit - 9
    with pytest.raises(ValueError, match="max_length of this model"):
        holes[0].trimmed(limit, limit + 1)
    with pytest.warns(UserWarning, match="trimmed"):
        assert model.fill(long).text == fillings[0].text


def test_a_trimmed_row_never_begins_inside_a_character():
    tokenizer = Tokenizer.train(["a"], 290)
    hole = Hole.of(tokenizer, {"before": "日本語" * 9, "after": ""}, "row")
    for limit in range(5, 14):
        kept = hole.trimmed(limit, 1).prompt.pieces[0]
        assert "\ufffd" not in tokenizer.decode(kept) and limit - 4 < len(kept) + 1 <= limit


@pytest.mark.parametrize(
    "row, message",
    [
        ({"before": "a"}, "the fields 'before'"),
        ({"before": "a", "after": "b", "text": "c"}, "the fields 'before', 'after', 'text'"),
        ({}, "the fields none"),
        ({"before": 1, "after": ""}, "'before' is 1"),
        ({"before": "a", "after": "b", "filling": ""}, "'filling' is a field of the result"),
        ({"text": "a", "steps": 3}, "'steps' is a field of the result"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(model, row, message):
    with pytest.raises(ValueError, match="Row 2") as error:
        model.fill([ROWS[0], row])
    assert message in str(error.value)


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_command_reads_rows_and_keeps_their_order(unmask, trained, model, tmp_path):
    source = write_rows(tmp_path / "holes.jsonl", ROWS)
    answer = unmask("fill", "--input", source, "--jsonl", "--model", trained, "--batch-size", 2)
    assert answer.code == 0, answer.err
    expected = [filling.as_dict() for filling in model.fill(ROWS)]
    assert [json.loads(line) for line in answer.out.splitlines()] == json.loads(json.dumps(expected))
    fault = write_rows(tmp_path / "fault.jsonl", [ROWS[0], {"befor": ""}])
    answer = unmask("fill", "--input", fault, "--model", trained)
    assert answer.code == 1 and "fault.jsonl, line 2 has the fields 'befor'" in answer.err


def test_a_command_ends_in_time_and_names_the_rest(unmask, trained, tmp_path, monkeypatch):
    """Batches of 1, 2 and 4 rows: the time is up in the third."""
    rows = [{"id": n, "before": "the ", "after": " sees"} for n in range(6)]
    source = write_rows(tmp_path / "holes.jsonl", rows)
    clock = itertools.count()
    monkeypatch.setattr("unmask.cli.time_limit.time.monotonic", lambda: next(clock))
    answer = unmask("fill", "--input", source, "--jsonl", "--model", trained, "--seconds", 20)
    assert answer.code == 1 and "3 of 6 rows are not filled" in answer.err and "id 3, id 4, id 5" in answer.err
    assert [json.loads(line)["id"] for line in answer.out.splitlines()] == [0, 1, 2]
    assert unmask("fill", "the [MASK]", "--model", trained, "--seconds", 0).code == 1


def test_canvases_are_bounded_and_hold_every_row_once():
    jobs = [(None, (n,), [0] * n) for n in (7, 3, 9, 1, 9)]
    parts = [[len(row) for _, _, row in part] for part in canvases(jobs, 18)]
    assert all(len(part) * max(part) <= 18 for part in parts) and sorted(itertools.chain(*parts)) == [1, 3, 7, 9, 9]
