"""All contestants get the same rows, exactly as much of them hidden as is said, and compute the same loss."""

import math

import pytest
import torch

from benchmarks import peers
from unmask.contracts import IGNORED_TARGET
from unmask.measure.flops import Size
from unmask.measure.step import TrainingStep, hugging_face_bert, ours
from unmask.measure.work import MASK, PAD, diffusion_rows, document_lengths, masked_rows, packed, padded

SIZE = Size(layers=1, width=16, heads=2, feedforward=32, vocabulary=60)
EVERYBODY = {
    "ours": ours,
    "bert": hugging_face_bert,
    "modernbert": peers.modern_bert,
    "plain": peers.plain,
    "sparse": lambda *a, **o: peers.plain(*a, sparse=True, **o),
}


def test_exactly_the_stated_fraction_of_every_row_is_masked():
    work = masked_rows(6, 40, 100, share=0.15)
    assert work.batch["noise_mask"].sum(-1).tolist() == [6] * 6 and work.scored == 36
    work = diffusion_rows(4, 40, 100)
    assert work.batch["noise_mask"].sum(-1).tolist() == [5, 15, 25, 35]
    assert work.batch["p_mask"][:, 0].tolist() == [0.125, 0.375, 0.625, 0.875]


def test_masked_positions_have_the_mask_token_and_the_only_labels():
    work = masked_rows(3, 30, 100)
    hidden = work.batch["noise_mask"]
    assert torch.equal(work.batch["input_ids"] == MASK, hidden)
    assert torch.equal(work.labels == IGNORED_TARGET, ~hidden)
    assert torch.equal(work.batch["input_ids"][~hidden], work.batch["target_ids"][~hidden])


def test_document_lengths_have_the_requested_mean_and_maximum():
    lengths = document_lengths(24, 180, 512)
    assert len(lengths) == 24 and max(lengths) == 512 and abs(sum(lengths) / 24 - 180) < 1
    logs = torch.tensor(lengths[:-1]).double().log()  # below the cut they are quantiles of a normal law
    normal = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(23) + 0.5) / 24).double()
    assert torch.corrcoef(torch.stack([logs, normal]))[0, 1] > 0.9995


@pytest.mark.parametrize("lengths", [(5, 16, 9, 3), (1, 1, 16)])
def test_packing_keeps_documents_uncut(lengths):
    non_adjacent = padded(lengths, 16, 100)
    together = packed(non_adjacent, 16)
    assert (together.scored, together.tokens, sum(lengths)) == (
        non_adjacent.scored,
        non_adjacent.tokens,
        non_adjacent.tokens,
    )

    def documents(work, segment_of):
        found = []
        for row in range(len(work.batch["input_ids"])):
            real = work.batch["attention_mask"][row]
            for segment in segment_of(work, row)[real].unique():
                here = real & (segment_of(work, row) == segment)
                fields = ("input_ids", "target_ids", "noise_mask")
                found.append(tuple(tuple(work.batch[name][row][here].tolist()) for name in fields))
        return sorted(found)

    assert documents(non_adjacent, lambda w, r: torch.zeros(16, dtype=torch.long)) == documents(
        together, lambda w, r: w.batch["segment_ids"][r]
    )
    free = ~together.batch["attention_mask"]
    assert (together.batch["input_ids"][free] == PAD).all() and not together.batch["noise_mask"][free].any()


def test_a_mean_beyond_the_longest_is_refused():
    with pytest.raises(ValueError, match="between 1 and the longest"):
        document_lengths(4, mean=600, longest=512)


def uniform(step: TrainingStep) -> TrainingStep:
    """Make every logit zero: the vocabulary projection and the embedding are one matrix in all of them."""
    with torch.no_grad():
        for parameter in step.model.parameters():
            if SIZE.vocabulary in parameter.shape:
                parameter.zero_()
    return step


@pytest.mark.parametrize("name", [*EVERYBODY, "x-transformers"])
@pytest.mark.parametrize("work", [masked_rows(2, 20, 60), padded((20, 8), 20, 60)], ids=["full", "padded"])
def test_a_uniform_model_scores_ln_v_in_every_contestant(name, work):
    make = EVERYBODY.get(name, peers.x_transformers)
    assert float(uniform(make(SIZE, work)).loss().detach()) == pytest.approx(math.log(60), rel=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda w: ours(SIZE, w, weighting="inverse_p"),
        lambda w: peers.plain(SIZE, w, weighted=True),
        lambda w: peers.plain(SIZE, w, weighted=True, sparse=True),
    ],
    ids=["ours", "dense", "sparse"],
)
def test_the_diffusion_loss_is_the_same_bound(make):
    """``sum over hidden of ln V / p``, over all tokens, is ``ln V`` where ``p L`` are hidden."""
    assert float(uniform(make(diffusion_rows(4, 40, 60))).loss().detach()) == pytest.approx(math.log(60), rel=1e-5)


def test_plain_logits_everywhere_or_where_scored_learn_the_same():
    steps = [peers.plain(SIZE, masked_rows(2, 20, 60), sparse=sparse) for sparse in (False, True)]
    assert [float(step()) for step in steps for _ in range(2)] == pytest.approx(
        [float(steps[0].loss().detach()) for _ in range(4)], abs=0.2
    )
    for a, b in zip(*(step.model.parameters() for step in steps), strict=True):
        torch.testing.assert_close(a, b)


def test_packed_rows_keep_documents_apart_in_the_plain_peer():
    work = packed(padded((5, 11), 16, 60), 16)
    step = peers.plain(SIZE, work, sparse=True)
    alone = float(step.loss().detach())
    for name in ("input_ids", "target_ids"):
        assert len(work.batch[name]) == 1  # both documents share one row
    other = padded((5, 11), 16, 60)
    non_adjacent = peers.plain(SIZE, other, sparse=True)
    non_adjacent.model.load_state_dict(step.model.state_dict())
    hidden = other.batch["noise_mask"]
    # Padded rows are not masked in this peer, so documents are compared one by one at their own lengths.
    total = 0.0
    for row, length in enumerate(other.lengths):
        ids = other.batch["input_ids"][row : row + 1, :length]
        non_adjacent.model.cos, non_adjacent.model.sin = step.model.cos[:length], step.model.sin[:length]
        logits = non_adjacent.model.head(non_adjacent.model.encode(ids, None, None))[hidden[row : row + 1, :length]]
        total += float(
            torch.nn.functional.cross_entropy(
                logits.detach(), other.batch["target_ids"][row][hidden[row]], reduction="sum"
            )
        )
    assert alone == pytest.approx(total / work.scored, rel=1e-4)


@pytest.mark.parametrize("name", EVERYBODY)
def test_a_step_lowers_the_loss_and_bf16_is_near(name):
    work = masked_rows(2, 20, 60)
    full, half = EVERYBODY[name](SIZE, work), EVERYBODY[name](SIZE, work, "bf16")
    before = float(full())
    for _ in range(4):
        full()
    assert float(full()) < before
    first = float(half())
    assert first != before and first == pytest.approx(before, abs=0.05)


def test_compiled_contestants_are_compiled(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda part, **_: asked.append(part) or part)
    for make in (hugging_face_bert, peers.modern_bert, peers.plain, peers.x_transformers):
        asked.clear()
        make(SIZE, masked_rows(1, 8, 60), compiled=False)
        assert not asked
        make(SIZE, masked_rows(1, 8, 60), compiled=True)()
        assert asked
    assert ours(SIZE, masked_rows(1, 8, 60), compiled=True).model.run_block.compiled
    assert not ours(SIZE, masked_rows(1, 8, 60)).model.run_block.compiled
