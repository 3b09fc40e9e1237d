#!/usr/bin/env bash
# Check types: mypy, strict, and the fraction of the package's symbols whose types pyright knows, 98% at least.
# Reads the environment of VENV (default .venv), which `make setup` makes; pyright finds the package by its activation.
set -euo pipefail
cd "$(dirname "$0")/.."
source "${VENV:-.venv}/bin/activate"
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" # this tree, wherever the environment's `unmask` lies

mypy # strict, by pyproject.toml

report=$(mktemp)
trap 'rm -f "$report"' EXIT
# Exit 1 means some symbols are unknown; a crash leaves no report.
pyright --verifytypes unmask --ignoreexternal --outputjson >"$report" || true
python - "$report" <<'PYTHON'
import json
import sys

REQUIRED = 0.98
try:
    found = json.load(open(sys.argv[1]))["typeCompleteness"]
except (ValueError, KeyError):
    sys.exit(f"pyright reported no type completeness; it said:\n{open(sys.argv[1]).read()[:2000]}")
score = found["completenessScore"]
print(f"pyright knows the types of {score:.1%} of the public symbols (required: {REQUIRED:.0%})")
if score < REQUIRED:
    for symbol in found["symbols"]:
        if symbol["isExported"] and (symbol["isTypeAmbiguous"] or not symbol["isTypeKnown"]):
            messages = "; ".join(d["message"].splitlines()[0] for d in symbol["diagnostics"])
            print(f"  {symbol['name']}: {messages}")
    sys.exit("Annotate the symbols above: attributes in __init__, constants and parameters.")
PYTHON
