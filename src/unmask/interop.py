"""The losses and collators of this package in the ``Trainer`` of Hugging Face.

    class Trainer(unmask.interop.MaskedDiffusionTrainer, transformers.Trainer): ...
    Trainer(model, args, data_collator=HFCollator(collator), train_dataset=rows, loss=loss)

``remove_unused_columns=False`` in the arguments keeps the fields that the loss reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from unmask.contracts import IGNORED_TARGET, MLMLossDict, Objective
from unmask.training.loss import MLMLoss


class HFCollator:
    """A collator whose batches have Hugging Face's field ``labels`` beside all fields of this package.

    Args:
        collator: a collator of this package.

    Examples:
        >>> import unmask
        >>> from unmask.interop import HFCollator
        >>> special = unmask.SpecialIds(mask=0, pad=1, vocab_size=20)
        >>> collate = HFCollator(unmask.DefaultMLMCollator(special, 4, add_bos=False, add_eos=False))
        >>> sorted(collate([{"input_ids": [5, 6, 7, 8], "example_id": 0}]))[:3]
        ['attention_mask', 'input_ids', 'labels']
    """

    def __init__(self, collator: Callable[[Any], Mapping[str, Any]]) -> None:
        self.collator = collator

    def __call__(self, rows: Any) -> dict[str, Any]:
        """Return the batch; ``labels`` int64 ``[B, L]`` holds the true ids at scored positions and -100 elsewhere."""
        batch = dict(self.collator(rows))
        scored: Tensor | None = batch.get("noise_mask")
        if scored is not None:
            batch["labels"] = torch.where(scored, batch["target_ids"], IGNORED_TARGET)
        return batch


def compute_loss(model: Any, inputs: Mapping[str, Any], loss: Objective) -> tuple[MLMLossDict, Any]:
    """Return the loss of a batch under a ``…ForMaskedLM``, with the numbers of ``MLMLoss``, and the output of the network.

    Args:
        model: a network of Hugging Face, also wrapped for several devices.
        inputs: a batch of a collator.
        loss: the loss.

    Raises:
        ValueError: a packed batch, whose documents such a network cannot separate.
    """
    if "segment_ids" in inputs:
        raise ValueError(
            "The batch is packed, and a network of Hugging Face attends across documents: use a padded collator."
        )
    kept: list[Any] = []

    def network(x_t: Tensor, attention_mask: Tensor | None = None, **others: Any) -> Tensor:
        output = model(input_ids=x_t, attention_mask=None if attention_mask is None else attention_mask.long())
        kept.append(output)
        logits: Tensor = output.logits
        return logits

    return loss({k: v for k, v in inputs.items() if k != "positions"}, network), kept[0]


class MaskedDiffusionTrainer:
    """A mixin for ``transformers.Trainer`` whose loss is an ``MLMLoss``; list it before ``Trainer`` among the bases.

    Args:
        loss: the loss; None = the masked diffusion loss, with weights 1/p.
        arguments, options: those of ``Trainer``.

    Examples:
        >>> from unmask.interop import MaskedDiffusionTrainer
        >>> class Base:
        ...     def __init__(self, model):
        ...         self.model = model
        >>> class Trainer(MaskedDiffusionTrainer, Base): ...
        >>> Trainer("network").mlm_loss.weighting
        'inverse_p'
    """

    def __init__(self, *arguments: Any, loss: Objective | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.mlm_loss: Objective = MLMLoss(weighting="inverse_p") if loss is None else loss
        # Trainer then divides by the accumulation steps; its count of labels is not the normaliser of the loss.
        self.model_accepts_loss_kwargs = False

    def compute_loss(
        self, model: Any, inputs: Mapping[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the loss of a batch, with the output of the network if ``return_outputs``."""
        parts, outputs = compute_loss(model, inputs, self.mlm_loss)
        return (parts["loss"], outputs) if return_outputs else parts["loss"]
