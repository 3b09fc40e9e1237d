"""Documents, and the readers of what is no file: data sets and instruction traces.

Files are read by the formats of ``unmask.data.corpus.formats``:

    text      .txt .md .rst or anything else that is plain text
    jsonl     one JSON object a line, the text in a field
    parquet   read row group by row group, the text in a column

The other two are here. Each is a small generator that never holds a corpus.

    dataset   a Hugging Face dataset, saved to disk or streamed from the hub
    traces    instruction traces that ``unmask disassemble`` wrote (also Parquet), or a built-in corpus of them
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from unmask.data.document import Document
from unmask.suggestions import nearest


def read_dataset(path: str, field: str, split: str, subset: str | None, *, saved: bool) -> Iterator[Document]:
    """The rows of a Hugging Face dataset: ``saved`` by ``save_to_disk``, otherwise streamed from the hub."""
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
               "It is not a file or folder here, so it was looked up on the Hugging Face hub: check its spelling and the network. ")
            + "A built-in corpus needs neither: try `python-docs`."
        ) from error  # fmt: skip
    if isinstance(rows, dict):
        if split not in rows:
            raise ValueError(
                f"The dataset '{path}' has no split '{split}'; it has {', '.join(sorted(rows))}. Choose one with split=…."
            )
        rows = rows[split]
    for number, row in enumerate(rows):
        if field not in row:
            raise ValueError(unknown_field(f"The dataset '{path}'", field, row))
        yield Document(f"{split}:{number}", as_text(row[field], field, f"'{path}', row {number}"))


CHOOSE = "Choose one with field=…."


def unknown_field(where: str, field: str, known: Iterable[str], advice: str = CHOOSE) -> str:
    """The message for a field that is not there: the nearest one, then all of them."""
    names = [str(name) for name in known]
    return f"{where} has no field '{field}'.{nearest(field, names)} It has: {', '.join(names) or 'none'}. {advice}"


def as_text(value: Any, field: str, where: str, advice: str = CHOOSE) -> str:
    """Check that a field holds text. Null is empty; half of a surrogate pair becomes U+FFFD, as UTF-8 has no room for it."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{where}: field '{field}' holds {type(value).__name__}, and text was expected. {advice}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        value = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return value
