#!/usr/bin/env bash
# On a machine with a CUDA device and this package installed: training steps of the base preset, bf16, FlexAttention, compiled.
# Figures go to benchmarks/results/ under the device's name. Arguments are those of benchmarks/gpu.py, such as --rows 16.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHONPATH=src "${PYTHON:-python3}" -m benchmarks.gpu "$@"
