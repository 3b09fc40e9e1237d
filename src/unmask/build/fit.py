"""``fit``: the training loop on any rows of ids, without a config file and without a run folder."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from unmask.build.objective import build_corruption, build_loss, check_attention, collator_options
from unmask.build.packages import require_training_packages
from unmask.collate.padded import DefaultMLMCollator
from unmask.config.tree import Config, load_config
from unmask.contracts import Objective, offers_hidden_states
from unmask.models.adapters import PlainNetwork, as_network
from unmask.special_ids import SpecialIds

_INPUTS = {"attention_mask", "positions", "block_mask"}


class RowSource(Protocol):
    """Rows with a length and an index: a list, or a map-style dataset.

    Examples:
        >>> import unmask
        >>> class Squares:
        ...     def __len__(self):
        ...         return 3
        ...     def __getitem__(self, index):
        ...         return {"input_ids": [5, 6 + index]}
        >>> rows: unmask.RowSource = Squares()
        >>> rows[2]
        {'input_ids': [5, 8]}
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True)
class FitResult:
    """The history of a training by :func:`unmask.fit`.

    Attributes:
        model: the trained network, the one that was given.
        losses: training loss of every optimiser step, in nats.
        valid_losses: optimiser steps and validation loss of every validation, in nats.

    Examples:
        >>> import torch, unmask
        >>> unmask.FitResult(torch.nn.Identity(), (2.5, 2.25), ((2, 2.4),)).losses[-1]
        2.25
    """

    model: nn.Module
    losses: tuple[float, ...]
    valid_losses: tuple[tuple[int, float], ...] = ()


def fit(
    model: nn.Module,
    rows: RowSource,
    objective: str | Mapping[str, Any] = "diffusion",
    *,
    tokenizer: Any = None,
    steps: int = 1000,
    batch_size: int = 32,
    lr: float = 1e-3,
    valid_rows: RowSource | None = None,
    collator: Callable[[Any], Any] | None = None,
    loss: Objective | None = None,
    seed: int = 0,
    device: str = "auto",
    callbacks: Sequence[Any] = (),
    logger: Any = None,
) -> FitResult:
    """Train a network on rows of ids, in place.

    Order and masks are functions of ``seed``, the index of a row and the epoch: the same call gives the same weights.

    Args:
        model: a module that maps ids ``[B, L]`` to logits ``[B, L, V]``. A network of this package or of Hugging Face
            receives masks too; any other gets every row without padding.
        rows: a list, or a map-style dataset, of ``{"input_ids": ids}`` mappings or of ids.
        objective: name of a published scheme, such as ``"diffusion"`` or ``"bert"``, or keys of the ``objective`` section of a
            config.

    Other Parameters:
        tokenizer: a tokenizer or ``SpecialIds``; not needed with a collator.
        steps: optimiser steps.
        batch_size: rows of a step.
        lr: peak learning rate of AdamW.
        valid_rows: rows of the validation, ten times over the training; None = none.
        collator: function of a list of rows that returns a batch; None = ``DefaultMLMCollator`` with the corruption of the
            objective, which pads and never cuts rows. Each row has ``example_id``, ``epoch`` and ``epoch_place``.
        loss: the loss; None = that of the objective.
        seed: random seed of the order, the masks and dropout.
        device: ``cpu``, ``cuda``, ``mps``, or ``auto`` for the fastest device present.
        callbacks: callbacks of Lightning.
        logger: a logger of Lightning; None = none.

    Returns:
        The losses; ``model`` holds the trained weights.

    Raises:
        ValueError: no rows, rows without index, no tokenizer, or an invalid option.
        ImportError: a package for training is not installed.

    Examples:
        >>> import unmask
        >>> special = unmask.SpecialIds(mask=0, pad=1, vocab_size=20)
        >>> model = unmask.RotaryTransformerMLMModel(20, 16, 1, 2, mask_idx=0, padding_idx=1, rotary_emb_dim=8)
        >>> rows = [[5, 6, 7, 8], [9, 10, 11]]
        >>> result = unmask.fit(model, rows, tokenizer=special, steps=3, batch_size=2, device="cpu")
        >>> len(result.losses), result.model is model
        (3, True)
    """
    require_training_packages()
    from unmask.training.data import InfiniteSampler
    from unmask.training.loss_history import LossHistory
    from unmask.training.module import MaskedLMModule
    from unmask.training.trainer import trainer_options

    chosen = {"name": objective} if isinstance(objective, str) else dict(objective)
    train = {"steps": steps, "batch_size": batch_size, "device": device, "evaluate_every": max(1, steps // 10)}
    config = load_config(None, (), base={"objective": chosen, "optim": {"lr": lr}, "train": train, "seed": seed})
    _check_rows(rows, "rows")
    if valid_rows is not None:
        _check_rows(valid_rows, "valid_rows")
    if collator is None and tokenizer is None:
        raise ValueError(
            "fit needs the ids of [MASK] and PAD: pass tokenizer=…, or tokenizer=unmask.SpecialIds(mask=…, pad=…, vocab_size=…)."
        )
    network = _as_mlm_model(model, tokenizer)
    if loss is None:
        if collator is None:
            check_attention(config.objective, model)
        loss = build_loss(config.objective, tokenizer)
    module = MaskedLMModule(network, loss, config.optim, steps, seed)
    training = _Rows(rows, samples=steps * batch_size)
    loader = DataLoader(
        training,
        batch_sampler=cast(Any, InfiniteSampler(windows=len(rows), rows=batch_size, seed=seed)),
        collate_fn=cast(Any, collator or _collator(config, tokenizer, seed)),
    )
    history = LossHistory()
    options = trainer_options(config, [*callbacks, history]) | {"logger": logger or False, "devices": 1}
    valid_loader = None
    if valid_rows is not None:
        places = np.arange(len(valid_rows))
        samples = np.stack([np.zeros_like(places), places, places], axis=1)
        valid_loader = DataLoader(
            _Rows(valid_rows),
            batch_sampler=cast(Any, [samples[i : i + batch_size] for i in range(0, len(places), batch_size)]),
            collate_fn=cast(Any, collator or _collator(config, tokenizer, seed + 1, progress=1.0)),
        )
    else:
        options |= {"limit_val_batches": 0}
    from lightning.pytorch import Trainer

    was_training = model.training
    model.train()
    with torch.random.fork_rng(devices=[]):
        Trainer(**options).fit(module, loader, valid_loader)
    model.train(was_training)
    return FitResult(model, *history.values())


def _check_rows(rows: Any, name: str) -> None:
    if not (hasattr(rows, "__len__") and hasattr(rows, "__getitem__")) or isinstance(rows, str | Mapping):
        raise ValueError(
            f"{name} is a {type(rows).__name__}; give a list or a map-style dataset, with a length and an index, of "
            '{"input_ids": ids} mappings or of ids.'
        )
    if not len(rows):
        raise ValueError(f"{name} is empty: give one row or more.")


def _collator(config: Config, tokenizer: Any, seed: int, progress: float | None = None) -> DefaultMLMCollator:
    """Return the collator of an objective. It cuts no row: a row longer than the network takes is an error."""
    corruption = build_corruption(config.objective, tokenizer)
    if progress is not None:
        corruption = corruption.at(torch.tensor([progress], dtype=torch.float64))
    return DefaultMLMCollator(
        tokenizer,
        2**31,
        corruption,
        loss_on_padding=False,
        truncate=None,
        add_bos=False,
        add_eos=False,
        **collator_options(config, seed),
    )


def _as_mlm_model(model: nn.Module, tokenizer: Any) -> nn.Module:
    """Return a network that the loss can call; a module that takes ids alone gets rows without padding."""
    if offers_hidden_states(model):
        return cast(nn.Module, model)
    parameters = inspect.signature(model.forward).parameters
    if parameters.keys() >= _INPUTS:
        return model
    if hasattr(model, "num_tokens") or (hasattr(model, "base_model") and hasattr(model, "config")):
        return cast(nn.Module, as_network(model))
    if tokenizer is None:
        raise ValueError(
            f"The vocabulary size of {type(model).__name__} is unknown: pass tokenizer=…, or give the module an attribute num_tokens."
        )
    return PlainNetwork(model, SpecialIds.of(tokenizer).vocab_size)


class _Rows(Dataset[Any]):
    """Rows with the fields that key their noise, read a batch at a time.

    Args:
        rows: the rows.
        samples: samples of the whole training; rows then have a field ``progress`` for the mask-rate warm-up.
    """

    def __init__(self, rows: RowSource, samples: int | None = None) -> None:
        self.rows, self.samples = rows, samples

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, index: np.ndarray) -> list[dict[str, Any]]:
        """Return the rows of an int64 array ``[N, 3]`` of (epoch, position in the epoch, row)."""
        batch = []
        for epoch, place, number in np.asarray(index).tolist():
            row = self.rows[number]
            fields = dict(row) if isinstance(row, Mapping) else {"input_ids": _as_ids(row)}
            fields |= {"example_id": number, "epoch": epoch, "epoch_place": place}
            if self.samples is not None:
                fields["progress"] = (epoch * len(self) + place) / self.samples
            batch.append(fields)
        return batch


def _as_ids(row: Any) -> Any:
    return row.cpu().numpy() if isinstance(row, Tensor) else copy(row)
