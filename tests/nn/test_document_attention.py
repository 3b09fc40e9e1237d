"""The operator of documents equals rotation and the formula of attention, in value and gradient, by either of its ways."""

import pytest
import torch

from tests.naive.attention import attention
from unmask.nn import document_attention as documents
from unmask.nn.attention import DocumentPlan, rotary_attention
from unmask.nn.document_attention import attend_documents, spans
from unmask.nn.rotary import rotate

LENGTHS = {"one": [[1, 5]], "several": [[3, 1], [2, 4], [1, 7]], "rows": [[4, 4]], "nothing": []}


def drawn(groups, half, dtype=torch.float64, heads=3, channels=8):
    generator = torch.Generator().manual_seed(0)
    tokens = sum(n * length for n, length in groups)
    angle = torch.rand(tokens, 1, half, generator=generator, dtype=dtype) * 6
    qkv = torch.randn(tokens, 3, heads, channels, generator=generator, dtype=dtype).requires_grad_()
    return qkv, (angle.cos(), angle.sin()), torch.tensor(groups, dtype=torch.long).view(-1, 2)


def in_order(groups):
    """True where two tokens are of one document."""
    document = [
        number for number, length in enumerate(length for n, length in groups for _ in range(n)) for _ in range(length)
    ]
    return torch.tensor([[a == b for b in document] for a in document])


def value_and_gradient(out, qkv):
    weights = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view(out.shape)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), [qkv])]


@pytest.fixture(
    params=[
        "by products",
        "by products, small pieces",
        "by products, some kept",
        "by products, made anew",
        "by the kernel",
    ]
)
def way(request, monkeypatch):
    monkeypatch.setattr(documents, "uses_explicit_matmul", lambda dtype, length: "products" in request.param)
    if "small" in request.param:
        monkeypatch.setattr(documents, "PIECE", 320 // torch.get_num_threads())
    if "some" in request.param:
        monkeypatch.setattr(documents, "LONGEST_KEPT", 4)
    if "anew" in request.param:
        monkeypatch.setattr(documents, "LONGEST_KEPT", 0)


@pytest.mark.parametrize("half", [4, 2])
@pytest.mark.parametrize("groups", LENGTHS.values(), ids=LENGTHS)
def test_it_is_rotation_and_the_formula(groups, half, way):
    qkv, angles, lengths = drawn(groups, half)
    found = value_and_gradient(rotary_attention(DocumentPlan(lengths), qkv, angles, 0.0), qkv)
    q, k, v = qkv.unbind(1)
    wanted = value_and_gradient(attention(rotate(q, angles), rotate(k, angles), v, in_order(groups)) + 0 * v, qkv)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_the_gradient_is_the_derivative(way):
    qkv, (cos, sin), lengths = drawn([[2, 3]], 2, heads=1, channels=4)
    assert torch.autograd.gradcheck(lambda x: attend_documents(x, cos[:, 0], sin[:, 0], lengths), [qkv], fast_mode=True)


def test_in_bf16_the_two_ways_agree_to_its_rounding(monkeypatch):
    found = {}
    for way in (True, False):
        monkeypatch.setattr(documents, "uses_explicit_matmul", lambda dtype, length, way=way: way)
        qkv, angles, lengths = drawn([[2, 16], [1, 40]], 4, torch.float32, channels=16)
        found[way] = value_and_gradient(
            attend_documents(qkv.bfloat16(), *(a[:, 0] for a in angles), lengths).float(), qkv
        )
    for one, other in zip(found[True], found[False], strict=True):
        assert (one - other).norm() < 0.01 * other.norm()


def test_short_documents_go_by_products_and_longer_ones_in_bf16():
    assert documents.uses_explicit_matmul(torch.float32, 512) and not documents.uses_explicit_matmul(torch.float32, 513)
    assert documents.uses_explicit_matmul(torch.bfloat16, 1024) and not documents.uses_explicit_matmul(
        torch.bfloat16, 4096
    )


def test_probabilities_are_kept_only_for_gradients_and_then_not_recomputed(monkeypatch):
    made, rooms = [], []
    inner, room = documents._probabilities, documents._room_to_keep
    monkeypatch.setattr(
        documents, "_probabilities", lambda q, k, kept: made.append(kept is not None) or inner(q, k, kept)
    )
    monkeypatch.setattr(documents, "_room_to_keep", lambda *sizes: rooms.append(sizes) or room(*sizes))
    qkv, (cos, sin), lengths = drawn([[3, 5]], 4)
    attend_documents(qkv, cos[:, 0], sin[:, 0], lengths).sum().backward()
    assert made == [True] and len(rooms) == 1
    with torch.no_grad():
        attend_documents(qkv, cos[:, 0], sin[:, 0], lengths)
    assert made == [True, False] and len(rooms) == 1


def test_spans_tell_where_each_group_lies():
    groups = torch.tensor([[3, 1], [2, 4]])
    assert [(where.start, where.stop, count, length) for where, count, length in spans(groups)] == [
        (0, 3, 3, 1),
        (3, 11, 2, 4),
    ]


def test_dropout_takes_another_way():
    qkv, angles, lengths = drawn([[2, 8]], 4)
    plan = DocumentPlan(lengths)
    assert not torch.equal(rotary_attention(plan, qkv, angles, 0.5), rotary_attention(plan, qkv, angles, 0.5))


def test_room_is_taken_for_what_is_kept_and_no_more():
    groups = torch.tensor([[3, 5], [2, 7], [1, 513]])
    assert documents._room_to_keep(groups, 542, 2) == 2 * (3 * 25 + 2 * 49)
    shapes = [None if place is None else tuple(place.shape) for place in documents._kept(torch.empty(346), groups, 2)]
    assert shapes == [(6, 5, 5), (4, 7, 7), None]
