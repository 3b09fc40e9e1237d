# Two commands do everything on a fresh machine: `make demo` and `make test`.
SHELL := /bin/bash
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
export VENV PYTHON

.PHONY: help setup demo test test-accelerator test-slow test-faults bench reproduce reproduce-quick lint docs clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | column -t -s:

setup:  ## the environment, in .venv
	@scripts/setup.sh

demo: setup  ## train, evaluate and decode a masked language model on an embedded corpus
	@$(BIN)/unmask demo $(ARGS)

test: setup  ## the tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow" $(ARGS)

test-accelerator: setup  ## the tests that need a CUDA device
	@$(BIN)/python -m pytest -m accelerator $(ARGS)

test-slow: setup  ## the tests that take longer: whole runs, kills, two processes
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m slow $(ARGS)

test-faults: setup  ## kill runs at 60 random moments, and compare them with uninterrupted ones: 10 minutes
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.matrix --kills 60 $(ARGS)

bench: setup  ## speed and memory beside other libraries, in up to 15 minutes; refreshes the figures of README and docs
	@$(BIN)/python -m benchmarks.run --readme README.md --page docs/performance.md --plot docs/scaling.png $(ARGS)

reproduce-quick: setup  ## reduced versions of three published results, with pass marks, in under 15 minutes; fails where a mark is missed
	@missed=0; for each in entropy_rate sudoku_orders star_graphs; do \
	  $(BIN)/python examples/reproduce/$$each.py --quick $(ARGS) || missed=1; done; exit $$missed

reproduce: setup  ## all published results in hours, and docs/results.md; files by TEXT=, WIKITEXT=, PAIRS=, ALIGNMENT=, MUTANTS= and PUZZLES=
	@PYTHON=$(BIN)/python examples/reproduce/all.sh

lint: setup  ## style and types
	@$(BIN)/ruff check src tests benchmarks scripts examples && $(BIN)/ruff format --check -q src tests benchmarks scripts examples && scripts/check_types.sh

docs: setup  ## the documentation site, in build/site; warnings are errors
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

clean:  ## remove the environment and the runs
	rm -rf $(VENV) runs build
