"""unmask: masked language models, from raw text to an honest likelihood and fast iterative decoding.

The public names are importable from here and loaded when first used, so ``import unmask`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors read; a test compares it with _HOMES
    __version__: str
    from unmask.build.run import train as train
    from unmask.collate.all_mask import AllMaskDataset as AllMaskDataset
    from unmask.collate.answers import SupervisedMLMCollator as SupervisedMLMCollator
    from unmask.collate.infill import DefaultInfillMLMCollator as DefaultInfillMLMCollator
    from unmask.collate.infill import MLMInfillWithExactTargetPredCollator as MLMInfillWithExactTargetPredCollator
    from unmask.collate.labels import MaskedLMCollator as MaskedLMCollator
    from unmask.collate.packed import PackedMLMCollator as PackedMLMCollator
    from unmask.collate.packing import Packer as Packer
    from unmask.collate.padded import DefaultMLMCollator as DefaultMLMCollator
    from unmask.collate.seq2seq import MLMSeq2SeqCollator as MLMSeq2SeqCollator
    from unmask.collate.seq2seq import MLMSeq2SeqPredCollator as MLMSeq2SeqPredCollator
    from unmask.collate.seq2seq import MLMSeq2SeqTrainCollator as MLMSeq2SeqTrainCollator
    from unmask.config.tree import Config as Config
    from unmask.config.tree import load_config as load_config
    from unmask.contracts import Corrupted as Corrupted
    from unmask.contracts import MLMBatch as MLMBatch
    from unmask.contracts import MLMLossDict as MLMLossDict
    from unmask.contracts import MLMModel as MLMModel
    from unmask.contracts import MLMPredictionDict as MLMPredictionDict
    from unmask.contracts import MLMSeq2SeqPredictionBatch as MLMSeq2SeqPredictionBatch
    from unmask.contracts import MLMStepResults as MLMStepResults
    from unmask.contracts import MLMUnconditionalPredictionBatch as MLMUnconditionalPredictionBatch
    from unmask.contracts import MLMUncondtionalPredictionBatch as MLMUncondtionalPredictionBatch
    from unmask.contracts import PackedFlexMLMBatch as PackedFlexMLMBatch
    from unmask.contracts import SpecialIds as SpecialIds
    from unmask.data.preparation import Prepared as Prepared
    from unmask.data.preparation import prepare as prepare
    from unmask.data.store.fixed_windows import MaskedTokenDataset as MaskedTokenDataset
    from unmask.data.store.token_store import TokenStore as TokenStore
    from unmask.data.supervised import chat_row as chat_row
    from unmask.data.tokenizing.tokenizers import Tokenizer as Tokenizer
    from unmask.data.words.text_words import word_table as word_table
    from unmask.decode.canvas import Canvas as Canvas
    from unmask.decode.lengths import fill_any_length as fill_any_length
    from unmask.decode.loop import fill_canvas as fill_canvas
    from unmask.decode.named import make_rules as make_rules
    from unmask.decode.observers.history import HistoryTopKPlugin as HistoryTopKPlugin
    from unmask.decode.observers.trace import Trace as Trace
    from unmask.decode.orders.grid import Grid as Grid
    from unmask.decode.orders.grid import GridOrder as GridOrder
    from unmask.decode.orders.selector import Selector as Selector
    from unmask.decode.predictor import MLMPredictor as MLMPredictor
    from unmask.decode.rules import Rules as Rules
    from unmask.evaluate.estimate import Estimate as Estimate
    from unmask.evaluate.likelihood import Nelbo as Nelbo
    from unmask.evaluate.likelihood import nelbo as nelbo
    from unmask.evaluate.pseudo import pseudo_log_likelihood as pseudo_log_likelihood
    from unmask.evaluate.scoring import TextScore as TextScore
    from unmask.evaluate.windows import Windows as Windows
    from unmask.models.hf import HuggingFaceMLM as HuggingFaceMLM
    from unmask.models.instruction_trace import InstructionTraceMLMModel as InstructionTraceMLMModel
    from unmask.models.instruction_trace import (
        InstructionTraceTransformerEncoderForMaskedLMConfiguration as InstructionTraceTransformerEncoderForMaskedLMConfiguration,
    )
    from unmask.models.rotary_mlm import RotaryTransformerMLMModel as RotaryTransformerMLMModel
    from unmask.nn.heads import MaskedLMHead as MaskedLMHead
    from unmask.nonautoregressive.wrapper import Losses as Losses
    from unmask.nonautoregressive.wrapper import NonAutoregressiveWrapper as NonAutoregressiveWrapper
    from unmask.ops.corruption import corrupt_all_masked as corrupt_all_masked
    from unmask.ops.corruption import corrupt_bert as corrupt_bert
    from unmask.ops.corruption import corrupt_blockwise as corrupt_blockwise
    from unmask.ops.corruption import corrupt_scheduled as corrupt_scheduled
    from unmask.ops.corruption import corrupt_uniform as corrupt_uniform
    from unmask.ops.corruption import corrupt_uniform_random as corrupt_uniform_random
    from unmask.ops.schedule import Schedule as Schedule
    from unmask.ops.schedule import as_schedule as as_schedule
    from unmask.ops.scheme import Corruption as Corruption
    from unmask.ops.selection import _batched_gumbel_topk as _batched_gumbel_topk
    from unmask.ops.selection import gumbel_topk as gumbel_topk
    from unmask.ops.selection import select_top as select_top
    from unmask.report import EvaluationReport as EvaluationReport
    from unmask.text.model import TrainedModel as TrainedModel
    from unmask.text.model import load as load
    from unmask.text.results import Alternative as Alternative
    from unmask.text.results import Blank as Blank
    from unmask.text.results import Filling as Filling
    from unmask.text.results import Generation as Generation
    from unmask.text.results import GenerationStep as GenerationStep
    from unmask.text.results import Results as Results
    from unmask.training.loss import MLMLoss as MLMLoss
    from unmask.training.module import MaskedLMModule as MaskedLMModule
    from unmask.training.reduction import global_loss as global_loss
    from unmask.training.trace_module import (
        InstructionTraceTransformerEncoderForMaskedLM as InstructionTraceTransformerEncoderForMaskedLM,
    )

_HOMES = {
    "data.supervised": ("chat_row",),
    "collate.labels": ("MaskedLMCollator",),
    "collate.packed": ("PackedMLMCollator",),
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
    "config.tree": ("Config", "load_config"),
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
    "models.instruction_trace": (
        "InstructionTraceMLMModel",
        "InstructionTraceTransformerEncoderForMaskedLMConfiguration",
    ),
    "nn.heads": ("MaskedLMHead",),
    "data.tokenizing.tokenizers": ("Tokenizer",),
    "data.store.token_store": ("TokenStore",),
    "data.preparation": ("Prepared", "prepare"),
    "collate.padded": ("DefaultMLMCollator",),
    "collate.seq2seq": ("MLMSeq2SeqCollator", "MLMSeq2SeqPredCollator", "MLMSeq2SeqTrainCollator"),
    "collate.infill": ("DefaultInfillMLMCollator", "MLMInfillWithExactTargetPredCollator"),
    "collate.answers": ("SupervisedMLMCollator",),
    "collate.packing": ("Packer",),
    "collate.all_mask": ("AllMaskDataset",),
    "data.store.fixed_windows": ("MaskedTokenDataset",),
    "data.words.text_words": ("word_table",),
    "training.loss": ("MLMLoss",),
    "training.reduction": ("global_loss",),
    "training.module": ("MaskedLMModule",),
    "training.trace_module": ("InstructionTraceTransformerEncoderForMaskedLM",),
    "decode.canvas": ("Canvas",),
    "decode.rules": ("Rules",),
    "decode.loop": ("fill_canvas",),
    "decode.predictor": ("MLMPredictor",),
    "decode.observers.history": ("HistoryTopKPlugin",),
    "decode.observers.trace": ("Trace",),
    "decode.orders.grid": ("Grid", "GridOrder"),
    "nonautoregressive.wrapper": ("Losses", "NonAutoregressiveWrapper"),
    "evaluate.likelihood": ("Nelbo", "nelbo"),
    "evaluate.pseudo": ("pseudo_log_likelihood",),
    "evaluate.scoring": ("TextScore",),
    "evaluate.windows": ("Windows",),
    "decode.named": ("make_rules",),
    "decode.lengths": ("fill_any_length",),
    "decode.orders.selector": ("Selector",),
    "text.model": ("TrainedModel", "load"),
    "text.results": ("Alternative", "Blank", "Filling", "Generation", "GenerationStep", "Results"),
    "report": ("EvaluationReport",),
    "build.run": ("train",),
    "evaluate.estimate": ("Estimate",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        from unmask.suggestions import nearest

        raise AttributeError(f"unmask has no public name {name!r}.{nearest(name, __all__)}")
    value = getattr(import_module(f"unmask.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
