"""``unmask.fit``: the one loop on any rows."""

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

import unmask

SPECIAL = unmask.SpecialIds(mask=0, pad=1, vocab_size=12)
ROWS = [list(range(2 + n % 3, 8 + n % 4)) for n in range(10)]


class Plain(nn.Module):
    """A network that takes ids alone."""

    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(12, 8), nn.Linear(8, 12)

    def forward(self, ids):
        states = self.embed(ids)
        return self.out(states + states.mean(1, keepdim=True))


def ours(seed=0):
    torch.manual_seed(seed)
    return unmask.RotaryTransformerMLMModel(12, 16, 1, 2, mask_idx=0, padding_idx=1, rotary_emb_dim=8, dropout=0.1)


def plain():
    torch.manual_seed(0)
    return Plain()


def fit(model, rows=ROWS, **options):
    return unmask.fit(model, rows, **{"tokenizer": SPECIAL, "steps": 6, "batch_size": 4, "device": "cpu"} | options)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("build", [ours, plain])
def test_the_same_seed_gives_the_same_weights_and_another_one_others(build):
    results, state = [], torch.random.get_rng_state()
    for seed in (0, 0, 1):
        torch.random.set_rng_state(state)
        model = build()
        before, global_state = weights(model), torch.random.get_rng_state()
        results.append(fit(model, seed=seed))
        assert torch.equal(torch.random.get_rng_state(), global_state)
        assert not torch.equal(weights(model), before) and results[-1].model is model
    first, again, other = results
    assert torch.equal(weights(first.model), weights(again.model)) and first.losses == again.losses
    assert first.losses != other.losses and len(first.losses) == 6


@pytest.mark.parametrize("objective", ["diffusion", "bert", {"name": "maskgit", "schedule": "linear"}])
def test_training_lowers_the_loss_of_every_objective(objective):
    rows = [list(range(2, 12))] * 8
    result = fit(ours(), rows, objective=objective, steps=60, lr=0.02, valid_rows=rows)
    steps, losses = zip(*result.valid_losses, strict=True)
    assert steps == tuple(range(6, 61, 6)) and losses[-1] < 0.9 * losses[0]


def test_forms_of_rows_train_alike():
    forms = [
        ROWS,
        [{"input_ids": row, "name": "x"} for row in ROWS],
        [torch.tensor(row) for row in ROWS],
        [np.array(row) for row in ROWS],
    ]
    first, *others = [fit(ours(), rows).losses for rows in forms]
    assert all(losses == first for losses in others)


def test_every_row_is_seen_once_an_epoch_under_its_own_index():
    seen = []

    def collate(rows):
        seen.extend((row["epoch"], row["example_id"]) for row in rows)
        ids = torch.tensor([row["input_ids"][:4] for row in rows])
        return {"input_ids": torch.zeros_like(ids), "target_ids": ids}

    result = fit(ours(), objective="bert", collator=collate, tokenizer=SPECIAL, steps=5)
    assert len(result.losses) == 5 and sorted(seen[:20]) == [(e, n) for e in (0, 1) for n in range(10)]
    assert [n for _, n in seen[:10]] != [n for _, n in seen[10:20]]


def test_a_loss_a_callback_and_a_logger_of_the_caller_are_used():
    from lightning.pytorch.loggers.logger import DummyLogger

    class Count(Callback):
        steps, logger = 0, None

        def on_train_batch_end(self, trainer, *_):
            self.steps, self.logger = self.steps + 1, trainer.logger

    count, logger = Count(), DummyLogger()
    flat = fit(ours(), loss=unmask.MLMLoss(tokenizer=SPECIAL), callbacks=[count], logger=logger)
    assert count.steps == 6 and count.logger is logger and flat.losses != fit(ours()).losses


def test_a_hugging_face_network_is_trained():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=12, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    network = transformers.BertForMaskedLM(config)
    before = weights(network)
    assert np.isfinite(fit(network).losses).all() and not torch.equal(weights(network), before)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"rows": []}, "rows is empty"),
        ({"rows": iter(ROWS)}, "map-style dataset"),
        ({"tokenizer": None}, "fit needs the ids"),
        ({"steps": 0}, "train.steps = 0"),
        ({"objective": "difusion"}, "diffusion"),
        ({"valid_rows": []}, "valid_rows is empty"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fit(ours(), **options)
