"""A small network and batches for it, whose blocks are run in several ways."""

import torch
import torch._dynamo.testing

from unmask.models.rotary_mlm import RotaryTransformerMLMModel
from unmask.nn import execution as running
from unmask.nn.execution import BlockRunner
from unmask.training.loss import MLMLoss


def network(runner, dropout=0.0, dtype=torch.float64):
    torch.manual_seed(0)
    made = RotaryTransformerMLMModel(20, 24, 3, 2, dropout=dropout, max_length=64, tie_embeddings=True).to(dtype)
    made.run_block = runner
    return made


def batch(lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    segments = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[None]
    ids = torch.randint(4, 20, segments.shape, generator=generator)
    hidden = torch.rand(segments.shape, generator=generator) < 0.5
    return {"input_ids": ids.masked_fill(hidden, 1), "target_ids": ids, "noise_mask": hidden, "segment_ids": segments}


def value_and_gradient(runner, data, bf16=False, **options):
    model = network(runner, **options)
    torch.manual_seed(1)  # of dropout
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = MLMLoss()(data, model)["loss"]
    return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]


SHAPES = [[17], [7, 9], [3, 3, 11], [20, 1, 6], [30], [2, 4, 6, 8], [12, 12, 1], [31], [5, 6, 7]]


def compiled_equals_eager():
    """Run by a test in a process of its own: the annotations that tests execute cannot be compiled."""
    for backend, shapes in (("aot_eager", SHAPES), ("inductor", SHAPES[-1:])):
        torch._dynamo.reset()
        graphs = torch._dynamo.testing.CompileCounterWithBackend(backend)
        compiled = torch.compile(running.run_block, fullgraph=True, dynamic=True, backend=graphs)
        running._compiled = lambda device_type, compiled=compiled: compiled
        for seed, lengths in enumerate(shapes):
            data = batch(lengths, seed)
            for bf16 in (False, True) if backend == "inductor" else (False,):
                found, wanted = (
                    value_and_gradient(BlockRunner(compiled=c), data, bf16, dtype=torch.float32) for c in (True, False)
                )
                for one, other in zip(found, wanted, strict=True):
                    assert (one - other).norm() <= (0.03 if bf16 else 1e-5) * other.norm() + (1e-3 if bf16 else 1e-7), (
                        backend,
                        lengths,
                        bf16,
                    )
        print(backend, graphs.frame_count)
        assert graphs.frame_count <= 5, f"{backend} compiled {graphs.frame_count} graphs"


if __name__ == "__main__":
    compiled_equals_eager()
