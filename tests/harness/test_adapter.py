"""The adapter of ``lm-eval``: tasks of the harness, and agreement with the estimators of this package."""

import importlib.metadata as metadata
import json
import math
import tomllib
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model, model_registry

import unmask as package
from unmask.evaluate.conditional import LIKELIHOODS, conditional_log_likelihood
from unmask.evaluate.windows import Windows
from unmask.harness.adapter import UnmaskLM, register_with_harness
from unmask.special_ids import SpecialIds


def requests(kind, *arguments):
    return [Instance(kind, {}, given, number) for number, given in enumerate(arguments)]


def test_the_harness_finds_the_model_by_name_and_by_entry_point():
    register_with_harness()
    register_with_harness()
    assert get_model("unmask") is UnmaskLM and get_model("dummy").__name__ == "DummyLM"
    project = tomllib.loads((Path(package.__file__).parents[2] / "pyproject.toml").read_text())["project"]
    entry = metadata.EntryPoint("unmask", project["entry-points"]["lm_eval.models"]["unmask"], "lm_eval.models")
    model_registry.register("unmask-by-entry-point", target=entry)
    assert get_model("unmask-by-entry-point") is UnmaskLM


@pytest.mark.parametrize("likelihood", ["bound", "left_to_right"])
def test_task_files_run_in_the_harness_with_its_default_device(unmask, trained, tasks, tmp_path, likelihood):
    out = tmp_path / "out"
    done = unmask(
        "lm-eval", "--model_args", f"pretrained={trained},likelihood={likelihood},samples=8",
        "--tasks", "grammar_choice,grammar_bits,grammar_answer", "--include_path", tasks, "--output_path", out, "--batch_size", "4",
    )  # fmt: skip
    assert done.code == 0, done.err
    results = json.loads(next(out.rglob("results*.json")).read_text())["results"]
    assert results["grammar_choice"]["acc,none"] == 1.0
    assert 0.1 < results["grammar_bits"]["bits_per_byte,none"] < 4.0
    assert 0.0 <= results["grammar_answer"]["exact_match,none"] <= 1.0


def test_log_likelihoods_are_those_of_this_package(trained):
    loaded = package.load(trained, device="cpu")
    text = "the cat sees the moon."
    bound = UnmaskLM(str(trained), samples=64, seed=3, device="cpu")
    (rolled,) = bound.loglikelihood_rolling(requests("loglikelihood_rolling", (text,)))
    assert rolled == pytest.approx(loaded.score(text, bound=True, samples=64, seed=3).nats, abs=1e-4)
    pll = UnmaskLM(str(trained), likelihood="pll", device="cpu")
    assert pll.loglikelihood_rolling(requests("loglikelihood_rolling", (text,)))[0] == pytest.approx(
        loaded.score(text).nats, abs=1e-4
    )
    (alone,) = pll.loglikelihood(requests("loglikelihood", ("", text)))
    assert alone[0] == pytest.approx(loaded.score(text).nats, abs=1e-4)


@pytest.mark.parametrize("likelihood", list(LIKELIHOODS))
def test_results_do_not_depend_on_the_batch_size(trained, likelihood):
    given = [("the cat", " sees"), ("a dog finds a", " stone."), ("my aunt", " likes the moon")]
    first, second = (
        UnmaskLM(str(trained), likelihood=likelihood, samples=4, batch_size=size, device="cpu").loglikelihood(
            requests("loglikelihood", *given)
        )
        for size in (1, 32)
    )
    assert np.allclose([n for n, _ in first], [n for n, _ in second], atol=1e-4)
    assert [g for _, g in first] == [g for _, g in second]


def random_model(vocabulary=5):
    torch.manual_seed(0)
    return package.RotaryTransformerMLMModel(vocabulary, 16, 1, 2, mask_idx=0, padding_idx=1, rotary_emb_dim=8).eval()


def test_left_to_right_is_a_distribution_and_the_bound_lies_below_the_mean_over_orders():
    model, special = random_model(), SpecialIds(mask=0, pad=1, vocab_size=5)
    rows = [([2, *tail], [0, 1, 1, 1]) for tail in product(range(2, 5), repeat=3)]
    windows = Windows.of_answers(rows, 8)
    total = np.exp(conditional_log_likelihood(model, windows, special, "left_to_right")).sum()
    with torch.no_grad():  # what is missing is the probability of mask and padding
        assert 0.1 < total < 1.0
    exact = conditional_log_likelihood(model, windows, special, "any_order")
    sampled = conditional_log_likelihood(model, windows, special, "bound", samples=2000)
    assert np.abs(exact - sampled).max() < 0.02


def test_left_to_right_is_the_chain_rule():
    model, special = random_model(), SpecialIds(mask=0, pad=1, vocab_size=5)
    row = [2, 3, 4, 3]
    (nats,) = conditional_log_likelihood(model, Windows.of_answers([(row, [0, 0, 1, 1])], 8), special, "left_to_right")
    with torch.no_grad():
        first = model(torch.tensor([[2, 3, 0, 0]])).log_softmax(-1)[0, 2, 4]
        second = model(torch.tensor([[2, 3, 4, 0]])).log_softmax(-1)[0, 3, 3]
    assert nats == pytest.approx(float(first + second), abs=1e-5)


def test_generation_stops_at_a_stop_text_and_fits_its_context(trained):
    model = UnmaskLM(str(trained), device="cpu", steps=4, order="top_prob", new_tokens=8)
    options = {"until": ["."], "max_gen_toks": 8}
    plain, long = model.generate_until(
        requests("generate_until", ("the cat sees", options), ("the cat sees " * 40, options))
    )
    assert "." not in plain and "." not in long
    whole = package.load(trained, device="cpu").generate(
        "the cat sees", new_tokens=8, order="top_prob", temperature=0.0, steps=4
    )
    assert whole.text.removeprefix("the cat sees").split(".")[0] == plain


def test_errors_say_what_to_change(trained):
    with pytest.raises(ValueError, match="no likelihood 'exact'"):
        UnmaskLM(str(trained), likelihood="exact")
    with pytest.raises(ValueError, match="batch_size=auto"):
        UnmaskLM(str(trained), batch_size="auto")
    model = UnmaskLM(str(trained), likelihood="any_order", device="cpu")
    with pytest.raises(ValueError, match="use likelihood=bound"):
        model.loglikelihood(requests("loglikelihood", ("a dog", " zqxj" * 12)))
    with pytest.raises(ValueError, match="has no tokens"):
        model.loglikelihood(requests("loglikelihood", ("a dog", "")))
    assert math.isfinite(model.eot_token_id)
