"""Samples judged by a causal language model of Hugging Face: generative perplexity and MAUVE.

    generative perplexity   exp(sum of nats / number of tokens), over all samples        Lou et al. 2024, 2310.16834
    MAUVE                   area under the divergence curve of two sets of texts         Pillutla et al. 2021, 2102.01454, sec. 2

The first token of a text has no context and is not scored. A text longer than the judge accepts is cut there. Low generative
perplexity alone rewards repetition: read it beside the entropy of the samples (Zheng et al. 2024, 2409.02908).

Shapes: ids ``[B, L]``, padded on the right, which no token of a causal network attends to; features ``[N, D]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from unmask.devices import choose_device, choose_dtype
from unmask.evaluate.estimate import Estimate, ratio
from unmask.evaluate.hidden import Progress
from unmask.evaluate.windows import batches
from unmask.models.hf_files import open_transformers

INSTALL_MAUVE = "MAUVE needs mauve-text. Type: pip install 'unmask[mauve]'."


@dataclass(frozen=True)
class CausalJudge:
    """A causal language model of ``transformers`` with its tokenizer.

    Attributes:
        model: network that returns ``logits`` and ``hidden_states``, in eval mode.
        encode: text -> ids, without special tokens.
        max_length: longest text, in tokens; None = any.
        pad: id that fills rows; the network does not read it.
        batch_tokens: padded tokens per forward pass.

    Examples:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> config = GPT2Config(vocab_size=128, n_positions=32, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
        >>> judge = CausalJudge(GPT2LMHeadModel(config).eval(), lambda text: [ord(c) for c in text], max_length=32)
        >>> judge.nats(["ab", "a", ""])[1].tolist()  # tokens scored
        [1, 0, 0]
    """

    model: Any
    encode: Callable[[str], list[int]]
    max_length: int | None = None
    pad: int = 0
    batch_tokens: int = 8192

    @classmethod
    def open(cls, name: str, device: str = "auto", dtype: str = "auto") -> CausalJudge:
        """Load a judge.

        Args:
            name: folder or hub name of a causal language model with a tokenizer.
            device: its device.
            dtype: dtype of its weights.

        Raises:
            ValueError: no such model, or an absent device.
        """
        from transformers import AutoTokenizer

        place = choose_device(device)
        model = open_transformers(name, "causal", dtype=choose_dtype(dtype, place)).to(place)
        tokenizer = AutoTokenizer.from_pretrained(name)
        length = getattr(model.config, "max_position_embeddings", None)

        def encode(text: str) -> list[int]:
            ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
            return ids

        return cls(model, encode, length)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, cut at ``max_length``."""
        return [self.encode(text)[: self.max_length] for text in texts]

    @torch.no_grad()
    def nats(
        self, texts: Sequence[str], progress: Progress | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the negative log-probability of each text after its first token, and the number of tokens scored.

        Args:
            texts: the samples; one with fewer than two tokens adds nothing.
            progress: callback ``(texts done, all texts)``.

        Returns:
            nats float64 ``[N]``, tokens int64 ``[N]``.
        """
        rows, nats = self.tokens(texts), np.zeros(len(texts))
        for numbers, ids, real in self._batches(rows, 2, progress):
            logits = self.model(input_ids=ids, attention_mask=real.long()).logits[:, :-1].float()
            each = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(len(ids), -1)
            nats[numbers] = (each.double() * real[:, 1:]).sum(-1).cpu().numpy()
        return nats, np.array([max(0, len(row) - 1) for row in rows], dtype=np.int64)

    def perplexity(self, texts: Sequence[str], progress: Progress | None = None) -> Estimate:
        """Return the generative perplexity of texts, with its interval over texts.

        Args:
            texts: the samples.
            progress: callback ``(texts done, all texts)``.

        Raises:
            ValueError: no text has two tokens.
        """
        nats, tokens = self.nats(texts, progress)
        if not tokens.any():
            raise ValueError(
                "Generative perplexity needs a text of two tokens or more, and there is none. Give longer samples."
            )
        return ratio(nats[None], tokens).exponential()

    @torch.no_grad()
    def features(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Return the last hidden state of the last token of each text, ``[N, D]``; texts without tokens are left out."""
        rows = self.tokens(texts)
        found: dict[int, NDArray[np.float32]] = {}
        for numbers, ids, real in self._batches(rows, 1, progress):
            states = self.model(input_ids=ids, attention_mask=real.long(), output_hidden_states=True).hidden_states[-1]
            last = states[torch.arange(len(ids), device=ids.device), real.sum(-1) - 1]
            found.update(zip(numbers.tolist(), last.float().cpu().numpy(), strict=True))
        return np.stack([found[number] for number in sorted(found)])

    def _batches(
        self, rows: Sequence[list[int]], least: int, progress: Progress | None
    ) -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
        """Yield row numbers, ids and reality of batches of rows of similar length with ``least`` tokens or more."""
        kept = np.array([number for number, row in enumerate(rows) if len(row) >= least], dtype=np.int64)
        device, done = next(self.model.parameters()).device, 0
        for some in batches(np.array([len(rows[number]) for number in kept], dtype=np.int64), self.batch_tokens):
            numbers = kept[some]
            lengths = torch.tensor([len(rows[number]) for number in numbers])
            real = torch.arange(int(lengths.max())) < lengths[:, None]
            ids = torch.full(real.shape, self.pad)
            ids[real] = torch.tensor([id for number in numbers for id in rows[number]])
            yield numbers, ids.to(device), real.to(device)
            done += len(numbers)
            if progress is not None:
                progress(done, len(kept))


def mauve(samples: NDArray[Any], references: NDArray[Any], seed: int = 0, buckets: int | None = None) -> float:
    """Return MAUVE of two sets of features, from 0 (apart) to 1 (equal histograms over clusters).

    Features are clustered together by k-means; MAUVE is the area under the curve of the Kullback-Leibler divergences of both
    histograms to their mixtures, at scaling 5. It rises as sets shrink, so only sets of one size are comparable.

    Args:
        samples: features of samples, ``[N, D]``.
        references: features of human texts, ``[M, D]``.
        seed: random seed of k-means.
        buckets: number of clusters; None = a tenth of the smaller set, the published choice.

    Raises:
        ImportError: ``mauve-text`` is not installed.
    """
    try:
        from mauve.compute_mauve import compute_mauve
    except ImportError as error:
        raise ImportError(INSTALL_MAUVE) from error
    few = min(len(samples), len(references))
    return float(
        compute_mauve(
            p_features=references,
            q_features=samples,
            num_buckets=max(2, round(few / 10)) if buckets is None else buckets,
            seed=seed,
            verbose=False,
        ).mauve
    )
