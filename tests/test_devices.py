"""Devices: what a user may mean, and that no float64 is made where there is none."""

import pytest
import torch

from tests.fake_device import There, without_float64
from unmask import devices
from unmask.collate.packed import PackedMLMCollator
from unmask.contracts import SpecialIds
from unmask.decode.canvas import Canvas
from unmask.decode.loop import fill_canvas
from unmask.decode.named import make_rules
from unmask.evaluate.likelihood import nelbo
from unmask.evaluate.metrics import masked_accuracy
from unmask.evaluate.pseudo import pseudo_log_likelihood
from unmask.evaluate.windows import Windows
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.nonautoregressive.wrapper import NonAutoregressiveWrapper
from unmask.nonautoregressive.wrapper_loss import WrapperObjective
from unmask.ops.schedule import SCHEDULES, FixedCountTime
from unmask.training.loss import MLMLoss
from unmask.training.reduction import global_loss

SPECIAL = SpecialIds(mask=0, vocab_size=20, pad=1, bos=2, eos=3)
ROWS = [{"input_ids": [4, 5, 6, 3, 7, 8, 9, 3], "example_id": i, "epoch_place": i} for i in range(4)]


def network(**options):
    torch.manual_seed(0)
    return RotaryTransformerMLMModel(
        20, 16, 2, 2, padding_idx=1, mask_idx=0, rotary_emb_dim=8, max_length=16, dropout=0.0, **options
    )


def moved(batch, device):
    return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}


def test_the_pretended_device_refuses_float64_and_mixtures():
    with without_float64() as there:
        here = torch.ones(3, device=there)
        assert isinstance(here + 1, There) and (here + 1).device.type == "meta" and (here * 2).sum().item() == 6
        with pytest.raises(TypeError, match="float64"):
            here.double()
        with pytest.raises(RuntimeError, match="same device"):
            here + torch.ones(3)


@pytest.mark.parametrize(
    "weighting",
    ["flat", "inverse_p", SCHEDULES["cosine"], FixedCountTime(SCHEDULES["cosine"], 6)],
    ids=["flat", "inverse", "schedule", "count"],
)
def test_a_training_step_and_a_validation_without_float64(weighting):
    model, loss = network(), MLMLoss(tokenizer=SPECIAL, weighting=weighting, normaliser="supervised")
    batch = PackedMLMCollator(SPECIAL, 8, seed=1)(ROWS)
    wanted = loss(batch, model)
    with without_float64() as there:
        model.to(there)
        found = loss(moved(loss.locate(batch, model, 8), there), model)
        found["loss"].backward()
        assert all(isinstance(p.grad, There) for p in model.parameters() if p.grad is not None)
        with torch.no_grad():
            tokens = loss.score(moved(batch, there), model)
            again = loss.combine(moved(batch, there), tokens)
        whole = global_loss([again, found])
        assert float(found["loss"]) == pytest.approx(float(wanted["loss"]), rel=1e-5)
        assert float(again["loss"]) == pytest.approx(float(wanted["loss"]), rel=1e-5) == float(whole["loss"])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"order": "top_prob", "order_temperature": 0.5, "top_p": 0.9},
        {"order": "critic"},
        {"remask": "cap"},
        {"cache": "dual", "block_length": 3},
        {"guidance": 0.5},
    ],
    ids=str,
)
def test_decoding_draws_the_tokens_of_the_host(options):
    model = network().eval()
    critic = {"critic_model": model} if options.get("order") == "critic" else {}
    rules = make_rules(6, special=SPECIAL, **options, **critic)
    ids = torch.tensor([[2, 0, 5, 0, 0, 0, 6, 3], [2, 7, 0, 0, 8, 0, 0, 3]])
    wanted = fill_canvas(model, Canvas.infill(ids, SPECIAL), rules, special=SPECIAL, seed=3).ids
    with without_float64() as there:
        model.to(there)
        found = fill_canvas(model, Canvas.infill(ids.to(there), SPECIAL), rules, special=SPECIAL, seed=3).ids
        assert isinstance(found, There) and found.tolist() == wanted.tolist()


def test_evaluation_gives_the_numbers_of_the_host():
    model, rows = network().eval(), [[4, 5, 6, 7, 8], [9, 4, 5], [6, 6, 7, 8]]
    windows = Windows.of_rows(rows, 8, ["a b c", "d", "e"])

    def figures():
        return (
            nelbo(model, windows, SPECIAL, samples=2).nats.sum(),
            masked_accuracy(model, windows, SPECIAL, rate=0.5).top_5.value,
            sum(map(sum, pseudo_log_likelihood(model, rows, SPECIAL))),
        )

    wanted = figures()
    with without_float64() as there:
        model.to(there)
        assert figures() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("critic", [False, True])
def test_the_wrapper_trains_and_generates(critic):
    """As the demonstration of pictures does, with its loss through the protocol of the training loop."""
    wrapper = NonAutoregressiveWrapper(
        network(),
        mask_id=0,
        special_ids=(1,),
        steps=4,
        layout=(2, 4),
        self_cond=True,
        self_token_critic=critic,
        schedule="cosine",
    )
    loss, rows = WrapperObjective(), {"input_ids": torch.randint(4, 20, (4, 8)), "example_id": torch.arange(4)}
    wanted = float(loss(wrapper.masking(rows), wrapper)["loss"])
    with without_float64() as there:
        located = loss.locate(wrapper.masking(rows), wrapper, 16)
        wrapper.to(there)
        found = loss(moved(located, there), wrapper)
        found["loss"].backward()
        assert float(found["loss"]) == pytest.approx(wanted, rel=0.2 if critic else 1e-4)
        assert wrapper.generate(2, seed=0).shape == (2, 8)


@pytest.mark.parametrize("wanted", ["cuda", "mps", "cuda:7", "no such"])
def test_the_error_for_an_unavailable_device_lists_the_available_ones(wanted, monkeypatch):
    monkeypatch.setattr(devices, "present", lambda: ["cpu"])
    with pytest.raises(ValueError, match=rf"{wanted}.*available.*cpu"):
        devices.choose_device(wanted)
    assert devices.choose_device("auto") == devices.choose_device("cpu") == torch.device("cpu")


def test_types_are_named_too():
    cpu = torch.device("cpu")
    assert devices.choose_dtype("auto", cpu) is None and devices.choose_dtype("bfloat16", cpu) is torch.bfloat16
    with pytest.raises(ValueError, match="float16 is for accelerators"):
        devices.choose_dtype("float16", cpu)
    with pytest.raises(ValueError, match=r"int8.*float32"):
        devices.choose_dtype("int8", cpu)
