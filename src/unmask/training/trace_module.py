"""The instruction-trace encoder as a LightningModule of its own: hand it to a Trainer, with rows of tokens.

It is the one training module (``unmask.training.module``) around ``InstructionTraceMLMModel``, with BERT's flat loss. Rows come from
``MaskedLMCollator`` as ``{"tokens", "mask", "labels"}``; any batch of the contract will do.

    >>> sizes = InstructionTraceTransformerEncoderForMaskedLMConfiguration.small
    >>> model = InstructionTraceTransformerEncoderForMaskedLM(**sizes, vocab_size=4096, next_token_id=5, mask_token_id=4)
    >>> Trainer(max_steps=10_000).fit(model, DataLoader(rows, 32, collate_fn=MaskedLMCollator(4, 4096, special_ids=range(6))))
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
    """An encoder of instruction traces that learns by filling in what was hidden.

    Args:
        depth: layers.
        hidden_dimensions: width.
        vocab_size: ids, specials included.
        sequence_length: the longest row.
        heads: attention heads.
        intermediate_dimensions: hidden width of the feed-forward layers.
        next_token_id, mask_token_id: ids of ``[NEXT]`` and ``[MASK]``.
        dropout: of attention probabilities and residual branches.
        eps: of every norm.
        lr: peak learning rate of AdamW.
        warmup: steps over which the learning rate rises linearly, before its cosine decay to 0 begins. A float in [0, 1] is a
            share of all steps, an int a number of steps: ``1.0`` warms up all the time, ``1`` for one step.

    Raises:
        ValueError: sizes that do not fit together, ids outside the vocabulary, a ``warmup`` or ``lr`` out of range.
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
                f"warmup={warmup} is neither a share of all steps (a float between 0 and 1, such as 0.025) nor a number of steps (an int, such as 500)."
            )
        if not lr > 0.0:
            raise ValueError(f"lr={lr} learns nothing: give a peak learning rate above 0, such as 1e-4.")
        model = InstructionTraceMLMModel(
            vocab_size,
            hidden_dimensions,
            depth,
            heads,
            next_token_id,
            padding_idx=None,  # padding is what the mask says, whatever its id
            mask_idx=mask_token_id,
            dim_feedforward=intermediate_dimensions,
            dropout=dropout,
            activation="gelu",
            layer_norm_eps=eps,
            max_length=sequence_length,
        )
        super().__init__(model, MLMLoss(), OptimConfig(lr=lr, decay="cosine", final_lr=0.0))
        self.save_hyperparameters()
        self.lr, self.warmup = lr, warmup
        self.never_filled = (next_token_id, mask_token_id)
        self.mask_token_id = mask_token_id

    def configure_optimizers(self) -> Any:
        """AdamW and its course: linear warm-up, then a cosine that reaches 0 one step after the last."""
        steps = self.trainer.estimated_stepping_batches
        if 1 <= steps < math.inf:  # otherwise the base class explains
            self.total_steps = int(steps) + 1
            rising = self.warmup if isinstance(self.warmup, int) else round(self.warmup * steps)
            self.optim = self.optim.model_copy(update={"warmup": rising / self.total_steps})
        return super().configure_optimizers()

    def forward(
        self, state: Int[Tensor, "*batch seq"], mask: Tensor | None = None
    ) -> Float[Tensor, "*batch seq vocab"]:
        """Logits at every position.

        Args:
            state: token ids, int64 ``[..., L]``.
            mask: ``[..., L]``, 1 or True = a real token; None = all are. Padding changes no logits of real tokens.
        """
        return self.model(state, None if mask is None else mask.bool())

    def infer(self, tokens: Int[Tensor, "*batch seq"], mask: Tensor | None = None) -> Int[Tensor, "*out seq"]:
        """Fill every ``[MASK]`` with its likeliest token, all in one evaluation.

        Neither ``[MASK]`` nor ``[NEXT]`` is ever filled in. ``unmask.MLMPredictor`` fills over several evaluations, in which
        later tokens see earlier ones.

        Args:
            tokens: int64 ``[L]`` or ``[B, L]``.
            mask: as in :meth:`forward`.

        Returns:
            The filled ids: ``[L]`` for one row, whether given as ``[L]`` or ``[1, L]``; ``[B, L]`` for a batch.
        """
        hidden = (tokens == self.mask_token_id) & (True if mask is None else mask.bool())
        model = cast(InstructionTraceMLMModel, self.model)
        with eval_mode(model):
            logits = model.logits_at(model.hidden_states(tokens, None if mask is None else mask.bool()), hidden)
        logits[:, list(self.never_filled)] = -torch.inf
        filled = tokens.clone()
        filled[hidden] = logits.argmax(-1).to(filled.dtype)
        return filled[0] if filled.dim() == 2 and len(filled) == 1 else filled
