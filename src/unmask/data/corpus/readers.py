"""Reader of Hugging Face datasets, and checks of the fields of any row-based format.

Files are read by the formats of ``unmask.data.corpus.formats``. Each reader is a generator with bounded memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from unmask.data.document import Document
from unmask.suggestions import nearest


def read_dataset(path: str, field: str, split: str, subset: str | None, *, saved: bool) -> Iterator[Document]:
    """Yield one field of the rows of a Hugging Face dataset as documents; arguments and errors as of :func:`dataset_rows`.

    Args:
        field: field of the text.
    """
    for number, row in enumerate(dataset_rows(path, split, subset, saved=saved)):
        if field not in row:
            raise ValueError(unknown_field(f"The dataset '{path}'", field, row))
        yield Document(f"{split}:{number}", as_text(row[field], field, f"'{path}', row {number}"))


def dataset_rows(path: str, split: str, subset: str | None, *, saved: bool) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a Hugging Face dataset.

    Args:
        path: a folder, or ``owner/name`` on the hub.
        split: split to read.
        subset: configuration of a hub dataset, or None.
        saved: True = a folder written by ``save_to_disk``; False = streamed from the hub.

    Raises:
        ImportError: the ``datasets`` library is not installed.
        ValueError: the dataset cannot be opened, or lacks the split.
    """
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            f"Reading the Hugging Face dataset '{path}' needs the `datasets` library, which is not installed. "
            "Type: pip install 'unmask[hub]'"
        ) from error

    try:
        if saved:
            rows = datasets.load_from_disk(path)
        else:
            rows = datasets.load_dataset(path, subset, split=split, streaming=True)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(
            f"The dataset '{path}' could not be opened ({str(error).rstrip('.')}). "
            + ("Give a folder that save_to_disk wrote. " if saved else
               "No file or folder has this name, so it was looked up on the Hugging Face hub: check its spelling and "
               "the network. ")
            + "A built-in corpus such as `python-docs` needs neither."
        ) from error  # fmt: skip
    if isinstance(rows, dict):
        if split not in rows:
            raise ValueError(
                f"The dataset '{path}' has no split '{split}'; it has {', '.join(sorted(rows))}. Choose one with "
                "split=…."
            )
        rows = rows[split]
    yield from rows


CHOOSE = "Choose one with field=…."


def unknown_field(where: str, field: str, known: Iterable[str], advice: str = CHOOSE) -> str:
    """Return the error message for a missing field, with the nearest known name and all of them."""
    names = [str(name) for name in known]
    return f"{where} has no field '{field}'.{nearest(field, names)} It has: {', '.join(names) or 'none'}. {advice}"


def as_text(value: Any, field: str, where: str, advice: str = CHOOSE) -> str:
    """Check that a field holds text, or token ids, which become decimal numbers. Null is empty; a lone surrogate, which UTF-8 cannot encode, becomes U+FFFD.

    Raises:
        ValueError: the field holds another type.
    """
    if value is None:
        return ""
    if is_ids(value):
        return ids_as_text(value)
    if not isinstance(value, str):
        raise ValueError(f"{where}: field '{field}' holds {type(value).__name__}, and text was expected. {advice}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return value


def is_ids(value: Any) -> bool:
    """Tell whether a value is a list of integers."""
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(isinstance(each, int) and not isinstance(each, bool) for each in value)
    )


def ids_as_text(ids: Sequence[int]) -> str:
    """Write ids as decimal numbers with spaces between them."""
    return " ".join(map(str, ids))
