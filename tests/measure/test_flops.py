"""Counted FLOPs are what torch counts, and every contestant does the same work."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import peers
from unmask.config import PRESETS, load_config
from unmask.measure.flops import TINY, Size
from unmask.measure.machine import MatrixProducts, SquareProduct
from unmask.measure.step import hugging_face_bert, ours
from unmask.measure.work import diffusion_rows, masked_rows, packed, padded

SIZE = Size(layers=3, width=48, heads=4, feedforward=96, vocabulary=200)
ROWS = masked_rows(3, 20, SIZE.vocabulary)
DOCUMENTS = packed(padded((7, 20, 11, 3), 20, SIZE.vocabulary), 20)


def counted(call) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@pytest.mark.parametrize("work", [ROWS, diffusion_rows(4, 12, SIZE.vocabulary), DOCUMENTS], ids=["mlm", "diffusion", "documents"])
def test_the_formula_is_what_torch_counts(work):
    """With attention as plain products (torch does not count the CPU's flash kernel)."""
    step = ours(SIZE, work)
    with sdpa_kernel(SDPBackend.MATH):
        assert counted(step) == SIZE.step_flops(work.lengths, work.scored)


def test_the_products_alone_are_those_of_the_step():
    products = MatrixProducts(SIZE, ROWS.tokens, ROWS.scored)
    assert counted(products) == products.flops == 3 * SIZE.product_flops(ROWS.tokens, ROWS.scored)
    square = SquareProduct(16)
    assert counted(square) == square.flops == 2 * 16**3


@pytest.mark.parametrize(
    ("make", "scored", "head"),
    [
        (ours, ROWS.scored, 0),
        (hugging_face_bert, ROWS.tokens, ROWS.tokens),  # one more width × width product before the vocabulary
        (peers.modern_bert, ROWS.scored, ROWS.scored),
        (peers.x_transformers, ROWS.tokens, 0),
        (peers.plain, ROWS.tokens, 0),
        (lambda *a: peers.plain(*a, sparse=True), ROWS.scored, 0),
    ],
    ids=["ours", "bert", "modernbert", "x-transformers", "plain", "plain, sparse"],
)
def test_contestants_do_the_same_work(make, scored, head):
    """The same products with weights, but for where logits are taken and for the extra layer in the heads of BERT's family.

    The CPU's flash kernel counts nothing, so these are the products with weights alone."""
    expected = 3 * (SIZE.product_flops(ROWS.tokens, scored) + 2 * head * SIZE.width**2)
    assert counted(make(SIZE, ROWS)) == expected


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_network_that_the_config_makes(name):
    model = load_config(overrides=[f"model.preset={name}"]).model
    size = Size.of_preset(name)
    assert (size.layers, size.width, size.heads) == (model.num_layers, model.d_model, model.nhead)
    assert size.feedforward == (model.dim_feedforward or 4 * model.d_model)


def test_the_tiny_size_fits_together():
    assert torch.isfinite(ours(TINY, masked_rows(1, 8, TINY.vocabulary))())
