#!/usr/bin/env bash
# Every result, one after another, then the page of results. A file of the environment that is not given leaves its result out.
cd "$(dirname "$0")/../.."
missed=0
measure() { "${PYTHON:-python}" examples/reproduce/"$@" --results examples/reproduce/results || missed=1; }

measure entropy_rate.py
measure sudoku_orders.py ${PUZZLES:+--puzzles "$PUZZLES"}
measure star_graphs.py
[ -z "${TEXT:-}" ] || measure objectives.py --text "$TEXT"
[ -z "${WIKITEXT:-}" ] || [ -z "${PAIRS:-}" ] || measure minimal_pairs.py --text "$WIKITEXT" --pairs "$PAIRS"
[ -z "${ALIGNMENT:-}" ] || [ -z "${MUTANTS:-}" ] || measure mutation_effects.py --alignment "$ALIGNMENT" --mutants "$MUTANTS"
measure passes.py ${TEXT:+--text "$TEXT"}
measure remasking.py
"${PYTHON:-python}" examples/reproduce/page.py
exit $missed
