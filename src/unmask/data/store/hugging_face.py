"""A token store as a dataset of Hugging Face: one row per document, written to disk as it is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from unmask.data.tokenizing.tokenizers import Tokenizer

if TYPE_CHECKING:
    import datasets
    import numpy as np
    from numpy.typing import NDArray


class Documents(Protocol):
    """What a dataset is made of: the documents of a token store."""

    path: Path
    supervised: bool
    n_documents: int

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Refuse another tokenizer than that of the store."""
        ...

    def document(self, index: int) -> NDArray[np.unsignedinteger]:
        """Return the tokens of a document, with its EOS."""
        ...

    def learnt(self, index: int) -> NDArray[np.bool_]:
        """Return which tokens of a row are learnt."""
        ...


def rows(store: Documents, tokenizer: Tokenizer | None) -> Iterator[dict[str, Any]]:
    """Yield the documents: ``input_ids``, ``learnt`` for rows with answers, and ``text`` with a tokenizer."""
    for index in range(store.n_documents):
        ids = store.document(index)
        row: dict[str, Any] = {"input_ids": ids}
        if store.supervised:
            row["learnt"] = store.learnt(index)
        if tokenizer is not None:
            row["text"] = tokenizer.decode(ids.tolist())
        yield row


def as_dataset(store: Documents, tokenizer: Tokenizer | None, cache_dir: str | None) -> datasets.Dataset:
    """Return the documents as a dataset that is mapped from disk.

    The library writes an Arrow file to its cache in batches, and reuses it for the same store.

    Args:
        store: the documents.
        tokenizer: adds the column ``text``; None = the ``tokenizer.json`` beside the store, or no text without one.
        cache_dir: folder of the Arrow file; None = the cache of the library.

    Raises:
        ImportError: ``datasets`` is not installed.
        ValueError: the tokenizer is not that of the store.
    """
    beside = store.path.parent / "tokenizer.json"
    if tokenizer is None and beside.is_file():
        tokenizer = Tokenizer.load(beside)
    if tokenizer is not None:
        store.check_tokenizer(tokenizer)
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            "to_hf() makes a dataset of the library `datasets`, which is not installed. Type: pip install 'unmask[hub]'. Without "
            "it, index the store: store[0], or iterate over it."
        ) from error
    # ``learnt`` and ``input_ids`` have fixed types, so that an empty batch cannot change them.
    columns: dict[str, Any] = {"input_ids": datasets.Sequence(datasets.Value("int32"))}
    if store.supervised:
        columns["learnt"] = datasets.Sequence(datasets.Value("bool"))
    if tokenizer is not None:
        columns["text"] = datasets.Value("string")
    return datasets.Dataset.from_generator(
        rows,
        features=datasets.Features(columns),
        cache_dir=cache_dir,
        gen_kwargs={"store": store, "tokenizer": tokenizer},
    )
