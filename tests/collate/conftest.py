"""The tokenizer of the data tests."""

from tests.data.conftest import documents, tokenizer  # noqa: F401 (fixtures)
