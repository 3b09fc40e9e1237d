"""One law over every masked-LM family of the installed ``transformers``: the model's own logits, whatever the padding, or a refusal."""

import copy
import functools
import pickle

import pytest
import torch
import torch.nn.functional as F

from tests.models.hf_families import FIRST, MASK, PAD, V, families, small_model
from unmask import HuggingFaceMLM

L = 12
# Families of models that are no encoder alone, with the words of their refusal.
REFUSED = {"bart": "encoder-decoder model", "mbart": "encoder-decoder model", "mvp": "encoder-decoder model"}
QUICK = ("bert", "roberta", "roformer", "fnet", "esm", "xlm", "neomme", "modernvbert", "mra")
FAMILIES = [
    pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow) for kind in families() if kind not in REFUSED
]


@functools.cache
def made(kind):
    """A small model and the wrapper, for all laws: none changes it."""
    model = small_model(kind)
    return model, HuggingFaceMLM(model)


def rows():
    ids = torch.randint(FIRST, V, (3, L))
    ids[:, 4:6] = MASK
    return ids, torch.ones_like(ids, dtype=torch.bool)


def padded(ids, real, left, right):
    return F.pad(ids, (left, right), value=PAD), F.pad(real, (left, right), value=False)


def near(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.detach().abs().max()), rtol=0)


@pytest.mark.parametrize("kind", FAMILIES)
def test_logits_are_the_models_own_whatever_the_padding(kind):
    model, ours = made(kind)
    ids, real = rows()
    with torch.no_grad():
        own = model(input_ids=ids).logits[:, :L]
        near(ours(ids), own)
        near(ours(ids, real), own)
        near(torch.cat([ours(row[None], mask[None]) for row, mask in zip(ids, real, strict=True)]), own)
        for left, right in ((0, 5), (5, 0), (2, 3), (0, 9), (9, 0)):
            wide, where = padded(ids, real, left, right)
            near(ours(wide, where)[where].view_as(own), own)
        wide, where = padded(ids, real, 2, 3)
        where[0, 2:6] = where[1, 9:] = False  # rows of three lengths in one batch
        alone = [
            model(input_ids=row[mask][None]).logits[0, : int(mask.sum())] for row, mask in zip(wide, where, strict=True)
        ]
        near(ours(wide, where)[where], torch.cat(alone))
        segments = (torch.arange(L) >= 7).long().expand(3, -1)
        near(
            ours(ids, segment_ids=segments),
            torch.cat([model(input_ids=part).logits[:, : part.shape[1]] for part in (ids[:, :7], ids[:, 7:])], 1),
        )


@pytest.mark.parametrize(
    "kind", [f for f in FAMILIES if f.values[0] != "reformer"]
)  # which gives gradients in training mode alone, at one length
def test_the_gradient_of_scored_positions_is_the_dense_one(kind):
    model, ours = made(kind)
    ids, real = rows()
    wide, real = padded(ids, real, 2, 3)
    where = wide == MASK
    targets = torch.randint(FIRST, V, (int(where.sum()),))
    weights = [p for p in model.parameters() if p.requires_grad]
    dense = model(input_ids=ids).logits[:, :L][ids == MASK]
    asked = ours.logits_at(ours.hidden_states(wide, real), where)
    gradients = [torch.autograd.grad(F.cross_entropy(x, targets), weights, allow_unused=True) for x in (asked, dense)]
    largest = max(float(g.abs().max()) for g in gradients[1] if g is not None)
    for one, other in zip(*gradients, strict=True):
        # A part that only unread positions pass through may be left out, or have a gradient of zero.
        zero = torch.zeros(())
        torch.testing.assert_close(
            *torch.broadcast_tensors(zero if one is None else one, zero if other is None else other),
            atol=2e-4 * largest,
            rtol=1e-2,
        )


@pytest.mark.parametrize("kind", FAMILIES)
def test_zeros_added_to_embeddings_change_nothing_or_are_refused(kind):
    _, ours = made(kind)
    ids, real = padded(*rows(), 3, 2)
    with torch.no_grad():
        plain = ours(ids, real)[real]
        try:
            hidden = ours.hidden_states(ids, real, sum_embeds=torch.zeros(*ids.shape, ours.embedding_width or 1))
        except ValueError as error:
            assert kind == "perceiver" and "Nothing can be added" in str(error)
            return
        near(ours.logits_at(hidden, real), plain)


@pytest.mark.parametrize("kind", REFUSED)
def test_unsupported_families_raise_a_readable_error(kind):
    with pytest.raises(ValueError, match=REFUSED[kind]):
        HuggingFaceMLM(small_model(kind))


def test_a_copy_takes_the_same_path():
    ours = HuggingFaceMLM(small_model("deberta-v2"))
    ids, real = rows()
    plain = ours(ids, real)
    for copied in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert str(copied.path) == str(ours.path) and str(ours.path) in repr(copied)
        torch.testing.assert_close(copied(ids, real), plain)
    assert "not compared yet" in repr(HuggingFaceMLM(small_model("bert")))
