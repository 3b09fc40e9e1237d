"""MLMPredictor: a batch of prompts or of rows with masks in, text out.

It only translates: options become the rules of ``unmask.decode.rules``, a batch becomes a canvas, ids become text.

    confidence   threshold   blanks revealed in a step
    none         none        the budget's number, anywhere
    given        none        the budget's number, the surest
    given        given       every one as sure as the threshold, and one at least

It is an ``nn.Module`` that holds the model: ``to``, ``eval`` and ``state_dict`` reach it, and ``predictor(batch)`` is ``predict``.

Shapes: ids ``[B, L]``, with the prompt and its padding where the batch had them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from unmask.contracts import Confidence, MLMPredictionDict, SpecialIds
from unmask.decode.canvas import Canvas
from unmask.decode.given_rows import read_batch
from unmask.decode.logits.characters import WholeCharacters
from unmask.decode.logits.constraints import Constraint
from unmask.decode.logits.processors import as_logits_processor
from unmask.decode.loop import fill_canvas
from unmask.decode.named import ScheduleLike, make_rules
from unmask.decode.rules import Rules
from unmask.nn.vocabulary import refuse_unknown_ids
from unmask.ops.confidence import CONFIDENCES
from unmask.ops.sampling import Logits


class MLMPredictor(nn.Module):
    """Fill blanks by iterative unmasking.

    Args:
        max_steps: network evaluations a row may take part in, at most.
        max_new_tokens: blanks appended to every row; None when the batches bring their own masks.
        tokenizer: names the special ids and turns ids into text. Without one, ``text`` is ids joined by spaces and the
            mask is the model's ``mask_idx``.
        model: an ``MLMModel``; may be set later, ``predictor.model = model``. A module becomes a part of the predictor, and so
            does the network of a critic; any other callable is kept as it is.
        noise_schedule: a name, a ``Schedule`` or a callable, whose ``alpha`` drives the budget; None = even.
        top_k, top_p: filters of the tokens that may be drawn; one of them at most.
        confidence: ``"prob_diff"``, ``"entropy"`` or ``"top_prob"``; None reveals in random order.
        threshold: in [0, 1], needs a confidence: reveal every blank with ``confidence >= threshold``, at least one per row
            and step (as many as the schedule asks, if one was given), and all that is left in the last step.
        skip_special_tokens: leave them out of ``text``.
        temperature: of the tokens; 0 is greedy.
        confidence_temperature: of the choice of places; 0 takes the surest.
        logits_hook: ``hook(logits, view, where) -> logits`` or ``hook(logits) -> logits``. ``logits [N, V]`` are those of
            the positions where ``where [b, L]`` is True, row-major; ``view`` is the :class:`StepView`. Ids that are never placed
            come as ``-inf``, and are forbidden again after it. It runs before anything is scored.
        seed: of all draws. The noise of a row is keyed by its ``example_id`` if the batch has them, else by its index.
            None draws a seed from torch's global generator at every call.
        observers: told of every step (``HistoryTopKPlugin``, ``Trace``, ``TerminalView``, or your own).
        special: special ids, where there is no tokenizer to read them from.
        allow_eos: False forbids EOS. It never appears before given text in any case.
        rules: all the rules at once (from ``make_rules``, or by hand), for what the options above cannot say. They take the
            place of those options, which must then be left alone; ``max_steps`` must agree.

    Raises:
        ValueError: options that contradict each other or lie outside their range.

    Example:
        >>> predictor = MLMPredictor(max_steps=32, max_new_tokens=64, tokenizer=tokenizer, model=model, confidence="top_prob")
        >>> predictor.predict({"input_ids": prompts, "attention_mask": real})["text"]
    """

    def __init__(
        self,
        max_steps: int,
        max_new_tokens: int | None = None,
        tokenizer: Any = None,
        model: Any = None,
        noise_schedule: ScheduleLike | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        confidence: Confidence | str | None = None,
        threshold: float | None = None,
        skip_special_tokens: bool = True,
        temperature: float = 1.0,
        confidence_temperature: float = 0.0,
        logits_hook: Callable[..., Logits] | None = None,
        *,
        seed: int | None = None,
        observers: Sequence[Any] = (),
        special: SpecialIds | None = None,
        allow_eos: bool = True,
        rules: Rules | None = None,
    ) -> None:
        super().__init__()
        if max_new_tokens is not None and max_new_tokens < 1:
            raise ValueError(
                f"max_new_tokens={max_new_tokens} appends nothing: give 1 or more, or None for batches with masks."
            )
        if rules is not None:
            _refuse_both(rules, max_steps, noise_schedule, top_k, top_p, confidence, threshold, logits_hook)
        self.max_new_tokens = max_new_tokens
        self.tokenizer = tokenizer
        self.model = model
        self.skip_special_tokens = skip_special_tokens
        self.seed = seed
        self.observers = tuple(observers)
        self.special = special
        self.rules: Rules = (
            rules
            if rules is not None
            else _documented_rules(
                max_steps,
                noise_schedule,
                top_k,
                top_p,
                confidence,
                threshold,
                temperature,
                confidence_temperature,
                logits_hook,
                allow_eos,
                WholeCharacters.of(tokenizer),
            )
        )

    def __setattr__(self, name: str, value: Any) -> None:
        """Let ``model`` be a module, another callable or None at any time: ``nn.Module`` keeps modules apart from the rest."""
        if name == "model":
            self._modules.pop(name, None)
            self.__dict__.pop(name, None)
        super().__setattr__(name, value)
        if name == "rules":
            critic = getattr(value.selector.score, "model", None)
            self.critic_model = critic if isinstance(critic, nn.Module) and critic is not self.model else None

    def forward(self, batch: Mapping[str, Any]) -> MLMPredictionDict:
        """The same as :meth:`predict`."""
        return self.predict(batch)

    def predict(self, batch: Mapping[str, Any]) -> MLMPredictionDict:
        """Fill the blanks of a batch. A batch without any comes back as it is, and the network is not run.

        Args:
            batch: ``input_ids [B, L]``: left-padded prefixes (with ``max_new_tokens``) or rows that hold masks. Optional:
                ``attention_mask``, ``positions``, ``fixed_positions_mask`` (all ``[B, L]``) and ``example_id [B]``. On the
                model's device. Ids are whole numbers of any width, masks are truth values or 0 and 1, and lists are taken
                like tensors. It is not changed.

        Returns:
            ``ids [B, L]`` with prompt and padding; ``output_start_idx [B]``, the first position that was blank (``L`` if
            none); ``text``, the whole row up to its first EOS from there on; ``steps_taken`` and ``time_taken`` per row.

        Raises:
            ValueError: a batch of another shape or kind, no model, or a row longer than the model's ``max_length``.
        """
        model = self._require_model()
        special = self._special_ids()
        canvas = self._canvas(batch, special)
        decoded = fill_canvas(model, canvas, self.rules, special=special, seed=self.seed, observers=self.observers)
        blanks = canvas.blanks(special.mask)
        start = _first(blanks)
        prediction = MLMPredictionDict(
            loss=None,
            text=[],
            ids=decoded.ids,
            time_taken=decoded.time_taken.tolist(),
            output_start_idx=start,
            steps_taken=decoded.steps_taken.tolist(),
        )
        prediction["text"], _ = self.decode({**prediction, "attention_mask": canvas.attention_mask, "given": ~blanks})
        return prediction

    def decode(self, results: Mapping[str, Any]) -> tuple[list[str], Tensor]:
        """Text of rows, decoded or half decoded: without padding, and without what follows the first EOS of the output.

        Args:
            results: of a step (``MLMStepResults``) or of a batch (``MLMPredictionDict``): ``x [B, L]``, or ``ids [B, L]`` where there
                is no ``x``. Optional: ``output_start_idx [B]`` (0 if absent), ``attention_mask [B, L]`` (everything but PAD if
                absent) and ``given [B, L]`` (True = no output; an EOS there hides nothing).

        Returns:
            The text of every row, and the sequence it is the text of.

        Raises:
            ValueError: results without a sequence.
        """
        found = next((results[name] for name in ("x", "ids") if results.get(name) is not None), None)
        if found is None:
            raise ValueError(
                f"decode takes results with x or ids [B, L], as steps and predict() give them; got {', '.join(map(str, results)) or 'none'}."
            )
        sequence = read_batch({"input_ids": found, "attention_mask": results.get("attention_mask")})
        starts = results.get("output_start_idx")
        starts = None if starts is None else torch.as_tensor(starts, device=sequence.ids.device)
        shown = _shown(sequence.ids, self._special_ids(), starts, sequence.real, results.get("given"))
        text = [self._text(row[keep].tolist()) for row, keep in zip(sequence.ids.cpu(), shown.cpu(), strict=True)]
        return text, found

    def _text(self, ids: list[int]) -> str:
        if self.tokenizer is None:
            return " ".join(map(str, ids))
        return self.tokenizer.decode(ids, skip_special_tokens=self.skip_special_tokens)

    def _require_model(self) -> Any:
        if self.model is None:
            raise ValueError(
                "MLMPredictor has no model: give MLMPredictor(model=...), or set predictor.model before predict()."
            )
        return self.model

    def _special_ids(self) -> SpecialIds:
        if self.special is not None:
            return self.special
        if self.tokenizer is not None:
            return SpecialIds.of(self.tokenizer)
        config = getattr(self.model, "config", None)
        vocab_size = config.get("num_embeddings") if isinstance(config, Mapping) else None
        mask = getattr(self.model, "mask_idx", None)
        if mask is None or vocab_size is None:
            raise ValueError(
                "MLMPredictor has neither a tokenizer nor special ids, so it cannot know which id is the mask. Give "
                "tokenizer=..., or special=SpecialIds(mask=..., vocab_size=...)."
            )
        return SpecialIds(mask=mask, vocab_size=vocab_size, pad=getattr(self.model, "padding_idx", None))

    def _canvas(self, batch: Mapping[str, Any], special: SpecialIds) -> Canvas:
        given = read_batch(batch)
        if self.max_new_tokens is not None:
            canvas = Canvas.prefix(given.ids, given.real, self.max_new_tokens, special, given.row_ids, given.fixed)
        else:
            canvas = Canvas.infill(given.ids, special, given.real, given.positions, given.fixed, given.row_ids)
        self._check_length(canvas, canvas.blanks(special.mask).any(-1))
        return canvas

    def _check_length(self, canvas: Canvas, run: Bool[Tensor, " batch"]) -> None:
        """Refuse rows that will be run and are longer than the network was made for, or hold ids that it does not have."""
        size = getattr(self.model, "num_embeddings", None) or getattr(self.model, "num_tokens", None)
        if isinstance(size, int):  # once for all steps: a network on an accelerator does not look
            refuse_unknown_ids(canvas.ids[run], size, canvas.attention_mask[run], wait=True)
        limit = getattr(self.model, "max_length", None)
        positions = canvas.positions[run]
        longest = int(positions.max()) + 1 if positions.numel() else 0
        if isinstance(limit, int) and longest > limit:
            raise ValueError(
                f"A row of {longest} tokens, blanks included, does not fit a model made for {limit} (max_length). Shorten the "
                "prompt, lower max_new_tokens, or use a model trained for longer rows."
            )


def _documented_rules(
    max_steps: int,
    noise_schedule: ScheduleLike | None,
    top_k: int | None,
    top_p: float | None,
    confidence: str | None,
    threshold: float | None,
    temperature: float,
    confidence_temperature: float,
    logits_hook: Callable[..., Logits] | None,
    allow_eos: bool,
    constraint: Constraint | None,
) -> Rules:
    if confidence is not None and confidence not in CONFIDENCES:
        raise ValueError(
            f"There is no confidence {confidence!r}. Choose {', '.join(CONFIDENCES)}, or None for random order."
        )
    if confidence is None and threshold is not None:
        raise ValueError(
            f"threshold={threshold} admits tokens by their confidence, and confidence is None (random order). Choose one: "
            "confidence='top_prob' is usual; or drop the threshold."
        )
    return make_rules(
        max_steps,
        order=confidence or "random",
        order_temperature=confidence_temperature,
        threshold=threshold,
        schedule=noise_schedule,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        logits_processors=() if logits_hook is None else (as_logits_processor(logits_hook),),
        allow_eos=allow_eos,
        constraint=constraint,
    )


def _refuse_both(rules: Rules, max_steps: int, *options: Any) -> None:
    if rules.max_steps != max_steps or any(option is not None for option in options):
        raise ValueError(
            f"rules= takes the place of every decoding option, and some were given beside it (max_steps {max_steps} and "
            f"{rules.max_steps} must agree; schedule, top_k, top_p, confidence, threshold and logits_hook must be None). Say it in one place."
        )


def _first(blanks: Bool[Tensor, "batch seq"]) -> Int[Tensor, " batch"]:
    """The first blank of every row; the row's length where there is none."""
    return (blanks.long().cumsum(-1) == 0).sum(-1)


def _shown(
    ids: Tensor, special: SpecialIds, starts: Tensor | None, attention_mask: Tensor | None, given: Tensor | None = None
) -> Bool[Tensor, "batch seq"]:
    """Real positions up to and with the first EOS at or after ``starts``."""
    real = torch.ones_like(ids, dtype=torch.bool)
    if attention_mask is not None:
        real = attention_mask.bool()
    elif special.pad is not None and special.pad != special.eos:
        real = ids != special.pad
    if special.eos is None:
        return real
    place = torch.arange(ids.shape[1], device=ids.device)
    ends = (ids == special.eos) & real
    if starts is not None:
        ends = ends & (place >= starts[:, None])
    if given is not None:
        ends = ends & ~given
    after = (ends.long().cumsum(-1) - ends.long()) > 0
    return real & ~after
