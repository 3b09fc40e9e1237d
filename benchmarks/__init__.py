"""Peers side by side: every figure in the README comes from here. `make bench` runs all of it."""
