"""A masked language model of instruction traces: ``push rbp [NEXT] mov eax dword [ rbp - 4 ]``.

The rotary encoder with additional learned embeddings for instruction and argument index. Both indices are computed from
the ids, for whole batches at once (``unmask.ops.instructions``). Masking does not change them, because ``[NEXT]`` is
never masked. Rotary positions are token positions, as in text; docs/log.md has the comparison.

Shapes: ``x_t [..., L]`` ids in, ``logits [..., L, V]`` out.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.nn.encoder import initialise
from unmask.nn.heads import MaskedLMHead
from unmask.nn.linear import Linear
from unmask.ops.instructions import instruction_positions

MAX_ARGUMENTS = 64  # argument embeddings; later tokens of an instruction share the last one (x86 needs about twenty)


class InstructionTraceMLMModel(RotaryTransformerMLMModel):
    """Masked language model of traces, an ``MLMModel``. Name given by the documented interface.

    Args:
        num_embeddings, d_model, num_layers, nhead: vocabulary size, width, depth, heads.
        next_idx: id of ``[NEXT]``.
        published_layout: the layers of the published encoder, for its checkpoints (``unmask.models.published_layouts``): a
            norm of the summed embeddings, an argument embedding per position, a bias after attention, and neither rotary
            positions nor a norm after the last block.
        options: those of :class:`RotaryTransformerMLMModel`.

    ``positions`` of a call are token positions. Without ``segment_ids``, a document begins where they are 0.

    Raises:
        ValueError: sizes that do not fit together, or a ``next_idx`` outside the vocabulary.

    Examples:
        >>> import torch
        >>> model = InstructionTraceMLMModel(num_embeddings=20, d_model=16, num_layers=1, nhead=2, next_idx=3)
        >>> model(torch.tensor([[5, 6, 3, 7]])).shape
        torch.Size([1, 4, 20])
    """

    def __init__(
        self,
        num_embeddings: int,
        d_model: int,
        num_layers: int,
        nhead: int,
        next_idx: int,
        published_layout: bool = False,
        **options: Any,
    ) -> None:
        if not 0 <= next_idx < num_embeddings:
            raise ValueError(
                f"next_idx={next_idx} is not an id of a vocabulary of {num_embeddings}: give the id of [NEXT]."
            )
        if published_layout:
            options |= {"rotary_emb_dim": 0, "final_layer_without_normalization": True, "local_init_layers": 0}
        super().__init__(num_embeddings, d_model, num_layers, nhead, **options)
        self.config |= {"next_idx": next_idx, "published_layout": published_layout}
        self.next_idx = next_idx
        self.instruction: nn.Embedding = nn.Embedding(self.max_length, d_model)
        self.argument: nn.Embedding = nn.Embedding(self.max_length if published_layout else MAX_ARGUMENTS, d_model)
        eps = self.config["layer_norm_eps"]
        self.embedding_norm: nn.Identity | nn.LayerNorm = nn.Identity()
        if published_layout:
            self.embedding_norm = nn.LayerNorm(d_model, eps)
            for block in self.blocks:
                block.out = Linear(d_model, d_model)
                block.attention_norm, block.feedforward_norm = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
            initialise(self.blocks, num_layers)
        self.norm: nn.Identity | nn.LayerNorm = (
            nn.Identity() if self.config["final_layer_without_normalization"] else nn.LayerNorm(d_model, eps)
        )
        head = MaskedLMHead(d_model, num_embeddings, eps)
        for part in (self.argument, head):
            initialise(part, num_layers)
        # Absolute indices are noise at first: random initial embeddings were measured to learn later than zeros.
        nn.init.zeros_(self.instruction.weight)
        if self.config["tie_embeddings"]:
            head.decode.weight = self.embedding.weight
        self.head = head

    def _places(
        self, ids: Tensor, attention_mask: Tensor | None, positions: Tensor | None, segment_ids: Tensor | None
    ) -> tuple[Tensor, ...]:
        if segment_ids is None and positions is not None:
            fresh = positions == 0 if attention_mask is None else (positions == 0) & attention_mask
            segment_ids = fresh.long().cumsum(-1)
        (order,) = super()._places(ids, attention_mask, positions, segment_ids)
        return (order, *instruction_positions(ids, self.next_idx, attention_mask, segment_ids))

    def _embed(self, ids: Tensor, *places: Tensor) -> Tensor:
        _, instruction, argument = places
        embedded: Tensor = self.embedding(ids) + self.instruction(instruction)
        arguments: Tensor = self.argument(argument.clamp(max=self.argument.num_embeddings - 1))
        normed: Tensor = self.embedding_norm(embedded + arguments)
        return normed

    def _leave(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x)
        return normed


class InstructionTraceTransformerEncoderForMaskedLMConfiguration:
    """Model sizes as keyword arguments: ``…ForMaskedLM(**Configuration.small, vocab_size=…, …)``. Name given by the
    interface.

    ``tiny`` trains on a laptop in minutes, ``small`` in hours; ``medium`` has 12 layers of 768, ``large`` 24 of 1,024.
    ``options`` maps their names. Each contains ``regularization``, the published dropout and eps.

    Examples:
        >>> InstructionTraceTransformerEncoderForMaskedLMConfiguration.tiny["depth"]
        4
    """

    regularization: ClassVar[dict[str, Any]] = {"dropout": 0.1, "eps": 1e-12}
    tiny: ClassVar[dict[str, Any]] = {
        "sequence_length": 512, "depth": 4, "heads": 4, "hidden_dimensions": 256, "intermediate_dimensions": 1024, **regularization,
    }  # fmt: skip
    small: ClassVar[dict[str, Any]] = {
        "sequence_length": 512, "depth": 6, "heads": 6, "hidden_dimensions": 384, "intermediate_dimensions": 1536, **regularization,
    }  # fmt: skip
    medium: ClassVar[dict[str, Any]] = {
        "sequence_length": 512, "depth": 12, "heads": 12, "hidden_dimensions": 768, "intermediate_dimensions": 3072, **regularization,
    }  # fmt: skip
    large: ClassVar[dict[str, Any]] = {
        "sequence_length": 1024, "depth": 24, "heads": 16, "hidden_dimensions": 1024, "intermediate_dimensions": 4096, **regularization,
    }  # fmt: skip
    options: ClassVar[dict[str, dict[str, Any]]] = {"tiny": tiny, "small": small, "medium": medium, "large": large}
