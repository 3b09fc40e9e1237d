"""A trained model on texts: fill, generate, score, embed and evaluate; results are described in ``unmask.text.results``.

model = unmask.load("runs/demo")
model.fill("The [MASK] statement is used to [MASK] a name.")
"""

from __future__ import annotations

import html
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, cast, overload

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unmask.config.tree import Config
from unmask.contracts import MLMModel
from unmask.data.corpus.sources import Source
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.decode.named import OrderLike
from unmask.evaluate.scoring import ScoringInContext, ScoringOptions, SizedModel, TextScore, score_texts
from unmask.evaluate.text_rows import InContext
from unmask.models.hf import HuggingFaceMLM
from unmask.text.decoding_options import DecodingOptions, rules_of_options
from unmask.text.embedding import EmbeddingKeywords, EmbeddingOptions, embed_texts
from unmask.text.filling import fill_rows, fill_texts, fill_unknown_lengths
from unmask.text.generating import generate_texts, stream_text
from unmask.text.holes import read_holes
from unmask.text.results import Filling, Generation, GenerationStep, Results

if TYPE_CHECKING:
    from unmask.report import EvaluationReport


@dataclass(frozen=True, repr=False)
class TrainedModel:
    """A trained network with its tokenizer. :func:`unmask.load` returns one.

    Attributes:
        model: the network, in eval mode.
        tokenizer: its tokenizer.
        folder: the checkpoint; the folder or hub name of a Hugging Face model.
        step: optimiser steps of the checkpoint; None for a Hugging Face model.
        config: config of the run; None for a Hugging Face model.
        dtype: requested dtype of the weights, as given to :func:`unmask.load`.

    Examples:
        An untrained network of 8 positions:

        >>> import unmask
        >>> from pathlib import Path
        >>> tokenizer = unmask.Tokenizer.train(["to be or not to be"], 290)
        >>> network = unmask.RotaryTransformerMLMModel(
        ...     len(tokenizer), 16, 1, 2, mask_idx=tokenizer.mask_token_id, padding_idx=tokenizer.pad_token_id,
        ...     rotary_emb_dim=8, max_length=8,
        ... )
        >>> model = unmask.TrainedModel(network.eval(), tokenizer, Path("untrained"))
        >>> len(model.fill("to [MASK]").blanks[0].alternatives), model.embed(["to be", "not"]).shape
        (5, torch.Size([2, 16]))
    """

    model: MLMModel
    tokenizer: Tokenizer
    folder: Path
    step: int | None = None
    config: Config | None = None
    dtype: str = "auto"

    @overload
    def fill(
        self,
        text: str | Mapping[str, Any],
        *,
        longest: int | None = None,
        top: int = 5,
        batch_size: int = 64,
        seed: int = 0,
        order: OrderLike = "top_prob",
        temperature: float = 0.0,
        **options: Unpack[DecodingOptions],
    ) -> Filling: ...
    @overload
    def fill(
        self,
        text: list[str] | list[Mapping[str, Any]],
        *,
        longest: int | None = None,
        top: int = 5,
        batch_size: int = 64,
        seed: int = 0,
        order: OrderLike = "top_prob",
        temperature: float = 0.0,
        **options: Unpack[DecodingOptions],
    ) -> Results[Filling]: ...
    def fill(
        self,
        text: str | Mapping[str, Any] | Sequence[str] | Sequence[Mapping[str, Any]],
        *,
        longest: int | None = None,
        top: int = 5,
        batch_size: int = 64,
        seed: int = 0,
        order: OrderLike = "top_prob",
        temperature: float = 0.0,
        **options: Unpack[DecodingOptions],
    ) -> Filling | Results[Filling]:
        """Fill the blanks of a text, or of several texts or rows.

        Args:
            text: a text with the mask token of the tokenizer at each blank, a row, or a list of either. A row is a mapping
                ``{"before", "after"}`` or ``{"prefix", "suffix"}`` with one blank of unknown length between, or ``{"text"}``;
                its other fields are carried to the result. The context of a row is trimmed to what the network takes.
            longest: largest length of a filling, in tokens; None = one token per blank, and 8 between two texts.
            top: number of candidates to return for every blank.

        Other Parameters:
            batch_size: texts decoded together.
            seed: random seed of the samples.
            order: decoding order of the blanks, such as ``"top_prob"``, ``"entropy"`` or ``"random"``; as in ``make_rules``.
            temperature: sampling temperature of the tokens; 0 = the most likely token.
            options: ``steps`` (largest number of forward passes), ``regex`` (a pattern for the text of the blanks), and the
                options of :func:`unmask.make_rules` (``DecodingOptions``).

        Returns:
            A ``Filling``, or a list of them for a list.

        Raises:
            ValueError: no blank, contradictory options, fields that are no row, or a text longer than the ``max_length`` of
                the network.
        """
        single = isinstance(text, str | Mapping)
        given: list[Any] = [text] if single else list(text)
        rules_for = rules_of_options(self.tokenizer, model=self.model, order=order, temperature=temperature, **options)
        network, tokenizer = self.model, self.tokenizer
        shared: dict[str, Any] = {"seed": seed, "top": top, "batch_size": batch_size}
        if given and isinstance(given[0], Mapping):
            holes = read_holes(tokenizer, given)
            fillings = fill_rows(network, tokenizer, holes, rules_for, longest=longest, note=warnings.warn, **shared)
        elif longest is None:
            fillings = fill_texts(network, tokenizer, given, rules_for, **shared)
        else:
            fillings = fill_unknown_lengths(network, tokenizer, given, rules_for, longest=longest, **shared)
        results = Results(fillings)
        return results[0] if single else results

    @overload
    def generate(
        self,
        prompt: str = "",
        *,
        new_tokens: int = 64,
        batch_size: int = 64,
        seed: int = 0,
        order: OrderLike = "random",
        temperature: float = 0.8,
        **options: Unpack[DecodingOptions],
    ) -> Generation: ...
    @overload
    def generate(
        self,
        prompt: list[str],
        *,
        new_tokens: int = 64,
        batch_size: int = 64,
        seed: int = 0,
        order: OrderLike = "random",
        temperature: float = 0.8,
        **options: Unpack[DecodingOptions],
    ) -> Results[Generation]: ...
    def generate(
        self,
        prompt: str | Sequence[str] = "",
        *,
        new_tokens: int = 64,
        batch_size: int = 64,
        seed: int = 0,
        order: OrderLike = "random",
        temperature: float = 0.8,
        **options: Unpack[DecodingOptions],
    ) -> Generation | Results[Generation]:
        """Continue a prompt, or several prompts.

        Args:
            prompt: a text, or a list of texts, to continue; an empty text is unconditional generation.
            new_tokens: number of tokens to append.
            batch_size, seed, order, temperature, options: as in :meth:`fill`.

        Returns:
            A ``Generation``, or a list of them for a list of prompts.

        Raises:
            ValueError: as in :meth:`fill`.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        rules_for = rules_of_options(self.tokenizer, model=self.model, order=order, temperature=temperature, **options)
        results = Results(
            generate_texts(
                self.model, self.tokenizer, prompts, rules_for, new_tokens=new_tokens, seed=seed, batch_size=batch_size
            )
        )
        return results[0] if isinstance(prompt, str) else results

    def stream(
        self,
        prompt: str = "",
        *,
        new_tokens: int = 64,
        seed: int = 0,
        order: OrderLike = "random",
        temperature: float = 0.8,
        **options: Unpack[DecodingOptions],
    ) -> Iterator[GenerationStep]:
        """Continue a prompt, and yield the text after every decoding step; arguments as in :meth:`generate`."""
        blanks = new_tokens + (0 if self.tokenizer.mask_token is None else prompt.count(self.tokenizer.mask_token))
        rules_for = rules_of_options(self.tokenizer, model=self.model, order=order, temperature=temperature, **options)
        return stream_text(self.model, self.tokenizer, prompt, rules_for(blanks), new_tokens=new_tokens, seed=seed)

    @overload
    def score(self, text: str, **options: Unpack[ScoringInContext]) -> TextScore: ...
    @overload
    def score(self, text: list[str], **options: Unpack[ScoringInContext]) -> Results[TextScore]: ...
    def score(self, text: str | Sequence[str], **options: Unpack[ScoringInContext]) -> TextScore | Results[TextScore]:
        """Score a text, or several texts, by log-probability in nats; higher is more likely.

        Args:
            text: a text, or a list of texts.
            options: ``bound=True`` = the any-order lower bound on the log-likelihood, with its Monte Carlo error, of ``samples``
                (64) passes with masks of ``seed``; otherwise the pseudo-log-likelihood (1910.14659) of ``form``, or the ``exact``
                likelihood. ``before`` and ``after`` are given context, neither masked nor scored (``ScoringInContext``).

        Returns:
            A ``TextScore``, or a list of them for a list of texts.

        Raises:
            ValueError: a text longer than the ``max_length`` of the network, or a score that does not fit the network.
        """
        before, after = options.pop("before", ""), options.pop("after", "")
        options["samples"] = options.get("samples", 64) if options.pop("bound", False) else None
        texts = [InContext(each, before, after) for each in ([text] if isinstance(text, str) else text)]
        network = cast(SizedModel, self.model)
        results = Results(
            score_texts(network, self.tokenizer, texts, template=self.uses_template, **cast(ScoringOptions, options))
        )
        return results[0] if isinstance(text, str) else results

    @property
    def uses_template(self) -> bool:
        """Whether the network was trained on rows with the special tokens of its tokenizer's template ([CLS], [SEP])."""
        return self.config is None and isinstance(self.model, HuggingFaceMLM)

    @overload
    def embed(
        self, text: str | Sequence[str], *, pooling: Literal["mean", "cls"] = "mean", batch_size: int = 64,
        **options: Unpack[EmbeddingKeywords],
    ) -> Float[Tensor, "*texts width"]: ...  # fmt: skip
    @overload
    def embed(
        self,
        text: Sequence[str],
        *,
        pooling: Literal["token"],
        batch_size: int = 64,
        **options: Unpack[EmbeddingKeywords],
    ) -> list[Tensor]: ...
    def embed(
        self,
        text: str | Sequence[str],
        *,
        pooling: Literal["mean", "cls", "token"] = "mean",
        batch_size: int = 64,
        **options: Unpack[EmbeddingKeywords],
    ) -> Tensor | list[Tensor]:
        """Embed a text, or several texts: vectors from hidden states of their tokens.

        Args:
            text: a text, or a list of texts.
            pooling: ``"mean"`` over tokens, ``"cls"`` (the token before a text), or ``"token"`` (every token).
            batch_size: texts per forward pass.
            options: ``layer``, ``normalise``, ``special_tokens``, ``truncate``; see ``unmask.text.embedding.EmbeddingOptions``.

        Returns:
            float32 on the CPU: ``[D]`` or ``[N, D]``; for ``"token"`` a list of ``[l, D]``.

        Raises:
            ValueError: a text without tokens or longer than ``max_length``, or a network without hidden states.
        """
        texts, chosen = [text] if isinstance(text, str) else list(text), EmbeddingOptions(pooling, **options)
        vectors = embed_texts(self.model, self.tokenizer, texts, batch_size, chosen)
        return vectors if pooling == "token" else vectors[0] if isinstance(text, str) else torch.stack(vectors)

    def evaluate(
        self,
        data: str | Path | list[str] | None = None,
        *,
        samples: int = 4,
        documents: int | None = None,
        baselines: bool = True,
        curve: int | None = None,
        seed: int = 0,
        field: str = "text",
        unit: Literal["file", "section", "paragraph", "line"] | None = None,
        split: str = "train",
    ) -> EvaluationReport:
        """Evaluate the model on unseen text: likelihood bound in bits, masked accuracy, and counting baselines.

        Args:
            data: a source of text as for ``unmask prepare`` (file, folder, dataset), or a list of texts; None = the validation
                split of the run.
            samples: passes over the documents, each with other masks.
            documents: evaluate only the first so many documents; None = all.

        Other Parameters:
            baselines: also evaluate counting models of the run's training text, if it is present.
            curve: also measure loss and accuracy at this many noise levels.
            seed: random seed of the masks.
            field: field that holds the text, for JSON lines, Parquet and datasets.
            unit: extent of one document of plain text.
            split: split of a Hugging Face dataset.

        Returns:
            The report: a mapping for JSON, which prints as tables.

        Raises:
            ValueError: no text to evaluate on, or a text that cannot be read.
        """
        from unmask.report import evaluate_model

        if isinstance(data, str | Path):
            source: Source | list[str] | None = Source.parse(data, field=field, unit=unit, split=split)
        else:
            source = data
        return evaluate_model(
            self, source, samples=samples, documents=documents, baselines=baselines, curve=curve, seed=seed
        )

    def __repr__(self) -> str:
        n = sum(p.numel() for p in cast(nn.Module, self.model).parameters())
        size = f"{n / 1e6:.1f}M" if n >= 1e5 else str(n)
        step = "" if self.step is None else f", step {self.step}"
        return (
            f"TrainedModel({str(self.folder)!r}{step}: {type(self.model).__name__} of {size} parameters, "
            f"{len(self.tokenizer):,} tokens)"
        )

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"
