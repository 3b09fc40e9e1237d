"""Comparisons with peers: the source of every figure in the README. `make bench` runs them all."""
