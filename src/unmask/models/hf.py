"""Any Hugging Face masked language model as an ``MLMModel``.

    hidden_states   the encoder's last states
    logits_at       the model's own head, paid only at the positions somebody reads

A family whose head is laid out in a way not listed here works too: its projection is then paid everywhere.

The weights stay the model's own, tied ones too: training the wrapper trains the model. Padding, left or right, does not change the
logits of real tokens: positions are counted from each row's first real token.

Shapes: ids ``[B, L]`` in, logits ``[B, L, V]`` out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unmask.ops.segments import positions_from_mask

# Families that number the first token padding_idx + 1, as fairseq did.
_OFFSET_POSITIONS = {"roberta", "xlm-roberta", "xlm-roberta-xl", "roberta-prelayernorm", "camembert", "mpnet", "esm", "longformer", "data2vec-text"}


class HuggingFaceMLM(nn.Module):
    """A masked language model of ``transformers`` with the calls that losses and decoders make.

    Args:
        model: a ``…ForMaskedLM``, such as ``AutoModelForMaskedLM.from_pretrained("answerdotai/ModernBERT-base")``.
        mask_idx: id of its mask, where no tokenizer is at hand to say so.

    Attributes:
        num_tokens, max_length: vocabulary and longest row.
        width, embedding_width: of hidden states (None where the head is unknown) and of embeddings.

    Raises:
        ValueError: not a masked language model: it has no vocabulary head, or it is causal.

    Example:
        >>> model = HuggingFaceMLM(AutoModelForMaskedLM.from_pretrained("bert-base-uncased"))
        >>> MLMPredictor(max_steps=4, model=model, tokenizer=SpecialIds.of(tokenizer))
    """

    def __init__(self, model: Any, mask_idx: int | None = None) -> None:
        super().__init__()
        config = getattr(model, "config", None)
        name = type(model).__name__
        if config is None or not hasattr(model, "get_output_embeddings") or model.get_output_embeddings() is None:
            raise ValueError(
                f"{name} has no vocabulary head, so it cannot say which token was hidden. Load it as a masked language model: "
                "transformers.AutoModelForMaskedLM.from_pretrained(...)."
            )
        if getattr(config, "is_decoder", False) or (model.can_generate() and not getattr(config, "is_encoder_decoder", False)):
            raise ValueError(
                f"{name} is causal: each token sees only those before it, so a hidden token could not be told from what follows. Give "
                "a bidirectional model, loaded with transformers.AutoModelForMaskedLM (and is_decoder=False)."
            )
        if getattr(config, "is_encoder_decoder", False):
            raise ValueError(f"{name} is an encoder with a decoder; hidden tokens are filled by an encoder alone. Load one with AutoModelForMaskedLM.")
        self.model = model
        self.mask_idx = mask_idx
        self.padding_idx = getattr(config, "pad_token_id", None)
        self.num_tokens: int = config.vocab_size
        self._head = _head(model)
        self.width: int | None = None if self._head is None else getattr(config, "hidden_size", None) or config.dim
        self.embedding_width: int = model.get_input_embeddings().weight.shape[1]
        self._first_position = (self.padding_idx or 0) + 1 if config.model_type in _OFFSET_POSITIONS else 0
        longest = getattr(config, "max_position_embeddings", None)
        self.max_length: int | None = longest - self._first_position if isinstance(longest, int) else None
        self.config = {"num_embeddings": self.num_tokens, "model_type": config.model_type}
        self._takes_positions = "position_ids" in inspect.signature(model.base_model.forward).parameters

    def forward(
        self,
        x_t: Int[Tensor, "batch seq"],
        attention_mask: Bool[Tensor, "batch seq"] | None = None,
        positions: Int[Tensor, "batch seq"] | None = None,
        block_mask: Any = None,
        segment_ids: Int[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq vocab"]:
        """Logits at every position. Arguments as in :meth:`hidden_states`."""
        hidden = self.hidden_states(x_t, attention_mask, positions, block_mask, segment_ids)
        return hidden if self._head is None else self._head(hidden)

    def hidden_states(
        self,
        x_t: Int[Tensor, "batch seq"],
        attention_mask: Bool[Tensor, "batch seq"] | None = None,
        positions: Int[Tensor, "batch seq"] | None = None,
        block_mask: Any = None,
        segment_ids: Int[Tensor, "batch seq"] | None = None,
        sum_embeds: Float[Tensor, "batch seq embedding"] | None = None,
    ) -> Float[Tensor, "batch seq width"]:
        """Run the encoder.

        Args:
            x_t: int64 ``[B, L]``.
            attention_mask: True = real token; None = all are.
            positions: counted from each row's first real token if None.
            block_mask, segment_ids: must be None; packed rows are for networks of this package.
            sum_embeds: added to the embeddings of the tokens.

        Raises:
            ValueError: packed rows, or left padding with a model that takes no positions.
        """
        if block_mask is not None or segment_ids is not None:
            raise ValueError("Packed rows need a network that keeps documents apart, and a Hugging Face model does not: give one document a row.")
        inputs: dict[str, Any] = {}
        if attention_mask is not None:
            attention_mask = attention_mask.bool()
            inputs["attention_mask"] = attention_mask.long()
            if positions is None:
                positions = positions_from_mask(attention_mask)
        if positions is not None:
            inputs |= self._place(positions)
        if sum_embeds is None:
            inputs["input_ids"] = x_t
        else:
            inputs["inputs_embeds"] = self.model.get_input_embeddings()(x_t) + sum_embeds
        if self._head is None:
            return self.model(**inputs, return_dict=True).logits
        return self.model.base_model(**inputs, return_dict=True).last_hidden_state

    def logits_at(
        self, hidden: Float[Tensor, "batch seq width"], where: Bool[Tensor, "batch seq"]
    ) -> Float[Tensor, "scored vocab"]:
        """Logits of the positions where ``where`` is True, in row-major order: the head is paid only there."""
        return hidden[where] if self._head is None else self._head(hidden[where])

    def _place(self, positions: Tensor) -> dict[str, Tensor]:
        if self._takes_positions:
            return {"position_ids": positions + self._first_position}
        if not torch.equal(positions[:, :1], torch.zeros_like(positions[:, :1])) or bool((positions[:, 1:] > positions[:, :-1] + 1).any()):
            raise ValueError(f"{type(self.model).__name__} counts positions from the first column: pad its rows on the right.")
        return {}


def _head(model: Any) -> Callable[[Tensor], Tensor] | None:
    """What turns hidden states ``[..., D]`` into logits ``[..., V]``: the parts of the model after its encoder; None if unknown."""
    for names in _HEADS:
        if all(getattr(model, name, None) is not None for name in names):
            parts = [getattr(model, name) for name in names]

            def apply(hidden: Tensor, parts: list[Any] = parts) -> Tensor:
                for part in parts:
                    hidden = part(hidden)
                return hidden

            return apply
    return None


# Of each family, the modules from hidden states to logits, in order.
_HEADS = (
    ("vocab_transform", "activation", "vocab_layer_norm", "vocab_projector"),  # DistilBERT
    ("generator_predictions", "generator_lm_head"),  # ELECTRA
    ("head", "decoder"),  # ModernBERT
    ("predictions",),  # ALBERT
    ("lm_head",),  # RoBERTa, MPNet, ESM
    ("cls",),  # BERT
)
