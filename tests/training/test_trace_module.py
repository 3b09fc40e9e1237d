"""The documented LightningModule of traces: any run length, the documented batch, filling in."""

import math

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader

from unmask.collate.labels import MaskedLMCollator
from unmask.config.optim_config import OptimConfig
from unmask.models.instruction_trace import InstructionTraceTransformerEncoderForMaskedLMConfiguration as Configuration
from unmask.training.module import MaskedLMModule
from unmask.training.trace_module import InstructionTraceTransformerEncoderForMaskedLM

MASK, NEXT, VOCAB = 4, 5, 24
SPECIAL = tuple(range(6))
SIZES = Configuration.tiny | {
    "dropout": 0.0,
    "depth": 2,
    "hidden_dimensions": 32,
    "heads": 2,
    "intermediate_dimensions": 64,
    "sequence_length": 32,
}


def made(seed=0, **options):
    torch.manual_seed(seed)
    return InstructionTraceTransformerEncoderForMaskedLM(
        **(SIZES | {"vocab_size": VOCAB, "next_token_id": NEXT, "mask_token_id": MASK} | options)
    )


def rows(count=24, empty=False):
    """Traces of unequal lengths in which argument k of every instruction is the token 6 + k."""
    found = []
    for n in range(count):
        tokens = [token for i in range(2 + n % 3) for token in [*range(6, 8 + (n + i) % 5), NEXT]]
        tokens = [NEXT] * 4 if empty else tokens
        found.append({"tokens": tokens, "mask": [1] * len(tokens)})
    return found


def fit(model, steps, data=None, valid=None, **options):
    collate = MaskedLMCollator(MASK, VOCAB, 0.3, SPECIAL)
    trainer = Trainer(max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                      enable_model_summary=False, num_sanity_val_steps=0, **options)  # fmt: skip
    loaders = [DataLoader(part, 6, collate_fn=collate) for part in (data or rows(), valid or rows(6))]
    trainer.fit(model, *loaders)
    return trainer


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("steps", "warmup"), [(1, 0.0), (1, 0.025), (1, 1.0), (10, 0.0), (10, 0.025), (10, 0.5), (3, 1.0)]
)
def test_any_run_length_works(steps, warmup):
    model = made(warmup=warmup, lr=1e-3)
    before = [p.detach().clone() for p in model.parameters()]
    trainer = fit(model, steps)
    assert trainer.global_step == steps and math.isfinite(float(trainer.callback_metrics["train/loss"]))
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_warmup_is_a_share_of_all_steps_and_epochs_count_too():
    model = made(warmup=0.5, lr=0.1)
    rates = []
    model.on_before_zero_grad = lambda optimizer: rates.append(optimizer.param_groups[0]["lr"])
    fit(model, -1, max_epochs=2)  # 4 batches an epoch
    assert len(set(rates)) > 4 and max(rates) == pytest.approx(0.1)
    assert rates.index(max(rates)) in (3, 4)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("warmup", "rising"), [(0.25, 3), (3, 3), (0, 0), (0.0, 0), (24, 24)])
def test_the_learning_rate_warms_up_linearly_and_decays_as_a_cosine(warmup, rising):
    rates, steps = [], 12
    model = made(warmup=warmup, lr=0.1)
    model.on_before_optimizer_step = lambda optimizer: rates.append(optimizer.param_groups[0]["lr"] / 0.1)
    fit(model, steps)
    assert rates[:rising] == pytest.approx([(n + 1) / rising for n in range(rising)][:steps])
    left = steps - rising
    assert rates[rising:] == pytest.approx([(1 + math.cos(math.pi * n / left)) / 2 for n in range(left)])


@pytest.mark.parametrize("size", Configuration.options)
def test_a_size_and_the_vocabulary_are_all_that_is_needed(size):
    sizes = Configuration.options[size]
    assert sizes["dropout"] == 0.1 and sizes["eps"] == 1e-12
    with torch.device("meta"):
        model = InstructionTraceTransformerEncoderForMaskedLM(
            **sizes, vocab_size=VOCAB, next_token_id=NEXT, mask_token_id=MASK
        )
    assert {m.eps for m in model.modules() if hasattr(m, "eps")} == {1e-12} and model.hparams.dropout == 0.1


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_run_without_an_end_is_explained():
    with pytest.raises(ValueError, match="max_steps, or max_epochs"):
        fit(made(), -1, max_epochs=-1)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_it_learns_and_fills_in():
    model = made(lr=1e-2)
    trainer = fit(model, 64, rows() * 4)
    assert float(trainer.callback_metrics["valid/accuracy"]) > 0.95
    row = torch.tensor([6, MASK, NEXT, MASK, 7, MASK, NEXT])
    assert model.infer(row).tolist() == [6, 7, NEXT, 6, 7, 8, NEXT]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_rows_without_candidates_contribute_zero_not_nan():
    model = made()
    before = [p.detach().clone() for p in model.parameters()]
    model.optim = OptimConfig(lr=0.1, weight_decay=0.0)
    trainer = fit(model, 4, rows(empty=True), rows(empty=True))
    assert float(trainer.callback_metrics["train/loss"]) == 0.0 and float(trainer.callback_metrics["valid/loss"]) == 0.0
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)), "no gradient"


def test_forward_and_infer_have_the_documented_shapes_and_ignore_padding():
    model = made().eval()
    one = torch.tensor([9, MASK, NEXT, MASK, 12])
    two = torch.stack([torch.cat([one, torch.tensor([MASK, 0])]), torch.tensor([7, 8, NEXT, 9, MASK, 10, 11])])
    mask = torch.tensor([[1] * 5 + [0] * 2, [1] * 7])
    with torch.no_grad():
        assert model(one).shape == (5, VOCAB) and model(two, mask).shape == (2, 7, VOCAB)
        assert torch.allclose(model(two, mask)[0, :5], model(one), atol=1e-5)
    filled, batch = model.infer(one), model.infer(two, mask)
    assert filled.shape == (5,) and model.infer(one[None]).shape == (5,) and batch.shape == (2, 7)
    assert torch.equal(batch[0, :5], filled) and batch[0, 5] == MASK, "padding is not filled"
    assert torch.equal(filled[one != MASK], one[one != MASK]) and not torch.isin(filled, torch.tensor(MASK)).any()
    assert model.infer(torch.tensor([7, 8])).tolist() == [7, 8], "nothing to fill"
    assert torch.equal(model.infer(one.int()).long(), filled)


def test_infer_never_places_the_mask_or_next_and_leaves_the_model_as_it_was():
    model = made().train()
    with torch.no_grad():
        model.model.head.decode.bias[[MASK, NEXT]] = 100.0
    tokens = torch.full((1, 8), MASK)
    assert not torch.isin(model.infer(tokens), torch.tensor([MASK, NEXT])).any() and bool((tokens == MASK).all())
    assert model.training and model.model.blocks[0].training


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lightnings_own_checkpoints_read_back(tmp_path):
    model = made()
    trainer = fit(model, 1)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = InstructionTraceTransformerEncoderForMaskedLM.load_from_checkpoint(tmp_path / "last.ckpt")
    tokens = torch.tensor([7, MASK, NEXT, 9])
    assert torch.equal(again.eval()(tokens), model.eval()(tokens)) and isinstance(again, MaskedLMModule)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"warmup": 500.0}, "a number of steps"),
        ({"warmup": -1}, "warmup=-1 is neither"),
        ({"lr": 0.0}, "lr=0.0"),
        ({"next_token_id": 99}, "next_idx=99"),
        ({"heads": 5}, "even size"),
    ],
)
def test_wrong_arguments_are_explained(options, words):
    with pytest.raises(ValueError, match=words):
        made(**options)


def test_dropout_and_eps_do_something():
    tokens = torch.arange(6, 14)
    torch.manual_seed(0)
    with torch.no_grad():
        dropped = made(dropout=0.5).train()
        assert not torch.equal(dropped(tokens), dropped(tokens))
        assert not torch.allclose(made(eps=1.0).eval()(tokens), made().eval()(tokens))


class Seen(InstructionTraceTransformerEncoderForMaskedLM):
    """The gradients of every step, as the optimiser takes them."""

    def configure_gradient_clipping(self, optimizer, *given, **named):
        super().configure_gradient_clipping(optimizer, *given, **named)
        self.gradients.append(torch.cat([p.grad.flatten() for p in self.parameters() if p.grad is not None]))


class Losses(Callback):
    """What callbacks are given."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        pl_module.losses.append(float(outputs["loss"]))


def watched(batch, accumulate, data, **options):
    torch.manual_seed(0)
    model = Seen(
        **(SIZES | {"vocab_size": VOCAB, "next_token_id": NEXT, "mask_token_id": MASK, "lr": 1e-9, "dropout": 0.0})
    )
    model.gradients, model.losses = [], []
    trainer = Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                      enable_model_summary=False, accumulate_grad_batches=accumulate, callbacks=[Losses()], **options)  # fmt: skip
    trainer.fit(model, DataLoader(data, batch, collate_fn=MaskedLMCollator(MASK, VOCAB, 0.3, SPECIAL, seed=1)))
    return model, trainer


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_callbacks_see_the_mean_loss_and_passes_add_up_to_the_step_of_all_rows():
    """The last window of passes too, which is not full."""
    data = [{**row, "example_id": i} for i, row in enumerate(rows(7))]
    (passes, trainer), (full, _), (rest, _) = watched(1, 4, data), watched(4, 1, data[:4]), watched(3, 1, data[4:])
    assert [len(w.gradients) for w in (passes, full, rest)] == [2, 1, 1]
    for found, wanted in zip(passes.gradients, full.gradients + rest.gradients, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(rest.losses[0], rel=1e-4)
    assert full.losses[0] == pytest.approx(math.log(VOCAB), rel=0.2)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gradients_scaled_for_float16_are_those_without_and_are_clipped_as_such():
    from lightning.pytorch.plugins import MixedPrecision

    data = [{**row, "example_id": i} for i, row in enumerate(rows(4))]
    plain, _ = watched(4, 1, data, gradient_clip_val=0.01)
    precision = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=2.0**16))
    scaled, _ = watched(4, 1, data, gradient_clip_val=0.01, plugins=[precision])
    assert float(scaled.gradients[0].norm()) == pytest.approx(0.01, rel=1e-2) == float(plain.gradients[0].norm())
    assert scaled.losses[0] == pytest.approx(plain.losses[0], rel=1e-2)


def test_a_loop_of_ones_own_gets_the_gradient_of_the_mean():
    model = made(dropout=0.0)
    batch = MaskedLMCollator(MASK, VOCAB, 0.3, SPECIAL, seed=1)(rows(4))
    model.training_step(batch, 0).backward()
    found = model.model.embedding.weight.grad.clone()
    model.zero_grad()
    model.loss(batch, model.model)["loss"].backward()
    assert torch.equal(found, model.model.embedding.weight.grad)
