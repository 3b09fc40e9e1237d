"""Compare compiled with eager work on CUDA. A test runs this in a process of its own."""

from __future__ import annotations

import torch

from tests.decode.forwards.compiling import canvas, decode, network
from unmask.measure.flops import TINY
from unmask.measure.step import ours
from unmask.measure.work import Work, diffusion_rows, document_lengths, packed, padded

DOCUMENTS = padded(document_lengths(8, 40, 128), 128, TINY.vocabulary)
WORKS = {"rows": diffusion_rows(4, 128, TINY.vocabulary), "packed": packed(DOCUMENTS, 128)}


def gradients(work: Work, **options: bool) -> list[torch.Tensor]:
    """Loss and gradients of one step in bf16."""
    step = ours(TINY, work, "bf16", weighting="inverse_p", device="cuda", **options)
    with torch.autocast("cuda", torch.bfloat16):
        loss = step.loss()
    return [loss.detach(), *torch.autograd.grad(loss, list(step.model.parameters()))]


def compiled_training_is_eager_training() -> None:
    for name, work in WORKS.items():
        for flex in {False, name == "packed"}:
            eager, compiled = (gradients(work, compiled=c, flex=flex) for c in (False, True))
            for one, other in zip(compiled, eager, strict=True):
                error = float((one - other).norm() / other.norm().clamp(min=1e-6))
                assert error < 0.05, (name, flex, error)


def compiled_decoding_is_eager_decoding() -> None:
    """With CUDA graphs: two decodes, so that programs are recorded and replayed."""
    model = network().cuda()
    for options in ({"order": "top_prob", "temperature": 0.0}, {"temperature": 0.0}):
        given = canvas(2).to(torch.device("cuda"))
        plain = decode(model, given, options)
        for _ in range(3):
            found = decode(model, given, options, compiled=True)
            assert torch.equal(plain.ids, found.ids), options


if __name__ == "__main__":
    compiled_training_is_eager_training()
    compiled_decoding_is_eager_decoding()
