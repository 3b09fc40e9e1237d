"""Batch commands: streamed in, finished parts out; killed at any moment and repeated, they leave the bytes of a whole run."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import unmask as package
from tests.data.test_preparation import contents
from unmask.text import row_parts

TEXTS = ["the cat sees the moon.", "a dog sees my aunt.", "my aunt likes old trees.", "the dog", "old trees."]
MANY = [f"{TEXTS[n % 5]}" for n in range(11)]
MASKED = [text.replace("the", "[MASK]").replace("old", "[MASK] [MASK]") for text in MANY]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A Parquet file for each command."""
    folder = tmp_path_factory.mktemp("inputs")
    ids = [f"id{n}" for n in range(11)]
    pq.write_table(pa.table({"id": ids, "text": MASKED}), folder / "fill.parquet")
    pq.write_table(pa.table({"id": ids, "prompt": MANY}), folder / "generate.parquet")
    for name in ("score", "embed"):
        pq.write_table(pa.table({"id": ids, "text": MANY}), folder / f"{name}.parquet")
    return folder


COMMANDS = {
    "fill": ("--top", 2, "--temperature", 0.7),
    "generate": ("--new-tokens", 4, "--samples", 2),
    "score": (),
    "embed": (),
}


def call(command, trained, inputs, out, *options):
    shared = (
        "--model",
        trained,
        "--device",
        "cpu",
        "--input",
        inputs / f"{command}.parquet",
        "--out",
        out,
        "--part-rows",
        3,
    )
    return (command, *shared, *COMMANDS[command], *options)


def rows_of(out):
    if any(out.glob("*.parquet")):
        return [row for part in sorted(out.glob("part-*")) for row in pq.read_table(part).to_pylist()]
    return [json.loads(line) for part in sorted(out.glob("part-*")) for line in part.read_text().splitlines()]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("command", COMMANDS)
def test_a_killed_command_continues_without_redoing_or_losing_a_row(
    unmask, trained, inputs, tmp_path, monkeypatch, command
):
    done = unmask(*call(command, trained, inputs, tmp_path / "whole", "--json"))
    assert done.code == 0, done.err
    assert json.loads(done.out) == {"output": str(tmp_path / "whole"), "rows": 11, "rows_found_finished": 0}
    assert len(list((tmp_path / "whole").glob("part-*"))) == 4
    written, add = [], row_parts.RowParts.add

    def killed(self, number, write):
        if len(written) in (1, 3):
            written.append(None)
            raise Killed
        written.append(number)
        add(self, number, write)

    monkeypatch.setattr(row_parts.RowParts, "add", killed)
    for _ in range(2):
        with pytest.raises(Killed):
            unmask(*call(command, trained, inputs, tmp_path / "out"))
    last = unmask(*call(command, trained, inputs, tmp_path / "out"))
    assert last.code == 0 and "(6 of them were finished by an earlier run)" in last.out
    assert [number for number in written if number is not None] == [0, 1, 2, 3]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert "11 rows (11 of them" in unmask(*call(command, trained, inputs, tmp_path / "out")).out
    assert len(written) == 6  # a finished folder is not written again


def test_rows_are_those_of_the_commands_without_a_folder(unmask, trained, inputs, tmp_path):
    """Rows keep their numbers, places and fields, and their results do not depend on the parts."""
    for command in COMMANDS:
        assert unmask(*call(command, trained, inputs, tmp_path / command)).code == 0
    filled, generated, scored, embedded = (rows_of(tmp_path / command) for command in COMMANDS)
    assert [row["id"] for row in filled] == [f"id{n}" for n in range(11)]
    assert filled[4]["row"] == 4 and filled[4]["place"] == "fill.parquet:4"
    lines = tmp_path / "fill.jsonl"
    lines.write_text("".join(json.dumps({"text": text}) + "\n" for text in MASKED))
    options = ("--model", trained, "--device", "cpu", "--input", lines, *COMMANDS["fill"], "--json")
    alone = json.loads(unmask("fill", *options, "--order", "random").out)
    unmask("fill", *options[:-1], "--order", "random", "--out", tmp_path / "lines", "--part-rows", 3)
    assert [row["text"] for row in rows_of(tmp_path / "lines")] == [row["text"] for row in alone]
    assert [row["prompt"] for row in generated] == [text for text in MANY for _ in range(2)]
    assert [row["sample"] for row in generated] == [0, 1] * 11 and "time_taken" not in generated[0]
    options = ("--model", trained, "--device", "cpu", "--input", inputs / "generate.parquet", *COMMANDS["generate"])
    assert [row["text"] for row in json.loads(unmask("generate", *options, "--json").out)] == [
        r["text"] for r in generated
    ]
    model = package.load(trained, device="cpu")
    assert [row["nats"] for row in scored] == pytest.approx([each.nats for each in model.score(MANY)], abs=1e-4)
    assert [row["id"] for row in scored] == [f"score.parquet:{n}" for n in range(11)]
    assert [row["vector"] for row in embedded] == pytest.approx(model.embed(MANY).numpy(), abs=1e-5)


def test_lines_with_blanks_of_a_length_chats_spans_and_stores_are_read_part_by_part(unmask, trained, tmp_path):
    (tmp_path / "a.txt").write_text("the [MASK:2] moon.\nno blank\nthe [MASK:1-2] cat\na [MASK]\n")
    shared = ("--model", trained, "--device", "cpu", "--part-rows", 1)
    assert unmask("fill", *shared, "--input", tmp_path / "a.txt", "--out", tmp_path / "f").code == 0
    filled = rows_of(tmp_path / "f")
    assert [row["place"] for row in filled] == [f"a.txt:{n}" for n in (1, 2, 3, 4)] and filled[1]["text"] == "no blank"
    (tmp_path / "s.jsonl").write_text(
        '{"prompt": "the cat", "answer": " sees"}\n{"prompt": "a dog", "answer": " sees"}\n'
    )
    for name, options in (
        ("spans", ("--input", tmp_path / "s.jsonl", "--spans")),
        ("store", ("--input", trained / "data" / "valid", "--per", "token")),
        ("context", ("--input", tmp_path / "a.txt", "--before", "my ")),
    ):
        options = (
            (*shared, *options) if name != "context" else (*shared, "--input", tmp_path / "s.txt", "--before", "my ")
        )
        if name == "context":
            (tmp_path / "s.txt").write_text("aunt\ncat\n")
        done = unmask("score", *options, "--out", tmp_path / name)
        assert done.code == 0, done.err
        assert len(rows_of(tmp_path / name)) >= 2
        whole = json.loads(unmask("score", *(o for o in options if o not in ("--part-rows", 1)), "--json").out)["rows"]
        assert [row["nats"] for row in rows_of(tmp_path / name)] == pytest.approx(
            [row["nats"] for row in whole], abs=1e-4
        )


def test_errors_say_what_to_type(unmask, trained, inputs, tmp_path):
    out = tmp_path / "out"
    for command, options, message in (
        ("fill", ("--out", out), "and there is none"),
        ("fill", ("a [MASK]", "--input", inputs / "fill.parquet", "--out", out), "TEXT cannot be used with it"),
        ("generate", ("--prompt", "a", "--input", inputs / "fill.parquet", "--out", out), "--prompt cannot be used"),
        ("score", ("--pairs", "p.jsonl", "--out", out), "--pairs"),
        ("score", ("--input", inputs / "score.parquet", "--out", out, "--part-rows", 0), "needs 1 or more"),
    ):
        done = unmask(command, "--model", trained, "--device", "cpu", *options)
        assert done.code == 1 and message in done.err, done.err
    assert unmask(*call("score", trained, inputs, out)).code == 0
    (out / "finished.json").unlink()
    other = unmask(*call("score", trained, inputs, out, "--form", "word_l2r"))
    assert other.code == 1 and "different: options" in other.err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    refused = unmask(*call("score", trained, inputs, tmp_path / "mine"))
    assert refused.code == 1 and "nothing is overwritten" in refused.err
    (tmp_path / "empty.txt").write_text("\n")
    empty = unmask(
        "score", "--model", trained, "--device", "cpu", "--input", tmp_path / "empty.txt", "--out", tmp_path / "e"
    )
    assert empty.code == 1 and "no row to work on" in empty.err


def test_only_the_records_of_one_part_are_in_memory(tmp_path):
    alive = []

    def records():
        yield from range(20)

    def rows(some, first):
        alive.append((first, some))
        return [{"n": n} for n in some]

    def write(path, made):
        path.write_text(json.dumps(made))

    found = row_parts.run_in_parts(records(), tmp_path / "o", {}, rows, write=write, suffix=".jsonl", part_rows=6)
    assert found == (20, 0) and alive == [
        (0, tuple(range(6))),
        (6, tuple(range(6, 12))),
        (12, tuple(range(12, 18))),
        (18, (18, 19)),
    ]


@pytest.mark.slow
def test_a_command_killed_at_random_moments_leaves_the_bytes_of_a_whole_one(unmask, trained, inputs, tmp_path):
    """SIGKILL at six random moments for each of two commands."""
    draw = random.Random(0)
    environment = {**os.environ, "PYTHONPATH": str(Path(package.__file__).parents[1])}
    for command in ("generate", "embed"):
        assert unmask(*call(command, trained, inputs, tmp_path / f"{command}-whole")).code == 0
        out = tmp_path / command
        line = [sys.executable, "-m", "unmask", *map(str, call(command, trained, inputs, out))]
        for _ in range(6):
            process = subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            limit = time.monotonic() + 60
            while time.monotonic() < limit and process.poll() is None and not (out / "settings.json").exists():
                time.sleep(0.02)  # the model loads for seconds; the parts take much less
            time.sleep(draw.uniform(0, 0.5))
            process.send_signal(signal.SIGKILL)
            process.wait()
        subprocess.run(line, env=environment, check=True, capture_output=True)
        assert contents(out) == contents(tmp_path / f"{command}-whole")
