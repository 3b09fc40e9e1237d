"""What can be observed of a model from outside: its table lookups, the calls of its modules, and its parts.

Models run in evaluation mode, and their state is restored afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from unmask.models.hf_path import HeadCall, states_of
from unmask.nn.modes import eval_mode


@contextmanager
def probing(model: Any, redrawn: bool = False) -> Iterator[None]:
    """Switch to evaluation mode without gradients or autocast; restore the model and torch's generator afterwards.

    If the embedding of PAD is zero, it has another value in the context: otherwise padding that leaks into tokens would
    go unnoticed until that row was trained.

    Args:
        model: to be run.
        redrawn: use random matrices in the context, under which every token and position matters. The right path does
            not depend on the weights, but a fresh model has flat attention, and rounding would hide a mistake.
    """
    states = [(m, dict(m.__dict__), dict(m._modules), dict(m._buffers)) for m in model.modules()]
    weights = [(p, p.data) for p in model.parameters() if p.dim() > 1 and p.is_floating_point()] if redrawn else []
    first, table, pad = next(iter(model.parameters())), token_table(model), padding_idx(model)
    zero = table is not None and pad is not None and 0 <= pad < len(table) and not bool(table.data[pad].any())
    generator = torch.Generator(first.device).manual_seed(0)
    try:
        with torch.random.fork_rng(devices=[]), eval_mode(model), torch.autocast(first.device.type, enabled=False):
            for parameter, _ in weights:
                parameter.data = torch.empty_like(parameter.data).normal_(
                    std=parameter.shape[-1] ** -0.5, generator=generator
                )
            if zero and not redrawn:
                assert table is not None
                table.data[pad] = table.data.std()
            yield
    finally:
        if zero and not redrawn:
            assert table is not None
            table.data[pad] = 0.0
        for parameter, data in weights:
            parameter.data = data
        for module, state, modules, buffers in states:
            training = module.training
            module.__dict__.clear()
            module.__dict__.update(state)
            module.training = training
            for holder, before in ((module._modules, modules), (module._buffers, buffers)):
                holder.clear()
                holder.update(before)


class Lookups(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's base class has no types
    """Table lookups of a forward: rows of the table, and the indices of the first row of the batch."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's base class has no types
        self.seen: list[tuple[int, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.embedding.default and args[1].dim() and args[1].shape[-1] > 0:
            self.seen.append((args[0].shape[0], args[1].reshape(-1, args[1].shape[-1])[0].cpu()))
        return func(*args, **(kwargs or {}))


@contextmanager
def recorded_calls(model: Any) -> Iterator[list[tuple[str | None, tuple[Any, ...], dict[str, Any], Any]]]:
    """Record calls of the encoder (name None) and of the modules beside it, in order: name, arguments, and output."""
    calls: list[tuple[str | None, tuple[Any, ...], dict[str, Any], Any]] = []

    def hook(name: str | None) -> Callable[..., None]:
        return lambda module, args, kwargs, output: calls.append((name, args, kwargs, output))

    base = model.base_model
    parts = [] if base is model else [(None, base), *((n, m) for n, m in model.named_children() if m is not base)]
    handles = [part.register_forward_hook(hook(name), with_kwargs=True) for name, part in parts]
    names = {id(module): name for name, module in model.named_modules()}
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
        calls[:] = [
            (name, tuple(_named(a, names) for a in args), {k: _named(v, names) for k, v in kwargs.items()}, out)
            for name, args, kwargs, out in calls
        ]


def _named(value: Any, names: dict[int, str]) -> Any:
    return names.get(id(value), value) if isinstance(value, nn.Module) else value


def head_of(
    calls: list[tuple[str | None, tuple[Any, ...], dict[str, Any], Any]], logits: Tensor
) -> tuple[HeadCall, ...] | None:
    """Return the chain of calls from the encoder's output to the logits; None if there is none."""
    states: Tensor | None = None
    head: list[HeadCall] = []
    for name, args, kwargs, output in calls:
        if name is None:
            states, head = states_of(output), []
            continue
        at = [i for i, value in enumerate(args) if states is not None and _alike(value, states)]
        if states is None or len(at) != 1:
            continue
        others = [*args[: at[0]], *args[at[0] + 1 :], *kwargs.values()]
        if any(value is not None and not isinstance(value, str) for value in others):
            return None
        head.append(HeadCall(name, args[: at[0]], args[at[0] + 1 :], tuple(kwargs.items())))
        states = output if isinstance(output, Tensor) else output[0]
    if (
        not head
        or states is None
        or states.dim() != 3
        or not math.prod(logits.shape)
        or states.shape[-1] != logits.shape[-1]
    ):
        return None
    return tuple(head)


def _alike(value: Any, states: Tensor) -> bool:
    """Return whether a value is the tensor, or a view of all of it."""
    return isinstance(value, Tensor) and value.shape == states.shape and value.data_ptr() == states.data_ptr()


def embedding_modules(model: Any) -> list[str]:
    """Return the token embedding and the modules around it below the encoder, innermost first."""
    embedding, base = model.get_input_embeddings(), model.base_model
    name = next((n for n, m in model.named_modules() if m is embedding), "")
    root = next((n for n, m in model.named_modules() if m is base), "")
    modules = []
    while name and name != root:
        modules.append(name)
        name = name.rpartition(".")[0]
    return modules


def token_table(model: Any) -> Tensor | None:
    """Return the weight ``[V, E]`` of the token embedding; None if the model has no such table."""
    embedding = model.get_input_embeddings()
    table = getattr(embedding, "weight", None) if isinstance(embedding, nn.Module) else None
    return table if isinstance(table, Tensor) and table.dim() == 2 else None


def padding_idx(model: Any) -> int | None:
    """Return the id of PAD in the config."""
    return getattr(model.config.get_text_config(), "pad_token_id", None)


def special_ids(config: Any) -> set[int]:
    """Return every token id in a config."""
    ids: set[int] = set()
    for part in (config, config.get_text_config()):
        for key, value in vars(part).items():
            if key.endswith(("_token_id", "_index", "_idx")):
                ids |= {i for i in (value if isinstance(value, list | tuple) else [value]) if isinstance(i, int)}
    return ids
