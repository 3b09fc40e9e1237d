"""Data: documents, tokenizers, token stores, words and instruction traces."""
