"""The benchmarks of corruptions and collators: complete lists, and peers with the laws of ours."""

import sys

import torch
from benchmarks.decode import VOCAB

import unmask
from benchmarks import collate, corruption, decode_parts, start
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.ops import corrupt
from unmask.ops import corruption as named


def test_every_public_corruption_and_collator_is_measured():
    ids, every = torch.full((2, 64), 7), torch.ones(2, 64, dtype=torch.bool)
    functions = {name for name in vars(corrupt) if name.startswith("corrupt_")}
    made = {name for name, value in vars(named).items() if getattr(value, "__module__", "") == named.__name__}
    assert set(corruption.functions(ids, every)) == functions == {n for n in unmask.__all__ if n.startswith("corrupt_")}
    assert set(corruption.objects(ids, every)) == made
    assert set(collate.every_collator(2, 8)) == {name for name in unmask.__all__ if name.endswith("Collator")}


def test_peers_mask_as_often_as_ours():
    """Fractions of 1,000 rows, whose standard error is a hundredth; loss masks are kept."""
    torch.manual_seed(0)
    ids, loss_mask = torch.randint(5, corruption.VOCAB, (1000, 64)), torch.ones(1000, 64, dtype=torch.bool)
    loss_mask[:, 60:] = False
    slow = {"span_corruption", "whole_words", "scheduled_corruption"}  # loops with a last unit too many; a cosine
    for name, (ours, peer) in (corruption.functions(ids, loss_mask) | corruption.objects(ids, loss_mask)).items():
        if name in slow:
            continue
        found, other = ours()[1], peer()[1]
        assert not found[:, 60:].any() and not other[:, 60:].any(), name
        assert abs(float(found[:, :60].float().mean() - other[:, :60].float().mean())) < 0.045, name


def test_rows_name_every_goal():
    found = corruption.measure(1, rows=2, length=64)
    rows = corruption.rows_of(found)
    assert len(rows) == len(found) + 3 and all(row.target is not None for row in rows)
    batches = collate.measure_all(1, rows=2, length=16)
    assert all(of["ratio"] > 0 and of["gigabytes_per_second"] > 0 for of in batches.values())


def test_a_part_of_decoding_costs_its_passes(monkeypatch):
    """Guidance runs two rows for each of a plain decode; every part has a figure."""
    monkeypatch.setattr(
        decode_parts, "network", lambda: RotaryTransformerMLMModel(VOCAB, 8, 1, 1, padding_idx=0, mask_idx=1)
    )
    found = decode_parts.measure(1, 4)
    assert found["guidance"]["rows"] == 2 * found["plain"]["rows"] and found["plain"]["over_bare"] == 1.0
    assert all(of["over_bare"] > 0 and of["rows"] > 0 for of in found.values())


def test_start_up_is_measured_in_fresh_processes(monkeypatch):
    monkeypatch.setattr(start, "COMMANDS", {name: [sys.executable, "-c", ""] for name in start.COMMANDS})
    rows, found = start.section(1)
    assert [row.target for row in rows] == [0.9, 1.2, 0.5] and all(value > 0 for value in found["seconds"].values())
