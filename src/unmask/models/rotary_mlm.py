"""A bidirectional transformer with rotary positions that predicts masked tokens.

Its input has neither the time nor the mask rate: for masked diffusion the optimal network depends on neither (Ou et al.
2024, 2406.03736). Padding is dropped or masked before the first layer, so it never changes the logits of real tokens.

Shapes: ``x_t [..., L]`` ids in, ``logits [..., L, V]`` out.
"""

from __future__ import annotations

import inspect
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unmask.models.causality import check_causal_options, refuse_block_mask
from unmask.nn.attention import plan_attention
from unmask.nn.clean_prefix import plan_clean_prefix, prefix_block
from unmask.nn.encoder import ACTIVATIONS, EncoderBlock, initialise, initialise_local_attention
from unmask.nn.execution import BlockRunner
from unmask.nn.gather_plan import GatherPlan
from unmask.nn.heads import MaskedLMHead, VocabularyHead
from unmask.nn.kv_cache import KVCache
from unmask.nn.rotary import RotaryTable, refuse_beyond
from unmask.nn.vocabulary import refuse_unknown_ids
from unmask.ops.segments import positions_from_mask, positions_from_segments, shifted_right


class RotaryTransformerMLMModel(nn.Module):
    """Masked language model: embedding, rotary encoder, vocabulary head.

    Args:
        num_embeddings: vocabulary size, including special tokens.
        d_model, num_layers, nhead: width, depth, heads.
        padding_idx: id whose embedding is zero and never trained; None = no such id.
        mask_idx: id of ``[MASK]``, the default of losses and decoders without a tokenizer.

    Other Parameters:
        dim_feedforward: hidden width of the feed-forward layers; None = ``4 * d_model``.
        dropout: of attention probabilities and residual branches.
        activation: a name of ``unmask.nn.encoder.ACTIVATIONS``.
        layer_norm_eps: of every norm.
        rotary_emb_dim: number of rotated channels per head; at most the head's size.
        max_length: number of positions of the model.
        force_flash_attn: restrict dense attention to the flash kernel, which raises if unavailable.
        use_flex_attn: FlexAttention for padded and packed rows on CUDA. With ``dropout`` above 0, training uses a dense
            mask. A CPU runs attention per document, with the same result, and warns once.
        final_layer_without_normalization: skip the norm before the vocabulary projection.
        tie_embeddings: share the embedding's weight with the vocabulary projection.
        rotary_base: the longest wavelength is ``2 pi rotary_base`` tokens; small values separate near positions better.
        local_init_layers: number of first layers whose heads are initialised to attend to their nearest neighbours.
        causal_block: block-causal attention: a token attends to its own block of this many positions and to all earlier
            blocks of its document. A finished block can then be cached exactly
            (``unmask.decode.forwards.block_cached``). None = bidirectional attention.
        shift: autoregressive: the input at a position is the token before it, ``[MASK]`` at the first of a document. With
            ``causal_block=1``, the logits at a position are thus those of its token given the tokens before it.

    ``run_block`` selects compilation and activation checkpointing in training; it changes no result and is not saved.

    Raises:
        ValueError: sizes that do not fit together, or an unknown activation.

    Examples:
        >>> import torch
        >>> model = RotaryTransformerMLMModel(num_embeddings=20, d_model=16, num_layers=1, nhead=2).eval()
        >>> ids = torch.tensor([[5, 1, 6]])
        >>> model(ids).shape, model.hidden_states(ids).shape
        (torch.Size([1, 3, 20]), torch.Size([1, 3, 16]))
    """

    def __init__(
        self,
        num_embeddings: int,
        d_model: int,
        num_layers: int,
        nhead: int,
        padding_idx: int | None = 0,
        mask_idx: int = 1,
        dim_feedforward: int | None = None,
        dropout: float = 0.1,
        activation: str = "relu",
        layer_norm_eps: float = 1e-5,
        rotary_emb_dim: int = 64,
        max_length: int = 1024,
        force_flash_attn: bool = False,
        use_flex_attn: bool = False,
        final_layer_without_normalization: bool = False,
        tie_embeddings: bool = False,
        rotary_base: float = 10_000.0,
        local_init_layers: int = 0,
        causal_block: int | None = None,
        shift: bool = False,
    ) -> None:
        arguments = {k: v for k, v in locals().items() if k in inspect.signature(RotaryTransformerMLMModel).parameters}
        super().__init__()
        if d_model % nhead or (d_model // nhead) % 2:
            raise ValueError(
                f"d_model={d_model} must divide into nhead={nhead} heads of an even size (rotary embedding rotates pairs "
                f"of channels). Try nhead={max(1, d_model // 64)} or another d_model."
            )
        ACTIVATIONS.choose(activation)
        for name, id in (("padding_idx", padding_idx), ("mask_idx", mask_idx)):
            if id is not None and not 0 <= id < num_embeddings:
                raise ValueError(
                    f"{name}={id} is not an id of a vocabulary of {num_embeddings}: it must be 0 to {num_embeddings - 1}."
                )
        check_causal_options(causal_block, shift)
        self.config: dict[str, Any] = arguments
        self.causal_block: int | None = causal_block
        self.shift: bool = shift
        self.mask_idx = mask_idx
        self.padding_idx = padding_idx
        self.max_length = max_length
        self.num_tokens = num_embeddings
        self.width: int = d_model
        self.embedding_width: int = d_model
        self.force_flash_attn = force_flash_attn
        self.use_flex_attn = use_flex_attn
        self.run_block: BlockRunner = BlockRunner()
        self.embedding: nn.Embedding = nn.Embedding(num_embeddings, d_model, padding_idx=padding_idx)
        self.rotary: RotaryTable = RotaryTable(min(rotary_emb_dim, d_model // nhead) // 2 * 2, max_length, rotary_base)
        self.blocks: nn.ModuleList = nn.ModuleList(
            EncoderBlock(d_model, nhead, dim_feedforward or 4 * d_model, dropout, activation, layer_norm_eps)
            for _ in range(num_layers)
        )
        self.head: VocabularyHead | MaskedLMHead = VocabularyHead(
            d_model,
            num_embeddings,
            layer_norm_eps,
            normalise=not final_layer_without_normalization,
            embedding=self.embedding if tie_embeddings else None,
        )
        initialise(self, num_layers)
        for block in list(self.blocks)[:local_init_layers]:
            initialise_local_attention(cast(EncoderBlock, block), self.rotary.angle_per_step)

    def forward(
        self,
        x_t: Int[Tensor, "*batch seq"],
        attention_mask: Bool[Tensor, "*batch seq"] | None = None,
        positions: Int[Tensor, "*batch seq"] | None = None,
        block_mask: Any = None,
        segment_ids: Int[Tensor, "*batch seq"] | None = None,
        x_0: Int[Tensor, "*batch seq"] | None = None,
    ) -> Float[Tensor, "*batch seq vocab"]:
        """Return logits at every position. Arguments as of :meth:`hidden_states`."""
        logits: Tensor = self.head(self.hidden_states(x_t, attention_mask, positions, block_mask, segment_ids, x_0=x_0))
        return logits

    def logits_at(
        self, hidden: Float[Tensor, "*batch seq width"], where: Bool[Tensor, "*batch seq"]
    ) -> Float[Tensor, "scored vocab"]:
        """Return logits ``[N, V]`` at the True positions of ``where``, in row-major order."""
        logits: Tensor = self.head(hidden[where])
        return logits

    def projection_of(
        self, states: Float[Tensor, "scored width"]
    ) -> tuple[Float[Tensor, "scored width"], Float[Tensor, "vocab width"], Float[Tensor, " vocab"] | None]:
        """Return the factors of the states' logits (features, weight, bias), for a fused linear cross-entropy."""
        return self.head.features(states), *self.head.output_weights

    def hidden_states(
        self,
        x_t: Int[Tensor, "*batch seq"],
        attention_mask: Bool[Tensor, "*batch seq"] | None = None,
        positions: Int[Tensor, "*batch seq"] | None = None,
        block_mask: Any = None,
        segment_ids: Int[Tensor, "*batch seq"] | None = None,
        sum_embeds: Float[Tensor, "*batch seq width"] | None = None,
        x_0: Int[Tensor, "*batch seq"] | None = None,
    ) -> Float[Tensor, "*batch seq width"]:
        """Run the encoder.

        Args:
            x_t: int64 ``[..., L]``.
            attention_mask: True = real token; None = all are real.
            positions: rotary positions; None = counted from the row's first real token, restarting at segments.
            block_mask: a FlexAttention BlockMask, used instead of the masks.
            segment_ids: packed rows; tokens attend only within their segment.
            sum_embeds: ``[..., L, D]``, added to the token embeddings (self-conditioning, positions of a grid).
            x_0: clean ids ``[..., L]`` of a block-causal network: each block then attends to the clean tokens of earlier
                blocks instead of the noisy ones (``unmask.nn.clean_prefix``).

        Returns:
            ``[..., L, D]``; zero at padding where padding was dropped.

        Raises:
            ValueError: a position beyond ``max_length``, an id beyond the embedding, a ``block_mask`` for a
                block-causal model, or ``x_0`` for another one.
        """
        x, token_index = self._run(None, x_t, attention_mask, positions, block_mask, segment_ids, sum_embeds, x_0)
        copies = 1 if x_0 is None else 2
        if token_index is not None:
            x = x.new_zeros(copies * x_t.numel(), x.shape[-1]).index_copy(0, token_index, x)
        return x.view(*x_t.shape[:-1], copies, x_t.shape[-1], -1)[..., 0, :, :].reshape(*x_t.shape, -1)

    def hidden_states_where(
        self,
        x_t: Int[Tensor, "*batch seq"],
        index: Int[Tensor, " read"],
        attention_mask: Bool[Tensor, "*batch seq"] | None = None,
        positions: Int[Tensor, "*batch seq"] | None = None,
        block_mask: Any = None,
        segment_ids: Int[Tensor, "*batch seq"] | None = None,
        x_0: Int[Tensor, "*batch seq"] | None = None,
    ) -> Float[Tensor, "read width"]:
        """Return the states ``[N, D]`` at a flat index ``[N]`` over all positions of ``x_t``, computing little else.

        The last block attends from these positions only, and its feed-forward layer runs there. Other arguments and
        errors are those of :meth:`hidden_states`.
        """
        return self._run(index, x_t, attention_mask, positions, block_mask, segment_ids, None, x_0)[0]

    def _run(
        self,
        index: Tensor | None,
        x_t: Tensor,
        attention_mask: Tensor | None,
        positions: Tensor | None,
        block_mask: Any,
        segment_ids: Tensor | None,
        sum_embeds: Tensor | None,
        x_0: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return states at a flat index; if it is None, those of the tokens that ran, and their flat index (None =
        all). With ``x_0`` that index is into rows ``[x_t | x_0]``.
        """
        ids = x_t.reshape(-1, x_t.shape[-1])
        attention_mask, positions, segment_ids, x_0 = (
            None if x is None else x.reshape(ids.shape) for x in (attention_mask, positions, segment_ids, x_0)
        )
        attention_mask = None if attention_mask is None else attention_mask.bool()
        places = self._places(ids, attention_mask, positions, segment_ids)
        self._check_length(ids, places[0])
        refuse_block_mask(block_mask, self.causal_block)
        drops = self.training and self.config["dropout"] > 0
        if x_0 is None:
            plan, token_index = plan_attention(
                ids.shape[0], ids.shape[1], ids.device, attention_mask, segment_ids, block_mask, self.use_flex_attn, self.force_flash_attn,
                blocks=self._attention_blocks(places[0]), drops=drops, dtype=_product_dtype(self.embedding.weight),
            )  # fmt: skip
        else:
            plan, token_index = plan_clean_prefix(
                places[0], prefix_block(self.causal_block, self.shift), attention_mask, segment_ids, self.use_flex_attn, drops,
            )  # fmt: skip
            clean = self._places(x_0, attention_mask, positions, segment_ids)
            places = tuple(torch.cat(pair, 1) for pair in zip(places, clean, strict=True))
            ids = torch.cat([ids, x_0], 1)
            index = None if index is None else index + index // x_0.shape[1] * x_0.shape[1]
        read = None if index is None else GatherPlan.of(index, token_index, ids.numel())  # before work is queued
        ids = self._inputs(ids, places[0])
        flat = [part.flatten() if token_index is None else part.flatten()[token_index] for part in (ids, *places)]
        refuse_unknown_ids(flat[0], self.num_tokens)
        x, angles = self._embed(*flat), self.rotary(flat[1])
        if sum_embeds is not None:
            added = sum_embeds.reshape(*x_t.reshape(-1, x_t.shape[-1]).shape, -1)
            added = (added if x_0 is None else torch.cat([added, added], 1)).flatten(0, 1)
            x = x + (added if token_index is None else added[token_index])
        blocks: list[Any] = list(self.blocks)
        for block in blocks if index is None else blocks[:-1]:
            x = self.run_block(block, x, angles, plan)
        if read is None:
            return self._leave(x), token_index
        return read.put(self._leave(self.run_block(blocks[-1], x, angles, plan, read.places))), None

    def hidden_states_at(
        self,
        x_t: Int[Tensor, "rows seq"],
        where: Bool[Tensor, "rows seq"],
        memory: KVCache,
        rows: Int[Tensor, " rows"],
        attention_mask: Bool[Tensor, "rows seq"],
        positions: Int[Tensor, "rows seq"],
        read: Bool[Tensor, "rows seq"] | None = None,
    ) -> Float[Tensor, "read width"]:
        """Run the encoder at ``where`` only, against cached keys and values of the other positions.

        Args:
            x_t: int64 ``[b, L]``.
            where: the positions to run; their keys and values are stored.
            memory: the cache; the first call of a row must run all its positions.
            rows: int64 ``[b]``, the cached rows of this call.
            attention_mask: True = real token.
            positions: rotary positions.
            read: subset of ``where`` to return, computed alone in the last block; None = all of it.

        Returns:
            ``[T, D]`` at the True positions of ``read``, row-major.
        """
        self._check_length(x_t, positions)
        every = self._places(x_t, attention_mask, positions, None)
        ids, *places = (part[where] for part in (self._inputs(x_t, every[0]), *every))
        refuse_unknown_ids(ids, self.num_tokens)
        x, angles = self._embed(ids, *places), self.rotary(places[0])
        plans = memory.plans(len(self.blocks), where, rows, attention_mask, self._attention_blocks(positions), read)
        blocks: list[Any] = list(self.blocks)
        for block, plan in zip(blocks[:-1], plans, strict=False):
            x = block(x, angles, plan)
        return self._leave(blocks[-1](x, angles, plans[-1], None if read is None else read[where].nonzero()[:, 0]))

    @property
    def drops_padding(self) -> bool:
        """True if every row runs at its own length: padding is dropped, and takes part in no product."""
        return self.causal_block is None and self.embedding.weight.device.type == "cpu"

    def _places(
        self, ids: Tensor, attention_mask: Tensor | None, positions: Tensor | None, segment_ids: Tensor | None
    ) -> tuple[Tensor, ...]:
        """Return the position inputs of each token, ``[B, L]`` each; the rotary position comes first."""
        if positions is not None:
            return (positions,)
        if segment_ids is not None:
            return (positions_from_segments(segment_ids),)
        counted = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        return (counted if attention_mask is None else positions_from_mask(attention_mask),)

    def _attention_blocks(self, positions: Tensor) -> Tensor | None:
        """Return the block of each rotary position, or None for bidirectional attention."""
        return None if self.causal_block is None else positions // self.causal_block

    def _inputs(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Return the input token of each position: its own, or under ``shift`` the token before it."""
        return shifted_right(ids, positions, self.mask_idx) if self.shift else ids

    def _embed(self, ids: Tensor, *places: Tensor) -> Tensor:
        """Return the input of the first block, ``[T, D]``, of flat tokens and their position inputs."""
        return cast(Tensor, self.embedding(ids))

    def _leave(self, x: Tensor) -> Tensor:
        """Transform the output of the last block, ``[T, D]``; here the norm is part of the head."""
        return x

    def _check_length(self, ids: Tensor, positions: Tensor) -> None:
        # Reading the largest position would stall an accelerator and break compiled code; there the table lookup raises.
        if ids.device.type == "cpu" and not torch.compiler.is_compiling():
            refuse_beyond(positions, self.max_length)


# Read once: torch.compile traces is_autocast_enabled, and no version traces is_autocast_available.
_WITH_AUTOCAST = tuple(kind for kind in ("cpu", "cuda", "mps", "xpu") if torch.amp.is_autocast_available(kind))


def _product_dtype(weight: Tensor) -> torch.dtype:
    """Return the dtype of matrix products: that of the weights, or of autocast."""
    kind = weight.device.type
    narrow = kind in _WITH_AUTOCAST and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if narrow else weight.dtype
