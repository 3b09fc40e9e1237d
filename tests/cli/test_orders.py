"""`unmask orders` on runs of text, of answers and of block-causal networks."""

import json

import torch

from tests.cli.test_task import TINY
from unmask.build.run import train
from unmask.config.tree import load_config
from unmask.decode.families import ORDERS
from unmask.studies.decoded_rows import rows_of_run
from unmask.studies.order_plot import plot_orders
from unmask.studies.order_study import families

FEW = ["--rows", 4, "--steps", "1,3", "--bounds", 1, "--device", "cpu", "--dtype", "auto", "--checkpoint", "last"]


def test_every_order_is_measured_and_drawn(unmask, trained, tmp_path):
    files = [tmp_path / "orders.png", tmp_path / "orders.json"]
    found = unmask(
        "orders", trained, *FEW, "--block", 8, "--json", *(word for file in files for word in ("--out", file))
    )
    assert found.code == 0, found.err
    report = json.loads(found.out)
    assert report == json.loads(files[1].read_text()) and files[0].stat().st_size > 20_000
    assert report["task"] == "text" and report["quality"] == "tokens" and report["rows"] == 4 and report["block"] == 8
    assert {curve["options"]["order"] for curve in report["curves"]} >= set(ORDERS)
    assert [(c["name"], c["panel"]) for c in report["curves"]] == [(f.name, f.panel) for f in families(8)]
    margin = next(curve for curve in report["curves"] if curve["name"] == "margin")
    assert [point["forward_passes"] for point in margin["points"]] == [1, 3]
    assert "margin" in unmask("orders", trained, *FEW).out
    margin["points"][0]["tokens"] |= {"low": None, "high": None}  # too few rows for an interval
    plot_orders(report, files[0])


def test_answers_are_masked_whole(unmask, tmp_path):
    unmask("task", "sudoku4", "--out", tmp_path / "rows", "--rows", 70, "--set", "clues=8")
    train(load_config(str(tmp_path / "rows" / "config.yaml"), [*TINY, f"run={tmp_path / 'run'}"]))
    rows, about = rows_of_run(tmp_path / "run", 3)
    assert about["quality"] == "whole" and rows.blanks.tolist() == [8, 8, 8]
    kept = ~rows.canvas.blanks(rows.special.mask)
    assert torch.equal(rows.canvas.ids[kept], rows.answer[kept])
    report = json.loads(unmask("orders", tmp_path / "run", *FEW, "--json").out)
    assert all(0 <= point["whole"]["value"] <= 1 for curve in report["curves"] for point in curve["points"])


def test_a_block_causal_network_brings_its_blocks_and_cache(unmask, block_causal):
    report = json.loads(unmask("orders", block_causal, *FEW[:4], "--bounds", 1, "--json").out)
    names = [curve["name"] for curve in report["curves"] if curve["panel"] == "blocks"]
    assert report["block"] == 4 and names == ["blocks of 4", "blocks of 4, block cache"]


def test_wrong_words_are_refused(unmask, trained, tmp_path):
    assert "neither .png" in unmask("orders", trained, "--out", tmp_path / "a.pdf").err
    assert "write 1,4,16" in unmask("orders", trained, "--steps", "many").err
    assert "choose 1 or more" in unmask("orders", trained, "--rows", 0).err
