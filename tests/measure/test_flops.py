"""Counted FLOPs are what torch counts, and every contestant does the same work."""

from collections.abc import Callable

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import peers
from unmask.config.model_config import PRESETS
from unmask.config.tree import load_config
from unmask.measure.flops import TINY, Size
from unmask.measure.machine import MatrixProducts, SquareProduct
from unmask.measure.step import hugging_face_bert, ours
from unmask.measure.work import masked_rows, packed, padded

SIZE = Size(layers=3, width=48, heads=4, feedforward=96, vocabulary=200)
ROWS = masked_rows(3, 20, SIZE.vocabulary)


def counted(call) -> int:
    """FLOPs as torch counts them; it knows no products of oneDNN's."""
    with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def each_document_alone(work) -> Callable[[], None]:
    """Forward and backward of the plain encoder over every document by itself, logits where scored: nothing is done in vain."""
    model = peers.plain(SIZE, work).model
    rows = zip(*(work.batch[name] for name in ("input_ids", "noise_mask", "segment_ids")), strict=True)
    documents = [
        (ids[segments == s], hidden[segments == s]) for ids, hidden, segments in rows for s in segments.unique()
    ]
    tables = model.cos, model.sin

    def run() -> None:
        for (ids, hidden), n in zip(documents, map(len, (d[0] for d in documents)), strict=True):
            model.cos, model.sin = (table[:n] for table in tables)
            model.head(model.encode(ids[None], None, None)[0, hidden]).sum().backward()

    assert sorted(len(ids) for ids, _ in documents) == sorted(work.lengths)
    return run


@pytest.mark.parametrize("lengths", [(20, 20, 20), (7, 20, 13, 3, 17)], ids=["full rows", "documents"])
def test_the_formula_is_what_torch_counts(lengths):
    """With attention as plain products (torch does not count the CPU's flash kernel)."""
    work = packed(padded(lengths, 20, SIZE.vocabulary), 20)
    with sdpa_kernel(SDPBackend.MATH):
        assert counted(each_document_alone(work)) == SIZE.step_flops(work.lengths, work.scored)


def test_the_products_alone_are_those_of_the_step():
    products = MatrixProducts(SIZE, ROWS.tokens, ROWS.scored)
    assert counted(products) == products.flops == 3 * SIZE.product_flops(ROWS.tokens, ROWS.scored)
    square = SquareProduct(16)
    assert counted(square) == square.flops == 2 * 16**3


def test_ours_multiplies_what_is_needed():
    """The last block at scored positions only. Torch does not count our operator, which is the attention of all other blocks; a bias's
    gradient may be a product."""
    scored_in = ROWS.batch["noise_mask"].sum(-1).tolist()
    attention = SIZE.step_flops(ROWS.lengths, ROWS.scored) - 3 * SIZE.product_flops(ROWS.tokens, ROWS.scored)
    expected = SIZE.needed_flops(ROWS.lengths, scored_in) - attention * (SIZE.layers - 1) // SIZE.layers
    assert expected < 3 * SIZE.product_flops(ROWS.tokens, ROWS.scored)
    assert counted(ours(SIZE, ROWS)) - expected in (0, 2 * ROWS.scored * SIZE.vocabulary)


@pytest.mark.parametrize(
    ("make", "scored", "head"),
    [
        (hugging_face_bert, ROWS.tokens, ROWS.tokens),  # one more width × width product before the vocabulary
        (peers.modern_bert, ROWS.scored, ROWS.scored),
        (peers.x_transformers, ROWS.tokens, 0),
        (peers.plain, ROWS.tokens, 0),
        (lambda *a: peers.plain(*a, sparse=True), ROWS.scored, 0),
    ],
    ids=["bert", "modernbert", "x-transformers", "plain", "plain, sparse"],
)
def test_contestants_do_the_same_work(make, scored, head):
    """The same products with weights, but for where logits are taken and for the extra layer in the heads of BERT's family.

    The CPU's flash kernel counts nothing, so these are the products with weights alone; a bias's gradient may be one with ones."""
    expected = 3 * (SIZE.product_flops(ROWS.tokens, scored) + 2 * head * SIZE.width**2)
    ones = 2 * scored * SIZE.vocabulary
    assert counted(make(SIZE, ROWS)) - expected in (0, ones)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_network_that_the_config_makes(name):
    model = load_config(overrides=[f"model.preset={name}"]).model
    size = Size.of_preset(name)
    assert (size.layers, size.width, size.heads) == (model.num_layers, model.d_model, model.nhead)
    assert size.feedforward == (model.dim_feedforward or 4 * model.d_model)


def test_the_tiny_size_fits_together():
    assert torch.isfinite(ours(TINY, masked_rows(1, 8, TINY.vocabulary))())
