"""What is added to the embeddings of tokens: what the network thought before, and where a cell stands.

    self-conditioning   the hidden states of the evaluation before this one, normalised and projected (2208.04202); a learned
                        vector where there is none. The projection starts at zero, so a trained network starts as it was.
    a grid              one learned vector per row and one per column. A network with relative positions alone sees the same
                        at every cell of an empty canvas, and could not tell sky from ground.

Shapes: hidden states ``[b, L, D]``; added embeddings ``[b, L, E]``.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from unmask.decode.orders.grid import Grid


class Conditioning(nn.Module):
    """Both of the above, each if asked for.

    Args:
        network: whose widths are taken.
        self_cond: whether hidden states come back.
        grid: shape of the canvas, or None.

    Raises:
        ValueError: the network cannot be given anything beside its tokens.
    """

    def __init__(self, network: Any, self_cond: bool, grid: Grid | None) -> None:
        super().__init__()
        self.self_cond = self_cond
        self.grid = grid
        if (self_cond or grid) and (network.embedding_width is None or network.width is None):
            raise ValueError(
                f"{'self_cond' if self_cond else 'layout'} adds to the embeddings of the tokens, and {type(network).__name__} offers no way in. "
                "Use a RotaryTransformerMLMModel, a Hugging Face model or a TransformerWrapper, or leave the option out."
            )
        if self_cond:
            self.null = nn.Parameter(torch.zeros(network.width))
            self.norm = nn.LayerNorm(network.width)
            self.project = nn.Linear(network.width, network.embedding_width, bias=False)
            nn.init.zeros_(self.project.weight)
        if grid is not None:
            self.row = nn.Embedding(grid.height, network.embedding_width)
            self.column = nn.Embedding(grid.width, network.embedding_width)
            for embedding in (self.row, self.column):
                nn.init.normal_(embedding.weight, std=0.02)

    @property
    def active(self) -> bool:
        """Whether anything is ever added."""
        return self.self_cond or self.grid is not None

    def forward(
        self,
        hidden: Float[Tensor, "rows seq width"] | None,
        shape: tuple[int, int],
        given: Bool[Tensor, " rows"] | None = None,
    ) -> Float[Tensor, "rows seq embedding"] | None:
        """What to add.

        Args:
            hidden: of the evaluation before; None where there was none.
            shape: ``(rows, seq)``.
            given: rows whose ``hidden`` counts; all if None.
        """
        parts: list[Tensor] = []
        if self.grid is not None:
            cells = self.row.weight[:, None, :] + self.column.weight[None, :, :]
            parts.append(cells.reshape(1, self.grid.cells, -1).expand(*shape, -1))
        if self.self_cond:
            before = self.null.expand(*shape, -1)
            if hidden is not None:
                before = (
                    self.norm(hidden) if given is None else torch.where(given[:, None, None], self.norm(hidden), before)
                )
            parts.append(self.project(before))
        return torch.stack(parts).sum(0) if parts else None


class Conditioned:
    """A network for one call of a loss, with something added to its embeddings; keeps the logits it was asked for.

    Args:
        network: with ``hidden_states(..., sum_embeds)`` and ``logits_at``.
        added: ``[B, L, E]``, or None.
    """

    def __init__(self, network: Any, added: Tensor | None) -> None:
        self.network = network
        self.added = added
        self.logits: Tensor | None = None

    def hidden_states(self, x_t: Tensor, *positional: Any, **named: Any) -> Tensor:
        """The network's, with the addition."""
        return self.network.hidden_states(x_t, *positional, **named, sum_embeds=self.added)

    def logits_at(self, hidden: Tensor, where: Tensor) -> Tensor:
        """The network's; remembered, without gradient."""
        logits = self.network.logits_at(hidden, where)
        self.logits = logits.detach()
        return logits

    def __call__(
        self,
        x_t: Tensor,
        attention_mask: Tensor | None = None,
        positions: Tensor | None = None,
        block_mask: Any = None,
    ) -> Tensor:
        """Return the logits ``[B, L, V]`` of every position."""
        hidden = self.hidden_states(x_t, attention_mask, positions, block_mask)
        return self.logits_at(hidden, torch.ones_like(x_t, dtype=torch.bool)).unflatten(0, x_t.shape)
