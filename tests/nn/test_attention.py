"""Every plan is the same attention: dense, per document, masked, and flex equal the formula in value and gradient."""

import pytest
import torch

from tests.naive.attention import allowed_pairs, attention
from unmask.nn import attention as module
from unmask.nn.attention import DensePlan, DocumentPlan, FlexPlan, flex_block_mask, plan_attention
from unmask.nn.packed_attention import PackedPlan

CPU = torch.device("cpu")
SEGMENTS = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 1, 1, 1, 1, 1, 2]])
RIGHT = torch.tensor([[1, 1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1]]).bool()
LEFT = RIGHT.flip(-1)
HOLES = torch.tensor([[1, 0, 1, 1, 0, 1, 1, 1], [0, 1, 1, 0, 0, 1, 0, 1]]).bool()
EMPTY = torch.tensor([[0] * 8, [1, 1, 1, 0, 0, 0, 0, 0]]).bool()
ONE = torch.zeros(2, 8, dtype=torch.long)
ALL = torch.ones(2, 8, dtype=torch.bool)


def qkv(seed=0, tokens=16):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(tokens, 3, 4, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(3)]


def value_and_gradient(out, inputs, real):
    """The real rows of an attention's answer, and the gradient of a fixed function of them."""
    out = out[real]
    weights = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view(out.shape)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), inputs)]


def expected(mask, segments):
    inputs = qkv()
    return value_and_gradient(attention(*inputs, allowed_pairs(mask, segments)), inputs, mask.flatten())


CASES = {
    "nothing": (ALL, ONE), "right": (RIGHT, ONE), "left": (LEFT, ONE), "holes": (HOLES, ONE), "empty row": (EMPTY, ONE),
    "packed": (ALL, SEGMENTS), "packed, padded": (RIGHT, SEGMENTS), "packed, holes": (HOLES, SEGMENTS),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_documents_equal_the_formula(case):
    mask, segments = CASES[case]
    inputs = qkv()
    plan, index = plan_attention(2, 8, CPU, mask, segments)
    assert isinstance(plan, DocumentPlan)
    picked = inputs if index is None else [x[index] for x in inputs]
    out = plan(*picked, dropout=0.0)
    if index is not None:
        assert torch.equal(index.sort().values, mask.flatten().nonzero()[:, 0])
        out = torch.zeros_like(inputs[0]).index_copy(0, index, out)
    for found, wanted in zip(value_and_gradient(out, inputs, mask.flatten()), expected(mask, segments), strict=True):
        assert torch.allclose(found, wanted, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_masks_equal_the_formula(case, monkeypatch):
    mask, segments = CASES[case]
    inputs = qkv()
    plan = accelerator_plan(monkeypatch, mask, segments)
    assert plan.mask.any(-1).all(), "some kernels give NaN for a query that may attend to nothing"
    out = plan(*inputs, dropout=0.0)
    assert out.isfinite().all()
    for found, wanted in zip(value_and_gradient(out, inputs, mask.flatten()), expected(mask, segments), strict=True):
        assert torch.allclose(found, wanted, atol=1e-12)


def accelerator_plan(monkeypatch, mask, segments, blocks=None):
    """The plan an accelerator gets, with its tensors on the CPU."""
    eye = torch.eye
    monkeypatch.setattr(torch, "eye", lambda *args, device=None, **options: eye(*args, **options))
    plan, index = plan_attention(2, 8, torch.device("meta"), mask, segments, blocks=blocks)
    assert isinstance(plan, DensePlan) and index is None
    return plan


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("case", CASES)
def test_flex_equals_the_formula_forward(case):
    mask, segments = CASES[case]
    with torch.no_grad():
        q, k, v = (x.float() for x in qkv())
        plan = FlexPlan(2, 8, flex_block_mask(segments, mask, 2, 8, CPU))
        out = plan(q, k, v, dropout=0.0)
        real = mask.flatten()
        assert torch.allclose(out[real], attention(q, k, v, allowed_pairs(mask, segments))[real], atol=1e-5)
        assert out.isfinite().all()
    with pytest.raises(ValueError, match="dropout=0"):
        plan(q, k, v, dropout=0.1)


def by_documents(q, k, v, from_, to, longest, _):
    """The variable-length kernel by its definition."""
    assert torch.equal(from_, to) and from_.dtype == torch.int32 and int(from_.diff().max()) <= longest
    document = torch.bucketize(torch.arange(len(q)), from_[1:], right=True)
    scores = torch.einsum("ihc,jhc->hij", q, k) * q.shape[-1] ** -0.5
    return torch.einsum("hij,jhc->ihc", scores.masked_fill(document[:, None] != document, -torch.inf).softmax(-1), v)


@pytest.mark.parametrize("case", CASES)
def test_packed_documents_equal_the_formula(case, monkeypatch):
    """The plan of CUDA in bf16; its kernel is that of torch, and tested on such a device (tests/accelerator)."""
    from torch.nn.attention import varlen

    mask, segments = CASES[case]
    inputs = qkv()
    monkeypatch.setattr(varlen, "varlen_attn", by_documents)
    monkeypatch.setattr(module, "runs_variable_length", lambda device, dtype: dtype == torch.bfloat16)
    plan, index = plan_attention(2, 8, CPU, mask, segments, dtype=torch.bfloat16)
    assert isinstance(plan, PackedPlan) and (index is None) == bool(mask.all())
    out = plan(*(inputs if index is None else [x[index] for x in inputs]), dropout=0.0)
    if index is not None:
        assert torch.equal(index, mask.flatten().nonzero()[:, 0])
        out = torch.zeros_like(inputs[0]).index_copy(0, index, out)
    for found, wanted in zip(value_and_gradient(out, inputs, mask.flatten()), expected(mask, segments), strict=True):
        assert torch.allclose(found, wanted, atol=1e-12)
    for options in ({"drops": True}, {"dtype": torch.float32}, {"blocks": ONE}):
        assert not isinstance(
            plan_attention(2, 8, CPU, mask, segments, **{"dtype": torch.bfloat16, **options})[0], PackedPlan
        )
    with pytest.raises(ValueError, match="dropout=0"):
        plan(*inputs, dropout=0.1)


def test_a_batch_of_padding_is_empty_or_finite(monkeypatch):
    plan, index = plan_attention(2, 8, CPU, ~ALL)
    assert len(index) == 0 and plan(*qkv(tokens=0), dropout=0.0).shape == (0, 3, 4)
    assert accelerator_plan(monkeypatch, ~ALL, ONE)(*qkv(), dropout=0.0).isfinite().all()


def test_a_row_of_one_segment_is_one_document():
    plan, index = plan_attention(2, 8, CPU, ALL, torch.tensor([[3] * 8, [0] * 8]))
    assert plan.groups.tolist() == [[2, 8]] and index is None


def test_no_document_crosses_a_row_and_the_short_ones_come_first():
    plan, index = plan_attention(2, 4, CPU, None, torch.tensor([[0, 0, 1, 1], [1, 1, 1, 2]]))
    assert index.tolist() == [7, 0, 1, 2, 3, 4, 5, 6] and plan.groups.tolist() == [[1, 1], [2, 2], [1, 3]]


def test_dropout_thins_attention():
    inputs = [x.detach() for x in qkv()]
    plan, _ = plan_attention(2, 8, CPU, None, SEGMENTS)
    assert not torch.equal(plan(*inputs, dropout=0.5), plan(*inputs, dropout=0.5))
    assert torch.equal(plan(*inputs, dropout=0.0), plan(*inputs, dropout=0.0))


@pytest.mark.filterwarnings("ignore:.*kernel")
@pytest.mark.filterwarnings("ignore:Both fused")
def test_only_flash_means_only_flash():
    inputs = [x.detach() for x in qkv()]
    plain = DensePlan(2, 8)(*inputs, dropout=0.0)
    assert torch.allclose(DensePlan(2, 8, only_flash=True)(*inputs, dropout=0.0), plain, atol=1e-12)
    with pytest.raises(RuntimeError, match="kernel"):  # the CPU's flash kernel has no dropout
        DensePlan(2, 8, only_flash=True)(*inputs, dropout=0.3)


@pytest.mark.parametrize("case", CASES)
def test_a_ready_mask_is_attended_densely_where_flex_has_no_gradient_and_no_dropout(case):
    mask, segments = CASES[case]
    ready = flex_block_mask(segments, mask, 2, 8, CPU)
    plan, index = plan_attention(2, 8, CPU, block_mask=ready)
    q, k, v = qkv()
    real = mask.flatten()
    assert isinstance(plan, DensePlan) and index is None
    assert torch.allclose(plan(q, k, v, 0.0)[real], attention(q, k, v, allowed_pairs(mask, segments))[real])
    assert plan(q, k, v, 0.5).isfinite().all()
    with torch.no_grad():
        assert isinstance(plan_attention(2, 8, CPU, block_mask=ready)[0], FlexPlan)
        assert isinstance(plan_attention(2, 8, CPU, block_mask=ready, drops=True)[0], DensePlan)


def test_use_flex_trains_on_a_cpu_by_documents_with_one_warning(recwarn):
    from unmask.models.rotary_mlm import RotaryTransformerMLMModel

    module._warn_once.cache_clear()
    torch.manual_seed(0)
    network = RotaryTransformerMLMModel(
        20, 16, 2, 2, rotary_emb_dim=8, max_length=16, use_flex_attn=True
    )  # and dropout, by default
    ids, segments = torch.randint(2, 20, (2, 8)), torch.tensor([[0] * 3 + [1] * 5, [0] * 8])
    for _ in range(3):
        network(ids, segment_ids=segments).sum().backward()
    assert [str(w.message)[:31] for w in recwarn if "use_flex" in str(w.message)] == ["use_flex_attn=True is for CUDA:"]
    assert network.embedding.weight.grad.abs().sum() > 0
