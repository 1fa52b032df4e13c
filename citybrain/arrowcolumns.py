"""NumPy arrays in, Arrow arrays and tables out, and back, without pandas.

`pyarrow.array` and `Array.to_numpy` import pandas wherever it is installed: 50 MB and half a second that a simulator
has no use for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def arrow_column(values: npt.NDArray[Any], *, missing: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """Return numbers, truths or texts as an Arrow array.

    Parameters
    ----------
    values
        Shape (n,).
    missing
        Where there is no value, shape (n,); nowhere where not given. NaN stays NaN.

    Examples
    --------
    >>> arrow_column(np.array(["a", "ü"])).to_pylist(), arrow_column(np.array([True, False])).to_pylist()
    (['a', 'ü'], [True, False])
    >>> arrow_column(np.array([1, 2]), missing=np.array([True, False])).to_pylist()
    [None, 2]
    """
    valid = None if missing is None else _bits(~missing)
    if values.dtype.kind == "U":
        texts = [text.encode() for text in values.tolist()]
        ends = np.cumsum([0, *map(len, texts)], dtype=np.int32)
        return pa.StringArray.from_buffers(len(values), pa.py_buffer(ends), pa.py_buffer(b"".join(texts)), valid)
    truth = values.dtype == np.bool_
    data = _bits(values) if truth else pa.py_buffer(np.ascontiguousarray(values))
    kind = pa.bool_() if truth else pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [valid, data])


def arrow_table(columns: Mapping[str, npt.NDArray[Any] | pa.Array]) -> pa.Table:
    """Return columns as a table."""
    arrays = [values if isinstance(values, pa.Array) else arrow_column(values) for values in columns.values()]
    return pa.Table.from_arrays(arrays, list(columns))


def save_table(table: pa.Table, path: Path, *, compression: str | None = "zstd") -> None:
    """Write a table as one Arrow file, whole or not at all."""
    options = pa.ipc.IpcWriteOptions(compression=compression)
    partial = path.with_suffix(".partial")
    with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    partial.replace(path)


def numpy_column(values: pa.Array) -> npt.NDArray[Any]:
    """Return numbers or texts, none missing, as a NumPy array; numbers are not copied, and read-only."""
    if pa.types.is_string(values.type):
        return np.array(values.to_pylist(), dtype=np.str_)
    if values.null_count or pa.types.is_boolean(values.type):
        return cast("npt.NDArray[Any]", values.to_numpy(zero_copy_only=False))
    return np.asarray(np.from_dlpack(values))


def _bits(truths: npt.NDArray[np.bool_]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(truths, bitorder="little"))
