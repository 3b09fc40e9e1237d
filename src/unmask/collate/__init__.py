"""Collators: rows of token ids in, corrupted batches out."""
