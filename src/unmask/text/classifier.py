"""A classifier of texts or of words: an encoder of ``transformers`` with a head for labels, its tokenizer, and its folder.

The encoder of a run becomes the exported class (``unmask.export``); one of ``transformers`` keeps its own architecture. Either way the
folder is loaded by ``AutoModelForSequenceClassification`` or ``AutoModelForTokenClassification``, with the same logits.

    config.json, model.safetensors         sizes, labels, weights
    tokenizer.json, tokenizer_config.json  tokenizer
    configuration_, modeling_, generation_unmask.py   code of the exported classes, for encoders of this package
    unmask_classifier.json                 what was trained, and its scores on validation rows

Shapes: ``N`` rows, ``K`` labels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.collate.layout import pad
from unmask.data.labelled_rows import EncodedRow, LabelledRow, encode_rows
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.devices import choose_device, device_of
from unmask.export.hub_folder import AUTO_MAP, copy_code, tokenizer_files
from unmask.export.hub_weights import hub_sizes, hub_weights
from unmask.export.registration import MODEL_TYPE, register
from unmask.models.hf import HuggingFaceMLM
from unmask.models.hf_files import without_reports
from unmask.models.hf_probe import token_table
from unmask.models.networks import original_of
from unmask.models.own_code import has_own_code
from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.nn.modes import eval_mode
from unmask.special_ids import SpecialIds
from unmask.storage import atomic_folder, read_json, write_json
from unmask.text.batching import in_batches
from unmask.text.embedding import longest_row
from unmask.text.model import TrainedModel

FACTS = "unmask_classifier.json"
_AUTO = {False: "AutoModelForSequenceClassification", True: "AutoModelForTokenClassification"}


@dataclass(frozen=True, eq=False)
class Classifier:
    """A model for labels with its tokenizer.

    Attributes:
        model: a ``…ForSequenceClassification`` or ``…ForTokenClassification`` of ``transformers``.
        tokenizer: its tokenizer.
        per_word: every word has a label; otherwise a text has one.
        max_length: largest number of tokens of a row; None = no limit.
        template: texts have the special tokens of the tokenizer's template ([CLS], [SEP]).
    """

    model: Any
    tokenizer: Tokenizer
    per_word: bool
    max_length: int | None
    template: bool

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the ``K`` labels."""
        names = self.model.config.id2label
        return tuple(names[number] for number in range(len(names)))

    def encode(self, rows: Sequence[LabelledRow], truncate: bool = False) -> list[EncodedRow]:
        """Tokenise rows; arguments and errors as of ``encode_rows``."""
        return encode_rows(self.tokenizer, rows, self.max_length, template=self.template, truncate=truncate)

    def logits(
        self,
        rows: Sequence[EncodedRow],
        batch_size: int = 32,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> list[Float[Tensor, "labelled classes"]]:
        """Compute the logits of rows. They depend neither on the other rows nor on the batch size.

        Args:
            rows: tokens of each row.
            batch_size: rows per forward pass; a network that mixes padding into tokens gets rows of one length only.
            progress: callback ``(rows done, rows)``.

        Returns:
            float32 ``[1, K]`` of each text, or ``[w, K]`` for the ``w`` words of a row, on the CPU.
        """
        found: list[Tensor] = [torch.empty(0)] * len(rows)
        by_length = sorted(range(len(rows)), key=lambda i: (-len(rows[i].ids), i))
        lengths = {len(row.ids) for row in rows}
        alone = len(lengths) > 1 and self._mixes_padding
        groups = [[i for i in by_length if len(rows[i].ids) == n] for n in sorted(lengths)] if alone else [by_length]
        done = 0
        with eval_mode(self.model):
            for group in groups:
                for part in in_batches(len(group), batch_size):
                    numbers = [group[i] for i in part]
                    logits = self._forward([rows[i] for i in numbers])
                    for number, row in zip(numbers, logits, strict=True):
                        found[number] = row[torch.from_numpy(rows[number].heads)] if self.per_word else row[None]
                    done += len(numbers)
                    if progress is not None:
                        progress(done, len(rows))
        return found

    def _forward(self, rows: Sequence[EncodedRow]) -> Tensor:
        ids, real = padded(rows, self.tokenizer)
        device = device_of(self.model)
        logits: Tensor = self.model(input_ids=ids.to(device), attention_mask=real.long().to(device)).logits
        return logits.float().cpu()

    @cached_property
    def _mixes_padding(self) -> bool:
        """Whether padding changes the logits of a row, as in networks with convolutions or Fourier transforms over positions."""
        table = token_table(self.model)
        size = self.model.config.get_text_config().vocab_size if table is None else len(table)
        short, longer = (
            EncodedRow(torch.arange(n).remainder(size).numpy(), torch.zeros(1).long().numpy()) for n in (5, 14)
        )
        with eval_mode(self.model):
            alone, beside = self._forward([short])[0], self._forward([short, longer])[0]
        beside = beside[: len(alone)] if self.per_word else beside
        return not torch.allclose(alone, beside, rtol=1e-3, atol=1e-4)

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        """Write the folder, in one rename.

        Args:
            folder: a new folder.
            facts: what to tell of the training, as JSON.

        Raises:
            OSError: the folder exists.
        """
        own = self.model.config.model_type == MODEL_TYPE
        limit = self.max_length or 10**9
        files = self.tokenizer.files() if self.template else tokenizer_files(self.tokenizer, limit)
        with atomic_folder(folder) as temporary, without_reports():
            self.model.save_pretrained(temporary)
            for name, text in files.items():
                (temporary / name).write_text(text, encoding="utf-8")
            if own:
                copy_code(temporary)
            shape = {"tokens": self.per_word, "max_length": self.max_length, "template": self.template}
            write_json(temporary / FACTS, {**shape, **facts})

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> tuple[Classifier, dict[str, Any]]:
        """Load a folder that :meth:`save` wrote, with its facts.

        Raises:
            ValueError: another folder.
        """
        import transformers

        if not (folder / FACTS).is_file():
            raise ValueError(
                f"There is no classifier at {folder}: a folder of `unmask classify train` has a file {FACTS}. Train one with "
                "unmask classify train --model ENCODER --input FILE --label COLUMN -o FOLDER."
            )
        register()
        facts = read_json(folder / FACTS)
        with without_reports():
            model = getattr(transformers, _AUTO[facts["tokens"]]).from_pretrained(folder, trust_remote_code=False)
        tokenizer = Tokenizer.load(folder)
        found = cls(
            model.to(choose_device(device)).eval(), tokenizer, facts["tokens"], facts["max_length"], facts["template"]
        )
        return found, facts


def padded(rows: Sequence[EncodedRow], tokenizer: Tokenizer) -> tuple[Tensor, Tensor]:
    """Return ids int64 ``[B, L]`` and the bool mask of real tokens, with padding on the right."""
    return pad([row.ids for row in rows], max(len(row.ids) for row in rows), tokenizer.pad_token_id or 0, left=False)


def with_new_head(
    encoder: TrainedModel, labels: Sequence[str], per_word: bool, seed: int
) -> tuple[Classifier, tuple[str, ...]]:
    """Return a classifier with the weights of a trained encoder and an untrained head.

    Args:
        encoder: a trained model.
        labels: names of the labels.
        per_word: every word has a label; otherwise a text has one.
        seed: random seed of the new weights, which depend on nothing else.

    Returns:
        The classifier in float32, and the names of its new weights.

    Raises:
        ValueError: an encoder without such a class in ``transformers``.
    """
    import transformers

    register()
    network = encoder.model
    weights: dict[str, Tensor]
    if isinstance(network, RotaryTransformerMLMModel):
        config, weights = _own_config(network, encoder.tokenizer, per_word), hub_weights(network)
    elif isinstance(network, HuggingFaceMLM) and not has_own_code(original_of(network)):
        config, weights = copy.deepcopy(network.model.config), network.model.state_dict()
    else:
        raise ValueError(_no_class(encoder, per_word))
    kinds = getattr(transformers, _AUTO[per_word])._model_mapping
    if type(config) not in kinds:
        raise ValueError(_no_class(encoder, per_word))
    kind = kinds[type(config)]
    config.id2label = dict(enumerate(labels))
    config.label2id = {name: number for number, name in enumerate(labels)}
    config.problem_type = None if per_word else "single_label_classification"
    with torch.random.fork_rng(devices=[]), without_reports():
        torch.manual_seed(seed)
        model, report = (kind[0] if isinstance(kind, tuple) else kind).from_pretrained(
            None,
            config=config,
            state_dict={name: weight.detach().cpu().clone() for name, weight in weights.items()},
            output_loading_info=True,
            dtype=torch.float32,
        )
    new = set(report["missing_keys"])
    table = token_table(model)
    if any(parameter is table and name in new for name, parameter in model.named_parameters()):
        raise ValueError(_no_class(encoder, per_word))
    limit = longest_row(network)
    return Classifier(model, encoder.tokenizer, per_word, limit, encoder.uses_template), tuple(sorted(new))


def _own_config(network: RotaryTransformerMLMModel, tokenizer: Tokenizer, per_word: bool) -> Any:
    """Return the config of the exported class for a network of this package."""
    from unmask.export.hub_code.configuration_unmask import UnmaskConfig

    special, auto = SpecialIds.of(tokenizer), _AUTO[per_word]
    ids = {"mask_token_id": special.mask, "bos_token_id": special.bos, "eos_token_id": special.eos}
    ids["pad_token_id"] = special.pad if special.pad is not None else network.padding_idx
    return UnmaskConfig(
        **hub_sizes(network) | ids, auto_map={name: AUTO_MAP[name] for name in ("AutoConfig", "AutoModel", auto)}
    )


def _no_class(encoder: TrainedModel, per_word: bool) -> str:
    kind = type(getattr(encoder.model, "model", encoder.model)).__name__
    task = _AUTO[per_word].removeprefix("AutoModel")
    return (
        f"{encoder.folder} holds a {kind}, which has no class …{task} in transformers with the same encoder. Use an encoder that has one "
        "(a run of unmask train, BERT, ModernBERT …), or train your own module with the Trainer: "
        "transformers.Trainer(model=YOUR_MODULE, train_dataset=ROWS).train()."
    )
