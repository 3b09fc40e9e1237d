"""Additions to token embeddings: previous hidden states, and grid positions.

    self-conditioning   the hidden states of the previous forward pass, normalised and projected (2208.04202); a learned
                        vector if there is none. The projection starts at zero, so wrapping does not change a trained network.
    a grid              one learned vector per row and one per column. A network with relative positions alone has equal
                        outputs at all cells of a fully masked canvas.

Shapes: hidden states ``[b, L, D]``; added embeddings ``[b, L, E]``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unmask.decode.forwards.self_conditioned import Conditionable
from unmask.decode.orders.grid import Grid
from unmask.nonautoregressive.masking import earlier
from unmask.randomness import fold, uniform

_CONDITIONED, _EARLIER = (
    101,
    104,
)  # fold constants of the draws of training_network; those of the critic's loss lie between


class Network(Conditionable, Protocol):
    """A network as ``unmask.models.adapters.as_network`` returns it."""

    num_tokens: int
    max_length: int | None
    width: int | None
    embedding_width: int | None


class Conditioning(nn.Module):
    """Self-conditioning and grid positions, each optional.

    Args:
        network: the network whose widths are used.
        self_cond: True adds previous hidden states.
        grid: shape of the canvas, or None.

    Raises:
        ValueError: a network without an input for embeddings.
    """

    def __init__(self, network: Network, self_cond: bool, grid: Grid | None) -> None:
        super().__init__()
        self.self_cond = self_cond
        self.grid = grid
        if not (self_cond or grid):
            return
        if network.embedding_width is None or network.width is None:
            raise ValueError(
                f"{'self_cond' if self_cond else 'layout'} adds to the token embeddings, and {type(network).__name__} has no input for it. "
                "Use a RotaryTransformerMLMModel, a Hugging Face model or a TransformerWrapper, or drop the option."
            )
        if self_cond:
            self.null: nn.Parameter = nn.Parameter(torch.zeros(network.width))
            self.norm: nn.LayerNorm = nn.LayerNorm(network.width)
            self.project: nn.Linear = nn.Linear(network.width, network.embedding_width, bias=False)
            nn.init.zeros_(self.project.weight)
        if grid is not None:
            self.row: nn.Embedding = nn.Embedding(grid.height, network.embedding_width)
            self.column: nn.Embedding = nn.Embedding(grid.width, network.embedding_width)
            for embedding in (self.row, self.column):
                nn.init.normal_(embedding.weight, std=0.02)

    @property
    def active(self) -> bool:
        """True if anything is ever added."""
        return self.self_cond or self.grid is not None

    def forward(
        self,
        hidden: Float[Tensor, "rows seq width"] | None,
        shape: tuple[int, int],
        given: Bool[Tensor, " rows"] | None = None,
    ) -> Float[Tensor, "rows seq embedding"] | None:
        """Return the addition ``[rows, seq, E]``, or None for nothing.

        Args:
            hidden: of the previous forward pass; None in the first.
            shape: ``(rows, seq)``.
            given: rows whose ``hidden`` is used; None = all.
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
    """A network for one call of a loss, with an addition to its embeddings. It keeps its last logits.

    Args:
        network: with ``hidden_states(..., sum_embeds)`` and ``logits_at``.
        added: ``[B, L, E]``, or None.
    """

    def __init__(self, network: Conditionable, added: Tensor | None) -> None:
        self.network = network
        self.added = added
        self.logits: Tensor | None = None

    def __call__(self, x_t: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the logits ``[B, L, V]``."""
        logits = self.logits_at(self.hidden_states(x_t, *args, **kwargs), torch.ones_like(x_t, dtype=torch.bool))
        return logits.reshape(*x_t.shape, -1)

    def hidden_states(self, x_t: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the network's hidden states with the addition."""
        encode = cast(Callable[..., Tensor], self.network.hidden_states)
        return encode(x_t, *args, **kwargs, sum_embeds=self.added)

    def logits_at(self, hidden: Tensor, where: Tensor) -> Tensor:
        """Return the network's logits at ``where``, and keep them without gradient."""
        logits = self.network.logits_at(hidden, where)
        self.logits = logits.detach()
        return logits


def training_network(
    network: Conditionable,
    conditioning: Conditioning,
    ids: Int[Tensor, "batch seq"],
    keys: Callable[[], Int[Tensor, " batch"]],
    mask_id: int,
    probability: float,
) -> Conditioned:
    """Return the network for one training batch, with grid positions and, for some rows, self-conditioning.

    With ``probability`` per row, the hidden states of a more heavily masked version of the row (``earlier``) are added. Conditioning on the same row lets the
    network copy its own prediction, and ignore the tokens placed since.

    Args:
        network: the network.
        conditioning: the additions.
        ids: int64 ``[B, L]``, the masked rows.
        keys: function that returns the keys of the rows' draws, called only with self-conditioning.
        mask_id: id of the mask.
        probability: fraction of the rows with self-conditioning; fully masked rows have none.
    """
    shape = (ids.shape[0], ids.shape[1])
    if not conditioning.self_cond:
        return Conditioned(network, conditioning(None, shape))
    row_keys = keys()
    given = (uniform(fold(row_keys, _CONDITIONED)) < probability) & (ids != mask_id).any(-1)
    before = None
    if bool(given.any()):
        with torch.no_grad():
            previous = earlier(ids[given], mask_id, fold(row_keys[given], _EARLIER))
            first = network.hidden_states(previous, sum_embeds=conditioning(None, (len(previous), shape[1])))
        before = first.new_zeros(*shape, first.shape[-1]).index_copy(0, given.nonzero()[:, 0], first)
    return Conditioned(network, conditioning(before, shape, given))


def row_length(network: Network, grid: Grid | None, max_seq_len: int | None) -> int:
    """Return the tokens per row: ``max_seq_len``, or the cells of the grid, or the network's ``max_length``.

    Raises:
        ValueError: no length, or lengths that do not agree.
    """
    limit = network.max_length
    length = max_seq_len if max_seq_len is not None else grid.cells if grid is not None else limit
    if length is None or length < 1:
        raise ValueError("The network has no max_length: give max_seq_len, at least 1.")
    if grid is not None and length != grid.cells:
        raise ValueError(
            f"A layout of {grid.height} × {grid.width} has {grid.cells} cells, and max_seq_len is {length}: "
            "leave max_seq_len out, or change the layout."
        )
    if limit is not None and length > limit:
        raise ValueError(
            f"Rows of {length} tokens exceed the network's max_length={limit}. Build the network for longer rows, or lower max_seq_len."
        )
    return length
