"""The front door: load a trained model and use it on texts.

import unmask

model = unmask.load("runs/demo")
model.fill("The [MASK] statement is used to [MASK] a name.")
model.generate("The for statement", new_tokens=48)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.config.tree import Config
from unmask.contracts import SpecialIds
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.decode.logits.characters import WholeCharacters
from unmask.decode.named import make_rules
from unmask.decode.rules import Rules
from unmask.devices import choose_device, choose_dtype
from unmask.evaluate.scoring import TextScore, score_texts
from unmask.export.hub_weights import to_network
from unmask.export.registration import MODEL_TYPE, register
from unmask.models.files import MANIFEST
from unmask.models.hf import HuggingFaceMLM
from unmask.nn.modes import eval_mode
from unmask.runs import load_run
from unmask.text.batching import in_batches, left_padded
from unmask.text.filling import RulesFor, fill_texts, fill_unknown_lengths
from unmask.text.generating import generate_texts, stream_text
from unmask.text.patterns import pattern_automaton
from unmask.text.results import Filling, Generation, GenerationStep, Results


@dataclass(frozen=True, repr=False)
class TrainedModel:
    """A trained network with its tokenizer.

    Attributes:
        model: the network, in eval mode.
        tokenizer: its tokenizer.
        folder: the checkpoint; for a model of another library, its folder or hub name.
        step: optimiser steps of the checkpoint; None for a model of another library.
        config: of the run; None for a model of another library.
    """

    model: Any  # any network with the calls of ``MLMModel``, ours or wrapped
    tokenizer: Tokenizer
    folder: Path
    step: int | None = None
    config: Config | None = None

    @overload
    def fill(self, text: str, **options: Any) -> Filling: ...
    @overload
    def fill(self, text: list[str], **options: Any) -> Results: ...
    def fill(
        self,
        text: str | Sequence[str],
        *,
        longest: int | None = None,
        top: int = 5,
        batch_size: int = 64,
        seed: int = 0,
        order: str = "top_prob",
        temperature: float = 0.0,
        **options: Any,
    ) -> Filling | Results:
        """Fill the blanks of a text, or of several.

        Args:
            text: with the tokenizer's mask token at each blank.
            longest: the one blank of each text stands for 1 to so many tokens; None = one token a blank.
            top: candidates to return for every blank.
            batch_size: texts decoded together.
            seed: of all draws.
            order: which blanks first (``unmask.decode.named.ORDERS``).
            temperature: of the tokens; 0 takes the likeliest.
            options: ``steps``, ``regex`` and those of ``unmask.make_rules``.

        Returns:
            A ``Filling``, or a list of them for a list of texts.

        Raises:
            ValueError: nothing to fill, options that contradict each other, or a row longer than the network takes.
        """
        texts = [text] if isinstance(text, str) else list(text)
        rules_for = self._rules(order=order, temperature=temperature, **options)
        if longest is None:
            found = fill_texts(self.model, self.tokenizer, texts, rules_for, seed=seed, top=top, batch_size=batch_size)
        else:
            found = fill_unknown_lengths(
                self.model, self.tokenizer, texts, rules_for, longest=longest, seed=seed, top=top
            )
        results = Results(found)
        return results[0] if isinstance(text, str) else results  # type: ignore[no-any-return]

    @overload
    def generate(self, prompt: str = "", **options: Any) -> Generation: ...
    @overload
    def generate(self, prompt: list[str], **options: Any) -> Results: ...
    def generate(
        self,
        prompt: str | Sequence[str] = "",
        *,
        new_tokens: int = 64,
        batch_size: int = 64,
        seed: int = 0,
        order: str = "random",
        temperature: float = 0.8,
        **options: Any,
    ) -> Generation | Results:
        """Continue a prompt, or several; an empty one is written from nothing.

        Args:
            prompt: the text to continue.
            new_tokens: tokens to write.
            batch_size, seed, order, temperature, options: as of :meth:`fill`.

        Returns:
            A ``Generation``, or a list of them for a list of prompts.

        Raises:
            ValueError: as :meth:`fill`.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        rules_for = self._rules(order=order, temperature=temperature, **options)
        results = Results(
            generate_texts(
                self.model, self.tokenizer, prompts, rules_for, new_tokens=new_tokens, seed=seed, batch_size=batch_size
            )
        )
        return results[0] if isinstance(prompt, str) else results  # type: ignore[no-any-return]

    def stream(
        self,
        prompt: str = "",
        *,
        new_tokens: int = 64,
        seed: int = 0,
        order: str = "random",
        temperature: float = 0.8,
        **options: Any,
    ) -> Iterator[GenerationStep]:
        """Continue a prompt, and yield the text after every decoding step; arguments as of :meth:`generate`."""
        blanks = new_tokens + (0 if self.tokenizer.mask_token is None else prompt.count(self.tokenizer.mask_token))
        rules = self._rules(order=order, temperature=temperature, **options)(blanks)
        return stream_text(self.model, self.tokenizer, prompt, rules, new_tokens=new_tokens, seed=seed)

    @overload
    def score(self, text: str, *, bound: bool = False, samples: int = 64, seed: int = 0) -> TextScore: ...
    @overload
    def score(self, text: list[str], *, bound: bool = False, samples: int = 64, seed: int = 0) -> Results: ...
    def score(
        self, text: str | Sequence[str], *, bound: bool = False, samples: int = 64, seed: int = 0
    ) -> TextScore | Results:
        """Score a text, or several, in nats; higher is likelier.

        Args:
            text: what to score.
            bound: the any-order likelihood bound, with its Monte Carlo error; False = the pseudo-log-likelihood.
            samples: passes of the bound.
            seed: of what the bound masks.

        Returns:
            A ``TextScore``, or a list of them for a list of texts.

        Raises:
            ValueError: a text longer than the network takes.
        """
        texts = [text] if isinstance(text, str) else list(text)
        results = Results(score_texts(self.model, self.tokenizer, texts, samples=samples if bound else None, seed=seed))
        return results[0] if isinstance(text, str) else results  # type: ignore[no-any-return]

    def embed(self, text: str | Sequence[str], *, batch_size: int = 64) -> Float[Tensor, "*texts width"]:
        """Embed a text, or several: the mean hidden state of its tokens.

        Args:
            text: what to embed.
            batch_size: texts run together.

        Returns:
            float32 ``[D]`` for a text, ``[N, D]`` for a list; on the CPU.

        Raises:
            ValueError: a text without tokens, or longer than the network takes.
        """
        texts = [text] if isinstance(text, str) else list(text)
        if not texts:
            raise ValueError("There is no text to embed: give one, or a list of at least one.")
        rows = [self.tokenizer.encode(each) for each in texts]
        if empty := [each for each, row in zip(texts, rows, strict=True) if not row]:
            raise ValueError(f"{empty[0]!r} has no tokens, so it has no embedding: give a text that is not empty.")
        limit = getattr(self.model, "max_length", None)
        if isinstance(limit, int) and max(map(len, rows), default=0) > limit:
            raise ValueError(
                f"A text has {max(map(len, rows))} tokens and this model reads {limit} at a time (max_length). Embed shorter texts."
            )
        device, parts = next(self.model.parameters()).device, []
        with eval_mode(self.model):
            for numbers in in_batches(len(rows), batch_size):
                batch = left_padded([rows[i] for i in numbers], self.tokenizer.pad_token_id or 0)
                real = batch["attention_mask"].to(device)
                states = self.model.hidden_states(batch["input_ids"].to(device), real).float()
                parts.append(((states * real[..., None]).sum(1) / real.sum(1, keepdim=True)).cpu())
        vectors = torch.cat(parts)
        return vectors[0] if isinstance(text, str) else vectors

    def _rules(self, *, steps: int | None = None, regex: str | None = None, **options: Any) -> RulesFor:
        constraint = options.pop("constraint", None)
        if regex is not None:
            constraint = pattern_automaton(self.tokenizer, regex)
        elif constraint is None and not options.get("required_ids"):
            constraint = WholeCharacters.of(self.tokenizer)
        options = {"special": SpecialIds.of(self.tokenizer), "allow_eos": False, "constraint": constraint} | options

        def rules_for(blanks: int) -> Rules:
            return make_rules(blanks if steps is None else steps, **options)

        return rules_for

    def __repr__(self) -> str:
        parameters = sum(p.numel() for p in self.model.parameters())
        size = f"{parameters / 1e6:.1f}M" if parameters >= 1e5 else str(parameters)
        at = "" if self.step is None else f", step {self.step}"
        return f"TrainedModel({str(self.folder)!r}{at}: {type(self.model).__name__} of {size} parameters, {len(self.tokenizer):,} tokens)"

    def _repr_html_(self) -> str:
        import html

        return f"<code>{html.escape(repr(self))}</code>"


def load(
    path: str | Path, checkpoint: str = "last", device: str | torch.device = "auto", dtype: str = "auto"
) -> TrainedModel:
    """Load a trained model: a run, a checkpoint, or a Hugging Face masked LM.

    Args:
        path: a run folder, a checkpoint, a Hugging Face model folder, or a hub name such as ``bert-base-uncased``.
        checkpoint: of a run: ``"last"``, or ``"best"`` by validation loss.
        device: ``cpu``, ``cuda``, ``mps``, or ``auto`` for the fastest that is here.
        dtype: of the weights: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for as they were saved.

    Returns:
        The model, ready to fill, generate, score and embed.

    Raises:
        ValueError: nothing there, nothing finished, or damaged; no masked LM; a device that is not here.
    """
    folder = Path(path).expanduser()
    if (folder / "config.json").is_file() and not (folder / MANIFEST).is_file():
        return _load_hugging_face(folder, device, dtype)
    if not folder.exists() and not str(path).startswith((".", "/", "~", "runs/")) and str(path).count("/") <= 1:
        return _load_hugging_face(str(path), device, dtype)
    run = load_run(path, checkpoint, device, dtype)
    return TrainedModel(run.model.eval(), run.tokenizer, run.folder, run.step, run.config)


def _load_hugging_face(name: Path | str, device: str | torch.device, dtype: str) -> TrainedModel:
    from transformers import AutoModelForMaskedLM

    at = choose_device(device)
    kind = choose_dtype(dtype, at)
    register()
    try:
        network = AutoModelForMaskedLM.from_pretrained(name, **({} if kind is None else {"dtype": kind}))
    except OSError as error:
        raise ValueError(
            f"'{name}' is neither a folder here nor a model that the Hugging Face hub gave ({str(error).splitlines()[0]}). Give a run folder, a "
            "checkpoint, or a model folder; `unmask demo` makes runs/demo."
        ) from None
    exported = network.config.model_type == MODEL_TYPE
    model = (to_network(network) if exported else HuggingFaceMLM(network)).to(at).eval()
    return TrainedModel(model, Tokenizer.load(name), Path(name))
