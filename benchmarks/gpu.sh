#!/usr/bin/env bash
# On a machine with a CUDA device and this package's requirements: training, decoding and loading of the base preset in bf16.
# Figures go to benchmarks/results/ under the device's name. Arguments are those of benchmarks/gpu.py, such as --only decode or --toy.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" "${PYTHON:-python3}" -m benchmarks.gpu "$@"
