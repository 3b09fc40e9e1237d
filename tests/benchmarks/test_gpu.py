"""The accelerator's benchmark runs, at the size of a toy and on the CPU; only the device differs."""

import json

import pytest
from benchmarks.gpu_setting import Notes, Setting

from benchmarks import gpu


def test_every_section_is_measured(tmp_path, capsys):
    path = tmp_path / "figures.json"
    assert gpu.measure(list(gpu.SECTIONS), Setting.toy(), path, 500, apart=False), capsys.readouterr().out
    found = json.loads(path.read_text())
    assert set(found["sections"]) == set(gpu.SECTIONS) and found["machine"]["processor"]
    rows = found["sections"]["rows"]
    assert set(rows["mfu"]) == {"unmask", "BERT", "ModernBERT"} and all(0 < x < 1 for x in rows["mfu"].values())
    assert {row["work"] for row in found["table"] if row["target"]} >= {
        "MLM step: MFU",
        "time spent waiting for batches",
    }
    assert found["sections"]["decode"]["figures"]["batch 2"]["dual cache"]["tokens_per_second"] > 0
    assert found["sections"]["attention"]["seconds"] and found["setting"]["rows"] == 2


def test_a_section_that_fails_or_hangs_is_reported_and_the_others_are_kept(tmp_path, monkeypatch):
    def fails(setting, notes):
        notes.report["before"] = 1
        raise ValueError("no such kernel")

    def dies(setting, notes):
        import os

        os._exit(7)

    def hangs(setting, notes):
        import time

        notes.report["before"] = 2
        notes.save()
        time.sleep(60)

    def works(setting, notes: Notes):
        notes.report["figure"] = 5

    monkeypatch.setattr(gpu, "SECTIONS", {"a": (fails, 20), "b": (dies, 20), "c": (hangs, 3), "d": (works, 20)})
    path = tmp_path / "figures.json"
    assert not gpu.measure(list("abcd"), Setting.toy(), path, 500)
    found = json.loads(path.read_text())["sections"]
    assert "no such kernel" in found["a"]["errors"]["section"] and found["a"]["before"] == 1
    assert "status 7" in found["b"]["errors"]["section"] and "stopped" in found["c"]["errors"]["section"]
    assert found["c"]["before"] == 2 and found["d"]["figure"] == 5 and not found["d"]["errors"]


def test_without_a_device_the_toy_is_named(capsys, monkeypatch):
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "--toy" in capsys.readouterr().err
