"""The Trainer of Hugging Face computes the loss of this package."""

import importlib.util

import pytest
import torch

import unmask
from unmask.interop import HFCollator, MaskedDiffusionTrainer, compute_loss

transformers = pytest.importorskip("transformers")

SPECIAL = unmask.SpecialIds(mask=0, pad=1, vocab_size=20)
ROWS = [{"input_ids": list(range(4, 9 + n)), "example_id": n} for n in range(6)]
LOSS = unmask.MLMLoss(weighting="inverse_p", tokenizer=SPECIAL)


def network():
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=1,
    )  # fmt: skip
    return transformers.BertForMaskedLM(config)


def collator():
    return unmask.DefaultMLMCollator(SPECIAL, 16, loss_on_padding=False, truncate=None, add_bos=False, add_eos=False)


class Base:
    def __init__(self, model):
        self.model = model


class Mixed(MaskedDiffusionTrainer, Base):
    pass


def test_the_loss_and_its_gradient_are_those_of_the_loss_itself():
    batch, ours, theirs = HFCollator(collator())(ROWS), network(), network()
    expected = LOSS(collator()(ROWS), unmask.HuggingFaceMLM(ours))["loss"]
    trainer = Mixed(theirs, loss=LOSS)
    loss, outputs = trainer.compute_loss(theirs, batch, return_outputs=True, num_items_in_batch=7)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5) and outputs.logits.shape[-1] == 20
    loss.backward(), expected.backward()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        if p.grad is not None:
            torch.testing.assert_close(q.grad, p.grad, rtol=1e-4, atol=1e-6)


def test_labels_are_the_scored_targets():
    batch = HFCollator(collator())(ROWS)
    scored = batch["noise_mask"]
    assert (batch["labels"][scored] == batch["target_ids"][scored]).all() and (batch["labels"][~scored] == -100).all()
    assert scored.any() and not scored.all()
    flat, bert = unmask.MLMLoss(), network()
    ours, _ = compute_loss(bert, batch, flat)
    theirs = bert(batch["input_ids"], attention_mask=batch["attention_mask"].long(), labels=batch["labels"]).loss
    assert float(ours["loss"]) == pytest.approx(float(theirs), rel=1e-5)


def test_packed_rows_are_refused():
    with pytest.raises(ValueError, match="packed"):
        compute_loss(network(), {"segment_ids": torch.zeros(1, 2)}, LOSS)


@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="the Trainer needs accelerate")
def test_the_trainer_trains(tmp_path):
    class Trainer(MaskedDiffusionTrainer, transformers.Trainer):
        pass

    arguments = transformers.TrainingArguments(
        str(tmp_path), max_steps=2, remove_unused_columns=False, report_to=[], use_cpu=True
    )
    trainer = Trainer(network(), arguments, data_collator=HFCollator(collator()), train_dataset=ROWS, loss=LOSS)
    assert trainer.train().training_loss > 0


@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="the Trainer needs accelerate")
def test_a_step_of_the_trainer_has_the_loss_and_the_gradient_of_a_step_of_our_module(tmp_path):
    class Trainer(MaskedDiffusionTrainer, transformers.Trainer):
        pass

    arguments = transformers.TrainingArguments(
        str(tmp_path), max_steps=1, remove_unused_columns=False, report_to=[], use_cpu=True, learning_rate=0.0,
        per_device_train_batch_size=len(ROWS), max_grad_norm=0.0, disable_tqdm=True,
    )  # fmt: skip
    theirs, ours, gradients = network(), network(), {}
    for name, parameter in theirs.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda p, name=name: gradients.update({name: p.grad.clone()}))
    trainer = Trainer(theirs, arguments, data_collator=HFCollator(collator()), train_dataset=ROWS, loss=LOSS)
    total = trainer.train().training_loss
    batch = collator()(ROWS)  # the noise of a row is a function of the row, whatever its place in the batch
    module = unmask.MaskedLMModule(unmask.HuggingFaceMLM(ours), LOSS, unmask.Config().optim, total_steps=1)
    loss = module.training_step(batch, 0)
    loss.backward()
    assert total == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in ours.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-6)
