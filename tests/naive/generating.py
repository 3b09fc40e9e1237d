"""The distribution of a wrapper's samples, one token at a time in random order, by enumeration of orders and tokens."""

from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def law_one_at_a_time(wrapper: Any, words: int) -> Tensor:
    """Return the probabilities ``[words ** L]`` of the rows, with the first token as the highest digit, self-conditioned as in generation."""
    length, mask = wrapper.max_seq_len, wrapper.mask_id
    rows, p, before = torch.full((1, length), mask), torch.ones(1, dtype=torch.float64), None
    for placed in range(length):
        hidden = wrapper.net.hidden_states(rows, sum_embeds=wrapper.conditioning(before, (len(rows), length)))
        everywhere = torch.ones_like(rows, dtype=torch.bool)
        logits = wrapper.net.logits_at(hidden, everywhere).view(len(rows), length, -1)[..., :words]
        row, place = (rows == mask).nonzero().repeat_interleave(words, 0).unbind(1)
        word = torch.arange(words).repeat(len(row) // words)
        p = p[row] / (length - placed) * logits.double().softmax(-1)[row, place, word]
        rows = rows[row].clone()
        rows[torch.arange(len(row)), place] = word
        before = hidden[row] if wrapper.conditioning.self_cond else None
    number = (rows * words ** torch.arange(length - 1, -1, -1)).sum(-1)
    return torch.zeros(words**length, dtype=torch.float64).index_add(0, number, p)
