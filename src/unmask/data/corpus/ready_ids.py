"""Token ids that exist already: NumPy arrays, and lists of integers in a field. Documents carry them as decimal numbers.

A row of ids 5, 7, 9 is the text ``5 7 9``; the tokenizer of kind ``ids`` gives each number its own value as id.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from unmask.data.corpus.read_options import ReadOptions
from unmask.data.corpus.readers import ids_as_text
from unmask.data.corpus.text_stream import Input
from unmask.data.document import Document

_PIECE = 65_536  # ids of a document of a flat array


class NumpyIds:
    """A ``.npy`` array of integers: ``[N, L]`` holds one document a row, ``[T]`` is one stream, cut into documents of 65,536 ids.

    Negative entries at the end of a row are padding.
    """

    suffixes: tuple[str, ...] = (".npy",)
    compressed = False
    description = "NumPy arrays of token ids, one document a row"

    def recognises(self, path: Path) -> bool:
        return True

    def documents(self, source: Input, options: ReadOptions) -> Iterator[Document]:
        """Yield the rows.

        Raises:
            ValueError: not an array file, not integers, or another number of dimensions.
        """
        import numpy as np

        try:
            array = np.load(source.path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(
                f"{source.place} is not a NumPy array file, or it is damaged ({error}). Write it with numpy.save."
            ) from error
        if array.ndim not in (1, 2) or not np.issubdtype(array.dtype, np.integer):
            raise ValueError(
                f"{source.place} holds {array.dtype} {list(array.shape)}, and token ids are integers [N, L] (a document a row) or [T] (one stream)."
            )
        rows = array if array.ndim == 2 else (array[i : i + _PIECE] for i in range(0, len(array), _PIECE))
        for number, row in enumerate(rows):
            ids = np.asarray(row)
            used = len(ids) - int(np.argmax(ids[::-1] >= 0)) if (ids >= 0).any() else 0
            if (ids[:used] < 0).any():
                raise ValueError(
                    f"{source.place}, row {number}, has a negative id before its end. Ids count from 0; negative ones may only pad a row's end."
                )
            if used:
                yield Document(f"{source.name}:{number}", ids_as_text(ids[:used].tolist()))
