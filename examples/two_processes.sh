#!/usr/bin/env bash
# Train on two processes of this machine's CPU, with whole weights (ddp) and with split ones (fsdp), and evaluate with one process.
# usage: two_processes.sh [STEPS]
set -euo pipefail
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

mkdir -p runs/two
printf 'Line %d: the cat sees a dog, and the dog of house %d finds a stone.\n' $(seq 2000) > runs/two/text.txt
unmask prepare runs/two/text.txt --out runs/two/data --vocab-size 300

for strategy in ddp fsdp; do
    torchrun --standalone --nproc-per-node 2 -m unmask train --preset tiny data.store=runs/two/data data.block_size=64 \
        run=runs/two/$strategy train.device=cpu train.strategy=$strategy train.steps="${1:-60}" train.batch_size=16
    unmask evaluate --model runs/two/$strategy
done
