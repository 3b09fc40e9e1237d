"""A network with its own way of being called, as a masked language model of ``transformers``.

    timesteps     a network that takes the time gets 0, after a check that its logits do not depend on it
    block mask    block-causal attention by a mask ``[B, 1, L, L]``, after a check that the network follows it
    output        a tensor, a tuple, or an object with ``logits``

Shapes: ids ``[B, L]`` in, logits ``[B, L, V]`` out.
"""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unmask.models.unpadded import default_positions
from unmask.nn.modes import eval_mode

TIMES = ("timesteps", "sigma", "timestep")
LENGTHS = ("max_position_embeddings", "max_sequence_length", "model_length", "n_positions")
FORMS = ("additive", "boolean")


def call_of(model: Any, block_length: int | None = None) -> Any:
    """Return a model, behind a :class:`PublishedCall` if it is not called like one of ``transformers``.

    Args:
        model: a network with its own code, with values in its weights.
        block_length: tokens of an attention block; None = attention is as the network has it.

    Raises:
        ValueError: logits that depend on the time, or a network that does not follow a block mask.
    """
    arguments = inspect.signature(model.forward).parameters
    if block_length is None and not set(TIMES) & set(arguments) and _has_embedding(model):
        _state_length(model.config)
        return model
    return PublishedCall(model, block_length)


class PublishedCall(nn.Module):
    """A network called in its own way; see the module.

    Args:
        model: the network.
        block_length: tokens of an attention block, or None.

    Attributes:
        causal_block: as ``block_length``.

    Raises:
        ValueError: as for :func:`call_of`.
    """

    def __init__(self, model: Any, block_length: int | None = None) -> None:
        super().__init__()
        if block_length is not None and block_length < 1:
            raise ValueError(f"An attention block of {block_length} tokens is too small: choose 1 or more.")
        self.model = model
        self.config: Any = _state_length(model.config)
        self.causal_block = block_length
        self.form: str = FORMS[0]
        arguments = inspect.signature(model.forward).parameters
        self._arguments = set(arguments)
        self._time: str | None = next((name for name in TIMES if name in arguments), None)
        if next(model.parameters()).is_meta:
            return
        if self._time is not None:
            self._check_time()
        if block_length is not None:
            self._check_blocks()

    @property
    def base_model(self) -> nn.Module:
        """This module: its logits are computed everywhere."""
        return self

    def get_input_embeddings(self) -> nn.Module | None:
        """Return the token embedding, if the network names one."""
        return self.model.get_input_embeddings() if _has_embedding(self.model) else None

    def get_output_embeddings(self) -> nn.Module | None:
        """Return None: the head is part of the network."""
        return None

    def resize_token_embeddings(self, *arguments: Any, **named: Any) -> Any:
        """Resize the embeddings of the network."""
        return self.model.resize_token_embeddings(*arguments, **named)

    def forward(
        self,
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        **named: Any,
    ) -> SimpleNamespace:
        """Return an object with ``logits``."""
        return SimpleNamespace(logits=self._logits(input_ids, attention_mask, position_ids, 0.0, self.causal_block))

    def _logits(
        self, ids: Tensor, mask: Tensor | None, positions: Tensor | None, time: float, block: int | None
    ) -> Tensor:
        real = None if mask is None else mask.bool()
        given: dict[str, Any] = {}
        if self._time is not None:
            given[self._time] = torch.full((len(ids),), time, device=ids.device)
        if block is not None:
            given["attention_mask"] = self._block_mask(ids, real, block)
            positions = default_positions(ids, real) if positions is None else positions
        elif mask is not None:
            given["attention_mask"] = mask
        if positions is not None and "position_ids" in self._arguments:
            given["position_ids"] = positions
        if "return_dict" in self._arguments:
            given["return_dict"] = True
        output = self.model(input_ids=ids, **given)
        logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
        return output[0] if logits is None else logits

    def _block_mask(
        self, ids: Tensor, real: Tensor | None, block: int
    ) -> Float[Tensor, "rows 1 seq seq"] | Bool[Tensor, "rows 1 seq seq"]:
        """Return who attends to whom: the own block and earlier ones, counted from each row's first real token."""
        number = default_positions(ids, real) // block
        pairs = number[:, None, :] <= number[:, :, None]
        if real is not None:
            pairs = pairs & real[:, None, :]
            pairs = pairs | torch.eye(ids.shape[1], dtype=torch.bool, device=ids.device)  # no row of scores is empty
        if self.form == "boolean":
            return pairs[:, None]
        dtype = next(self.model.parameters()).dtype
        return torch.zeros_like(pairs, dtype=dtype).masked_fill(~pairs, torch.finfo(dtype).min)[:, None]

    def _row(self, length: int) -> Tensor:
        size = int(self.config.get_text_config().vocab_size)
        device = next(self.model.parameters()).device
        return torch.randint(size, (1, length), generator=torch.Generator().manual_seed(0)).to(device)

    @torch.no_grad()
    def _check_time(self) -> None:
        with eval_mode(self.model):
            first, last = (self._logits(self._row(8), None, None, time, None) for time in (0.0, 1.0))
        if not torch.equal(first, last):
            raise ValueError(
                f"The logits of {type(self.model).__name__} depend on the time ({self._time}), and masked decoding has none: the network was "
                "made with time conditioning. Use one without it (time_conditioning=false in its config)."
            )

    @torch.no_grad()
    def _check_blocks(self) -> None:
        """Find the form of mask that the network follows, by changing one token after another."""
        assert self.causal_block is not None
        block = min(self.causal_block, 4)
        row = self._row(3 * block)
        others = row.repeat(3 * block, 1)
        index = torch.arange(3 * block, device=row.device)
        others[index, index] = (others[index, index] + 1) % int(self.config.get_text_config().vocab_size)
        allowed = index[:, None] // block <= index[None, :] // block  # changed token, position that may move
        reasons = []
        for self.form in FORMS:
            try:
                with eval_mode(self.model):
                    logits, moved = (self._logits(ids, None, None, 0.0, block) for ids in (row, others))
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # any class of error, from any network
                reasons.append(f"{self.form}: {type(error).__name__} {' '.join(str(error).split())[:120]}")
                continue
            change = (moved - logits).abs().amax(-1)
            if not bool((change > 1e-5 * logits.abs().max())[~allowed].any()) and bool(change[allowed].gt(0).all()):
                return
            reasons.append(f"{self.form}: tokens see what the mask forbids, or not what it allows")
        raise ValueError(
            f"{type(self.model).__name__} does not follow a block mask [B, 1, L, L], so it is no block diffusion model with blocks of "
            f"{self.causal_block} ({'; '.join(reasons)}). Leave --attention-block out for a model with bidirectional attention."
        )


def _has_embedding(model: Any) -> bool:
    try:
        return isinstance(model.get_input_embeddings(), nn.Module)
    except (NotImplementedError, AttributeError):
        return False


def _state_length(config: Any) -> Any:
    """State the longest row under the name of ``transformers``."""
    text = config.get_text_config()
    longest = next((getattr(text, name) for name in LENGTHS if getattr(text, name, None)), None)
    if longest is not None and getattr(text, LENGTHS[0], None) is None:
        setattr(text, LENGTHS[0], longest)
    return config
