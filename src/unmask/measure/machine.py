"""Description of the machine, and its matrix-product rate at the shapes of a model.

``MatrixProducts`` runs only the weight products of one training step: forward ``y = x W``, and backward ``dx = dy Wᵀ``
and ``dW = xᵀ dy``, each by BLAS or oneDNN, whichever is faster at its shape. Its time is a lower bound for any
implementation; its FLOP/s is the reference for the reported fraction of peak.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unmask.measure.flops import Size
from unmask.ops.matmul import uses_onednn

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, threads, memory and versions, and the accelerator if there is one."""
    facts: dict[str, Any] = {
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "bf16_products": bool(torch.cpu._is_avx512_bf16_supported()),
        "memory_gib": round(_memory_bytes() / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if torch.cuda.is_available():
        facts |= {
            "accelerator": torch.cuda.get_device_name(),
            "accelerators": torch.cuda.device_count(),
            "cuda": torch.version.cuda,
        }
    return facts


def _processor_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return 0


class MatrixProducts:
    """All weight products of one training step, once per call.

    Args:
        size: of the model.
        tokens: number of tokens in the blocks.
        scored: number of positions with logits.
        precision: ``"fp32"`` or ``"bf16"``.
        device: of the matrices.

    Attributes:
        flops: of one call.
    """

    def __init__(
        self, size: Size, tokens: int, scored: int, precision: str = "fp32", device: torch.device | str = "cpu"
    ) -> None:
        d, f = size.width, size.feedforward
        blocks = [(tokens, d, 3 * d), (tokens, d, d), (tokens, d, f), (tokens, f, d)]
        self.layers: int = size.layers
        self.block: list[_Product] = [_Product(*shape, DTYPES[precision], device) for shape in blocks]
        self.head: _Product = _Product(scored, d, size.vocabulary, DTYPES[precision], device)
        self.flops: int = 3 * size.product_flops(tokens, scored)

    def __call__(self) -> None:
        for _ in range(self.layers):
            for product in self.block:
                product()
        self.head()


class _Product:
    """``y = x W`` and both of its derivatives."""

    def __init__(self, rows: int, inner: int, columns: int, dtype: torch.dtype, device: torch.device | str) -> None:
        def buffer(*shape: int) -> Tensor:
            return torch.randn(shape, device=device).to(dtype)

        # As in nn.Linear the weight is [columns, inner].
        self.x, self.weight, self.y = buffer(rows, inner), buffer(columns, inner), buffer(rows, columns)
        self.out, self.dx, self.dweight = (
            torch.empty_like(self.y),
            torch.empty_like(self.x),
            torch.empty_like(self.weight),
        )

        self.ways = [
            _fastest(lambda: torch.mm(self.x, self.weight.T, out=self.out), self.x, self.weight),
            _fastest(lambda: torch.mm(self.y, self.weight, out=self.dx), self.y, self.weight.T),
            _fastest(lambda: torch.mm(self.y.T, self.x, out=self.dweight), self.y.T, self.x.T),
        ]

    def __call__(self) -> None:
        for product in self.ways:
            product()


def _fastest(by_blas: Callable[[], Tensor], x: Tensor, weight: Tensor, tries: int = 3) -> Callable[[], Tensor]:
    """Return ``x @ weight.T`` by BLAS or by oneDNN, whichever was faster in a few tries."""
    if not uses_onednn(x, weight):
        return by_blas  # PyTorch's bf16 products already use oneDNN

    def by_onednn() -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
        return product

    def seconds(product: Callable[[], Tensor]) -> float:
        product()
        times = []
        for _ in range(tries):
            started = time.perf_counter()
            product()
            times.append(time.perf_counter() - started)
        return min(times)

    return min((by_blas, by_onednn), key=seconds)


class SquareProduct:
    """One product of two square matrices of ``n``: about the highest rate of the machine."""

    def __init__(self, n: int = 2048, precision: str = "fp32", device: torch.device | str = "cpu") -> None:
        self.a: Tensor
        self.b: Tensor
        self.a, self.b = (torch.randn(n, n, device=device).to(DTYPES[precision]) for _ in range(2))
        self.out: Tensor = torch.empty_like(self.a)
        self.flops: int = 2 * n**3

    def __call__(self) -> None:
        torch.mm(self.a, self.b, out=self.out)
