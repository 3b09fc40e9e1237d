"""Decoding on CUDA gives the tokens of a CPU; an exported folder runs there."""

import pytest
import torch

from tests.decode.forwards.compiling import SPECIAL, canvas, network
from tests.training.conftest import config_of, corpus, tiny  # noqa: F401 (fixtures)
from unmask.build.run import train
from unmask.decode.loop import fill_canvas
from unmask.decode.named import make_rules
from unmask.export import export_run

pytestmark = pytest.mark.accelerator
RULES = {
    "the surest": {"order": "top_prob", "temperature": 0.0},
    "random": {"temperature": 0.0},
    "sampled": {"order": "entropy", "temperature": 0.7, "top_k": 5},
    "blocks, cached": {"order": "top_prob", "temperature": 0.0, "block_length": 8, "cache": "dual"},
    "remasking": {"remask": "cap", "temperature": 0.0},
    "guided": {"order": "left_to_right", "guidance": 1.0, "temperature": 0.0},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", RULES.values(), ids=RULES)
def test_tokens_are_those_of_a_cpu(cuda, options, dtype):
    model, given = network().to(dtype), canvas(5)
    rules = make_rules(**{"max_steps": 7, "special": SPECIAL, **options})
    here = fill_canvas(model, given, rules, special=SPECIAL, seed=1)
    there = fill_canvas(model.to(cuda), given.to(cuda), rules, special=SPECIAL, seed=1)
    assert there.ids.is_cuda and torch.equal(here.ids, there.ids.cpu())
    assert torch.equal(here.steps_taken, there.steps_taken)
    assert (here.forward_passes, here.positions_computed) == (there.forward_passes, there.positions_computed)


def test_an_exported_folder_runs_there(cuda, tiny, tmp_path):  # noqa: F811
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    train(config_of(tiny, f"run={tmp_path / 'run'}", "train.steps=2", "train.device=cuda"))
    folder = export_run(tmp_path / "run", tmp_path / "folder").folder
    model = AutoModelForMaskedLM.from_pretrained(folder, trust_remote_code=True).eval()
    batch = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)(
        ["the cat sees", "my aunt likes a stone."], padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        here = model(**batch).logits
        there = model.to(cuda)(**batch.to(cuda)).logits
    real = batch.attention_mask.bool().cpu()
    torch.testing.assert_close(there.cpu()[real], here[real], rtol=1e-3, atol=1e-4)
