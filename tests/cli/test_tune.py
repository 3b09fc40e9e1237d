"""`unmask tune` writes generation defaults of a run; fill, generate, serve and info read them."""

import asyncio
import json
import shutil

import pytest

from unmask.serve.requested import Decodes
from unmask.serve.schemas import DecodeBody
from unmask.serve.settings import ServeSettings
from unmask.text.generation_defaults import GenerationDefaults
from unmask.text.loading import load

TEXT = "the [MASK] sees the [MASK] [MASK] a [MASK]."


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def test_the_choice_keeps_the_share_with_the_fewest_passes(unmask, run):
    options = ["--rows", 4, "--device", "cpu", "--dtype", "auto", "--checkpoint", "last"]
    tried = unmask("tune", run, *options, "--quality", 0.5, "--no-write")
    assert tried.code == 0 and "chosen" in tried.out and not (run / "generation.json").exists(), tried.err
    found = unmask("tune", run, *options, "--quality", 0.9, "--json")
    report = json.loads(found.out)
    full, chosen = (report[name]["choice"] for name in ("full", "chosen"))
    assert chosen["quality"]["value"] >= 0.9 * full["quality"]["value"]
    assert chosen["forward_passes"] <= full["forward_passes"] and report["rows_checked_on"] == 4
    saved = json.loads((run / "generation.json").read_text())
    assert saved["order"] == report["chosen"]["order"] and saved["measured"]["share"] == 0.9
    assert report["defaults"] in json.loads(unmask("info", run, "--json").out)["generation"]
    assert "above 0, at most 1" in unmask("tune", run, "--quality", 2).err


def test_defaults_hold_where_no_order_or_budget_is_given(unmask, run):
    GenerationDefaults("left_to_right", None, 0.5).write(run, {})
    short = json.loads(unmask("fill", TEXT, "--model", run, "--json").out)
    noted = unmask("fill", TEXT, "--model", run, "--seed", 1, "--temperature", 0)
    assert "Defaults of generation.json: order left_to_right" in noted.err
    given = unmask("fill", TEXT, "--model", run, "--json", "--order", "left_to_right", "--steps", 2)
    assert "generation.json" not in given.err and json.loads(given.out) == short
    assert "generation.json" not in unmask("fill", TEXT, "--model", run, "--threshold", 0.9).err
    assert "generation.json" in unmask("generate", "--model", run, "--new-tokens", 4).err
    (run / "generation.json").write_text("{}")
    assert "unmask tune" in unmask("fill", TEXT, "--model", run).err


def test_a_service_uses_them_too(run):
    def rules(**body):
        decodes = Decodes(load(run, device="cpu"), ServeSettings())
        return asyncio.run(decodes.rules(DecodeBody(text=TEXT, **body), order="random", temperature=0.0))(8)

    GenerationDefaults("top_prob", 0.9, 0.25).write(run, {})
    tuned, own = rules(), rules(steps=5)
    assert tuned.max_steps == 2 and tuned.selector.commit_rule.min_confidence == 0.9
    assert own.max_steps == 5 and own.selector != tuned.selector
    (run / "generation.json").unlink()
    assert rules().max_steps == 8


def test_the_range_of_mask_rates_with_the_least_variance(unmask, run):
    options = ["--clip", "--rows", 4, "--clip-width", 0.5, "--device", "cpu"]
    found = unmask("tune", run, *options, "--json")
    report = json.loads(found.out)
    assert len(report["ranges"]) == 12, found.err  # 0 to 0.5, in steps of 0.05, and the full range
    assert report["chosen"]["variance"] == min(each["variance"] for each in report["ranges"])
    assert report["overrides"][1] == f"objective.rate_max={report['chosen']['rate_max']:g}"
    assert report["overrides"][0] in unmask("tune", run, *options).out and not (run / "generation.json").exists()
    assert "add --clip" in unmask("tune", run, "--clip-width", 0.5).err
