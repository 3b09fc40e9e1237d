"""Sources of text: one immutable description that yields documents, whatever the format.

``Source.parse("articles.jsonl.xz", field="body")`` guesses the kind from the path; a prefix selects it explicitly
(``text:``, ``jsonl:``, ``parquet:``, ``dataset:``, ``hub:name[:subset]``, ``builtin:``, ``traces:``). A folder stands
for its files, recursively and in sorted order; ``Source.left_out`` counts the files that are not read. A Parquet file
of instruction traces is recognised by its columns; ``traces:wheels`` and ``traces:python`` are built in.
"""

from __future__ import annotations

import dataclasses
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from unmask.data.corpus import built_in as corpora
from unmask.data.corpus import readers
from unmask.data.corpus.folder import FolderFile, counted, each_once, list_folder
from unmask.data.corpus.formats import (
    FORMATS,
    NOT_PROSE,
    DivisibleFormat,
    Inserts,
    ReadOptions,
    format_of,
    format_of_file,
    has_suffix,
    kinds,
    not_prose,
    suffix_of,
)
from unmask.data.corpus.row_shapes import ROW_KINDS, WHAT_A_ROW_HOLDS, RowText, row_as_text, row_documents
from unmask.data.corpus.sections import UNITS, Unit
from unmask.data.corpus.text_stream import Input
from unmask.data.document import Document
from unmask.data.traces import trace_documents
from unmask.data.traces.table import BUILT_IN_TRACES
from unmask.suggestions import nearest

Kind = str

_BUILT_IN = (*corpora.BUILT_IN, *(f"traces:{name}" for name in BUILT_IN_TRACES))
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Source:
    """A corpus that can be read repeatedly, always in the same order.

    Attributes:
        kind: one of ``unmask.data.corpus.formats.kinds()``.
        path: a file, a folder, a hub name, or the name of a built-in corpus.
        field: field or column of the text (JSON lines, Parquet, datasets).
        unit: what one document of a text file is: ``file``, ``section``, ``paragraph`` or ``line``. None means a file
            each in a folder, and sections in a single file, so that some can be held out.
        split: split of a Hugging Face dataset.
        subset: configuration of a hub dataset with several.
        inserts: whether insertions of aligned sequences stay, ``keep`` or ``drop``.
        supervised: a document is a whole row with an answer (``unmask.data.corpus.row_shapes``), as JSON text.
        written: the source as the user typed it; ignored in comparisons.

    Raises:
        ValueError: an unknown kind, unit, or built-in corpus.

    Examples:
        >>> from unmask.data.corpus.sources import Source
        >>> source = Source.parse("python-docs")
        >>> source.kind, next(source.documents()).name
        ('builtin', 'topic/assert')
    """

    kind: Kind
    path: str
    field: str = "text"
    unit: Unit | None = None
    split: str = "train"
    subset: str | None = None
    inserts: Inserts = "keep"
    supervised: bool = False
    written: str = dataclasses.field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.kind not in kinds():
            raise ValueError(
                f"'{self.kind}' is not a kind of source.{nearest(self.kind, kinds())} The kinds are: "
                f"{', '.join(kinds())}."
            )
        if self.unit is not None and self.unit not in UNITS:
            raise ValueError(
                f"A document cannot be a '{self.unit}'.{nearest(self.unit, UNITS)} The units are: {', '.join(UNITS)}."
            )
        if self.supervised and self.kind not in ROW_KINDS:
            raise ValueError(
                f"The source '{self.path}' of kind {self.kind} holds no rows of prompts with answers: those are read from "
                f"{', '.join(ROW_KINDS)}. {WHAT_A_ROW_HOLDS}"
            )
        if self.supervised and self.field != "text":
            raise ValueError(
                f"field={self.field!r} has no effect on supervised data, whose fields have fixed names. Leave it out. "
                f"{WHAT_A_ROW_HOLDS}"
            )
        if self.kind == "builtin" and self.path not in corpora.BUILT_IN:
            raise ValueError(
                f"There is no built-in corpus '{self.path}'.{nearest(self.path, corpora.BUILT_IN)} "
                f"The built-in ones are: {', '.join(corpora.BUILT_IN)}."
            )

    @classmethod
    def parse(
        cls,
        text: str | os.PathLike[str] | Source,
        *,
        field: str = "text",
        unit: Unit | None = None,
        split: str = "train",
        subset: str | None = None,
        inserts: Inserts = "keep",
        supervised: bool = False,
    ) -> Source:
        """Determine the kind of source from a path, a name, or a prefix.

        Args:
            text: a file, a folder, a built-in corpus, ``owner/name`` on the Hugging Face hub, or ``kind:path``. A
                ``Source`` is returned as it is.
            field, unit, split, subset, inserts, supervised: see the attributes.

        Raises:
            ValueError: nothing of that name exists, or a folder mixes formats.
        """
        if isinstance(text, Source):
            return text
        written = str(text)
        prefix, colon, rest = written.partition(":")
        if not written or (colon and prefix in ("hub", "dataset") and not rest.strip(":")):
            raise ValueError(
                f"The source {written!r} names nothing. Give {_files()}, a folder of them, owner/name of a Hugging "
                f"Face dataset, or a built-in corpus: {', '.join(_BUILT_IN)}."
            )
        kind: Kind
        if colon and prefix in kinds():
            kind, path = prefix, rest
            if kind == "hub" and ":" in path:
                path, subset = path.split(":", 1)
        else:
            kind, path = _guess(written), written
        if kind == "traces" and path in BUILT_IN_TRACES:
            return cls(kind, path, field, unit, split, subset, inserts, supervised, written)
        if kind not in ("builtin", "hub"):
            path = str(Path(path).expanduser())
            if not Path(path).exists():
                raise ValueError(_missing(path))
            if not (Path(path).is_file() or Path(path).is_dir()):
                raise ValueError(
                    f"'{path}' is a pipe or a device, but a corpus is read several times. Write it to a file first."
                )
        return cls(kind, path, field, unit, split, subset, inserts, supervised, written)

    def documents(self, row: RowText | None = None) -> Iterator[Document]:
        """Yield every document that holds more than white space, in a fixed order.

        Args:
            row: text of a whole row, for sources of rows; None = the field, or with ``supervised`` the row with its answer.

        Raises:
            ValueError: there is no such document, or a file cannot be read as this kind.
        """
        return self._documents(row, None)

    def _documents(self, row: RowText | None, inputs: Sequence[Input] | None) -> Iterator[Document]:
        """Yield the documents of some inputs, which may be empty; None = of all of them, which may not."""
        empty = inputs is None
        for document in self._read(row_as_text if row is None and self.supervised else row, inputs):
            if "\r\n" in document.text:
                document = replace(document, text=document.text.replace("\r\n", "\n"))
            if document.text.strip():
                empty = False
                yield document
        if empty:
            raise self.is_empty()

    def is_empty(self) -> ValueError:
        """Return the error of a source without text."""
        return ValueError(
            f"The corpus '{self.path}' is empty: none of its documents holds text. Check the path"
            f"{f' and the field ({self.field!r})' if self.kind not in ('text', 'builtin') else ''}."
        )

    def _inputs(self, size: int) -> list[Input]:
        format = None if self.kind not in FORMATS or self._is_built_in_traces else FORMATS[self.kind]
        whole = [] if format is None else [Input.of(path, name) for name, path in self._files()]
        if not isinstance(format, DivisibleFormat):
            return whole
        options = self._options(None)
        return [part for each in whole for part in format.divide(each, options, size)]

    def _options(self, row: RowText | None) -> ReadOptions:
        unit = self.unit or ("file" if Path(self.path).is_dir() else "section")
        return ReadOptions(self.field, unit, self.inserts, row=row)

    def _read(self, row: RowText | None, inputs: Sequence[Input] | None) -> Iterator[Document]:
        if self.kind == "builtin":
            yield from corpora.documents(self.path)
        elif self._is_built_in_traces:
            yield from trace_documents.built_in_traces(self.path)
        elif self.kind in ("hub", "dataset") and row is not None:
            rows = readers.dataset_rows(self.path, self.split, self.subset, saved=self.kind == "dataset")
            yield from row_documents(Input(self.path, self.split), rows, row)
        elif self.kind in ("hub", "dataset"):
            yield from readers.read_dataset(
                self.path, self.field, self.split, self.subset, saved=self.kind == "dataset"
            )
        else:
            options = self._options(row)
            for each in inputs if inputs is not None else [Input.of(path, name) for name, path in self._files()]:
                yield from FORMATS[self.kind].documents(each, options)

    @property
    def _is_built_in_traces(self) -> bool:
        return self.kind == "traces" and self.path in BUILT_IN_TRACES

    def _files(self) -> list[tuple[str, Path]]:
        """Return ``(name, path)`` of the files of this source; none for hub and built-in sources."""
        if self.kind in ("builtin", "hub") or self._is_built_in_traces:
            return []
        root = Path(self.path)
        if not root.exists():
            raise ValueError(_missing(self.path))
        if root.is_file():
            return [(root.name, root)]
        listed = list_folder(root).files
        return [(file.name, file.path) for file in (listed if self.kind == "dataset" else self._chosen(listed))]

    def _chosen(self, files: list[FolderFile]) -> list[FolderFile]:
        """Return the files of a folder to read, each once; for text without known suffixes, all that may be prose."""
        chosen = [file for file in files if has_suffix(file.path, FORMATS[self.kind])]
        if not chosen and self.kind == "text":
            chosen = [file for file in files if not_prose(file.path) is None] or files
        return each_once(chosen)

    def left_out(self) -> str:
        """Count the other files of a folder: ``3 .csv files, 1 dangling link``; empty if all are read."""
        if self.kind not in FORMATS or self._is_built_in_traces or not Path(self.path).is_dir():
            return ""
        files, others = list_folder(Path(self.path))
        chosen = self._chosen(files)
        left = set(files) - set(chosen)
        if any(file.target for file in files):  # a second name of a file that is read loses nothing
            read = {file.identity for file in chosen}
            left = {file for file in left if file.identity not in read}
        suffixes = Counter(f"{suffix_of(file.path) or 'suffixless'} file" for file in left)
        return counted(suffixes + others)

    def warn_left_out(self) -> None:
        """Warn of the files of a folder that are not read."""
        left = self.left_out()
        if left:
            warnings.warn(
                f"Not every file of the folder '{self.path}' is read as {self.kind}. Left out: {left}. Convert or "
                "unpack such files, or prepare them separately.",
                stacklevel=3,
            )

    def fingerprint(self) -> str:
        """Return a SHA-256 hexadecimal digest that changes when the text may have changed.

        It covers the names, sizes and modification times of files, the Python version of a built-in corpus, and the
        name of a hub dataset.
        """
        facts = [self.kind, self.field, str(self.unit), self.split, str(self.subset)]
        facts += [self.inserts] * (self.inserts != "keep") + ["supervised"] * self.supervised
        if self.kind == "builtin":
            facts.append(corpora.version(self.path))
        elif self.kind == "hub":
            facts.append(self.path)
        elif self._is_built_in_traces:
            from unmask.data.traces.corpus import built_in_version

            facts.append(built_in_version(self.path))
        for name, path in self._files():
            status = path.stat()
            facts.append(f"{name} {status.st_size} {status.st_mtime_ns}")
        return sha256("\n".join(facts).encode()).hexdigest()


def inputs_of(source: Source, size: int) -> list[Input]:
    """Return the files of a source, in order, divisible ones in parts of about ``size`` bytes; none for a source without files."""
    return source._inputs(size)


def documents_of(source: Source, inputs: Sequence[Input]) -> Iterator[Document]:
    """Yield the documents of some inputs of a source, which may have none; errors are those of ``Source.documents``."""
    return source._documents(None, inputs)


def _guess(written: str) -> Kind:
    path = Path(written).expanduser()
    if path.is_dir():
        if (path / "dataset_dict.json").exists() or (path / "dataset_info.json").exists():
            return "dataset"
        files = list_folder(path).files
        formats = sorted({kind for kind in (format_of(file.path) for file in files) if kind is not None})
        if len(formats) > 1:
            raise ValueError(
                f"The folder '{written}' mixes {' and '.join(formats)} files, and one corpus has one format. "
                f"Select one with a prefix: `{formats[0]}:{written}`."
            )
        reasons = [not_prose(file.path) for file in files]
        if files and not formats and None not in reasons:
            suffixes = counted(Counter(f"{suffix_of(file.path)} file" for file in files))
            raise ValueError(_no_prose(f"The folder '{written}' holds {suffixes}", str(reasons[0]), written))
        return formats[0] if formats else "text"
    if path.exists():
        reason = not_prose(path)
        if reason is not None:
            raise ValueError(_no_prose(f"'{written}' is a {suffix_of(path)} file", reason, written))
        return format_of_file(path) or "text"
    if written in corpora.BUILT_IN:
        return "builtin"
    if (
        _HUB_NAME.fullmatch(written)
        and format_of(path) is None
        and suffix_of(path) not in NOT_PROSE
        and not written.startswith(".")
    ):
        return "hub"
    raise ValueError(_missing(written))


def _no_prose(what: str, reason: str, written: str) -> str:
    return f"{what}, {reason}. To read it as plain text anyway, write `text:{written}`."


def _files() -> str:
    """Return the files that can be read, for error messages: ``a file (.txt, .jsonl or .parquet)``."""
    suffixes = list(dict.fromkeys(format.suffixes[0] for format in FORMATS.values() if format.suffixes))
    return f"a file ({', '.join(suffixes[:-1])} or {suffixes[-1]})"


def _missing(written: str) -> str:
    path = Path(written).expanduser()
    beside = [str(path.parent / other.name) for other in path.parent.iterdir()] if path.parent.is_dir() else []
    return (
        f"There is no file or folder '{written}'.{nearest(written, [*beside, *_BUILT_IN])} A source is {_files()}, a "
        f"folder of them, a dataset on the Hugging Face hub (owner/name), or a built-in corpus: {', '.join(_BUILT_IN)}."
    )
