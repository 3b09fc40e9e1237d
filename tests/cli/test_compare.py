"""`unmask compare` on trained runs: files by suffix, several seeds as one entry, saved measurements, refusals."""

import json
import shutil

import pytest

from tests.cli.conftest import train_small


@pytest.fixture(scope="module")
def runs(corpus, trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    other = train_small(corpus, folder / "few", steps=10)
    many = folder / "many"
    many.mkdir()
    for seed in (0, 1):
        shutil.copytree(trained if seed else other, many / f"run-{seed}")
    listed = [{"run": f"run-{seed}", "seed": seed} for seed in (0, 1)]
    (many / "runs.json").write_text(json.dumps({"runs": listed}))
    return trained, other, many


def test_runs_are_compared_and_written(unmask, runs, tmp_path):
    files = [tmp_path / f"table{suffix}" for suffix in (".csv", ".tex", ".png")]
    small = ["--samples", 2, "--documents", 12, "--device", "cpu", "--dtype", "auto", "--checkpoint", "last"]
    found = unmask("compare", *runs, *small, "--json", *(word for file in files for word in ("--out", file)),
                   "--save", tmp_path / "kept", "--seed", 3)  # fmt: skip
    assert found.code == 0, found.err
    report = json.loads(found.out)
    first, few, many = report["entries"]
    assert few["difference"]["low"] > 0 and first["difference"] is None and many["seeds"] == [0, 1]
    assert few["difference"]["value"] == pytest.approx(few["bits"]["value"] - first["bits"]["value"])
    assert many["bits"]["value"] == pytest.approx((first["bits"]["value"] + few["bits"]["value"]) / 2)
    assert report["correction"] == "holm" and report["unit"] == "byte" and few["p_corrected"] >= few["p_value"]
    assert files[0].read_text().startswith("run,seeds,unit,bits_value") and "\\begin{tabular}" in files[1].read_text()
    assert files[2].stat().st_size > 5000
    kept = [tmp_path / "kept" / name for name in ("run.npz", "few.npz", "many-0.npz", "many-1.npz")]
    again = unmask("compare", *kept[:2], "--json")
    assert json.loads(again.out)["entries"][1]["difference"] == few["difference"], again.err
    shown = unmask("compare", *kept, "--baseline", "few", "--per", "token", "--samples", 2)
    assert "minus few (paired)" in shown.out and "0.0000 (+0.0000 to +0.0000)" in shown.out
    refused = unmask("compare", kept[0], runs[1], *small)  # another seed of masks
    assert refused.code == 1 and "same --seed and --samples" in refused.err


def test_a_comparison_is_refused_before_it_is_measured(unmask, runs, tmp_path):
    assert "two runs or more" in unmask("compare", runs[0]).err
    assert "no entry 'x' for --baseline" in unmask("compare", *runs, "--baseline", "x").err
    assert "suffix of a file of a comparison" in unmask("compare", *runs, "--out", tmp_path / "a.doc").err
    assert "--per line" in unmask("compare", *runs, "--per", "line").err
    (tmp_path / "text.txt").write_text("the cat sees a dog.\n\na dog sees the cat.\n")
    found = unmask("compare", *runs[:2], "--data", tmp_path / "text.txt", "--samples", 1, "--json")
    assert found.code == 0 and json.loads(found.out)["documents"] >= 1, found.err
