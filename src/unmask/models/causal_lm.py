"""A Hugging Face causal language model as a masked language model.

Adaptation keeps all weights and changes three things (DiffuLLaMA, 2410.17891; Dream, 2508.15487):

    attention   both ways; ``future`` is the fraction of later positions that a token may attend to. A layer with a sliding
                window keeps it, on both sides
    mask        one more token, whose embedding starts as the mean of the others
    shift       the prediction of token i is read at token i - 1, as the network was trained; a BOS token precedes each row

With ``future=0`` and the shift, the logits are those of the original network.

Shapes: ids ``[B, L]`` in, logits ``[B, L, V]`` out.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unmask.models.unpadded import one_a_row, real_first
from unmask.nn.vocabulary import refuse_unknown_ids
from unmask.ops.segments import positions_from_mask

FULL, SLIDING = "full_attention", "sliding_attention"  # kinds of layers in a config of transformers
Masks = Tensor | dict[str, Tensor]


class CausalLMAsMLM(nn.Module):
    """A causal language model of ``transformers``, run as a masked language model.

    Args:
        model: a ``...ForCausalLM`` that accepts an additive attention mask ``[B, 1, L, L]``.
        mask_idx: id of the mask token; :meth:`add_mask` makes one.
        bos_idx: id that precedes every row under ``shift``: BOS, or the end-of-text token where the tokenizer has no BOS.
        shift: read the prediction of token i at token i - 1.
        future: fraction of the later positions that each token attends to, in [0, 1].

    Attributes:
        future: may be changed during training (attention annealing).
        num_tokens, max_length, width: size of the vocabulary, longest row, width of hidden states.

    Raises:
        ValueError: not a causal language model; ``future`` outside [0, 1]; ``shift`` without ``bos_idx``; a model whose attention cannot be
            opened, which the constructor finds out by running it.

    Examples:
        >>> from transformers import AutoModelForCausalLM, LlamaConfig
        >>> sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
        >>> causal = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=20, **sizes))
        >>> model = CausalLMAsMLM(causal, mask_idx=19, bos_idx=1)
        >>> model(torch.tensor([[5, 19, 7]])).shape
        torch.Size([1, 3, 20])
    """

    def __init__(
        self, model: Any, mask_idx: int, bos_idx: int | None = None, shift: bool = True, future: float = 1.0
    ) -> None:
        super().__init__()
        name = type(model).__name__
        config = getattr(model, "config", None)
        if config is None or not hasattr(model, "get_output_embeddings") or model.get_output_embeddings() is None:
            raise ValueError(
                f"{name} has no vocabulary head. Load it as a causal language model: "
                "transformers.AutoModelForCausalLM.from_pretrained(...)."
            )
        if shift and bos_idx is None:
            raise ValueError(
                "shift=True reads the first token's prediction at a BOS token, and bos_idx is None: give the id of BOS, or of the "
                "end-of-text token."
            )
        self.model = model
        self.mask_idx = mask_idx
        self.bos_idx = bos_idx
        self.shift = shift
        text = config.get_text_config()
        self.kinds_of_attention: frozenset[str] = frozenset(getattr(text, "layer_types", None) or ())
        if self.kinds_of_attention - {FULL, SLIDING}:
            raise ValueError(
                f"{name} has layers of {', '.join(sorted(self.kinds_of_attention - {FULL, SLIDING}))}, which cannot be opened to both "
                "sides. Use a network whose layers are all full_attention or sliding_attention, such as Llama, Qwen2 or Gemma."
            )
        self.padding_idx: int | None = getattr(text, "pad_token_id", None)
        self.num_tokens: int = model.get_input_embeddings().weight.shape[0]
        longest = getattr(text, "max_position_embeddings", None)
        self.max_length: int | None = None if longest is None else int(longest) - shift
        self.width: int = model.get_output_embeddings().weight.shape[1]
        self.config: dict[str, Any] = {"num_embeddings": self.num_tokens, "model_type": config.model_type}
        self.set_future(future)
        self._has_plain_head = self._compare()

    @classmethod
    def add_mask(cls, model: Any) -> int:
        """Add one token to the vocabulary of a causal language model and return its id.

        The new row of the embedding is the mean of the others. An output projection that is not tied gets a row likewise.
        """
        rows = model.get_input_embeddings().weight.shape[0]
        with torch.no_grad():
            means = [part.weight.mean(0) for part in (model.get_input_embeddings(), model.get_output_embeddings())]
            model.resize_token_embeddings(rows + 1, mean_resizing=False)
            for part, mean in zip((model.get_input_embeddings(), model.get_output_embeddings()), means, strict=True):
                part.weight[rows] = mean
        return int(rows)

    def set_future(self, future: float) -> None:
        """Set the fraction of later positions that each token attends to.

        Raises:
            ValueError: not in [0, 1].
        """
        if not 0.0 <= future <= 1.0:
            raise ValueError(
                f"future={future} is a fraction of the later positions and lies in [0, 1]: 0 is causal, 1 is both ways."
            )
        self.future: float = future

    def forward(
        self,
        x_t: Int[Tensor, "batch seq"],
        attention_mask: Bool[Tensor, "batch seq"] | None = None,
        positions: Int[Tensor, "batch seq"] | None = None,
        block_mask: Any = None,
        segment_ids: Int[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq vocab"]:
        """Logits at every position. Arguments as in :meth:`hidden_states`."""
        return self._project(self.hidden_states(x_t, attention_mask, positions, block_mask, segment_ids))

    def hidden_states(
        self,
        x_t: Int[Tensor, "batch seq"],
        attention_mask: Bool[Tensor, "batch seq"] | None = None,
        positions: Int[Tensor, "batch seq"] | None = None,
        block_mask: Any = None,
        segment_ids: Int[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq width"]:
        """Run the network.

        Args:
            x_t: int64 ``[B, L]``.
            attention_mask: True = real token; None = all are. Padding may stand on either side.
            positions: must count from each row's first real token, as the network does itself.
            block_mask: must be None.
            segment_ids: packed rows; each document is run as a row of its own.

        Returns:
            ``[B, L, D]``; the state that predicts each token.

        Raises:
            ValueError: a ``block_mask``, an unknown id, a row that is too long, or positions that count otherwise.
        """
        if block_mask is not None:
            raise ValueError("A block_mask is for networks of this package. Give segment_ids instead.")
        real = torch.ones_like(x_t, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        refuse_unknown_ids(x_t, self.num_tokens, real)
        if segment_ids is not None:
            index, inside = one_a_row(segment_ids, real)
            ids = x_t.flatten()[index]
            self._check_positions(None if positions is None else positions.flatten()[index], inside)
            states = self._run(ids, inside)
            whole = states.new_zeros(x_t.numel(), states.shape[-1])
            return whole.index_copy(0, index[inside], states[inside]).view(*x_t.shape, -1)
        self._check_positions(positions, real)
        if bool(real.all()):
            return self._run(x_t, real)
        order, back = real_first(real)
        states = self._run(x_t.gather(1, order), real.gather(1, order))
        return states.gather(1, back[..., None].expand(states.shape))

    def logits_at(
        self, hidden: Float[Tensor, "batch seq width"], where: Bool[Tensor, "batch seq"]
    ) -> Float[Tensor, "scored vocab"]:
        """Logits of the positions where ``where`` is True, in row-major order."""
        return self._project(hidden[where])

    def _project(self, states: Tensor) -> Tensor:
        return cast(Tensor, self.model.get_output_embeddings()(states)) if self._has_plain_head else states

    def _run(self, ids: Tensor, real: Tensor) -> Tensor:
        """States (or logits, without a plain head) that predict each token of right-padded rows."""
        if self.shift:
            assert self.bos_idx is not None
            first = ids.new_full((len(ids), 1), self.bos_idx)
            ids, real = torch.cat([first, ids], 1), torch.cat([torch.ones_like(first, dtype=torch.bool), real], 1)
        if self.max_length is not None and ids.shape[1] > self.max_length + self.shift:
            raise ValueError(
                f"A row has {ids.shape[1] - self.shift} tokens, and this network takes {self.max_length}: shorten the rows."
            )
        positions = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
        output = self._call(ids, self._masks(real), positions)
        return output[:, :-1] if self.shift else output

    def _call(self, ids: Tensor, masks: Masks | None, positions: Tensor | None) -> Tensor:
        given = {"input_ids": ids, "attention_mask": masks, "position_ids": positions, "use_cache": False}
        given = {key: value for key, value in given.items() if value is not None}
        if getattr(self, "_has_plain_head", True):
            return cast(Tensor, self.model.base_model(**given).last_hidden_state)
        return cast(Tensor, self.model(**given).logits)

    def _masks(self, real: Bool[Tensor, "rows seq"]) -> Masks:
        """Return what is added to attention scores, ``[B, 1, L, L]``: for all layers, or by the kind of a layer."""
        pairs = self._pairs(real)
        window = getattr(self.model.config.get_text_config(), "sliding_window", None)
        if window is None or self.kinds_of_attention == {FULL}:
            return self._bias(pairs)
        place = torch.arange(real.shape[1], device=real.device)
        near = self._bias(pairs & ((place[:, None] - place).abs() < window))
        return {FULL: self._bias(pairs), SLIDING: near} if self.kinds_of_attention else near

    def _pairs(self, real: Bool[Tensor, "rows seq"]) -> Bool[Tensor, "rows seq seq"]:
        """Return which tokens attend to which; under annealing, later ones are drawn at random."""
        length = real.shape[1]
        later = torch.ones(length, length, dtype=torch.bool, device=real.device).triu(1)
        allowed = ~later
        if self.future >= 1.0:
            allowed = torch.ones_like(later)
        elif self.future > 0.0:
            allowed = allowed | (torch.rand(length, length, device=real.device) < self.future)
        pairs = allowed & real[:, None, :]
        return pairs | torch.eye(length, dtype=torch.bool, device=real.device)  # no row of scores is empty

    def _bias(self, pairs: Bool[Tensor, "rows seq seq"]) -> Float[Tensor, "rows one seq seq"]:
        """Return 0 where a token may attend, and the most negative number elsewhere."""
        dtype = next(self.model.parameters()).dtype
        zeros = torch.zeros(pairs.shape, dtype=dtype, device=pairs.device)
        return zeros.masked_fill(~pairs, torch.finfo(dtype).min)[:, None]

    def _check_positions(self, positions: Tensor | None, real: Tensor) -> None:
        if positions is not None and not bool((positions == positions_from_mask(real))[real].all()):
            raise ValueError(
                "This network counts positions from each row's first real token, and the positions given are others. Leave positions out."
            )

    @torch.no_grad()
    def _compare(self) -> bool:
        """Run a few tokens: check that the mask opens the attention, and tell whether the head is the output embedding alone.

        Raises:
            ValueError: the network ignores the attention mask.
        """
        training, future = self.model.training, self.future
        text = self.model.config.get_text_config()
        window = getattr(text, "sliding_window", None)
        device = next(self.model.parameters()).device
        ids = torch.arange(4, device=device)[None] % self.num_tokens
        other = ids.clone()
        other[0, -1] = (other[0, -1] + 1) % self.num_tokens
        self.model.eval()
        try:
            if window is not None:
                text.sliding_window = 2  # so that few tokens show whether the window is followed
            self._has_plain_head = False
            causal, both = (self._masks_at(ids, f) for f in (0.0, 1.0))
            logits = self.model(input_ids=ids, use_cache=False).logits
            closed = self._call(ids, causal, None)
            moved = (self._call(ids, both, None) - self._call(other, both, None))[0, -2].abs().max()
            self._has_plain_head = True
            plain = self.model.get_output_embeddings()(self._call(ids, None, None))
        finally:
            self.model.train(training)
            self.future = future
            if window is not None:
                text.sliding_window = window
        atol = 1e-4 * float(logits.abs().max())
        if not torch.allclose(closed, logits, rtol=1e-4, atol=atol) or not float(moved) > 0.0:
            raise ValueError(
                f"{type(self.model).__name__} does not follow an attention mask [B, 1, L, L], so its attention cannot be opened to both sides. "
                "Load it with attn_implementation='eager', or use another network."
            )
        return plain.shape == logits.shape and torch.allclose(plain, logits, rtol=1e-4, atol=atol)

    def _masks_at(self, ids: Tensor, future: float) -> Masks:
        self.future = future
        return self._masks(torch.ones_like(ids, dtype=torch.bool))
