"""Compiled work on CUDA is eager work."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.accelerator
ROOT = Path(__file__).parents[2]


def test_compiled_blocks_losses_and_steps_are_the_eager_ones(cuda):
    """In a process of its own: the annotations that tests execute cannot be compiled."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.accelerator.compiling"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-3000:]
