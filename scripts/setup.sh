#!/usr/bin/env bash
# Make .venv with everything the project needs. Run again it does nothing, unless the pins changed.
#
# PyTorch goes in first and pinned: a machine without an NVIDIA GPU gets the CPU build, which spares it several gigabytes.
set -euo pipefail
cd "$(dirname "$0")/.."

python="${PYTHON:-python3}"
venv="${VENV:-.venv}"
torch="$(sed -n 's/^torch==//p' constraints.txt)"

if ! command -v "$python" >/dev/null || ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "unmask needs Python 3.11 or newer, and '$python' is not. Install it, or say which to use: make PYTHON=python3.12 ..." >&2
    exit 1
fi

pins="$(cat pyproject.toml constraints.txt scripts/setup.sh | cksum)"
if [ -f "$venv/.ready" ] && [ "$(cat "$venv/.ready")" = "$pins" ]; then
    exit 0
fi

echo "Setting up $venv with $("$python" --version) (once; two to five minutes)"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check -qq "$@"; }

has_torch() { "$venv/bin/python" -c "import torch, sys; sys.exit(torch.__version__.split('+')[0] != '$torch')" 2>/dev/null; }
if ! has_torch; then
    if [ "$(uname)" = Darwin ] || command -v nvidia-smi >/dev/null; then
        echo "  PyTorch $torch"
        pip install "torch==$torch"
    else
        echo "  PyTorch $torch for the CPU (no NVIDIA GPU here)"
        # The CPU build has its own version label where pip is set up to see it; otherwise uv knows where it lives.
        pip install "torch==$torch+cpu" 2>/dev/null ||
            { pip install uv && "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --torch-backend=cpu "torch==$torch" 2>/dev/null; } ||
            { echo "  no CPU build found: taking the general one, which is larger"; pip install "torch==$torch"; }
    fi
fi

echo "  unmask and its other dependencies"
pip install -c constraints.txt -e '.[dev]'
printf '%s' "$pins" >"$venv/.ready"
echo "Ready: $venv/bin/unmask"
