"""Objects for loader workers and ``torch.save`` can be pickled, and are equal after unpickling."""

import io
import multiprocessing
import pickle
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

import unmask
from unmask.contracts import SpecialIds
from unmask.data.tokenizing.tokenizers import Tokenizer
from unmask.ops.schedule import SCHEDULES, as_schedule, clipped

SPECIAL = SpecialIds(mask=0, vocab_size=20, pad=1, bos=2, eos=3)
ROWS = [{"input_ids": [4, 5, 6, 7, 3, 8, 9, 4, 3], "example_id": i} for i in range(8)]


def cubed(t):
    return t**3


def net(**options):
    return unmask.RotaryTransformerMLMModel(
        20, 16, 1, 2, mask_idx=0, padding_idx=1, rotary_emb_dim=8, max_length=16, **options
    )


def hook(logits):
    return logits


MADE = {
    "AllMaskDataset": lambda: unmask.AllMaskDataset(SPECIAL, 3, 8),
    "Config": lambda: unmask.Config(),
    "DefaultInfillMLMCollator": lambda: unmask.DefaultInfillMLMCollator(SPECIAL, 9),
    "DefaultMLMCollator": lambda: unmask.DefaultMLMCollator(SPECIAL, 9, "cosine"),
    "Grid": lambda: unmask.Grid(2, 2),
    "GridOrder": lambda: unmask.GridOrder(unmask.Grid(2, 2)),
    "InstructionTraceMLMModel": lambda: unmask.InstructionTraceMLMModel(20, 16, 1, 2, 3, mask_idx=0, padding_idx=1),
    "InstructionTraceTransformerEncoderForMaskedLM": lambda: unmask.InstructionTraceTransformerEncoderForMaskedLM(
        1, 16, 20, 16, 2, 32, next_token_id=3, mask_token_id=0, dropout=0.0, eps=1e-5
    ),
    "MLMInfillWithExactTargetPredCollator": lambda: unmask.MLMInfillWithExactTargetPredCollator(SPECIAL, 9),
    "MLMLoss": lambda: unmask.MLMLoss(tokenizer=SPECIAL, weighting=as_schedule(cubed), normaliser="supervised"),
    "MLMPredictor": lambda: unmask.MLMPredictor(4, model=net(), noise_schedule="cosine", logits_hook=hook),
    "MLMSeq2SeqCollator": lambda: unmask.MLMSeq2SeqCollator(SPECIAL, cubed, 9),
    "MLMSeq2SeqPredCollator": lambda: unmask.MLMSeq2SeqPredCollator(SPECIAL, None, 9),
    "MLMSeq2SeqTrainCollator": lambda: unmask.MLMSeq2SeqTrainCollator(SPECIAL, None, 9),
    "MaskedLMCollator": lambda: unmask.MaskedLMCollator(0, 20),
    "MaskedLMHead": lambda: unmask.MaskedLMHead(8, 20, 1e-5),
    "MaskedTokenDataset": lambda: unmask.MaskedTokenDataset(torch.arange(4, 20), 4),
    "NonAutoregressiveWrapper": lambda: unmask.NonAutoregressiveWrapper(
        net(), mask_id=0, self_token_critic=True, self_cond=True, schedule="cosine"
    ),
    "Packer": lambda: unmask.Packer(9, 1),
    "PackedMLMCollator": lambda: unmask.PackedMLMCollator(SPECIAL, 9, "geometric"),
    "RotaryTransformerMLMModel": lambda: net(activation="squared_relu"),
    "Rules": lambda: unmask.Rules(4),
    "SpecialIds": lambda: SPECIAL,
    "SupervisedMLMCollator": lambda: unmask.SupervisedMLMCollator(SPECIAL, 9),
    "Trace": lambda: unmask.Trace(),
    "Selector": lambda: unmask.Selector(),
    "TrainedModel": lambda: unmask.TrainedModel(net(), Tokenizer.train(["a text"], 290), Path("run")),
    "Windows": lambda: unmask.Windows.of_rows([[4, 5], [6]], 4),
    "TokenScore": lambda: unmask.TokenScore("a", 5, 0, -1.0),
    "PairScore": lambda: unmask.PairScore(
        unmask.MinimalPair("a", "b"), unmask.TextScore("a", -1.0, 1, 0, True), unmask.TextScore("b", -2.0, 1, 0, True)
    ),
    "TextScore": lambda: unmask.TextScore("a", -1.0, 1, 0, True),
    "Alternative": lambda: unmask.Alternative("a", 0.5),
    "Blank": lambda: unmask.Blank((unmask.Alternative("a", 0.5),)),
    "Filling": lambda: unmask.Filling("[MASK]", "a", (), 1),
    "Generation": lambda: unmask.Generation("", "a", ("a",), (0.5,), 1, 0.1),
    "GenerationStep": lambda: unmask.GenerationStep(0, "a", 1, 2),
    "Document": lambda: unmask.Document("name", "text"),
    "Results": lambda: unmask.Results([1]),
    "EvaluationReport": lambda: unmask.EvaluationReport(model="run"),
    "OptimConfig": lambda: unmask.OptimConfig(),
    "Estimate": lambda: unmask.Estimate(1.0, 0.5, 1.5),
    "DiscreteTime": lambda: unmask.DiscreteTime(as_schedule("cosine"), 4),
    "Replacement": lambda: unmask.Replacement(0),
    "Prepared": lambda: unmask.Prepared(Path("store"), 1, 2, 3, 1, 2, 3, 300),
    "Source": lambda: unmask.Source.parse("python-docs"),
    **{f"schedule {name}": lambda name=name: SCHEDULES[name] for name in SCHEDULES},
    "schedule clipped": lambda: clipped(as_schedule(cubed), 0.1, 0.9),
}
ELSEWHERE = {
    "FitResult",
    "CausalJudge",  # around a network of transformers
    "HuggingFaceMLM",
    "MaskedLMModule",
    "TokenStore",
    "Tokenizer",
    "Schedule",
    "Corruption",
    "Canvas",
    "HistoryTopKPlugin",
    "Decoded",  # results and views of a running decode
    "KVCache",
    "MaskRate",  # a base class; the laws are part of corruptions and collators above
    "Nelbo",
    "Reads",  # flags
    "Noise",
    "StepView",
}


def test_every_public_class_that_users_construct_is_tested():
    classes = {
        n
        for n in unmask.__all__
        if isinstance(getattr(unmask, n), type) and getattr(unmask, n).__module__.startswith("unmask.")
    }
    records = {
        n
        for n in classes
        if issubclass(getattr(unmask, n), tuple | dict) or getattr(getattr(unmask, n), "_is_protocol", False)
    }
    assert classes - records - ELSEWHERE - set(MADE) <= {"InstructionTraceTransformerEncoderForMaskedLMConfiguration"}


@pytest.mark.parametrize("name", MADE)
def test_public_objects_can_be_pickled_and_saved(name):
    made, file = MADE[name](), io.BytesIO()
    assert type(pickle.loads(pickle.dumps(made))) is type(made)
    torch.save(made, file)
    file.seek(0)
    assert type(torch.load(file, weights_only=False)) is type(made)


def test_a_copied_collator_continues_with_the_same_noise():
    collate = unmask.PackedMLMCollator(SPECIAL, 9, seed=3)
    rows = [{"input_ids": row["input_ids"]} for row in ROWS]  # without identity: from the collator's generator
    collate(rows)
    copy = pickle.loads(pickle.dumps(collate))
    assert torch.equal(copy(rows)["input_ids"], collate(rows)["input_ids"])


@pytest.mark.parametrize("curve", [lambda t: t, "nested"], ids=["lambda", "nested"])
def test_an_unpicklable_curve_is_explained(curve):
    def nested(t):
        return t

    with pytest.raises(pickle.PicklingError, match=r"lambda or a local function.*top level.*fork"):
        pickle.dumps(as_schedule(nested if curve == "nested" else curve))


@pytest.mark.parametrize("method", [m for m in multiprocessing.get_all_start_methods() if m != "forkserver"])
def test_loader_workers_of_every_kind_return_the_same_batches_as_none(method):
    collate = unmask.DefaultMLMCollator(SPECIAL, 9, cubed, seed=3)
    wanted, found = (
        [b["input_ids"].tolist() for b in DataLoader(ROWS, 4, collate_fn=collate, **options)]
        for options in ({}, {"num_workers": 1, "multiprocessing_context": method})
    )
    assert found == wanted
