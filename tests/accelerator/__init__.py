"""Tests that need a CUDA device; elsewhere they are skipped. ``pytest -m accelerator`` selects them."""
