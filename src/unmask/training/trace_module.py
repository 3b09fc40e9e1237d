"""The instruction-trace encoder as a self-contained LightningModule.

The class is ``MaskedLMModule`` around ``InstructionTraceMLMModel`` with the flat loss of BERT. Batches are those of
``MaskedLMCollator``, ``{"tokens", "mask", "labels"}``, or any ``MLMBatch``::

    sizes = InstructionTraceTransformerEncoderForMaskedLMConfiguration.small
    model = InstructionTraceTransformerEncoderForMaskedLM(**sizes, vocab_size=4096, next_token_id=5, mask_token_id=4)
    collate = MaskedLMCollator(4, 4096, special_ids=range(6))
    Trainer(max_steps=10_000).fit(model, DataLoader(rows, 32, collate_fn=collate))
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unmask.config.optim_config import OptimConfig
from unmask.models.instruction_trace import InstructionTraceMLMModel
from unmask.nn.modes import eval_mode
from unmask.training.loss import MLMLoss
from unmask.training.module import MaskedLMModule


class InstructionTraceTransformerEncoderForMaskedLM(MaskedLMModule):
    """A transformer encoder of instruction traces, trained by masked language modelling.

    The name and the arguments are those of the published interface.

    Args:
        depth: number of layers.
        hidden_dimensions: width of the hidden states.
        vocab_size: number of token ids, special ids included.
        sequence_length: longest row, in tokens.
        heads: number of attention heads.
        intermediate_dimensions: hidden width of the feed-forward layers.
        next_token_id, mask_token_id: ids of ``[NEXT]`` and ``[MASK]``.
        dropout: dropout probability of attention and residual branches.
        eps: epsilon of the layer norms.
        lr: peak learning rate of AdamW.
        warmup: linear warm-up of the learning rate, before a cosine decay to 0. A float in [0, 1] is a fraction of all steps; an
            int is a number of steps. So ``1.0`` is warm-up only, and ``1`` is one step of warm-up.

    Raises:
        ValueError: inconsistent sizes, ids outside the vocabulary, or ``warmup`` or ``lr`` out of range.

    Examples:
        >>> import torch, unmask
        >>> model = unmask.InstructionTraceTransformerEncoderForMaskedLM(
        ...     1, 16, 20, 16, 2, 32, next_token_id=3, mask_token_id=0, dropout=0.0, eps=1e-5
        ... )
        >>> tokens = torch.tensor([[7, 0, 3, 8]])
        >>> model(tokens).shape, int((model.infer(tokens) == 0).sum())
        (torch.Size([1, 4, 20]), 0)
    """

    def __init__(
        self,
        depth: int,
        hidden_dimensions: int,
        vocab_size: int,
        sequence_length: int,
        heads: int,
        intermediate_dimensions: int,
        next_token_id: int,
        mask_token_id: int,
        dropout: float,
        eps: float,
        lr: float = 1e-4,
        warmup: float = 0.025,
    ) -> None:
        if warmup < 0 or (warmup > 1 and not isinstance(warmup, int)):
            raise ValueError(
                f"warmup={warmup} is neither a fraction of all steps (a float between 0 and 1, such as 0.025) nor a number of steps "
                "(an int, such as 500)."
            )
        if not lr > 0.0:
            raise ValueError(f"lr={lr} must be above 0: choose a peak learning rate such as 1e-4.")
        model = InstructionTraceMLMModel(
            vocab_size,
            hidden_dimensions,
            depth,
            heads,
            next_token_id,
            padding_idx=None,  # the attention mask marks padding, whatever its id
            mask_idx=mask_token_id,
            dim_feedforward=intermediate_dimensions,
            dropout=dropout,
            activation="gelu",
            layer_norm_eps=eps,
            max_length=sequence_length,
        )
        super().__init__(model, MLMLoss(), OptimConfig(lr=lr, decay="cosine", final_lr=0.0))
        self.save_hyperparameters()
        self.lr = lr
        self.warmup = warmup
        self.never_predicted: tuple[int, int] = (next_token_id, mask_token_id)
        self.mask_token_id = mask_token_id

    def configure_optimizers(self) -> Any:
        """Return AdamW with linear warm-up and a cosine decay that reaches 0 one step after the last."""
        steps = self.trainer.estimated_stepping_batches
        if 1 <= steps < math.inf:  # otherwise the base class raises an error
            self.total_steps: int = int(steps) + 1
            warmup_steps = self.warmup if isinstance(self.warmup, int) else round(self.warmup * steps)
            self.optim: OptimConfig = self.optim.model_copy(update={"warmup": warmup_steps / self.total_steps})
        return super().configure_optimizers()

    def forward(
        self, state: Int[Tensor, "*batch seq"], mask: Tensor | None = None
    ) -> Float[Tensor, "*batch seq vocab"]:
        """Return the logits ``[..., L, V]`` of every position.

        Args:
            state: token ids, int64 ``[..., L]``.
            mask: ``[..., L]``, 1 or True at real tokens; None = no padding. Padding does not change the logits of real tokens.
        """
        logits: Tensor = self.model(state, None if mask is None else mask.bool())
        return logits

    def infer(self, tokens: Int[Tensor, "*batch seq"], mask: Tensor | None = None) -> Int[Tensor, "*out seq"]:
        """Fill every ``[MASK]`` with its most likely token, in one forward pass.

        ``[MASK]`` and ``[NEXT]`` are never filled in. ``unmask.MLMPredictor`` decodes in several forward passes, in which later
        tokens are conditioned on earlier ones.

        Args:
            tokens: int64 ``[L]`` or ``[B, L]``.
            mask: attention mask, as in :meth:`forward`.

        Returns:
            Filled ids, int64: ``[L]`` for a single row (``[L]`` or ``[1, L]``), ``[B, L]`` for a batch.
        """
        masked = (tokens == self.mask_token_id) & (True if mask is None else mask.bool())
        model = cast(InstructionTraceMLMModel, self.model)
        with eval_mode(model):
            logits = model.logits_at(model.hidden_states(tokens, None if mask is None else mask.bool()), masked)
        logits[:, list(self.never_predicted)] = -torch.inf
        filled = tokens.clone()
        filled[masked] = logits.argmax(-1).to(filled.dtype)
        return filled[0] if filled.dim() == 2 and len(filled) == 1 else filled
