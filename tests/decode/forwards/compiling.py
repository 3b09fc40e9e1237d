"""Compare compiled with plain decodes. A test runs this in a separate process, since executed annotations cannot be compiled."""

import torch
import torch._dynamo.testing

from unmask.contracts import SpecialIds
from unmask.decode.canvas import Canvas
from unmask.decode.forwards import compiled
from unmask.decode.loop import fill_canvas
from unmask.decode.named import make_rules
from unmask.models.instruction_trace import InstructionTraceMLMModel
from unmask.models.rotary_mlm import RotaryTransformerMLMModel

MASK, PAD, LENGTH = 0, 1, 24
SPECIAL = SpecialIds(mask=MASK, pad=PAD, eos=2, vocab_size=20)
RULES = {
    "random": {},
    "the surest": {"order": "top_prob"},
    "several at once": {"order": "entropy", "threshold": 0.3},
    "guided": {"order": "left_to_right", "guidance": 1.0},
    "remasking": {"remask": "cap", "max_steps": 9},
}


def network(kind=RotaryTransformerMLMModel, **options):
    """Return a small network in float64 with peaked distributions, for which orders differ."""
    torch.manual_seed(0)
    model = kind(20, 16, 2, 2, padding_idx=PAD, mask_idx=MASK, max_length=32, **options).double()
    model.get_submodule("head.projection" if kind is RotaryTransformerMLMModel else "head.decode").weight.data.mul_(20)
    return model


def canvas(rows):
    """Rows with 20, 5, 1, 12 and 20 masked positions: the second is padded on the left, the third on the right."""
    ids = torch.full((5, LENGTH), MASK)
    ids[:, :4] = torch.arange(5)[:, None] + 5
    ids[1, :15], ids[1, 15:19] = PAD, 7
    ids[2, 5:] = PAD
    ids[3, 8:16] = 9
    return Canvas.infill(ids[:rows], SPECIAL)


def decode(model, given, options, *, observers=(), **also):
    return fill_canvas(
        model,
        given,
        make_rules(**{"max_steps": 7, "special": SPECIAL, **options, **also}),
        special=SPECIAL,
        seed=1,
        observers=observers,
    )


def compiled_equals_plain():
    graphs = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    (encoder, projection), shapes = compiled.compiled(backend=graphs), set()

    def noting(program):
        def run(model, *given):
            shapes.add((program, id(model), *(None if x is None else x.shape for x in given)))
            return program(model, *given)

        return run

    programs = noting(encoder), noting(projection)
    compiled._programs = lambda device_type: programs

    def compare(model, given, options):
        plain, found = (decode(model, given, options, compiled=c) for c in (False, True))
        assert torch.equal(plain.ids, found.ids) and torch.equal(plain.steps_taken, found.steps_taken), options
        assert graphs.frame_count <= len(shapes), "one program for every shape"

    model = network()
    for rows in range(1, 6):
        compare(model, canvas(rows), {"order": "top_prob"})
    for _ in range(2):
        for options in RULES.values():
            compare(model, canvas(4), options)
        before = graphs.frame_count
    assert graphs.frame_count == before > 8, (
        "what was compiled is used again, beyond the number after which torch gives up"
    )
    for other in (network(InstructionTraceMLMModel, next_idx=7), network(causal_block=4), network(use_flex_attn=True)):
        compare(other, canvas(3), {"max_steps": 2})
    print(graphs.frame_count, "programs")


def logits_are_the_plain_ones():
    """Return the steps with the default compiler."""
    programs = compiled.compiled(backend="inductor")
    compiled._programs = lambda device_type: programs
    model, given = network(), canvas(3)
    found = []

    class Watch:
        def update_history(self, step_results):
            found[-1].append(step_results["log_probs"])

    for c in (False, True):
        found.append([])
        decode(model, given, {"order": "top_prob", "max_steps": 2}, compiled=c, observers=[Watch()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


if __name__ == "__main__":
    compiled_equals_plain()
    logits_are_the_plain_ones()
