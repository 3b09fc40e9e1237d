"""Counted model FLOPs: the multiplications and additions of a step, independent of the implementation.

A product of ``[m, k]`` and ``[k, n]`` counts ``2 m k n``. For ``T`` tokens in documents of lengths ``n_i``, of which
``S`` are scored, with width ``d``, feed-forward width ``f``, vocabulary ``V``, and ``N`` layers, one forward pass
counts

    N (2 T (4 d² + 2 d f)  +  4 d Σ n_i²)  +  2 S d V

for queries, keys, values and output; the feed-forward layer; attention scores and their use; and the vocabulary at
scored positions. A training step counts three times as much: each product is differentiated by both factors. Norms,
activations, rotary positions, softmaxes, embeddings, the optimiser, and repeated or discarded work count nothing.

This is the usual count. In the last block, only keys and values are needed at every token; queries, their attention,
the output and the feed-forward layer are needed at read positions. The *needed* count is smaller by

    2 (T - S) (2 d² + 2 d f)  +  4 d Σ n_i (n_i - s_i)          s_i of the document's n_i tokens are read
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unmask.config.model_config import PRESETS


@dataclass(frozen=True)
class Size:
    """Sizes of a network; the defaults are those of the benchmark's table."""

    layers: int = 6
    width: int = 384
    heads: int = 6
    feedforward: int = 1536
    vocabulary: int = 32_000

    @classmethod
    def of_preset(cls, name: str, vocabulary: int = 32_000) -> Size:
        """Return the size of ``model.preset=name``."""
        sizes = PRESETS[name]
        return cls(sizes["num_layers"], sizes["d_model"], sizes["nhead"], 4 * sizes["d_model"], vocabulary)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)

    def product_flops(self, tokens: int, scored: int) -> int:
        """Return the FLOPs of weight products, forward: blocks at ``tokens`` and vocabulary at ``scored`` positions."""
        block = 4 * self.width**2 + 2 * self.width * self.feedforward
        return 2 * tokens * self.layers * block + 2 * scored * self.width * self.vocabulary

    def forward_flops(self, lengths: Sequence[int], scored: int) -> int:
        """Return the FLOPs of one forward pass over documents of these lengths, with logits at ``scored`` positions in
        all.
        """
        attention = 4 * self.width * sum(n * n for n in lengths) * self.layers
        return self.product_flops(sum(lengths), scored) + attention

    def step_flops(self, lengths: Sequence[int], scored: int) -> int:
        """Return the FLOPs of one training step: forward, and backward for both factors of every product."""
        return 3 * self.forward_flops(lengths, scored)

    def needed_flops(self, lengths: Sequence[int], scored_in: Sequence[int]) -> int:
        """Return the needed FLOPs of one training step with ``scored_in`` tokens of each document read."""
        scored = sum(scored_in)
        unread = 2 * (sum(lengths) - scored) * (2 * self.width**2 + 2 * self.width * self.feedforward)
        unattended = 4 * self.width * sum(n * (n - s) for n, s in zip(lengths, scored_in, strict=True))
        return self.step_flops(lengths, scored) - 3 * (unread + unattended)


TINY = Size(layers=2, width=64, heads=2, feedforward=256, vocabulary=1000)  # for tests and trial runs of benchmarks
