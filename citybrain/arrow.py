"""Arrow: columns and texts in, one Arrow IPC stream with one batch out, and back.

One message of a feed looks like the next: the same columns with the same number of rows. What stands before the columns
and where each of them begins is then the same too, and pyarrow is asked for it once. The bytes are those that pyarrow
writes; a batch that has another form pyarrow reads itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from citybrain.heading import Heading, serialised

Array = npt.NDArray[Any]

MOST_FORMS = 2048
"""Forms that a codec remembers in each direction, about 2 kB each; beyond, it begins anew."""
MOST_HEADINGS = 16
"""Headings of one size that a codec tells apart; pyarrow reads all others."""

_BEGIN = b"\xff\xff\xff\xff"
_END = _BEGIN + bytes(4)
_ALIGNED = 8


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name and type, and how many values a row has."""

    name: str
    dtype: np.dtype[Any]
    width: int = 1


@dataclass(frozen=True, slots=True)
class _Written:
    """The form of a batch: schema without texts, what stands before the columns, and the size of each of them.

    ``headings`` are those of texts that were written with it, by their names and lengths.
    """

    schema: pa.Schema
    header: bytes
    nbytes: list[int]
    padding: list[bytes]
    headings: dict[Any, Heading | None] = field(default_factory=dict)

    def heading(self, texts: dict[str, str]) -> bytes:
        """Return what the stream begins with."""
        raw = [text.encode() for text in texts.values()]
        key = *texts, *map(len, raw)
        if key not in self.headings:
            _remember(self.headings, key, Heading.of(self.schema, dict(zip(texts, raw, strict=True))))
        known = self.headings[key]
        return serialised(self.schema, dict(zip(texts, raw, strict=True))) if known is None else known.written(raw)


@dataclass(frozen=True, slots=True)
class _Read:
    """The form of a batch: its schema, rows, end of the columns, and where each begins (-1: it is absent)."""

    schema: pa.Schema
    rows: int
    end: int
    begins: list[int]


Form = TypeVar("Form", _Written, _Read, Heading | None)


class Codec:
    """Writes and reads batches of the same columns. A column of doubles whose values are all missing is left out."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = tuple(columns)
        self._written: dict[Any, _Written] = {}
        self._read: dict[bytes, _Read] = {}
        self._headings: dict[int, list[Heading | None]] = {}
        self._schemas: list[pa.Schema] = []

    def write(self, arrays: Sequence[Array], texts: dict[str, str]) -> bytes:
        """Return a batch of all columns, in their order, with texts as the schema's metadata.

        Raises
        ------
        ValueError
            If the columns differ in length (`pyarrow.ArrowInvalid`).
        """
        columns, given = [], []
        for column, array in zip(self._columns, arrays, strict=True):
            if column.width > 1 or not _absent(array):
                columns.append(column)
                given.append(array if array.flags.c_contiguous else np.ascontiguousarray(array))
        key = len(arrays[0]), tuple([column.name for column in columns])
        form = self._written.get(key)
        declared = [array.dtype for array in given] == [column.dtype for column in columns]
        if form is None or not declared or [array.nbytes for array in given] != form.nbytes:
            value, form = _write(columns, given, texts)
            if declared:
                _remember(self._written, key, form)
            return value
        parts: list[Any] = [form.heading(texts), form.header]
        for array, padding in zip(given, form.padding, strict=True):
            parts += (array, padding) if padding else (array,)
        parts.append(_END)
        return b"".join(parts)

    def open(self, value: bytes | memoryview) -> tuple[pa.Schema, dict[str, str]]:
        """Return the schema that a stream begins with, and its texts.

        Raises
        ------
        ValueError
            If it begins otherwise, or a text is not UTF-8.
        """
        size = 8 + int.from_bytes(value[4:8], "little")
        known = self._headings.setdefault(size, [])
        for heading in known:
            if heading is not None and (texts := heading.read(value)) is not None:
                return heading.schema, texts
        schema = schema_of(value)
        texts = texts_of(schema)
        if len(known) < MOST_HEADINGS:
            heading = self._learned(schema, texts)
            known.append(heading if heading is not None and heading.read(value) == texts else None)
        if len(self._headings) > MOST_FORMS:
            self._headings.clear()
            self._schemas.clear()
        return schema, texts

    def _learned(self, schema: pa.Schema, texts: dict[str, str]) -> Heading | None:
        """Return what such a stream begins with if pyarrow writes it; equal schemas become one object."""
        plain = schema.remove_metadata()
        plain = next((known for known in self._schemas if known.equals(plain)), plain)
        if all(known is not plain for known in self._schemas):
            self._schemas.append(plain)
        return Heading.of(plain, {name: text.encode() for name, text in texts.items()})

    def read(self, value: bytes | memoryview, schema: pa.Schema) -> list[Array]:
        """Return the columns of a batch, which cannot be written to; ``schema`` is that of the same bytes.

        Raises
        ------
        ValueError
            If it holds no batch, or a column is missing, ill-typed or has nulls.
        """
        begin, body = _bounds(value)
        header = bytes(value[begin:body])
        form = self._read.get(header)
        known = form is not None and (schema is form.schema or schema.equals(form.schema))
        if form is None or not known or body + form.end > len(value):
            arrays, form = self._look(value, body, schema)
            if form is not None:
                _remember(self._read, header, form)
            return arrays
        rows, arrays = form.rows, []
        for column, at in zip(self._columns, form.begins, strict=True):
            if at < 0:
                arrays.append(_missing(rows))
            elif column.width == 1:
                arrays.append(np.frombuffer(value, column.dtype, rows, body + at))
            else:
                flat = np.frombuffer(value, column.dtype, rows * column.width, body + at)
                arrays.append(flat.reshape(-1, column.width))
        return arrays

    def _look(self, value: bytes | memoryview, body: int, schema: pa.Schema) -> tuple[list[Array], _Read | None]:
        """Let pyarrow read the batch, and note where it found the columns if they lie in the bytes as they are."""
        try:
            with pa.ipc.open_stream(value) as reader:
                batch = reader.read_next_batch()
        except (OSError, StopIteration, TypeError, ValueError) as error:
            raise ValueError(f"no Arrow stream: {error}") from error
        arrays = [_column(batch, column) for column in self._columns]
        form = _form_of(batch, schema, arrays, pa.py_buffer(value).address + body, len(value) - body)
        return [_missing(batch.num_rows) if array is None else array for array in arrays], form


def schema_of(value: bytes | memoryview) -> pa.Schema:
    """Return the schema that a stream begins with; raises ValueError where it does not."""
    try:
        return pa.ipc.read_schema(pa.py_buffer(value))
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"no Arrow stream: {error}") from error


def texts_of(schema: pa.Schema) -> dict[str, str]:
    """Return the texts of a batch; raises ValueError where they are not UTF-8."""
    return {key.decode(): text.decode() for key, text in (schema.metadata or {}).items()}


def is_absent(array: Array) -> bool:
    """Return whether a message had no such column, so that nothing needs to be looked for in it.

    False says nothing: an array that was made otherwise may be missing throughout as well.
    """
    return array is _missing(len(array))


def _write(columns: Sequence[Column], arrays: Sequence[Array], texts: dict[str, str]) -> tuple[bytes, _Written]:
    values = [
        pa.FixedSizeListArray.from_arrays(_flat(array), array.shape[1]) if array.ndim == 2 else _flat(array)
        for array in arrays
    ]
    batch = pa.RecordBatch.from_arrays(values, names=[column.name for column in columns])
    schema, message = batch.schema, batch.serialize().to_pybytes()
    nbytes = [array.nbytes for array in arrays]
    padding = [bytes(-size % _ALIGNED) for size in nbytes]
    body = sum(nbytes) + sum(map(len, padding))
    form = _Written(schema, message[: len(message) - body], nbytes, padding)
    return schema.with_metadata(texts).serialize().to_pybytes() + message + _END, form


def _flat(array: Array) -> pa.Array:
    """Return the values for pyarrow; `pyarrow.array` would look for pandas first, and load it (0.6 s, 40 MB)."""
    values = np.ascontiguousarray(array).reshape(-1)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def _bounds(value: bytes | memoryview) -> tuple[int, int]:
    """Return where the batch and its columns begin; (0, 0) in bytes that are no such stream."""
    begin = 8 + int.from_bytes(value[4:8], "little")
    size = int.from_bytes(value[begin + 4 : begin + 8], "little")
    if value[:4] != _BEGIN or value[begin : begin + 4] != _BEGIN:
        return 0, 0
    return begin, begin + 8 + size


def _form_of(
    batch: pa.RecordBatch, schema: pa.Schema, arrays: Sequence[Array | None], origin: int, size: int
) -> _Read | None:
    """Return where the columns lie, None where they do not lie in the ``size`` bytes from ``origin`` on."""
    begins, end = [], 0
    for array in arrays:
        at = -1 if array is None else 0
        if array is not None and len(array):
            at = array.__array_interface__["data"][0] - origin
            end = max(end, at + array.nbytes)
            if at < 0 or end > size:
                return None
        begins.append(at)
    return _Read(schema, batch.num_rows, end, begins)


def _column(batch: pa.RecordBatch, column: Column) -> Array | None:
    at = batch.schema.get_field_index(column.name)
    if at < 0:
        if column.dtype != np.float64:
            raise ValueError(f"column {column.name} is missing")
        return None
    values = batch.column(at)
    if values.null_count:
        raise ValueError(f"column {column.name}: {values.null_count} nulls seen, none allowed (missing is NaN)")
    if pa.types.is_fixed_size_list(values.type):
        values = values.flatten()
    array = values.to_numpy(zero_copy_only=False)
    if array.dtype != column.dtype or len(array) != batch.num_rows * column.width:
        allowed = f"{column.dtype} x {column.width} a row"
        raise ValueError(f"column {column.name}: {array.dtype} x {len(array)} seen, {allowed} allowed")
    return cast(Array, array if column.width == 1 else array.reshape(-1, column.width))


def _absent(array: Array) -> bool:
    # A column that begins with a number need not be looked through.
    return array.dtype.kind == "f" and len(array) > 0 and array[0] != array[0] and bool(np.isnan(array).all())


@lru_cache(maxsize=64)
def _missing(rows: int) -> Array:
    missing = np.full(rows, np.nan)
    missing.flags.writeable = False
    return missing


def _remember(forms: dict[Any, Form], key: Any, form: Form) -> None:
    if len(forms) >= MOST_FORMS:
        forms.clear()
    forms[key] = form
