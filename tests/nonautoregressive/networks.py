"""Small networks and data for the wrapper: ours, x-transformers', and an exact model."""

import torch
from torch import nn

from tests.naive.decoding import FIRST_WORD, MASK, ExactModel
from unmask.models.rotary_mlm import RotaryTransformerMLMModel

V, L = 8, 6
MASK_ID = V


def rotary(
    width: int = 32, layers: int = 2, length: int = L, seed: int = 0, vocab: int = V
) -> RotaryTransformerMLMModel:
    torch.manual_seed(seed)
    return RotaryTransformerMLMModel(
        vocab + 1, width, layers, 2, padding_idx=None, mask_idx=vocab, dropout=0.0, max_length=length
    )


def x_wrapper(length: int = L, vocab: int = V, seed: int = 0, **options):
    import x_transformers

    torch.manual_seed(seed)
    layers = x_transformers.Encoder(dim=32, depth=2, heads=2)
    return x_transformers.TransformerWrapper(num_tokens=vocab + 1, max_seq_len=length, attn_layers=layers, **options)


def toy(rows: int = 64, length: int = L, vocab: int = V, seed: int = 0) -> torch.Tensor:
    """Rows that count upwards from a random start: any token determines the others."""
    start = torch.randint(0, vocab, (rows, 1), generator=torch.Generator().manual_seed(seed))
    return (start + torch.arange(length)) % vocab


class Oracle(nn.Module):
    """A network with the true conditionals of a joint distribution over rows of words, by enumeration.

    The mask, PAD and EOS of ``tests.naive.decoding`` come first among its ids; they have the highest logits of all.
    """

    def __init__(self, joint: torch.Tensor) -> None:
        super().__init__()
        self.exact = ExactModel(joint)
        self.num_tokens, self.max_seq_len = FIRST_WORD + self.exact.words, self.exact.length

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        possible = torch.where(ids < FIRST_WORD, MASK, ids)
        return self.exact(possible).nan_to_num(nan=-5.0).float()


def grid_chain(height: int = 2, width: int = 3, seed: int = 0) -> torch.Tensor:
    """The joint ``[2] * cells`` of a Markov chain on a grid: each cell depends on those above and to its left."""
    generator = torch.Generator().manual_seed(seed)
    above_left = torch.rand(3, 3, generator=generator) * 0.8 + 0.1  # P(1 | above, left), with 2 for "none"
    joint = torch.zeros([2] * (height * width), dtype=torch.float64)
    for cells in torch.cartesian_prod(*[torch.arange(2)] * (height * width)):
        p = 1.0
        for at, cell in enumerate(cells.tolist()):
            above = int(cells[at - width]) if at >= width else 2
            left = int(cells[at - 1]) if at % width else 2
            one = float(above_left[above, left])
            p *= one if cell else 1 - one
        joint[tuple(cells.tolist())] = p
    return joint
