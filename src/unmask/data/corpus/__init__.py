"""Corpora: files, datasets and built-in text as documents, and the validation split."""
