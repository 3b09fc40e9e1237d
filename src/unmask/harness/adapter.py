"""``UnmaskLM``: a trained model as a model of ``lm-eval``: conditional log-likelihood, log-likelihood of texts, generation.

The harness finds the class by :func:`register_with_harness`, which ``unmask lm-eval`` calls.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lm_eval.api.model import TemplateLM
from numpy.typing import NDArray

from unmask.contracts import SpecialIds
from unmask.devices import present
from unmask.evaluate.conditional import LIKELIHOODS, conditional_log_likelihood
from unmask.evaluate.windows import Windows
from unmask.text.answer_matching import exact_matches
from unmask.text.loading import load

NAME = "unmask"
HARNESS_DEVICE = "cuda:0"  # the default of the harness, on machines without CUDA too


class UnmaskLM(TemplateLM):  # type: ignore[misc]  # the harness has no types
    """A trained model for ``lm-eval``; arguments come from ``--model_args``.

    Args:
        pretrained: a run, a checkpoint, an exported folder, or a Hugging Face masked language model.
        likelihood: a name of ``LIKELIHOODS``.
        samples: passes of the bound.
        seed: random seed of the masks and of generation.
        batch_size: rows per forward pass, for rows of full length.
        device: as of :func:`unmask.load`; the harness's default ``cuda:0`` is ``auto`` where there is no CUDA.
        dtype: as of :func:`unmask.load`.
        checkpoint: as of :func:`unmask.load`.
        order: decoding order of ``generate_until``.
        steps: forward passes of a generation; None = one per token.
        new_tokens: tokens of a generation, unless the task says ``max_gen_toks``.
        max_batch_size: unused; the harness passes it to every model.

    Raises:
        ValueError: no such model or likelihood.
    """

    def __init__(
        self,
        pretrained: str,
        likelihood: str = "bound",
        samples: int = 64,
        seed: int = 0,
        batch_size: int | str | None = 32,
        device: str | None = None,
        dtype: str = "auto",
        checkpoint: str = "last",
        order: str = "top_prob",
        steps: int | None = None,
        new_tokens: int = 64,
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        LIKELIHOODS.choose(likelihood)
        if not str(batch_size or 1).isdigit():
            raise ValueError(f"batch_size={batch_size} is no number of rows: give one, such as batch_size=32.")
        if device == HARNESS_DEVICE and "cuda" not in present():
            device = None
        self.trained = load(pretrained, checkpoint, device or "auto", dtype)
        self.likelihood, self.samples, self.seed = likelihood, int(samples), int(seed)
        self.order, self.steps, self.new_tokens = order, steps, int(new_tokens)
        self.batch_rows = int(batch_size or 1)
        self.special = SpecialIds.of(self.trained.tokenizer)

    @property
    def eot_token_id(self) -> int:
        """Id of EOS, or of PAD; no row contains it."""
        return int(next((id for id in (self.special.eos, self.special.pad) if id is not None), self.special.mask))

    @property
    def block_size(self) -> int:
        """Largest number of tokens of a row."""
        return int(getattr(self.trained.model, "max_length", None) or 1024)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Return the ids of a text, without special tokens."""
        return self.trained.tokenizer.encode(string)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return the log-likelihood of every continuation given its context, and whether greedy decoding gives it.

        An empty context is allowed: the continuation is then scored alone.

        Raises:
            ValueError: a continuation without tokens.
        """
        pairs = []
        for request in requests:
            context, continuation = request.args
            before, after = self._encode_pair(context, continuation) if context else ([], self.tok_encode(continuation))
            pairs.append(((context, continuation), before, after))
        return self._loglikelihood_tokens(pairs)

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        if empty := next((texts for texts, _, after in requests if not after), None):
            raise ValueError(f"The continuation {empty[1]!r} has no tokens after {empty[0][-40:]!r}: correct the task.")
        rows = [([*before, *after], [0] * len(before) + [1] * len(after)) for _, before, after in requests]
        windows = Windows.of_answers(rows, self.block_size)
        greedy = exact_matches(self.trained.model, windows, self.special, batch_tokens=self._batch_tokens)
        return [(float(n), bool(g)) for n, g in zip(self._nats(windows), greedy, strict=True)]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood of whole texts, window by window."""
        texts = [self.tok_encode(request.args[0]) for request in requests]
        cut = Windows.of_rows(texts, self.block_size)
        whole = [np.ones(len(row), dtype=bool) for row in cut.rows]
        windows = Windows(cut.rows, np.arange(len(cut)), np.zeros(len(cut), int), np.zeros(len(cut), int), None, whole)
        nats = self._nats(windows) if len(cut) else np.zeros(0)
        return [float(n) for n in np.bincount(cut.document, nats, len(texts))]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Continue every context, up to the first of its stop texts."""
        answers: list[str] = [""] * len(requests)
        for tokens in sorted({self._length(request.args[1]) for request in requests}):
            numbers = [i for i, request in enumerate(requests) if self._length(request.args[1]) == tokens]
            prompts = [self._fitted(requests[i].args[0], tokens) for i in numbers]
            temperature = float(requests[numbers[0]].args[1].get("temperature", 0.0))
            made = self.trained.generate(
                prompts, new_tokens=tokens, batch_size=self.batch_rows, seed=self.seed, order=self.order,
                temperature=temperature, steps=self.steps,
            )  # fmt: skip
            for i, prompt, generation in zip(numbers, prompts, made, strict=True):
                stops = requests[i].args[1].get("until") or []
                text = generation.text[len(prompt) :]
                for stop in [stops] if isinstance(stops, str) else stops:
                    text = text.split(stop)[0] if stop else text
                answers[i] = text
        return answers

    def _length(self, options: dict[str, Any]) -> int:
        """Return the number of new tokens of a request; half of a row at most."""
        return min(int(options.get("max_gen_toks", self.new_tokens)), max(1, self.block_size // 2))

    def _fitted(self, context: str, tokens: int) -> str:
        """Return the end of a context that fits beside the new tokens."""
        ids, room = self.tok_encode(context), self.block_size - tokens
        return context if len(ids) <= room else self.trained.tokenizer.decode(ids[-room:])

    @property
    def _batch_tokens(self) -> int:
        return self.batch_rows * self.block_size

    def _nats(self, windows: Windows) -> NDArray[np.float64]:
        return conditional_log_likelihood(
            self.trained.model, windows, self.special, self.likelihood,
            samples=self.samples, seed=self.seed, batch_tokens=self._batch_tokens,
        )  # fmt: skip


def register_with_harness() -> None:
    """Register the class as the model ``unmask`` of ``lm-eval``. Repeated calls change nothing."""
    import lm_eval.models  # noqa: F401  (the harness skips its own models once any is registered)
    from lm_eval.api.registry import model_registry

    if NAME not in model_registry:
        model_registry.register(NAME)(UnmaskLM)
