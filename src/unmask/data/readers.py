"""Documents, and the readers of what is no file: data sets and instruction traces.

Files are read by the formats of ``unmask.data.formats``:

    text      .txt .md .rst or anything else that is plain text
    jsonl     one JSON object a line, the text in a field
    parquet   read row group by row group, the text in a column

The other two are here. Each is a small generator that never holds a corpus.

    dataset   a Hugging Face dataset, saved to disk or streamed from the hub
    traces    instruction traces that ``unmask disassemble`` wrote (also Parquet), or a built-in corpus of them
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Document:
    """One text that is kept or held out as a whole. ``name`` says where it came from; ``held_out``, in a corpus that is
    divided already, on which side it is."""

    name: str
    text: str
    held_out: bool | None = None


def nearest(word: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` when the name of something known is spelled much like that of ``word``, otherwise nothing.

    A name is what follows the last ``/`` or ``:``, so that files of one folder are not alike for their folder.
    """
    names = {re.split("[/:]", each)[-1]: each for each in known}
    close = difflib.get_close_matches(re.split("[/:]", word)[-1], names, n=1, cutoff=0.7)
    return f" Did you mean '{names[close[0]]}'?" if close else ""


def read_traces(path: str | Path) -> Iterator[Document]:
    """The traces of a file that ``unmask disassemble`` wrote, each on the side of the split that its binary is on."""
    from unmask.data.traces import table

    for row in table.read_traces(path, ("binary", "name", "disassembly")):
        yield Document(f"{row['binary']}:{row['name']}", row["disassembly"], held_out=row["split"] == "test")


def built_in_traces(name: str) -> Iterator[Document]:
    """The traces of a built-in corpus, ``wheels`` or ``python``."""
    from unmask.data.traces.corpus import built_in_rows

    for row in built_in_rows(name):
        yield Document(f"{row.binary}:{row.name}", row.disassembly, held_out=row.split == "test")


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
            raise ValueError(f"The dataset '{path}' has no split '{split}'; it has {', '.join(sorted(rows))}. Choose one with split=….")
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
