"""A path: one way to run a Hugging Face masked language model. ``hf_search`` chooses among paths.

Paths differ in three options:

    head      the modules from hidden states to logits, computed only at read positions; None = logits everywhere
    source    where embeddings are added: nowhere (token ids only), ``inputs_embeds``, or the output of a module
    padding   mask        an attention mask; the network counts positions itself
              positions   an attention mask and position ids
              moved       an attention mask, with padding moved behind each row's tokens
              equal       no padding: one call for each row length
              alone       one call for each row

Shapes: ids ``[B, L]`` in, states ``[B, L, D]`` out. Models of ``transformers`` have no common type: ``model`` is
``Any``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unmask.models.unpadded import default_positions, equal_lengths, in_parts, real_first

PADDINGS = ("mask", "positions", "moved", "equal", "alone")
IDS, EMBEDDINGS = "input_ids", "inputs_embeds"


@dataclass(frozen=True)
class HeadCall:
    """A call of one module of the head.

    Attributes:
        name: of the module in the model.
        before, after: names of modules, or None, passed as positional arguments before and after the states.
        named: the same for keyword arguments.
    """

    name: str
    before: tuple[str | None, ...] = ()
    after: tuple[str | None, ...] = ()
    named: tuple[tuple[str, str | None], ...] = ()

    def __call__(self, model: nn.Module, states: Tensor) -> Tensor:
        """Return the module's output at states ``[..., D]``."""

        def part(name: str | None) -> nn.Module | None:
            return None if name is None else model.get_submodule(name)

        output = model.get_submodule(self.name)(
            *map(part, self.before), states, *map(part, self.after), **{key: part(name) for key, name in self.named}
        )
        return output if isinstance(output, Tensor) else output[0]


@dataclass(frozen=True)
class Path:
    """One way to run a model; see the module.

    Attributes:
        head: calls from hidden states to logits; None = states are logits.
        source: ``"input_ids"``, ``"inputs_embeds"``, or the name of the module whose output is added to.
        padding: one of ``PADDINGS``.
        first_position: position id of a row's first token; None = no position ids.
        padding_idx: id written under padding, if the model has one.
    """

    head: tuple[HeadCall, ...] | None
    source: str
    padding: str
    first_position: int | None
    padding_idx: int | None

    def __str__(self) -> str:
        where = (
            "logits everywhere"
            if self.head is None
            else f"logits where read ({', '.join(call.name for call in self.head)})"
        )
        padding = {
            "mask": "padding by attention mask",
            "positions": f"padding by attention mask and position ids from {self.first_position}",
            "moved": "padding by attention mask, moved to the right",
            "equal": "no padding: rows in groups of equal length",
            "alone": "no padding: one row per call",
        }[self.padding]
        added = "" if self.source == IDS else f"; embeddings added at {self.source}"
        return f"{where}; {padding}{added}"

    def states(
        self,
        model: Any,
        ids: Int[Tensor, "batch seq"],
        real: Bool[Tensor, "batch seq"] | None = None,
        positions: Int[Tensor, "batch seq"] | None = None,
        added: Float[Tensor, "batch seq embedding"] | None = None,
    ) -> Float[Tensor, "batch seq width"]:
        """Return hidden states (logits, without a head); undefined at padding.

        Raises:
            ValueError: explicit positions, for a model without position ids.
        """
        if positions is not None and self.first_position is None:
            self._refuse_positions(model, ids, real, positions)
            positions = None
        if real is None or self.padding in ("mask", "positions"):
            return self._run(model, ids, real, positions, added)
        if self.padding == "moved":
            order, back = real_first(real)
            ids, real, positions = (
                ids.gather(1, order),
                real.gather(1, order),
                None if positions is None else positions.gather(1, order),
            )
            moved = self._run(model, ids, real, positions, _gather(added, order))
            return moved.gather(1, back[..., None].expand_as(moved))
        index = [
            part
            for group in equal_lengths(real)
            for part in (torch.split(group, 1) if self.padding == "alone" else (group,))
        ]
        if not index:
            return self._run(model, ids, None, positions, added)
        return in_parts(lambda *parts: self._run(model, parts[0], None, *parts[1:]), index, ids, positions, added)

    def logits(self, model: Any, states: Float[Tensor, "*any width"]) -> Float[Tensor, "*any vocab"]:
        """Return the head's output."""
        for call in self.head or ():
            states = call(model, states)
        return states

    def _run(
        self, model: Any, ids: Tensor, real: Tensor | None, positions: Tensor | None, added: Tensor | None
    ) -> Tensor:
        """Call the model once, on rows that it supports."""
        inputs: dict[str, Any] = {IDS: ids}
        if real is not None:
            inputs["attention_mask"] = real.long()
            if self.padding_idx is not None:
                inputs[IDS] = ids.masked_fill(~real, self.padding_idx)
        if positions is None and self.padding == "positions":
            positions = default_positions(ids, real)
        if positions is not None and self.first_position is not None:
            inputs["position_ids"] = positions + self.first_position
        if added is None:
            return self._call(model, inputs)
        if self.source == EMBEDDINGS:
            inputs[EMBEDDINGS] = _plus(model.get_input_embeddings()(inputs.pop(IDS)), added)
            return self._call(model, inputs)
        with adding(model.get_submodule(self.source), added):
            return self._call(model, inputs)

    def _call(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        if self.head is None:
            return own_logits(model, **inputs)
        return states_of(model.base_model(**inputs, return_dict=True))

    def _refuse_positions(self, model: Any, ids: Tensor, real: Tensor | None, positions: Tensor) -> None:
        own = default_positions(ids, real)
        if bool(((positions != own) & (True if real is None else real)).any()):
            raise ValueError(
                f"{type(model).__name__} counts positions itself and has no position ids, and the given positions differ from 0, 1, 2, … "
                "from each row's first real token. Leave positions out, or use a network with position_ids."
            )


def own_logits(model: Any, **inputs: Any) -> Float[Tensor, "batch seq vocab"]:
    """Return the logits of the model's own forward, at the given tokens.

    Raises:
        ValueError: it returns none, or not one vector per token.
    """
    tokens = inputs[IDS] if IDS in inputs else inputs[EMBEDDINGS]
    logits = getattr(model(**inputs, return_dict=True), "logits", None)
    if not isinstance(logits, Tensor) or logits.dim() != 3 or logits.shape[1] < tokens.shape[1]:
        raise ValueError(
            f"{type(model).__name__} returns no logits [B, L, V] for ids [B, L], so it cannot predict masked tokens. Load it as a masked "
            "language model: transformers.AutoModelForMaskedLM.from_pretrained(...)."
        )
    return logits[:, : tokens.shape[1]]


def states_of(output: Any) -> Tensor:
    """Return the last hidden states in the output of an encoder."""
    states = getattr(output, "last_hidden_state", None)
    return states if isinstance(states, Tensor) else output[0]


@contextmanager
def adding(module: nn.Module, added: Tensor) -> Iterator[None]:
    """Add ``added`` to the module's output within the context."""
    handle = module.register_forward_hook(lambda module, given, output: _plus(output, added))
    try:
        yield
    finally:
        handle.remove()


def _plus(output: Any, added: Tensor) -> Any:
    """Add to an embedding, or to the first element of a tuple."""
    return output + added if isinstance(output, Tensor) else (output[0] + added, *output[1:])


def _gather(added: Tensor | None, order: Tensor) -> Tensor | None:
    return None if added is None else added.gather(1, order[..., None].expand_as(added))
