"""The any-order bound on the negative log-likelihood of held-out documents.

    -log p(x) <= NELBO(x) = E over k uniform on 1..n, E over sets S of k tokens, of (n / k) * sum over S of -log p(x_i |
    rest)

(docs/theory.md, "The likelihood bound"; Ou et al. 2024, 2406.03736). It holds for any masked language model, and equals
the expected negative log-likelihood of generating the tokens one at a time in a random order. Special tokens, the
end-of-document token among them, are neither masked nor scored: the bound is conditional on the number of tokens.

The bound of a block-causal or causal network is the sum of those of its blocks, each given the clean blocks before it.
That of an autoregressive network is its exact negative log-likelihood, from one pass of the clean rows.

Sums are in nats; results are bits per byte, per token, per word, and perplexities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unmask.contracts import MLMModel, SpecialIds, is_autoregressive
from unmask.evaluate.estimate import Estimate, ratio
from unmask.evaluate.hidden import Progress, measure_hidden
from unmask.evaluate.next_token import measure_every
from unmask.evaluate.suitability import causal_block_of
from unmask.evaluate.windows import Windows
from unmask.ops.mask_rates import UniformMaskRate
from unmask.ops.position_sampling import PositionSampler, bernoulli, fixed_count
from unmask.ops.weighting import token_nll

SAMPLERS: dict[str, PositionSampler] = {"discrete": fixed_count, "continuous": bernoulli}


@dataclass(frozen=True)
class Nelbo:
    """An upper bound on the negative log-likelihood of documents.

    Attributes:
        nats: float64 ``[R, D]``, bound of each document as estimated by each pass.
        tokens, bytes, words: int64 ``[D]``: scored tokens, UTF-8 bytes, white-space words. Bytes and words are zero if
            the texts are unknown.
        unscored: number of special tokens inside documents (such as unknown words), which are not in the bound.
        exact: bool ``[D]``, whether the tokens of each document decode to its text; None = unknown. Otherwise (unknown
            words, lower case, lost spaces) its bits are not bits of its bytes, and figures per byte and per word leave
            it out.

    Examples:
        >>> import torch
        >>> def uniform(x_t, attention_mask=None, positions=None, block_mask=None):
        ...     return torch.zeros(*x_t.shape, 16)
        >>> bound = nelbo(uniform, Windows.of_rows([[5, 6], [7, 8]], block_size=4), SpecialIds(mask=1, vocab_size=16))
        >>> bound.tokens.tolist(), round(bound.total_nats, 4)  # 4 log(16)
        ([2, 2], 11.0904)
    """

    nats: NDArray[np.float64]
    tokens: NDArray[np.int64]
    bytes: NDArray[np.int64]
    words: NDArray[np.int64]
    unscored: int = 0
    exact: NDArray[np.bool_] | None = None

    @property
    def total_nats(self) -> float:
        """Sum over documents, in nats."""
        return float(self.nats.mean(0).sum())

    @cached_property
    def nats_per_token(self) -> Estimate:
        """Nats per scored token."""
        return ratio(self.nats, self.tokens)

    @property
    def bits_per_token(self) -> Estimate:
        """Bits per scored token."""
        return self.nats_per_token.scaled(1 / math.log(2))

    @cached_property
    def bits_per_byte(self) -> Estimate:
        """Bits per UTF-8 byte of the exact documents."""
        return ratio(self.nats[:, self._exact], self._known("bytes")).scaled(1 / math.log(2))

    @cached_property
    def bits_per_word(self) -> Estimate:
        """Bits per white-space word of the exact documents."""
        return ratio(self.nats[:, self._exact], self._known("words")).scaled(1 / math.log(2))

    @property
    def perplexity_per_token(self) -> Estimate:
        """``exp`` of the nats per token."""
        return self.nats_per_token.exponential()

    @property
    def perplexity_per_word(self) -> Estimate:
        """``exp`` of the nats per word."""
        return self.bits_per_word.scaled(math.log(2)).exponential()

    def bits_saved_per_byte(self, baseline: Nelbo) -> Estimate:
        """Return the bits per byte by which this bound is below ``baseline``, on the same documents.

        The interval is that of the paired difference. It is far narrower than two separate intervals, because documents
        that are hard for one model are hard for the other.

        Raises:
            ValueError: the two have different documents or numbers of samples.
        """
        if self.nats.shape != baseline.nats.shape or not np.array_equal(self.tokens, baseline.tokens):
            raise ValueError(
                f"A paired comparison needs the same windows and samples: this bound has {self.nats.shape} (samples, documents), "
                f"the baseline {baseline.nats.shape}. Measure both with the same arguments."
            )
        return ratio((baseline.nats - self.nats)[:, self._exact], self._known("bytes")).scaled(1 / math.log(2))

    @property
    def altered(self) -> int | None:
        """Number of documents whose tokens decode to another text; None = unknown."""
        return None if self.exact is None else int((~self.exact).sum())

    @property
    def _exact(self) -> NDArray[np.bool_]:
        return np.ones(len(self.tokens), dtype=bool) if self.exact is None else self.exact

    def _known(self, unit: str) -> NDArray[np.int64]:
        counts: NDArray[np.int64] = getattr(self, unit)
        if not counts.any():
            raise ValueError(
                f"Bits per {unit[:-1]} need the number of {unit} of the documents, but only token ids were given: evaluate a "
                "token store, or give Windows.of_rows(rows, block_size, texts=...)."
            )
        if not counts[self._exact].any():
            raise ValueError(
                f"Bits per {unit[:-1]} are undefined for these documents: the tokens of each decode to another text (unknown words, "
                "lower case or lost spaces), so their bits do not encode its bytes. Compare bits per token between models of the "
                "same tokenizer, or use a lossless tokenizer, such as those that unmask trains."
            )
        return counts[self._exact]

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object: totals, and every rate that the documents allow."""
        rates = ["bits_per_token", "perplexity_per_token"]
        rates += ["bits_per_byte"] if self.bytes[self._exact].any() else []
        rates += ["bits_per_word", "perplexity_per_word"] if self.words[self._exact].any() else []
        totals = {
            "documents": len(self.tokens),
            "samples": len(self.nats),
            "nats": self.total_nats,
            "tokens": int(self.tokens.sum()),
            "bytes": int(self.bytes.sum()),
            "words": int(self.words.sum()),
            "unscored_tokens": self.unscored,
            "altered_documents": self.altered,
        }
        return totals | {rate: getattr(self, rate).as_dict() for rate in rates}


def nelbo(
    model: MLMModel,
    windows: Windows,
    special: SpecialIds,
    *,
    samples: int = 4,
    seed: int = 0,
    batch_tokens: int = 16384,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
    time: str = "discrete",
) -> Nelbo:
    """Estimate the any-order likelihood bound of held-out documents; of an autoregressive network, the exact likelihood.

    Args:
        model: any ``MLMModel``; it runs in eval mode. Wrap the call in ``torch.autocast`` for another precision.
        windows: ``Windows.of_store(store, block_size)`` or ``Windows.of_rows(rows, block_size)``.
        special: the tokenizer's special ids, or the tokenizer.

    Other Parameters:
        samples: independent passes over all documents; the Monte-Carlo error falls with their square root.
        seed: of the masked positions. Equal seeds mask equally for any ``batch_tokens`` and ``device``.
        batch_tokens: padded tokens per forward pass.
        device: None = the model's own.
        progress: callback ``(tokens done, all tokens)``.
        time: ``discrete`` masks exactly ``k`` tokens, ``k`` uniform on 1..n; ``continuous`` masks each token with probability ``t``, uniform on
            (0, 1), and weights by ``1 / t`` (LLaDA, 2502.09992). Both estimate one number; ``1 / t`` has no finite variance.

    Returns:
        The bound, with its rates per token, byte and word.

    Raises:
        ValueError: no token can be scored, a row contains the mask token, ``samples`` is not positive, or the network takes the noise level as an
            input.

    Examples:
        >>> import torch
        >>> from unmask import SpecialIds, Windows
        >>> def uniform(x_t, attention_mask=None, positions=None, block_mask=None):
        ...     return torch.zeros(*x_t.shape, 16)
        >>> bound = nelbo(uniform, Windows.of_rows([[5, 6, 7, 8]], block_size=8), SpecialIds(mask=1, vocab_size=16))
        >>> round(bound.bits_per_token.value, 6)  # log2(16)
        4.0
    """
    special = SpecialIds.of(special)
    if is_autoregressive(model):
        every = measure_every(
            model,
            windows,
            special,
            [token_nll],
            samples=samples,
            batch_tokens=batch_tokens,
            device=device,
            progress=progress,
        )
        return _of_documents(windows, every.sums[0], every.scorable, windows.unscored(special))
    if time not in SAMPLERS:
        raise ValueError(f"time={time!r} is none of {', '.join(SAMPLERS)}: choose one of them.")
    unscored, block = windows.unscored(special), causal_block_of(model)
    if block is not None:
        windows.scorable(special)  # refuses masks, also in blocks without other tokens
        windows = windows.by_blocks(block, special)
    measured = measure_hidden(
        model, windows, special, [token_nll], UniformMaskRate(0.0),
        samples=samples, seed=seed, batch_tokens=batch_tokens, device=device, progress=progress, sampler=SAMPLERS[time],
    )  # fmt: skip
    if time == "discrete":
        nats = measured.sums[0] * measured.scorable / np.maximum(measured.hidden, 1)
    else:
        nats = measured.sums[0] / measured.p_mask
    return _of_documents(windows, nats, measured.scorable, unscored)


def _of_documents(windows: Windows, nats: NDArray[np.float64], scorable: NDArray[np.int64], unscored: int) -> Nelbo:
    """Return the bound of documents from that of their windows, ``[R, W]``."""
    per_document = np.zeros((len(nats), windows.n_documents))
    np.add.at(per_document.T, windows.document, nats.T)
    tokens = np.bincount(windows.document, scorable, windows.n_documents).astype(np.int64)
    return Nelbo(per_document, tokens, windows.document_bytes, windows.document_words, unscored, windows.document_exact)
