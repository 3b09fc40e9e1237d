"""``MLMPredictor``: a batch of prompts or of rows with masks in, text out.

Options become the rules of ``unmask.decode.rules``, a batch becomes a canvas, and ids become text.

    confidence   threshold   positions unmasked per step
    None         None        the budget's count, in random order
    given        None        the budget's count, the most confident first
    given        given       every position above the threshold, and at least one

The predictor is an ``nn.Module`` that holds the model: ``to``, ``eval`` and ``state_dict`` reach it, and ``predictor(batch)`` is ``predict``.

Shapes: ids ``[B, L]``, including the prompt and its padding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from unmask.contracts import MLMModel, MLMPredictionDict, SpecialIds
from unmask.decode.canvas import Canvas
from unmask.decode.given_rows import read_batch
from unmask.decode.logits.characters import WholeCharacters
from unmask.decode.logits.constraints import Constraint
from unmask.decode.logits.processors import as_logits_processor
from unmask.decode.loop import fill_canvas
from unmask.decode.named import OrderLike, ScheduleLike, make_rules
from unmask.decode.rules import Rules
from unmask.nn.vocabulary import refuse_unknown_ids
from unmask.ops.sampling import Logits


class MLMPredictor(nn.Module):
    """Fill masked positions by iterative unmasking.

    ``confidence``, ``confidence_temperature``, ``noise_schedule`` and ``logits_hook`` are names given by the published interface; ``make_rules`` calls
    them ``order``, ``order_temperature``, ``schedule`` and ``logits_processors``.

    Args:
        max_steps: forward passes per row, at most (NFE).
        max_new_tokens: masked positions appended to every row; None if the batches contain masks.
        tokenizer: special ids and decoding of ids into text. Without one, ``text`` is ids joined by spaces and the
            mask is the model's ``mask_idx``.
        model: an ``MLMModel``; may be set later, ``predictor.model = model``. A module is registered as a submodule, and so
            is the network of a critic; other callables are kept as they are.
        confidence: ``"prob_diff"``, ``"entropy"`` or ``"top_prob"``; None unmasks in random order. Any other order of ``make_rules``
            works too: a name, a ``Score`` object, or a function of a ``StepView`` that returns scores.
        threshold: in [0, 1], needs a confidence: unmask every position with ``confidence >= threshold``, at least one per row
            and step (with a schedule, at least its count), and all remaining ones in the last step.
        temperature: sampling temperature of the tokens; 0 is greedy.
        top_k, top_p: filters of the sampled tokens; one of them at most.

    Other Parameters:
        noise_schedule: a name, a ``Schedule`` or a callable, whose ``alpha`` drives the budget; None = uniform.
        confidence_temperature: temperature of the choice of positions; 0 takes the most confident.
        skip_special_tokens: leave special tokens out of ``text``.
        logits_hook: ``hook(logits, view, where) -> logits`` or ``hook(logits) -> logits``. ``logits [N, V]`` are those of
            the positions where ``where [b, L]`` is True, row-major; ``view`` is the ``StepView``. Forbidden ids are ``-inf``, and
            are forbidden again afterwards. The hook runs before scoring and sampling.
        seed: of all draws. A row's noise is keyed by its ``example_id`` if the batch has one, else by its index.
            None draws a seed from torch's global generator in every call.
        observers: called after every step (``HistoryTopKPlugin``, ``Trace``, ``TerminalView``, or your own).
        special: special ids, if there is no tokenizer.
        allow_eos: False forbids EOS. It never appears before given text.
        rules: complete rules (from ``make_rules``, or by hand) instead of the options above, which must then be None;
            ``max_steps`` must agree.

    Raises:
        ValueError: options that contradict each other or lie outside their range.

    Examples:
        >>> import torch
        >>> from unmask import MLMPredictor, RotaryTransformerMLMModel, SpecialIds
        >>> model = RotaryTransformerMLMModel(20, 16, 1, 2, padding_idx=1, mask_idx=0)
        >>> special = SpecialIds(mask=0, pad=1, vocab_size=20)
        >>> predictor = MLMPredictor(4, max_new_tokens=3, model=model, special=special, confidence="top_prob", seed=0)
        >>> out = predictor.predict({"input_ids": torch.tensor([[5, 6]])})
        >>> out["ids"].shape, out["steps_taken"], out["output_start_idx"].tolist()
        (torch.Size([1, 5]), [3], [2])
    """

    def __init__(
        self,
        max_steps: int,
        max_new_tokens: int | None = None,
        tokenizer: Any = None,
        model: MLMModel | None = None,
        noise_schedule: ScheduleLike | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        confidence: OrderLike | None = None,
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
                f"max_new_tokens={max_new_tokens} appends nothing: give 1 or more, or None for batches that contain masks."
            )
        if rules is not None:
            _refuse_both(rules, max_steps, noise_schedule, top_k, top_p, confidence, threshold, logits_hook)
        self.max_new_tokens = max_new_tokens
        self.tokenizer = tokenizer
        self.model: Any = model  # torch's nn.Module types every attribute as Module or Tensor
        self.skip_special_tokens = skip_special_tokens
        self.seed = seed
        self.observers: tuple[Any, ...] = tuple(observers)
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
        """Allow ``model`` to change between module, other callable and None, which ``nn.Module`` stores in different places."""
        if name == "model":
            self._modules.pop(name, None)
            self.__dict__.pop(name, None)
        super().__setattr__(name, value)
        if name == "rules":
            critic = getattr(value.selector.score, "model", None)
            self.critic_model: nn.Module | None = (
                critic if isinstance(critic, nn.Module) and critic is not self.model else None
            )

    def forward(self, batch: Mapping[str, Any]) -> MLMPredictionDict:
        """Return :meth:`predict` of the batch."""
        return self.predict(batch)

    def predict(self, batch: Mapping[str, Any]) -> MLMPredictionDict:
        """Fill the masked positions of a batch. A batch without any is returned unchanged, without a forward pass.

        Args:
            batch: ``input_ids [B, L]``: left-padded prefixes (with ``max_new_tokens``) or rows that contain masks. Optional:
                ``attention_mask``, ``positions``, ``fixed_positions_mask`` (all ``[B, L]``) and ``example_id [B]``. On the
                model's device. Ids are integers of any width, masks are bool or 0 and 1; lists are accepted like tensors.
                The batch is not changed.

        Returns:
            ``ids [B, L]`` with prompt and padding; ``output_start_idx [B]``, the first masked position (``L`` if
            none); ``text``, the whole row up to its first EOS from there on; ``steps_taken`` (forward passes) and
            ``time_taken`` (seconds) per row.

        Raises:
            ValueError: a batch of another shape or type, no model, or a row longer than the model's ``max_length``.
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
        """Return the text of finished or unfinished rows, without padding and without tokens after the first EOS of the output.

        Args:
            results: of a step (``MLMStepResults``) or of a batch (``MLMPredictionDict``): ``x [B, L]``, or ``ids [B, L]`` if there
                is no ``x``. Optional: ``output_start_idx [B]`` (0 if absent), ``attention_mask [B, L]`` (everything but PAD if
                absent) and ``given [B, L]`` (True = not output; an EOS there does not end the text).

        Returns:
            The text of every row, and the ids ``[B, L]``.

        Raises:
            ValueError: results without ``x`` and ``ids``.
        """
        sequence = next((results[name] for name in ("x", "ids") if results.get(name) is not None), None)
        if sequence is None:
            raise ValueError(
                "decode takes results with x or ids [B, L], such as those of predict() or of a step; got "
                f"{', '.join(map(str, results)) or 'none'}."
            )
        given = read_batch({"input_ids": sequence, "attention_mask": results.get("attention_mask")})
        starts = results.get("output_start_idx")
        starts = None if starts is None else torch.as_tensor(starts, device=given.ids.device)
        shown = _shown(given.ids, self._special_ids(), starts, given.real, results.get("given"))
        text = [self._text(row[keep].tolist()) for row, keep in zip(given.ids.cpu(), shown.cpu(), strict=True)]
        return text, sequence

    def _text(self, ids: list[int]) -> str:
        if self.tokenizer is None:
            return " ".join(map(str, ids))
        text: str = self.tokenizer.decode(ids, skip_special_tokens=self.skip_special_tokens)
        return text

    def _require_model(self) -> MLMModel:
        if self.model is None:
            raise ValueError(
                "MLMPredictor has no model: give MLMPredictor(model=...), or set predictor.model before predict()."
            )
        model: MLMModel = self.model
        return model

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
                "MLMPredictor has neither a tokenizer nor special ids, so the id of the mask is unknown. Give "
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
        """Refuse rows to decode that are longer than the network's ``max_length``, or contain ids outside its vocabulary."""
        size = getattr(self.model, "num_embeddings", None) or getattr(self.model, "num_tokens", None)
        if isinstance(size, int):  # once for all steps: networks on accelerators skip this check
            refuse_unknown_ids(canvas.ids[run], size, canvas.attention_mask[run], wait=True)
        limit = getattr(self.model, "max_length", None)
        positions = canvas.positions[run]
        longest = int(positions.max()) + 1 if positions.numel() else 0
        if isinstance(limit, int) and longest > limit:
            raise ValueError(
                f"A row of {longest} tokens, masked positions included, exceeds the model's max_length={limit}. Shorten the "
                "prompt, lower max_new_tokens, or use a model trained for longer rows."
            )


def _documented_rules(
    max_steps: int,
    noise_schedule: ScheduleLike | None,
    top_k: int | None,
    top_p: float | None,
    confidence: OrderLike | None,
    threshold: float | None,
    temperature: float,
    confidence_temperature: float,
    logits_hook: Callable[..., Logits] | None,
    allow_eos: bool,
    constraint: Constraint | None,
) -> Rules:
    if confidence is None and threshold is not None:
        raise ValueError(
            f"threshold={threshold} unmasks positions by confidence, and confidence is None (random order). Give "
            "confidence='top_prob', 'prob_diff' or 'entropy', or drop the threshold."
        )
    return make_rules(
        max_steps,
        order="random" if confidence is None else confidence,
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
            f"rules= replaces all decoding options, and some were given too (max_steps {max_steps} and "
            f"{rules.max_steps} must agree; noise_schedule, top_k, top_p, confidence, threshold and logits_hook must be None). Give each option once."
        )


def _first(blanks: Bool[Tensor, "batch seq"]) -> Int[Tensor, " batch"]:
    """Return the first masked position of every row; the row's length if there is none."""
    return (blanks.long().cumsum(-1) == 0).sum(-1)


def _shown(
    ids: Tensor, special: SpecialIds, starts: Tensor | None, attention_mask: Tensor | None, given: Tensor | None = None
) -> Bool[Tensor, "batch seq"]:
    """Return the real positions up to and including the first EOS at or after ``starts``."""
    real = torch.ones_like(ids, dtype=torch.bool)
    if attention_mask is not None:
        real = attention_mask.bool()
    elif special.pad is not None and special.pad != special.eos:
        real = ids != special.pad
    if special.eos is None:
        return real
    column = torch.arange(ids.shape[1], device=ids.device)
    ends = (ids == special.eos) & real
    if starts is not None:
        ends = ends & (column >= starts[:, None])
    if given is not None:
        ends = ends & ~given
    after = (ends.long().cumsum(-1) - ends.long()) > 0
    return real & ~after
