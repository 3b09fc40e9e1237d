"""Attention and a whole encoder written from the formulas, one token at a time."""

import torch


def attention(q, k, v, allowed):
    """``softmax(q k / sqrt(C)) v`` over the allowed keys; q, k, v ``[T, H, C]``, allowed bool ``[T, T]``."""
    out = torch.zeros_like(q)
    for i in range(len(q)):
        keys = [j for j in range(len(q)) if allowed[i, j]]
        if not keys:
            continue
        for head in range(q.shape[1]):
            scores = torch.stack([q[i, head] @ k[j, head] for j in keys]) / q.shape[2] ** 0.5
            weights = scores.exp() / scores.exp().sum()
            out = out.index_put(
                (torch.tensor(i), torch.tensor(head)), sum(w * v[j, head] for w, j in zip(weights, keys, strict=True))
            )
    return out


def allowed_pairs(attention_mask, segment_ids):
    """Flat bool ``[B L, B L]``: same row, same segment, both real."""
    batch, seq = attention_mask.shape
    row = torch.arange(batch).repeat_interleave(seq)
    real, segment = attention_mask.flatten(), segment_ids.flatten()
    return (row[:, None] == row) & (segment[:, None] == segment) & real[:, None] & real
