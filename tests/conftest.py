"""Shared by all tests: one torch thread per worker, and shape annotations that execute."""

import os
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_MODULES_CACHE", tempfile.mkdtemp())  # copies of code that comes with weights

from jaxtyping import install_import_hook

install_import_hook(
    ["unmask.ops", "unmask.nn", "unmask.models", "unmask.decode", "unmask.evaluate", "unmask.randomness"],
    "beartype.beartype",
)

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _fixed_ambient_seed():
    """Tests that read torch's global generator are reproducible."""
    torch.manual_seed(0)
