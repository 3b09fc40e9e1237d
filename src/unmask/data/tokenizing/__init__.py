"""Tokenizers: train, load, save, and the special tokens they name."""
