"""The any-order bound on the negative log-likelihood of held-out documents.

    -log p(x) <= NELBO(x) = E over k uniform on 1..n, E over sets S of k tokens, of (n / k) * sum over S of -log p(x_i | rest)

(docs/theory.md, the likelihood bound; Ou et al. 2024, 2406.03736). It holds for any model that fills in masks, and is the expected negative
log-likelihood of generating the tokens one at a time in a random order. Special tokens are neither hidden nor scored, the
end-of-document token among them: the bound is on the text given its number of tokens.

Units are nats inside; results speak bits per byte, per token, per word, and perplexities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unmask.contracts import SpecialIds
from unmask.evaluate.estimate import Estimate, ratio
from unmask.evaluate.hidden import Progress, measure_hidden
from unmask.evaluate.windows import Windows
from unmask.ops.mask_rates import UniformMaskRate
from unmask.ops.weighting import token_nll


@dataclass(frozen=True)
class Nelbo:
    """An upper bound on the negative log-likelihood of documents.

    Attributes:
        nats: float64 ``[R, D]``, the bound of each document as each pass estimated it.
        tokens, bytes, words: int64 ``[D]``: scored tokens, UTF-8 bytes, white-space words. Bytes and words are zero where
            the texts are not known.
        unscored: special tokens inside documents (unknown words, say) that cost nothing here.
        exact: bool ``[D]``, whether the tokens of each document spell its text; None = not known. Where they spell another one
            (unknown words, lower case, lost spaces), its bits are not bits of its bytes: figures per byte and per word are of the
            exact documents alone.
    """

    nats: NDArray[np.float64]
    tokens: NDArray[np.int64]
    bytes: NDArray[np.int64]
    words: NDArray[np.int64]
    unscored: int = 0
    exact: NDArray[np.bool_] | None = None

    @property
    def total_nats(self) -> float:
        return float(self.nats.mean(0).sum())

    @cached_property
    def nats_per_token(self) -> Estimate:
        return ratio(self.nats, self.tokens)

    @property
    def bits_per_token(self) -> Estimate:
        return self.nats_per_token.scaled(1 / math.log(2))

    @cached_property
    def bits_per_byte(self) -> Estimate:
        return ratio(self.nats[:, self._exact], self._known("bytes")).scaled(1 / math.log(2))

    @cached_property
    def bits_per_word(self) -> Estimate:
        return ratio(self.nats[:, self._exact], self._known("words")).scaled(1 / math.log(2))

    @property
    def perplexity_per_token(self) -> Estimate:
        return self.nats_per_token.exponential()

    @property
    def perplexity_per_word(self) -> Estimate:
        return self.bits_per_word.scaled(math.log(2)).exponential()

    def bits_saved_per_byte(self, baseline: Nelbo) -> Estimate:
        """How many bits per byte less than ``baseline`` this bound is, on the same documents.

        The interval is of the paired difference, far narrower than the two intervals side by side: documents that are hard
        for one model are hard for the other.

        Raises:
            ValueError: the two were measured on different documents or with different numbers of samples.
        """
        if self.nats.shape != baseline.nats.shape or not np.array_equal(self.tokens, baseline.tokens):
            raise ValueError(
                f"Two bounds can be compared document by document only on the same windows and samples: this one has {self.nats.shape} "
                f"(samples, documents), the baseline {baseline.nats.shape}. Measure both with the same arguments."
            )
        return ratio((baseline.nats - self.nats)[:, self._exact], self._known("bytes")).scaled(1 / math.log(2))

    @property
    def altered(self) -> int | None:
        """How many documents' tokens spell another text; None = not known."""
        return None if self.exact is None else int((~self.exact).sum())

    @property
    def _exact(self) -> NDArray[np.bool_]:
        return np.ones(len(self.tokens), dtype=bool) if self.exact is None else self.exact

    def _known(self, unit: str) -> NDArray[np.int64]:
        counts: NDArray[np.int64] = getattr(self, unit)
        if not counts.any():
            raise ValueError(
                f"Bits per {unit[:-1]} need the number of {unit} of the documents, and only their token ids were given: evaluate a "
                "token store, or give Windows.of_rows(rows, block_size, texts=...)."
            )
        if not counts[self._exact].any():
            raise ValueError(
                f"There are no bits per {unit[:-1]} of these documents: the tokens of each spell another text than its own (unknown "
                "words, lower case or lost spaces), so their bits do not pay for its bytes. Compare bits per token between models "
                "of the same tokenizer, or use a tokenizer that returns every text, such as those that unmask trains."
            )
        return counts[self._exact]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: totals, and every rate that the documents allow."""
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
    model: Any,
    windows: Windows,
    special: SpecialIds,
    *,
    samples: int = 4,
    seed: int = 0,
    batch_tokens: int = 16384,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> Nelbo:
    """Estimate the any-order bound of held-out documents.

    Args:
        model: any ``MLMModel``; dropout is off meanwhile. Wrap the call in ``torch.autocast`` for another precision.
        windows: ``Windows.of_store(store, block_size)`` or ``Windows.of_rows``.
        special: the tokenizer's special ids, or the tokenizer.
        samples: independent passes over all documents; the Monte-Carlo error falls with their square root.
        seed: of what is hidden. Equal seeds hide equally whatever ``batch_tokens`` and ``device``.
        batch_tokens: padded tokens in one evaluation of the model.
        device: where to run; the model's own by default.
        progress: called with the tokens read so far and in all.

    Example:
        >>> bound(model, Windows.of_store(valid, 512), special).bits_per_byte.value
        2.31
    """
    special = SpecialIds.of(special)
    found = measure_hidden(
        model, windows, special, [token_nll], UniformMaskRate(0.0),
        samples=samples, seed=seed, batch_tokens=batch_tokens, device=device, progress=progress,
    )  # fmt: skip
    nats = found.sums[0] * found.scorable / np.maximum(found.hidden, 1)
    per_document = np.zeros((samples, windows.n_documents))
    np.add.at(per_document.T, windows.document, nats.T)
    tokens = np.bincount(windows.document, found.scorable, windows.n_documents).astype(np.int64)
    unscored = windows.unscored(special)
    return Nelbo(per_document, tokens, windows.document_bytes, windows.document_words, unscored, windows.document_exact)
