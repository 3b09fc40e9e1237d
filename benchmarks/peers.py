"""Peers: other trainers of masked language models, at the same size and on the same batch; each is one
``TrainingStep``.

    modern_bert      transformers' ModernBertForMaskedLM with its sparse head (sparse_prediction), SDPA
    x_transformers   a TransformerWrapper around an Encoder with attn_flash and rotary positions
    plain            a textbook encoder: pre-norm blocks, rotary positions, SDPA, plain cross-entropy; logits
    everywhere,
                     or, with ``sparse``, at the scored positions only

No dropout anywhere; input and output embeddings are tied everywhere.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.measure.flops import Size
from unmask.measure.step import TrainingStep, with_labels
from unmask.measure.work import PAD, Work


def modern_bert(
    size: Size,
    work: Work,
    precision: str = "fp32",
    *,
    compiled: bool = False,
    device: torch.device | str = "cpu",
    **more: object,
) -> TrainingStep:
    """ModernBERT's gated feed-forward layer has three matrices; two thirds of the width give it the same FLOPs.

    Every layer attends globally, as all contestants do: in rows of 512 the sliding window of 128 is a mask that SDPA computes in
    full, and slower.
    """
    from transformers import ModernBertConfig, ModernBertForMaskedLM

    torch.manual_seed(0)
    config = ModernBertConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        intermediate_size=size.feedforward * 2 // 3,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        max_position_embeddings=max(work.batch["input_ids"].shape[1], 512),
        **{"global_attn_every_n_layers": 1, **more},
        pad_token_id=PAD,
        bos_token_id=2,
        eos_token_id=3,
        cls_token_id=2,
        sep_token_id=3,
        sparse_prediction=True,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )
    return with_labels(ModernBertForMaskedLM(config), work, precision, compiled, device)


def x_transformers(
    size: Size, work: Work, precision: str = "fp32", *, compiled: bool = False, device: torch.device | str = "cpu"
) -> TrainingStep:
    """x-transformers, flash attention."""
    from x_transformers import Encoder, TransformerWrapper

    torch.manual_seed(0)
    layers = Encoder(
        dim=size.width,
        depth=size.layers,
        heads=size.heads,
        attn_dim_head=size.width // size.heads,
        ff_mult=size.feedforward // size.width,
        attn_flash=True,
        rotary_pos_emb=True,
    )
    model = TransformerWrapper(
        num_tokens=size.vocabulary,
        max_seq_len=max(work.batch["input_ids"].shape[1], 512),
        attn_layers=layers,
        use_abs_pos_emb=False,
        tie_embedding=True,
    ).to(device)
    work = work.to(device)
    ids, labels, mask = work.batch["input_ids"], work.labels, work.batch.get("attention_mask")
    call = torch.compile(model) if compiled else model

    def loss() -> Tensor:
        logits = call(ids) if mask is None else call(ids, mask=mask)
        return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=-100)

    return TrainingStep(model, loss, precision)


def plain(
    size: Size,
    work: Work,
    precision: str = "fp32",
    *,
    sparse: bool = False,
    weighted: bool = False,
    compiled: bool = False,
    device: torch.device | str = "cpu",
) -> TrainingStep:
    """The textbook encoder. A packed batch is attended under a dense boolean mask ``[B, 1, L, L]``.

    Args:
        sparse: logits at the scored positions only.
        weighted: the masked-diffusion loss: each scored token weighs ``1 / p``, divided by the number of tokens.
    """
    torch.manual_seed(0)
    model = PlainEncoder(size, work.batch["input_ids"].shape[1]).to(device)
    batch, labels = work.to(device).batch, work.to(device).labels
    scored, segments, positions = batch["noise_mask"], batch.get("segment_ids"), batch.get("positions")
    encode = torch.compile(model.encode) if compiled else model.encode

    def loss() -> Tensor:
        mask = None if segments is None else (segments[:, :, None] == segments[:, None, :])[:, None]
        hidden = encode(batch["input_ids"], mask, positions)
        if sparse:
            hidden, wanted = hidden[scored], labels[scored]
        else:
            hidden, wanted = hidden.flatten(0, 1), labels.flatten()
        logits = model.head(hidden).float()
        if not weighted:
            return F.cross_entropy(logits, wanted, ignore_index=-100)
        p = batch["p_mask"][scored] if sparse else batch["p_mask"].flatten()
        return (F.cross_entropy(logits, wanted, ignore_index=-100, reduction="none") / p).sum() / labels.numel()

    return TrainingStep(model, loss, precision)


class PlainBlock(nn.Module):
    """Pre-norm attention and feed-forward."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads
        self.attention_norm, self.feedforward_norm = nn.LayerNorm(size.width), nn.LayerNorm(size.width)
        self.qkv, self.out = nn.Linear(size.width, 3 * size.width), nn.Linear(size.width, size.width)
        self.up, self.down = nn.Linear(size.width, size.feedforward), nn.Linear(size.feedforward, size.width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (
            self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )  # each (B, H, L, C)
        attended = F.scaled_dot_product_attention(_turn(q, cos, sin), _turn(k, cos, sin), v, attn_mask=mask)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.feedforward_norm(x))))


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return x * cos.to(x.dtype) + torch.cat([-b, a], -1) * sin.to(x.dtype)


class PlainEncoder(nn.Module):
    """Embedding, blocks, norm, tied projection with a bias."""

    def __init__(self, size: Size, length: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size.vocabulary, size.width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.blocks = nn.ModuleList(PlainBlock(size) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width)
        self.head = nn.Linear(size.width, size.vocabulary)
        self.head.weight = self.embedding.weight
        half = size.width // size.heads // 2
        angles = torch.arange(length)[:, None] * 10_000.0 ** (-torch.arange(half) / half)
        angles = torch.cat([angles, angles], -1)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def encode(self, ids: Tensor, mask: Tensor | None, positions: Tensor | None) -> Tensor:
        """Hidden states ``[B, L, D]``, normed."""
        x = self.embedding(ids)
        if positions is None:
            cos, sin = self.cos, self.sin
        else:
            cos, sin = self.cos[positions][:, None], self.sin[positions][:, None]
        for block in self.blocks:
            x = block(x, cos, sin, mask)
        return self.norm(x)
