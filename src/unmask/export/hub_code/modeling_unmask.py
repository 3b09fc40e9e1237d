"""Masked language models of `unmask` in plain PyTorch, for transformers.

    UnmaskModel                       embedding and rotary encoder: hidden states
    UnmaskForMaskedLM                 vocabulary logits, loss, `diffusion_generate`
    UnmaskForSequenceClassification   a head on the mean hidden state
    UnmaskForTokenClassification      a head on every hidden state

The encoder is pre-norm: `x + out(attention(rotate(norm(x))))`, then `x + down(activation(up(norm(x))))`. Padding changes nothing.

Shapes: `B` rows of `L` tokens, width `D`, `H` heads of `C` channels, vocabulary `V`.
"""

# mypy: disable-error-code="no-untyped-call,untyped-decorator,attr-defined"
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutput,
    MaskedLMOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils import can_return_tuple

from .configuration_unmask import UnmaskConfig
from .generation_unmask import DiffusionGeneration

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu, "gelu": F.gelu, "gelu_tanh": nn.GELU("tanh"), "silu": F.silu, "squared_relu": lambda x: F.relu(x).square(),
}  # fmt: skip


def rotary_angles(position_ids: Tensor, dim: int, base: float) -> tuple[Tensor, Tensor]:
    """Return cosines and sines `[B, 1, L, dim / 2]` of the rotary angles (Su et al. 2021), computed in float64."""
    device = torch.device("cpu") if position_ids.device.type == "mps" else position_ids.device  # MPS has no float64
    per_step = base ** (-torch.arange(0, dim, 2, dtype=torch.float64, device=device) / dim)
    angles = position_ids.to(device, torch.float64)[:, None, :, None] * per_step
    return angles.cos().float().to(position_ids.device), angles.sin().float().to(position_ids.device)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate channel pairs `(i, i + dim / 2)` of `x [B, H, L, C]`; channels beyond `dim` pass through."""
    half, cos, sin = cos.shape[-1], cos.to(x.dtype), sin.to(x.dtype)
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], dim=-1)


def at_last(flags: Tensor, values: Tensor) -> Tensor:
    """Return the value at the last True flag so far, `[B, L]`; 0 before the first. ONNX has no cummax."""
    number = flags.long().cumsum(-1)
    place = torch.where(flags, number, flags.shape[-1])  # the last is read only where every flag is set
    return F.pad(torch.zeros_like(values), (0, 1)).scatter(-1, place, values).gather(-1, number)


def instruction_places(
    input_ids: Tensor, next_token_id: int, real: Tensor | None, position_ids: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the instruction number and the argument number of every token, `[B, L]` each.

    An instruction ends with `next_token_id`. Both numbers count real tokens, and restart where given positions are 0.
    """
    real = torch.ones_like(input_ids, dtype=torch.bool) if real is None else real
    ends = real & (input_ids == next_token_id)
    before = real.long().cumsum(-1) - real.long()  # real tokens to the left
    instruction = ends.long().cumsum(-1) - ends.long()
    start = at_last(ends, before + 1)  # of the instruction after this token
    start = F.pad(start, (1, 0))[:, :-1]
    if position_ids is not None:
        fresh = (position_ids == 0) & real
        instruction = instruction - at_last(fresh, instruction)
        start = torch.maximum(start, at_last(fresh, before))
    return instruction * real, (before - start) * real


class UnmaskLayer(GradientCheckpointingLayer):
    """One transformer block: self-attention and a feed-forward layer, each behind a LayerNorm, with residuals."""

    def __init__(self, config: UnmaskConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads: int = config.num_attention_heads
        self.dropout: float = config.dropout
        self.activation: Callable[[Tensor], Tensor] = ACTIVATIONS[config.hidden_act]
        self.attention_norm: nn.LayerNorm = nn.LayerNorm(width, config.layer_norm_eps)
        self.qkv: nn.Linear = nn.Linear(width, 3 * width)
        self.out: nn.Linear = nn.Linear(width, width, bias=False)
        self.feedforward_norm: nn.LayerNorm = nn.LayerNorm(width, config.layer_norm_eps)
        self.up: nn.Linear = nn.Linear(width, config.intermediate_size)
        self.down: nn.Linear = nn.Linear(config.intermediate_size, width)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, with_attentions: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Return the block's output `[B, L, D]` and, if asked for, attention probabilities `[B, H, L, L]`."""
        dropout = self.dropout if self.training else 0.0
        qkv = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1))  # (B, L, 3, H, C)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, H, L, C) each
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        probabilities = None
        if with_attentions:
            scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
            probabilities = (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(-1)
            attended = F.dropout(probabilities, dropout) @ v
        else:
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        x = x + F.dropout(self.out(attended.transpose(1, 2).flatten(2)), dropout)
        return x + F.dropout(self.down(self.activation(self.up(self.feedforward_norm(x)))), dropout), probabilities


class UnmaskPreTrainedModel(PreTrainedModel):
    """What the models share: configuration, names and features."""

    config_class: type[UnmaskConfig] = UnmaskConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["UnmaskLayer"]  # noqa: RUF012
    _supports_sdpa = True


class UnmaskModel(UnmaskPreTrainedModel):
    """The encoder: token ids in, hidden states out."""

    def __init__(self, config: UnmaskConfig) -> None:
        super().__init__(config)
        self.embedding: nn.Module = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.layers: nn.ModuleList = nn.ModuleList(UnmaskLayer(config) for _ in range(config.num_hidden_layers))
        self.norm: nn.Module = nn.Identity()
        if config.next_token_id is not None:
            self.instruction: nn.Embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)
            self.argument: nn.Embedding = nn.Embedding(config.max_arguments, config.hidden_size)
            if config.final_norm:
                self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the token embedding."""
        return self.embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embedding."""
        self.embedding = value

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Run the encoder.

        Args:
            input_ids: int64 `[B, L]`.
            attention_mask: `[B, L]`, 1 = real token, 0 = padding on either side; None = all are real.
            position_ids: `[B, L]`; counted from each row's first real token if None.
            inputs_embeds: `[B, L, D]` in place of the token embedding. A model of instruction traces needs `input_ids` too.
            output_hidden_states: also return the embedding's output and that of every layer.
            output_attentions: also return attention probabilities, at the price of SDPA's speed.

        Raises:
            ValueError: neither ids nor embeddings, both for a model of text, or a row longer than the model allows.
        """
        config = self.config
        if input_ids is None and (inputs_embeds is None or config.next_token_id is not None):
            raise ValueError("Give input_ids. (Embeddings alone do not say where instructions end.)")
        if input_ids is not None and inputs_embeds is not None and config.next_token_id is None:
            raise ValueError("Give input_ids or inputs_embeds, not both.")
        x = self.embedding(input_ids) if inputs_embeds is None else inputs_embeds
        length = x.shape[1]
        if not torch.compiler.is_compiling() and length > config.max_position_embeddings:
            raise ValueError(
                f"A row of {length} tokens exceeds max_position_embeddings={config.max_position_embeddings}. "
                "Shorten the text, or call the tokenizer with truncation=True."
            )
        real = None if attention_mask is None else attention_mask.bool()
        if config.next_token_id is not None and input_ids is not None:
            instruction, argument = instruction_places(input_ids, config.next_token_id, real, position_ids)
            x = x + self.instruction(instruction) + self.argument(argument.clamp(max=config.max_arguments - 1))
        if position_ids is None and real is not None:
            position_ids = (real.long().cumsum(-1) - 1).clamp(min=0) * real
        elif position_ids is None:
            position_ids = torch.arange(length, device=x.device).expand(x.shape[:2])
        cos, sin = rotary_angles(position_ids, config.rotary_dim, config.rotary_base)
        mask = self.attention_pairs(real, position_ids)

        with_states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        with_attentions = bool(config.output_attentions if output_attentions is None else output_attentions)
        states: list[Tensor] = [x]
        attentions: list[Any] = []
        for layer in self.layers:
            x, probabilities = layer(x, cos, sin, mask, with_attentions)
            states.append(x)
            attentions.append(probabilities)
        states[-1] = x = self.norm(x)
        return BaseModelOutput(
            last_hidden_state=x,
            hidden_states=tuple(states) if with_states else None,
            attentions=tuple(attentions) if with_attentions else None,
        )

    def attention_pairs(self, real: Tensor | None, position_ids: Tensor) -> Tensor | None:
        """Return bool `[B, 1, L, L]`, True where a query (row) may attend to a key (column); None = everywhere."""
        may_attend = None
        if self.config.causal_block is not None:  # a token sees its own block and earlier ones
            block = position_ids // self.config.causal_block
            may_attend = block[:, None, None, :] <= block[:, None, :, None]
        if real is not None:
            keys = real[:, None, None, :]
            # A padded query attends to itself, because a softmax over no key is NaN.
            itself = torch.eye(real.shape[1], dtype=torch.bool, device=real.device)
            may_attend = (keys if may_attend is None else keys & may_attend) | itself
        return may_attend


class UnmaskLMHead(nn.Module):
    """From hidden states `[..., D]` to logits `[..., V]`. Instruction traces have BERT's head: dense, GELU, norm, projection."""

    def __init__(self, config: UnmaskConfig) -> None:
        super().__init__()
        width, traces = config.hidden_size, config.next_token_id is not None
        self.dense: nn.Linear | None = nn.Linear(width, width) if traces else None
        self.norm: nn.LayerNorm | nn.Identity = (
            nn.LayerNorm(width, config.layer_norm_eps) if traces or config.final_norm else nn.Identity()
        )
        self.decoder: nn.Linear = nn.Linear(width, config.vocab_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the logits of hidden states."""
        hidden = hidden if self.dense is None else F.gelu(self.dense(hidden))
        logits: Tensor = self.decoder(self.norm(hidden))
        return logits


class UnmaskForMaskedLM(UnmaskPreTrainedModel, DiffusionGeneration):
    """The masked language model, with generation by iterative unmasking."""

    _tied_weights_keys = {"lm_head.decoder.weight": "model.embedding.weight"}  # noqa: RUF012

    def __init__(self, config: UnmaskConfig) -> None:
        super().__init__(config)
        self.model: UnmaskModel = UnmaskModel(config)
        self.lm_head: UnmaskLMHead = UnmaskLMHead(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """Return the vocabulary projection."""
        decoder: nn.Module = self.lm_head.decoder
        return decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the vocabulary projection."""
        self.lm_head.decoder = new_embeddings

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Return logits `[B, L, V]` and, given `labels [B, L]` (-100 = not scored), the mean cross-entropy in nats.

        Further arguments are those of `UnmaskModel.forward`.
        """
        outputs = self.model(input_ids, attention_mask, return_dict=True, **kwargs)
        logits = self.lm_head(outputs.last_hidden_state)
        loss = None if labels is None else _cross_entropy(logits, labels, **kwargs)
        return MaskedLMOutput(loss, logits, outputs.hidden_states, outputs.attentions)


class UnmaskClassifier(UnmaskPreTrainedModel):
    """An encoder with a norm, dropout and a linear layer for labels."""

    def __init__(self, config: UnmaskConfig) -> None:
        super().__init__(config)
        self.num_labels: int = config.num_labels or 2
        self.model: UnmaskModel = UnmaskModel(config)
        self.norm: nn.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout: nn.Dropout = nn.Dropout(config.classifier_dropout)
        self.classifier: nn.Linear = nn.Linear(config.hidden_size, self.num_labels)
        self.post_init()


class UnmaskForSequenceClassification(UnmaskClassifier):
    """A label or a number for every row, from the mean hidden state of its real tokens."""

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Return logits `[B, labels]` and, given `labels`, the loss of `config.problem_type`."""
        outputs = self.model(input_ids, attention_mask, return_dict=True, **kwargs)
        hidden = self.norm(outputs.last_hidden_state)
        if attention_mask is None:
            pooled = hidden.mean(1)
        else:
            real = attention_mask.to(hidden.dtype)[..., None]
            pooled = (hidden * real).sum(1) / real.sum(1).clamp(min=1)
        logits = self.classifier(self.dropout(pooled))
        loss = None
        if labels is not None:
            kind = self.config.problem_type
            if kind == "regression" or (kind is None and self.num_labels == 1):
                loss = F.mse_loss(logits.view_as(labels), labels.to(logits.dtype))
            elif kind == "multi_label_classification" or (kind is None and labels.is_floating_point()):
                loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
            else:
                loss = _cross_entropy(logits, labels, **kwargs)
        return SequenceClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions)


class UnmaskForTokenClassification(UnmaskClassifier):
    """A label for every token."""

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> TokenClassifierOutput:
        """Return logits `[B, L, labels]` and, given `labels [B, L]` (-100 = not scored), the mean cross-entropy."""
        outputs = self.model(input_ids, attention_mask, return_dict=True, **kwargs)
        logits = self.classifier(self.dropout(self.norm(outputs.last_hidden_state)))
        loss = None if labels is None else _cross_entropy(logits, labels, **kwargs)
        return TokenClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions)


def _cross_entropy(logits: Tensor, labels: Tensor, num_items_in_batch: Any = None, **kwargs: Any) -> Tensor:
    """Return the mean cross-entropy of labels that are not -100; the Trainer gives their number over accumulated batches."""
    reduction = "mean" if num_items_in_batch is None else "sum"
    loss = F.cross_entropy(logits.float().flatten(0, -2), labels.flatten().to(logits.device), reduction=reduction)
    return loss if num_items_in_batch is None else loss / num_items_in_batch
