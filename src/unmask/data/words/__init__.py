"""Words of text: which tokens belong to one word, by Unicode's word boundaries."""

from unmask.data.words.text_words import word_table

__all__ = ["word_table"]
