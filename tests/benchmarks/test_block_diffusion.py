"""The benchmark of a block-diffusion step compares the same loss under two plans."""

import pytest
import torch

from benchmarks import block_diffusion
from unmask.measure.flops import Size
from unmask.measure.step import ours
from unmask.measure.work import diffusion_rows
from unmask.models import rotary_mlm

SMALL = Size(vocabulary=50, width=16, layers=2, heads=2, feedforward=32)


def test_both_plans_have_one_loss(monkeypatch):
    work = diffusion_rows(2, 12, SMALL.vocabulary)
    first = ours(SMALL, work, weighting="inverse_p", block=4).loss()
    monkeypatch.setattr(rotary_mlm, "plan_clean_prefix", block_diffusion.dense_plan)
    torch.testing.assert_close(ours(SMALL, work, weighting="inverse_p", block=4).loss(), first, atol=1e-4, rtol=1e-4)


def test_the_section_restores_the_plan():
    plan = rotary_mlm.plan_clean_prefix
    rows, report = block_diffusion.section(1, None, block=4, rows=2, length=12, size=SMALL)
    assert rotary_mlm.plan_clean_prefix is plan and len(rows) == 1
    assert report["seconds"].keys() == {block_diffusion.OURS, block_diffusion.DENSE, block_diffusion.MASKED}
    assert report["scored"] == pytest.approx(report["tokens"] / 2, abs=2)
