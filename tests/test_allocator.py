"""Freed memory is found again: counted in page faults, which do not depend on how busy a machine is."""

import ctypes
import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from unmask.allocator import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else False
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
        [sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True, env={**os.environ, **environment}
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
