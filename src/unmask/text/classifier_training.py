"""Train a classifier on labelled rows, with the one training loop (``unmask.fit``).

The head's label of a text stands at the first token of its row, that of a word at its first token; all other targets are -100, so
the loss is ``MLMLoss``. Balanced weights are ``n / (K n_c)`` for a class with ``n_c`` of ``n`` labels: ``inverse_p`` with
``p = K n_c / n``.

Shapes: ``B`` rows of ``L`` tokens, ``K`` labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from unmask.build.fit import fit
from unmask.contracts import IGNORED_TARGET
from unmask.data.labelled_rows import EncodedRow, LabelledRow, label_ids, label_names
from unmask.devices import choose_device
from unmask.evaluate.classification import ClassScores, class_scores
from unmask.text.classifier import Classifier, padded, with_new_head
from unmask.text.model import TrainedModel
from unmask.training.loss import MLMLoss


@dataclass(frozen=True)
class ClassifierOptions:
    """How a classifier is trained.

    Attributes:
        per_word: every word has a label; otherwise a text has one.
        freeze: train the head alone; the encoder keeps its weights and stays in eval mode.
        balanced: weigh class ``c`` by ``n / (K n_c)``; otherwise every label weighs 1.
        steps: optimiser steps; None = ``epochs`` passes over the rows.
        epochs: passes over the rows.
        lr: peak learning rate; None = 0.04 / width of the encoder (5e-5 for 768), 20 times that for a frozen one.
        batch_size: rows of a step.
        seed: random seed of the head, the order of the rows and dropout.
        truncate: cut texts longer than the encoder takes; otherwise they are an error.

    Raises:
        ValueError: no steps.
    """

    per_word: bool = False
    freeze: bool = False
    balanced: bool = False
    steps: int | None = None
    epochs: float = 3.0
    lr: float | None = None
    batch_size: int = 32
    seed: int = 0
    truncate: bool = False

    def __post_init__(self) -> None:
        if self.epochs <= 0 or self.batch_size < 1 or (self.steps is not None and self.steps < 1):
            raise ValueError(
                f"--epochs {self.epochs}, --steps {self.steps} and --batch-size {self.batch_size}: each must be above zero, such as "
                "--epochs 3 --batch-size 32."
            )


@dataclass(frozen=True)
class TrainedClassifier:
    """A classifier with the facts of its training.

    Attributes:
        classifier: the classifier, in eval mode.
        facts: encoder, options, class counts and losses, for JSON.
        scores: on the validation rows; None without any.
    """

    classifier: Classifier
    facts: dict[str, Any]
    scores: ClassScores | None


def train_classifier(
    encoder: TrainedModel,
    rows: Sequence[LabelledRow],
    valid: Sequence[LabelledRow],
    options: ClassifierOptions,
    *,
    device: str = "auto",
    callbacks: Callable[[int, float], Sequence[Any]] = lambda steps, labels: (),
) -> TrainedClassifier:
    """Train a head on an encoder, and the encoder with it unless it is frozen.

    Args:
        encoder: a trained model; its own weights are not changed.
        rows: training rows.
        valid: validation rows; may be empty.
        options: how to train.
        device: ``cpu``, ``cuda``, ``mps``, or ``auto`` for the fastest device present.
        callbacks: function of the number of steps and the mean number of labels of a step, which returns callbacks of Lightning.

    Raises:
        ValueError: fewer than two labels, a label that only validation rows have, an unusable row or encoder.
    """
    names = label_names(rows)
    classifier, new = with_new_head(encoder, names, options.per_word, options.seed)
    train, held = (_Targets.of(classifier, part, names, options.truncate) for part in (rows, valid))
    counts = np.bincount(np.concatenate(train.labels), minlength=len(names))
    network = HeadedEncoder(classifier, new if options.freeze else None)
    steps = options.steps or math.ceil(options.epochs * len(rows) / options.batch_size)
    width = getattr(classifier.model.config.get_text_config(), "hidden_size", 768)
    lr = options.lr or (20 if options.freeze else 1) * 0.04 / width
    result = fit(
        network,
        train,
        steps=steps,
        batch_size=options.batch_size,
        lr=lr,
        valid_rows=held if valid else None,
        collator=LabelCollator(classifier, class_weights(counts) if options.balanced else None),
        loss=MLMLoss(weighting="inverse_p" if options.balanced else "flat"),
        seed=options.seed,
        device=device,
        callbacks=callbacks(steps, options.batch_size * counts.sum() / len(rows)),
    )
    classifier.model.to(choose_device(device)).eval()
    facts = {
        "encoder": str(encoder.folder),
        "encoder_step": encoder.step,
        "options": asdict(options) | {"steps": steps, "lr": lr},
        "rows": len(rows),
        "labels": dict(zip(names, counts.tolist(), strict=True)),
        "losses": list(result.losses),
        "valid_losses": [list(each) for each in result.valid_losses],
    }
    if not valid:
        return TrainedClassifier(classifier, facts, None)
    scores = score_rows(held.rows, classifier.logits(held.rows, options.batch_size), held.labels, names, options.seed)
    facts["valid"] = scores.as_dict() | {"rows_also_in_training": len({r.text for r in valid} & {r.text for r in rows})}
    return TrainedClassifier(classifier, facts, scores)


def score_rows(
    rows: Sequence[EncodedRow],
    logits: Sequence[Float[Tensor, "labelled classes"]],
    labels: Sequence[Int[np.ndarray, " labelled"]],
    names: Sequence[str],
    seed: int = 0,
) -> ClassScores:
    """Compare the likeliest labels with the true ones; every row is a document of the bootstrap."""
    predicted = torch.cat(list(logits)).argmax(-1).numpy()
    documents = np.repeat(np.arange(len(rows)), [len(each) for each in labels])
    return class_scores(np.concatenate(list(labels)), predicted, documents, names, seed=seed)


def class_weights(counts: NDArray[np.int64]) -> Float[Tensor, " classes"]:
    """Return the balanced weight ``n / (K n_c)`` of each class, float32 ``[K]``; the mean over all labels is 1.

    Examples:
        >>> class_weights(np.array([3, 1])).tolist()
        [0.6666666865348816, 2.0]
    """
    return torch.from_numpy(counts.sum() / (len(counts) * counts)).float()


@dataclass(frozen=True, eq=False)
class _Targets:
    """Encoded rows with the numbers of their labels, as a map-style dataset."""

    rows: list[EncodedRow]
    labels: list[Int[np.ndarray, " labelled"]]

    @classmethod
    def of(cls, classifier: Classifier, rows: Sequence[LabelledRow], names: Sequence[str], truncate: bool) -> _Targets:
        return cls(classifier.encode(rows, truncate), label_ids(rows, names))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        return {"row": self.rows[index], "labels": self.labels[index]}


@dataclass(frozen=True, eq=False)
class LabelCollator:
    """Collate rows with labels: padded ids, and labels as targets at the first token of each word, or of each text.

    Attributes:
        classifier: the model with its tokenizer.
        weights: weight of each class, ``[K]``; None = 1.
    """

    classifier: Classifier
    weights: Float[Tensor, " classes"] | None

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Return a batch for ``MLMLoss``, every tensor ``[B, L]``."""
        ids, real = padded([row["row"] for row in rows], self.classifier.tokenizer)
        places = np.full(ids.shape, IGNORED_TARGET, dtype=np.int64)
        for number, row in enumerate(rows):
            # Backwards, because NumPy keeps the last: a token that begins two words carries the label of the first.
            places[number, row["row"].heads[::-1]] = row["labels"][::-1]
        targets = torch.from_numpy(places)
        labelled = targets != IGNORED_TARGET
        batch = {"input_ids": ids, "attention_mask": real, "target_ids": targets, "noise_mask": labelled}
        if self.weights is not None:
            batch["p_mask"] = torch.where(labelled, 1 / self.weights[targets.clamp(min=0)], 0.0)
        return batch


class HeadedEncoder(nn.Module):
    """A classifier as a network of the training loop: ids in, logits ``[B, L, K]`` out.

    Args:
        classifier: the model; its weights are shared.
        new: names of the weights to train besides the head, where the encoder is frozen; None = all weights are trained.
    """

    def __init__(self, classifier: Classifier, new: Sequence[str] | None) -> None:
        super().__init__()
        self.model: nn.Module = classifier.model
        self.per_word: bool = classifier.per_word
        self.is_frozen: bool = new is not None
        if new is not None:
            encoder = {id(parameter) for parameter in classifier.model.base_model.parameters()}
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(id(parameter) not in encoder or name in new)

    def train(self, mode: bool = True) -> HeadedEncoder:
        """Set the mode; a frozen encoder stays in eval mode, without dropout."""
        super().train(mode)
        if self.is_frozen:
            cast(nn.Module, self.model.base_model).eval()
        return self

    def forward(
        self,
        x_t: Int[Tensor, "batch seq"],
        attention_mask: Bool[Tensor, "batch seq"] | None = None,
        positions: Any = None,
        block_mask: Any = None,
    ) -> Float[Tensor, "batch seq classes"]:
        """Return the logits of each token; for a text, those of its row at every token."""
        mask = None if attention_mask is None else attention_mask.long()
        logits: Tensor = self.model(input_ids=x_t, attention_mask=mask).logits
        return logits if self.per_word else logits[:, None].expand(-1, x_t.shape[1], -1)
