"""Read the fields of a batch of examples as arrays, whatever container the caller uses.

A batch is a list of mappings (``{"input_ids": [...]}``) or one mapping of columns (a dataset slice, an Arrow batch). Values
may be lists, NumPy arrays, tensors or Arrow arrays. Collators read rows only through this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

Rows = Sequence[Mapping[str, Any]] | Mapping[str, Any]
Ragged = list[np.ndarray] | np.ndarray  # B arrays [l_b], or one [B, L]


def _array(values: Any) -> np.ndarray:
    if hasattr(values, "values") and not callable(values.values):  # an Arrow scalar of a list, a pandas series
        values = values.values
    arrow: np.ndarray = np.asarray(values.to_numpy(zero_copy_only=False) if hasattr(values, "to_numpy") else values)
    return arrow


def _ids(values: Any) -> np.ndarray:
    array = _array(values)
    if array.dtype != np.int64:
        if array.size and not np.issubdtype(array.dtype, np.integer):
            raise ValueError(
                f"Token ids must be integers; a row arrived with values of type {array.dtype}. If the rows hold text, encode "
                "it first: {'input_ids': tokenizer.encode(text)}."
            )
        array = array.astype(np.int64)
    return array


def _flags(values: Any) -> np.ndarray:
    array: np.ndarray = _array(values)
    if array.dtype != np.bool_:
        if array.size and array.dtype.kind not in "iu" and not np.isin(array, (0, 1)).all():
            raise ValueError(
                f"A mask holds True and False, or 1 and 0; a row arrived with values of type {array.dtype}, such as "
                f"{array.flat[0]!r}. Round weights to 0 and 1 first."
            )
        array = array != 0
    return array


def _row(values: Any, name: str, read: Callable[[Any], np.ndarray]) -> np.ndarray:
    row = read(values)
    if row.ndim == 2 and row.shape[0] == 1:  # tokenizer(text, return_tensors="pt")
        only: np.ndarray = row[0]
        return only
    if row.ndim != 1:
        raise ValueError(
            f"Each row's {name!r} is one sequence of tokens, and this one has shape {list(row.shape)}. Pass rows such as "
            f"{{{name!r}: [5, 6, 7]}}, or columns {{{name!r}: [[5, 6, 7], [8, 9]]}}."
        )
    return row


def column(rows: Rows, *names: str) -> Ragged | None:
    """Read the first available field among ``names`` as int64 arrays.

    Returns:
        One ``[B, L]`` array if the field is a matrix, otherwise a list of ``B`` arrays ``[l_b]``; None without such a field.
    """
    return _column(rows, names, _ids)


def flags(rows: Rows, *names: str) -> Ragged | None:
    """Read a mask as :func:`column` reads ids: bool arrays from True and False, or 1 and 0 of any type."""
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
    """Return whether the rows have the field with one value per token, not one per row."""
    if isinstance(rows, Mapping):
        values = rows.get(name)
        return values is not None and len(values) > 0 and np.ndim(_array(values[0])) > 0
    return len(rows) > 0 and rows[0].get(name) is not None and np.ndim(_array(rows[0][name])) > 0


def lengths_of(rows: Ragged) -> list[int]:
    """Return the number of values of each row."""
    return [rows.shape[1]] * rows.shape[0] if isinstance(rows, np.ndarray) else [len(row) for row in rows]


def require_column(rows: Rows, *names: str) -> Ragged:
    """Read a field as :func:`column` does; raise ``ValueError`` for a missing field or an empty batch."""
    return _required(rows, names, _ids)


def require_flags(rows: Rows, *names: str) -> Ragged:
    """Read a mask as :func:`flags` does; raise ``ValueError`` for a missing field or an empty batch."""
    return _required(rows, names, _flags)


def _required(rows: Rows, names: Sequence[str], read: Callable[[Any], np.ndarray]) -> Ragged:
    if len(rows) == 0:
        raise ValueError("A batch needs at least one row, and this one is empty. Drop empty batches before collating.")
    if not isinstance(rows, Mapping) and not isinstance(rows[0], Mapping):
        raise ValueError(
            f"A batch is a list of rows such as {{{names[0]!r}: [5, 6, 7]}}, and its first entry is of type "
            f"{type(rows[0]).__name__}. Wrap each sequence: [{{{names[0]!r}: ids}} for ids in sequences]."
        )
    values = _column(rows, names, read)
    if values is None:
        first = rows if isinstance(rows, Mapping) else rows[0]
        raise ValueError(
            f"Rows need the field {names[0]!r} and these have {', '.join(map(repr, first)) or 'no fields'}. "
            f"Rename the field, or pass rows such as {{{names[0]!r}: {'[0, 1, 1]' if read is _flags else '[5, 6, 7]'}}}."
        )
    if len(values) == 0:
        raise ValueError(
            "A batch needs at least one row, and these columns are empty. Drop empty batches before collating."
        )
    return values


class RowIdentity(NamedTuple):
    """The numbers that determine the noise of each row, ``[B]`` each; None where the rows lack the field.

    Attributes:
        example_id: int64, unique id of the example.
        epoch: int64, number of the pass.
        epoch_place: int64, index in the order of the epoch.
        progress: float64, fraction of training done.
    """

    example_id: Shaped[Tensor, " batch"] | None = None
    epoch: Shaped[Tensor, " batch"] | None = None
    epoch_place: Shaped[Tensor, " batch"] | None = None
    progress: Shaped[Tensor, " batch"] | None = None


def read_identity(rows: Rows, with_place: bool = True) -> RowIdentity:
    """Read the numbers that determine the noise of each row; without an ``example_id``, only ``progress`` matters.

    Args:
        rows: the batch.
        with_place: also read ``epoch_place``.

    Raises:
        ValueError: only some of the rows have one of these fields.
    """
    progress = _scalars(rows, "progress", torch.float64)
    example_id = _scalars(rows, "example_id")
    if example_id is None:
        return RowIdentity(progress=progress)
    epoch_place = _scalars(rows, "epoch_place") if with_place else None
    return RowIdentity(example_id, _scalars(rows, "epoch"), epoch_place, progress)


def _scalars(rows: Rows, name: str, dtype: torch.dtype = torch.int64) -> Shaped[Tensor, " batch"] | None:
    """Read a field with one number per row, ``[B]``; None if no row has it."""
    if isinstance(rows, Mapping):
        return torch.from_numpy(np.asarray(rows[name])).to(dtype) if name in rows else None
    values = [row[name] for row in rows if name in row]
    if not values:
        return None
    if len(values) < len(rows):
        raise ValueError(
            f"{len(values)} of {len(rows)} rows carry {name!r}: every row of a batch must have it, or none."
        )
    return torch.tensor(values, dtype=dtype)


def carried(rows: Rows, names: Sequence[str]) -> dict[str, Any]:
    """Copy fields of the rows: as a tensor if all rows have numbers of equal shape, otherwise as a list.

    Raises:
        ValueError: a row lacks one of the fields.
    """
    fields: dict[str, Any] = {}
    for name in names:
        try:
            values = list(rows[name]) if isinstance(rows, Mapping) else [row[name] for row in rows]
        except KeyError:
            raise ValueError(f"pass_through names the field {name!r}, and not every row has it.") from None
        try:
            array = np.asarray(values)
        except ValueError:  # ragged
            array = np.asarray(None)
        fields[name] = torch.from_numpy(array.copy()) if array.dtype.kind in "biuf" else values
    return fields
