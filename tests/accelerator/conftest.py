"""The device of these tests, and a small network on it."""

import pytest
import torch


@pytest.fixture
def cuda() -> torch.device:
    """The CUDA device; without one the test is skipped. Products are in full float32."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    torch.set_float32_matmul_precision("highest")
    return torch.device("cuda")
