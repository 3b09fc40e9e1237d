"""Freed memory is found again: counted in page faults, which do not depend on how busy a machine is."""

import ctypes
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from unmask import allocator
from unmask.allocator import MemoryTrimmer, resident_bytes

PROGRAM = """
import resource, sys, torch
from unmask.allocator import tune_malloc
kept = tune_malloc() if sys.argv[1] == "keep" else False
def step():
    return float((torch.ones(2**24) + 1).sum())  # two blocks of 64 MiB, freed at once
for _ in range(8):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(mode: str, **environment: str) -> tuple[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    kept, faults = done.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no mallopt")
def test_kept_memory_is_not_fetched_from_the_system_again():
    kept, few = run("keep")
    assert kept == "True"
    assert run("plain")[1] > 5 * max(few, 1_000)


def test_a_users_own_setting_stands():
    assert run("keep", MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"


HOLES = """
import torch
from unmask.allocator import malloc_trim, tune_malloc, resident_bytes
tune_malloc()
pins = []
for number in range(200):  # a large block, then a small one that stays behind it
    block = torch.ones(2**18 + 4096 * number)
    pins.append(torch.ones(64))
    del block
blocks = [torch.ones(2**20) for _ in range(64)]
before = resident_bytes()
pins += [torch.ones(64) for _ in range(64)]
del blocks
malloc_trim()
print(before - resident_bytes())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library has no malloc_trim")
def test_holes_are_given_back():
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 200 * 2**20


def test_holes_are_given_back_after_the_first_work_and_when_the_process_has_grown_by_half(monkeypatch):
    sizes = iter([100, 2000, 1000, 1400, 1600, 900, 1300, 1351, 10])
    monkeypatch.setattr(allocator, "resident_bytes", lambda: next(sizes))
    monkeypatch.setattr(allocator, "malloc_trim", lambda: True)
    watch = MemoryTrimmer(min_bytes=500)
    # too small; the first work; the first size; not grown enough; grown: given back; the new first size; not enough; grown; too small
    assert [watch.look() for _ in range(9)] == [False, True, False, False, True, False, False, True, False]


def test_decoding_training_and_evaluation_look(monkeypatch):
    import torch

    from tests.decode.test_loop import SPECIAL
    from unmask.decode.canvas import Canvas
    from unmask.decode.loop import fill_canvas
    from unmask.decode.named import make_rules
    from unmask.evaluate.hidden import hide_in_batches
    from unmask.evaluate.windows import Windows
    from unmask.ops.mask_rates import ConstantMaskRate
    from unmask.training.callbacks import MemoryWatch

    looked = []
    monkeypatch.setattr(MemoryTrimmer, "look", lambda self: looked.append(True))
    ids = torch.tensor([[SPECIAL.mask, 5]])
    fill_canvas(
        lambda x_t, **_: torch.zeros(*x_t.shape, SPECIAL.vocab_size),
        Canvas.infill(ids, SPECIAL),
        make_rules(1, special=SPECIAL),
        special=SPECIAL,
    )
    assert len(looked) == 1
    watching = MemoryWatch(5)
    for batch in range(10):  # of four batches a step: after the first step, and at every fifth batch
        watching.on_train_batch_end(SimpleNamespace(global_step=(batch + 1) // 4), None, None, None, batch)
        assert len(looked) - 1 == [0, 0, 0, 1, 2, 2, 2, 2, 2, 3][batch]
    windows = Windows.of_rows([[5, 6, 7]] * 4, 8)
    parts = list(hide_in_batches(windows, SPECIAL, ConstantMaskRate(0.5), samples=1, seed=0, batch_tokens=6))
    assert len(looked) == 4 + len(parts) > 5


PRODUCTS = """
import sys, torch
from unmask.allocator import limit_product_caches, malloc_trim, resident_bytes
from unmask.ops.matmul import HAS_ONEDNN, matmul
if sys.argv[1] == "limited":
    limit_product_caches(8)
torch.set_num_threads(1)
x, weight = torch.ones(600, 32), torch.ones(64, 32)
with torch.inference_mode():
    matmul(x, weight)
    malloc_trim()
    before = resident_bytes()
    for rows in range(20, 320):
        matmul(x[:rows], weight)
malloc_trim()
print(HAS_ONEDNN, (resident_bytes() - before) // 2**20)
"""


def test_programs_for_products_of_many_sizes_are_few():
    own = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024", "LRU_CACHE_CAPACITY": "1024"}
    others = {name: value for name, value in os.environ.items() if name not in own}  # the command line sets them

    def grown(mode, **environment):
        program = [sys.executable, "-c", PRODUCTS, mode]
        done = subprocess.run(program, capture_output=True, text=True, check=True, env={**others, **environment})
        return done.stdout.split()

    (has, limited), (_, free) = grown("limited"), grown("limited", **own)
    if has == "False" or resident_bytes() == 0:
        pytest.skip("no oneDNN, or no /proc")
    assert int(limited) <= 8 < 16 <= int(free)
