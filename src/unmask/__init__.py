"""Masked language models: train, evaluate and decode.

All public names are attributes of this package. Each is imported on first use, so ``import unmask`` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__: str

if TYPE_CHECKING:  # for type checkers and editors; a test compares the block with _HOMES
    from unmask.build.fit import FitResult as FitResult
    from unmask.build.fit import RowSource as RowSource
    from unmask.build.fit import fit as fit
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
    from unmask.config.optim_config import OptimConfig as OptimConfig
    from unmask.config.tree import Config as Config
    from unmask.config.tree import load_config as load_config
    from unmask.contracts import Corrupted as Corrupted
    from unmask.contracts import MLMBatch as MLMBatch
    from unmask.contracts import MLMLossDict as MLMLossDict
    from unmask.contracts import MLMPredictionDict as MLMPredictionDict
    from unmask.contracts import MLMSeq2SeqPredictionBatch as MLMSeq2SeqPredictionBatch
    from unmask.contracts import MLMStepResults as MLMStepResults
    from unmask.contracts import MLMUnconditionalPredictionBatch as MLMUnconditionalPredictionBatch
    from unmask.contracts import MLMUncondtionalPredictionBatch as MLMUncondtionalPredictionBatch
    from unmask.contracts import Objective as Objective
    from unmask.contracts import PackedFlexMLMBatch as PackedFlexMLMBatch
    from unmask.contracts import ScoredTokens as ScoredTokens
    from unmask.data.corpus.sources import Source as Source
    from unmask.data.document import Document as Document
    from unmask.data.preparation import Prepared as Prepared
    from unmask.data.preparation import prepare as prepare
    from unmask.data.store.fixed_windows import MaskedTokenDataset as MaskedTokenDataset
    from unmask.data.store.token_store import TokenStore as TokenStore
    from unmask.data.supervised import ChatTokenizer as ChatTokenizer
    from unmask.data.supervised import chat_row as chat_row
    from unmask.data.tokenizing.tokenizers import Tokenizer as Tokenizer
    from unmask.data.words.text_words import word_table as word_table
    from unmask.decode.block_schedule import BlockSchedule as BlockSchedule
    from unmask.decode.budget import Budget as Budget
    from unmask.decode.canvas import Canvas as Canvas
    from unmask.decode.forwards.plain import Forward as Forward
    from unmask.decode.forwards.plain import ForwardSession as ForwardSession
    from unmask.decode.lengths import AnyLength as AnyLength
    from unmask.decode.lengths import fill_any_length as fill_any_length
    from unmask.decode.logits.constraints import Constraint as Constraint
    from unmask.decode.logits.processors import LogitsProcessor as LogitsProcessor
    from unmask.decode.loop import fill_canvas as fill_canvas
    from unmask.decode.named import make_rules as make_rules
    from unmask.decode.observers.base import Decoded as Decoded
    from unmask.decode.observers.history import HistoryTopKPlugin as HistoryTopKPlugin
    from unmask.decode.observers.trace import Trace as Trace
    from unmask.decode.orders.commit_rules import CommitRule as CommitRule
    from unmask.decode.orders.grid import Grid as Grid
    from unmask.decode.orders.grid import GridOrder as GridOrder
    from unmask.decode.orders.scores import DraftScore as DraftScore
    from unmask.decode.orders.scores import Score as Score
    from unmask.decode.orders.selector import Selector as Selector
    from unmask.decode.predictor import MLMPredictor as MLMPredictor
    from unmask.decode.reads import Reads as Reads
    from unmask.decode.remasking import Remasking as Remasking
    from unmask.decode.rules import Rules as Rules
    from unmask.decode.view import StepView as StepView
    from unmask.evaluate.causal_judge import CausalJudge as CausalJudge
    from unmask.evaluate.estimate import Estimate as Estimate
    from unmask.evaluate.likelihood import Nelbo as Nelbo
    from unmask.evaluate.likelihood import nelbo as nelbo
    from unmask.evaluate.minimal_pairs import MinimalPair as MinimalPair
    from unmask.evaluate.minimal_pairs import PairScore as PairScore
    from unmask.evaluate.minimal_pairs import pair_accuracy as pair_accuracy
    from unmask.evaluate.minimal_pairs import score_pairs as score_pairs
    from unmask.evaluate.pseudo import pseudo_log_likelihood as pseudo_log_likelihood
    from unmask.evaluate.scoring import ScoringInContext as ScoringInContext
    from unmask.evaluate.scoring import ScoringOptions as ScoringOptions
    from unmask.evaluate.scoring import TextScore as TextScore
    from unmask.evaluate.scoring import TokenScore as TokenScore
    from unmask.evaluate.windows import Windows as Windows
    from unmask.models.hf import HuggingFaceMLM as HuggingFaceMLM
    from unmask.models.instruction_trace import InstructionTraceMLMModel as InstructionTraceMLMModel
    from unmask.models.instruction_trace import (
        InstructionTraceTransformerEncoderForMaskedLMConfiguration as InstructionTraceTransformerEncoderForMaskedLMConfiguration,
    )
    from unmask.models.rotary_mlm import RotaryTransformerMLMModel as RotaryTransformerMLMModel
    from unmask.network_protocols import HiddenStates as HiddenStates
    from unmask.network_protocols import KVCacheable as KVCacheable
    from unmask.network_protocols import MLMModel as MLMModel
    from unmask.network_protocols import PartialStates as PartialStates
    from unmask.network_protocols import Projection as Projection
    from unmask.nn.heads import MaskedLMHead as MaskedLMHead
    from unmask.nn.kv_cache import KVCache as KVCache
    from unmask.nonautoregressive.wrapper import Losses as Losses
    from unmask.nonautoregressive.wrapper import NonAutoregressiveWrapper as NonAutoregressiveWrapper
    from unmask.ops.corrupt import corrupt_all_masked as corrupt_all_masked
    from unmask.ops.corrupt import corrupt_bert as corrupt_bert
    from unmask.ops.corrupt import corrupt_blockwise as corrupt_blockwise
    from unmask.ops.corrupt import corrupt_scheduled as corrupt_scheduled
    from unmask.ops.corrupt import corrupt_uniform as corrupt_uniform
    from unmask.ops.corrupt import corrupt_uniform_random as corrupt_uniform_random
    from unmask.ops.mask_rates import MaskRate as MaskRate
    from unmask.ops.replacement import Replacement as Replacement
    from unmask.ops.schedule import DiscreteTime as DiscreteTime
    from unmask.ops.schedule import Schedule as Schedule
    from unmask.ops.schedule import as_schedule as as_schedule
    from unmask.ops.scheme import Corruption as Corruption
    from unmask.ops.selection import _batched_gumbel_topk as _batched_gumbel_topk
    from unmask.ops.selection import gumbel_topk as gumbel_topk
    from unmask.ops.selection import select_top as select_top
    from unmask.randomness import Noise as Noise
    from unmask.report import EvaluationReport as EvaluationReport
    from unmask.special_ids import SpecialIds as SpecialIds
    from unmask.studies.clip_tuning import tune_clip as tune_clip
    from unmask.studies.comparison import compare_runs as compare_runs
    from unmask.studies.order_study import study_orders as study_orders
    from unmask.studies.sample_quality import measure_samples as measure_samples
    from unmask.studies.tuning import tune_run as tune_run
    from unmask.text.decoding_options import DecodingOptions as DecodingOptions
    from unmask.text.embedding import EmbeddingKeywords as EmbeddingKeywords
    from unmask.text.loading import load as load
    from unmask.text.model import TrainedModel as TrainedModel
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
    "build.fit": (
        "FitResult",
        "RowSource",
        "fit",
    ),
    "build.run": ("train",),
    "collate.all_mask": ("AllMaskDataset",),
    "collate.answers": ("SupervisedMLMCollator",),
    "collate.infill": (
        "DefaultInfillMLMCollator",
        "MLMInfillWithExactTargetPredCollator",
    ),
    "collate.labels": ("MaskedLMCollator",),
    "collate.packed": ("PackedMLMCollator",),
    "collate.packing": ("Packer",),
    "collate.padded": ("DefaultMLMCollator",),
    "collate.seq2seq": (
        "MLMSeq2SeqCollator",
        "MLMSeq2SeqPredCollator",
        "MLMSeq2SeqTrainCollator",
    ),
    "config.optim_config": ("OptimConfig",),
    "config.tree": (
        "Config",
        "load_config",
    ),
    "contracts": (
        "Corrupted",
        "MLMBatch",
        "MLMLossDict",
        "MLMPredictionDict",
        "MLMSeq2SeqPredictionBatch",
        "MLMStepResults",
        "MLMUnconditionalPredictionBatch",
        "MLMUncondtionalPredictionBatch",
        "Objective",
        "PackedFlexMLMBatch",
        "ScoredTokens",
    ),
    "data.corpus.sources": ("Source",),
    "data.document": ("Document",),
    "data.preparation": (
        "Prepared",
        "prepare",
    ),
    "data.store.fixed_windows": ("MaskedTokenDataset",),
    "data.store.token_store": ("TokenStore",),
    "data.supervised": (
        "ChatTokenizer",
        "chat_row",
    ),
    "data.tokenizing.tokenizers": ("Tokenizer",),
    "data.words.text_words": ("word_table",),
    "decode.block_schedule": ("BlockSchedule",),
    "decode.budget": ("Budget",),
    "decode.canvas": ("Canvas",),
    "decode.forwards.plain": (
        "Forward",
        "ForwardSession",
    ),
    "decode.lengths": (
        "AnyLength",
        "fill_any_length",
    ),
    "decode.logits.constraints": ("Constraint",),
    "decode.logits.processors": ("LogitsProcessor",),
    "decode.loop": ("fill_canvas",),
    "decode.named": ("make_rules",),
    "decode.observers.base": ("Decoded",),
    "decode.observers.history": ("HistoryTopKPlugin",),
    "decode.observers.trace": ("Trace",),
    "decode.orders.commit_rules": ("CommitRule",),
    "decode.orders.grid": (
        "Grid",
        "GridOrder",
    ),
    "decode.orders.scores": (
        "DraftScore",
        "Score",
    ),
    "decode.orders.selector": ("Selector",),
    "decode.predictor": ("MLMPredictor",),
    "decode.reads": ("Reads",),
    "decode.remasking": ("Remasking",),
    "decode.rules": ("Rules",),
    "decode.view": ("StepView",),
    "evaluate.causal_judge": ("CausalJudge",),
    "evaluate.estimate": ("Estimate",),
    "evaluate.likelihood": (
        "Nelbo",
        "nelbo",
    ),
    "evaluate.minimal_pairs": (
        "MinimalPair",
        "PairScore",
        "pair_accuracy",
        "score_pairs",
    ),
    "evaluate.pseudo": ("pseudo_log_likelihood",),
    "evaluate.scoring": (
        "ScoringInContext",
        "ScoringOptions",
        "TextScore",
        "TokenScore",
    ),
    "evaluate.windows": ("Windows",),
    "models.hf": ("HuggingFaceMLM",),
    "models.instruction_trace": (
        "InstructionTraceMLMModel",
        "InstructionTraceTransformerEncoderForMaskedLMConfiguration",
    ),
    "models.rotary_mlm": ("RotaryTransformerMLMModel",),
    "network_protocols": (
        "HiddenStates",
        "KVCacheable",
        "MLMModel",
        "PartialStates",
        "Projection",
    ),
    "nn.heads": ("MaskedLMHead",),
    "nn.kv_cache": ("KVCache",),
    "nonautoregressive.wrapper": (
        "Losses",
        "NonAutoregressiveWrapper",
    ),
    "ops.corrupt": (
        "corrupt_all_masked",
        "corrupt_bert",
        "corrupt_blockwise",
        "corrupt_scheduled",
        "corrupt_uniform",
        "corrupt_uniform_random",
    ),
    "ops.mask_rates": ("MaskRate",),
    "ops.replacement": ("Replacement",),
    "ops.schedule": (
        "DiscreteTime",
        "Schedule",
        "as_schedule",
    ),
    "ops.scheme": ("Corruption",),
    "ops.selection": (
        "_batched_gumbel_topk",
        "gumbel_topk",
        "select_top",
    ),
    "randomness": ("Noise",),
    "report": ("EvaluationReport",),
    "special_ids": ("SpecialIds",),
    "studies.clip_tuning": ("tune_clip",),
    "studies.comparison": ("compare_runs",),
    "studies.order_study": ("study_orders",),
    "studies.sample_quality": ("measure_samples",),
    "studies.tuning": ("tune_run",),
    "text.decoding_options": ("DecodingOptions",),
    "text.embedding": ("EmbeddingKeywords",),
    "text.loading": ("load",),
    "text.model": ("TrainedModel",),
    "text.results": (
        "Alternative",
        "Blank",
        "Filling",
        "Generation",
        "GenerationStep",
        "Results",
    ),
    "training.loss": ("MLMLoss",),
    "training.module": ("MaskedLMModule",),
    "training.reduction": ("global_loss",),
    "training.trace_module": ("InstructionTraceTransformerEncoderForMaskedLM",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name == "__version__":  # pyproject.toml is the only place that holds the version
        from importlib.metadata import PackageNotFoundError, version

        try:
            value: Any = version("unmask")
        except PackageNotFoundError:
            value = "0+not.installed"
        globals()[name] = value
        return value
    if name not in _HOME_OF:
        from unmask.suggestions import nearest

        raise AttributeError(f"unmask has no public name {name!r}.{nearest(name, __all__)}")
    value = getattr(import_module(f"unmask.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
