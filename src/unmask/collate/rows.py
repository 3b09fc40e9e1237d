"""Rows in, arrays out: whatever form a caller's examples have.

A batch of examples is a list of mappings (``{"input_ids": [...]}``) or one mapping of columns (a dataset slice, an
Arrow batch). Values may be lists, NumPy arrays, tensors or Arrow arrays. Collators read them only through here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

Rows = Sequence[Mapping[str, Any]] | Mapping[str, Any]
Ragged = list[np.ndarray] | np.ndarray  # B arrays [l_b], or one [B, L]


def _array(values: Any) -> np.ndarray:
    if hasattr(values, "values") and not callable(values.values):  # an Arrow scalar of a list, a pandas series
        values = values.values
    return np.asarray(
        values.to_numpy(zero_copy_only=False) if hasattr(values, "to_numpy") else values
    )  # an Arrow array


def _ids(values: Any) -> np.ndarray:
    array = _array(values)
    if array.dtype != np.int64:
        if array.size and not np.issubdtype(array.dtype, np.integer):
            raise ValueError(
                f"Token ids must be whole numbers; a row arrived with values of type {array.dtype}. If the rows hold "
                "text, encode it first: {'input_ids': tokenizer.encode(text)}."
            )
        array = array.astype(np.int64)
    return array


def _flags(values: Any) -> np.ndarray:
    array = _array(values)
    if array.dtype != np.bool_:
        if array.size and array.dtype.kind not in "iu" and not np.isin(array, (0, 1)).all():
            raise ValueError(
                f"A mask holds True and False, or 1 and 0; a row arrived with values of type {array.dtype}, such as {array.flat[0]!r}. "
                "Round weights to 0 and 1 first."
            )
        array = array != 0
    return array


def _row(values: Any, name: str, read: Callable[[Any], np.ndarray]) -> np.ndarray:
    row = read(values)
    if row.ndim == 2 and row.shape[0] == 1:  # tokenizer(text, return_tensors="pt")
        return row[0]
    if row.ndim != 1:
        raise ValueError(
            f"Each row's {name!r} is one sequence of tokens, and this one has shape {list(row.shape)}. Give rows such as "
            f"{{{name!r}: [5, 6, 7]}}, or columns {{{name!r}: [[5, 6, 7], [8, 9]]}}."
        )
    return row


def column(rows: Rows, *names: str) -> Ragged | None:
    """The first of the named fields that the rows have, as int64 arrays; None if they have none of them.

    Returns:
        One ``[B, L]`` array if the field is a matrix already, otherwise a list of ``B`` arrays ``[l_b]``.
    """
    return _column(rows, names, _ids)


def flags(rows: Rows, *names: str) -> Ragged | None:
    """As :func:`column`, for masks: bool arrays from True and False, or 1 and 0 of any type."""
    return _column(rows, names, _flags)


def _column(rows: Rows, names: Sequence[str], read: Callable[[Any], np.ndarray]) -> Ragged | None:
    for name in names:
        if isinstance(rows, Mapping):
            if name in rows:
                values = rows[name]
                if getattr(values, "ndim", None) == 2:
                    return read(values)
                return [_row(v, name, read) for v in values]
        elif rows and name in rows[0]:
            try:
                return [_row(row[name], name, read) for row in rows]
            except KeyError:
                have = sum(name in row for row in rows)
                raise ValueError(
                    f"{have} of {len(rows)} rows carry {name!r}: the rows of a batch must all have the same fields."
                ) from None
    return None


def sequences(rows: Rows, name: str) -> bool:
    """Whether the rows have the field, with one value a token and not one a row."""
    if isinstance(rows, Mapping):
        values = rows.get(name)
        return values is not None and len(values) > 0 and np.ndim(_array(values[0])) > 0
    return len(rows) > 0 and rows[0].get(name) is not None and np.ndim(_array(rows[0][name])) > 0


def lengths_of(rows: Ragged) -> list[int]:
    """How many values each row has."""
    return [rows.shape[1]] * rows.shape[0] if isinstance(rows, np.ndarray) else [len(row) for row in rows]


def require_column(rows: Rows, *names: str) -> Ragged:
    """As :func:`column`, but a missing field or an empty batch is a ``ValueError``."""
    return _required(rows, names, _ids)


def require_flags(rows: Rows, *names: str) -> Ragged:
    """As :func:`flags`, but a missing field or an empty batch is a ``ValueError``."""
    return _required(rows, names, _flags)


def _required(rows: Rows, names: Sequence[str], read: Callable[[Any], np.ndarray]) -> Ragged:
    if len(rows) == 0:
        raise ValueError("A batch needs at least one row, and this one is empty. Drop empty batches before collating.")
    if not isinstance(rows, Mapping) and not isinstance(rows[0], Mapping):
        raise ValueError(
            f"A batch is a list of rows such as {{{names[0]!r}: [5, 6, 7]}}, and its first entry is of type {type(rows[0]).__name__}. "
            f"Wrap each sequence: [{{{names[0]!r}: ids}} for ids in sequences]."
        )
    found = _column(rows, names, read)
    if found is None:
        first = rows if isinstance(rows, Mapping) else rows[0]
        raise ValueError(
            f"Rows need the field {names[0]!r} and these have {', '.join(map(repr, first)) or 'no fields'}. "
            f"Rename the field, or pass rows such as {{{names[0]!r}: {'[0, 1, 1]' if read is _flags else '[5, 6, 7]'}}}."
        )
    if len(found) == 0:
        raise ValueError(
            "A batch needs at least one row, and these columns are empty. Drop empty batches before collating."
        )
    return found


def scalars(rows: Rows, name: str, dtype: torch.dtype = torch.int64) -> Shaped[Tensor, " batch"] | None:
    """A field with one number a row, ``[B]``; None if no row has it.

    Raises:
        ValueError: some rows have it and some do not.
    """
    if isinstance(rows, Mapping):
        return torch.from_numpy(np.asarray(rows[name])).to(dtype) if name in rows else None
    have = [name in row for row in rows]
    if not any(have):
        return None
    if not all(have):
        raise ValueError(f"{sum(have)} of {len(have)} rows carry {name!r}: give it to every row of a batch or to none.")
    return torch.tensor([row[name] for row in rows], dtype=dtype)


def carried(rows: Rows, names: Sequence[str]) -> dict[str, Any]:
    """Fields to hand on as they are: a tensor where all rows have numbers of one shape, otherwise a list.

    Raises:
        ValueError: a row lacks one of the fields.
    """
    found: dict[str, Any] = {}
    for name in names:
        try:
            values = list(rows[name]) if isinstance(rows, Mapping) else [row[name] for row in rows]
        except KeyError:
            raise ValueError(f"pass_through names the field {name!r}, and not every row has it.") from None
        try:
            array = np.asarray(values)
        except ValueError:  # ragged
            array = np.asarray(None)
        found[name] = torch.from_numpy(array.copy()) if array.dtype.kind in "biuf" else values
    return found
