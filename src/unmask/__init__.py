"""unmask: masked language models, from raw text to an honest likelihood and fast iterative decoding.

The public names are importable from here and loaded when first used, so ``import unmask`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "contracts": (
        "Corrupted",
        "MLMBatch",
        "MLMLossDict",
        "MLMModel",
        "MLMPredictionDict",
        "MLMSeq2SeqPredictionBatch",
        "MLMStepResults",
        "MLMUnconditionalPredictionBatch",
        "MLMUncondtionalPredictionBatch",
        "PackedFlexMLMBatch",
        "SpecialIds",
    ),
    "config": ("Config", "load_config"),
    "ops.scheme": ("Corruption",),
    "ops.corruption": (
        "corrupt_all_masked",
        "corrupt_bert",
        "corrupt_blockwise",
        "corrupt_scheduled",
        "corrupt_uniform",
        "corrupt_uniform_random",
    ),
    "ops.selection": ("_batched_gumbel_topk", "gumbel_topk", "select_top"),
    "ops.schedule": ("Schedule", "as_schedule"),
    "models.rotary_mlm": ("RotaryTransformerMLMModel",),
    "models.hf": ("HuggingFaceMLM",),
    "models.instruction_trace": ("InstructionTraceMLMModel", "InstructionTraceTransformerEncoderForMaskedLMConfiguration"),
    "nn.heads": ("MaskedLMHead",),
    "data.tokenizers": ("Tokenizer",),
    "data.store": ("TokenStore",),
    "data.prepare": ("prepare",),
    "data.collators": ("DefaultMLMCollator", "MaskedLMCollator", "PackedMLMCollator"),
    "data.seq2seq": ("MLMSeq2SeqCollator", "MLMSeq2SeqPredCollator", "MLMSeq2SeqTrainCollator"),
    "data.infill": ("DefaultInfillMLMCollator", "MLMInfillWithExactTargetPredCollator"),
    "data.supervised": ("SupervisedMLMCollator", "chat_row"),
    "data.packing": ("Packer",),
    "data.all_mask": ("AllMaskDataset",),
    "data.datasets": ("MaskedTokenDataset",),
    "data.words": ("word_table",),
    "train.loss": ("MLMLoss",),
    "train.reduction": ("global_loss",),
    "train.module": ("MaskedLMModule",),
    "train.instruction_trace": ("InstructionTraceTransformerEncoderForMaskedLM",),
    "decode.canvas": ("Canvas",),
    "decode.rules": ("Rules",),
    "decode.loop": ("unmask",),
    "decode.predictor": ("MLMPredictor",),
    "decode.history": ("HistoryTopKPlugin",),
    "decode.trace": ("Trace",),
    "decode.grid": ("Grid", "GridOrder"),
    "nonautoregressive.wrapper": ("Losses", "NonAutoregressiveWrapper"),
    "evaluate.likelihood": ("bound",),
    "evaluate.pseudo": ("pseudo_log_likelihood",),
    "evaluate.scoring": ("TextScore",),
    "evaluate.windows": ("Windows",),
    "decode.named": ("make_rules",),
    "decode.lengths": ("fill_any_length",),
    "decode.selectors": ("Selector",),
    "text.model": ("TrainedModel", "load"),
    "text.results": ("Alternative", "Blank", "Filling", "Generation", "GenerationStep"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"unmask has no public name {name!r}.")
    value = getattr(import_module(f"unmask.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
