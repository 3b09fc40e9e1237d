"""One complete training step: forward, backward, optimiser.

Every contestant is a network and a loss over the same batch, with the same fused AdamW, without dropout and without
clipping, in fp32 or under bf16 autocast. ``ours`` is the step of ``unmask train``; ``hugging_face_bert`` is
``BertForMaskedLM`` with SDPA.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from unmask.measure.flops import Size
from unmask.measure.work import MASK, PAD, Work
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.nn.execution import BlockRunner
from unmask.ops.weighting import Weighting
from unmask.training.loss import MLMLoss


class TrainingStep:
    """One optimiser step per call; returns the loss.

    Args:
        model: its parameters are trained.
        loss: the scalar to minimise; called once a step.
        precision: ``"fp32"``, or ``"bf16"`` autocast.
    """

    def __init__(self, model: nn.Module, loss: Callable[[], Tensor], precision: str = "fp32") -> None:
        self.loss = loss
        self.model = model
        self.device_type: str = next(model.parameters()).device.type
        self.bf16: bool = precision == "bf16"
        self.optimizer: torch.optim.AdamW = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    @property
    def held_bytes(self) -> int:
        """Bytes kept between steps: parameters, and the optimiser's state after the first step."""
        state = [
            value for values in self.optimizer.state.values() for value in values.values() if isinstance(value, Tensor)
        ]
        return sum(x.numel() * x.element_size() for x in (*self.model.parameters(), *state))

    def __call__(self) -> Tensor:
        with torch.autocast(self.device_type, torch.bfloat16, enabled=self.bf16):
            loss = self.loss()
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()


def ours(
    size: Size,
    work: Work,
    precision: str = "fp32",
    *,
    weighting: Weighting = "flat",
    compiled: bool = False,
    flex: bool = False,
    device: torch.device | str = "cpu",
    block: int | None = None,
) -> TrainingStep:
    """Return this library's step, through ``MLMLoss``, with everything that ``unmask train`` computes.

    Args:
        size, work, precision: of the network, the batch and the products.
        weighting: ``"flat"`` for MLM, ``"inverse_p"`` for masked diffusion.
        compiled: compile blocks, as with ``train.compile=on``.
        flex: FlexAttention for padded and packed rows (CUDA).
        device: of the model.
        block: block diffusion with clean prefixes, in blocks of this many tokens; None = attention both ways.
    """
    torch.manual_seed(0)
    model = RotaryTransformerMLMModel(
        size.vocabulary,
        size.width,
        size.layers,
        size.heads,
        padding_idx=PAD,
        mask_idx=MASK,
        dim_feedforward=size.feedforward,
        dropout=0.0,
        activation="gelu",
        max_length=max(work.batch["input_ids"].shape[1], 512),
        tie_embeddings=True,
        use_flex_attn=flex,
        causal_block=block,
    ).to(device)
    model.run_block = BlockRunner(compiled=compiled)
    loss = MLMLoss(weighting=weighting, normaliser="scored" if weighting == "flat" else "supervised")
    batch = work.to(device).batch
    if block is not None:
        noisy, targets = batch["input_ids"], batch["target_ids"]
        batch = {**batch, "x_0": torch.where(targets < 0, noisy, targets)}
    return TrainingStep(model, lambda: loss(batch, model)["loss"], precision)


def hugging_face_bert(
    size: Size, work: Work, precision: str = "fp32", *, compiled: bool = False, device: torch.device | str = "cpu"
) -> TrainingStep:
    """Return the step of ``transformers.BertForMaskedLM`` of the same size: SDPA, tied weights, logits at every
    position.
    """
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=size.feedforward,
        max_position_embeddings=max(work.batch["input_ids"].shape[1], 512),
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=PAD,
        tie_word_embeddings=True,
        attn_implementation="sdpa",  # type: ignore[call-arg]
    )
    return with_labels(BertForMaskedLM(config), work, precision, compiled, device)


def with_labels(
    model: nn.Module, work: Work, precision: str, compiled: bool, device: torch.device | str
) -> TrainingStep:
    """Return the step of a Hugging Face model, which computes its own loss from labels."""
    model = model.to(device).train()
    work = work.to(device)
    inputs: dict[str, Any] = {"input_ids": work.batch["input_ids"], "labels": work.labels}
    if "attention_mask" in work.batch:
        inputs["attention_mask"] = work.batch["attention_mask"].long()
    call = torch.compile(model) if compiled else model
    return TrainingStep(model, lambda: call(**inputs).loss, precision)
