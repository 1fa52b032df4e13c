"""Records in, one Parquet file an hour out, batch by batch: no hour is ever held in memory.

``readings/<hour>.parquet`` and ``passages/<hour>.parquet``; an interval that ends on the hour is in the hour before.
A file that is not finished ends in ``.partial``.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from citybrain.arrowcolumns import arrow_column, arrow_table
from citybrain.clock import utc
from citybrain.records import RECORD_NAMES, Passages, Readings
from citybrain.units import MS_PER_H

Batch = Readings | Passages
GROUP_ROWS = 2**16
"""Rows that are held until they are written together: fewer would pack badly, more would be memory."""
_SCALARS = {"str", "int"}


class GrowingFile:
    """A Parquet file that is written table by table, and has its name once it is whole."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        self._writer = pq.ParquetWriter(path.with_suffix(".partial"), schema, compression="zstd")

    def write(self, table: pa.Table) -> None:
        """Append a table."""
        self._writer.write_table(table, row_group_size=GROUP_ROWS)

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()
        self._path.with_suffix(".partial").replace(self._path)


class HourFiles:
    """Writes batches of one record that come by rising watermark.

    Parameters
    ----------
    folder
        Where the record's folder is made.
    kind
        The record.

    Attributes
    ----------
    rows
        Rows taken so far.
    """

    def __init__(self, folder: Path, kind: type[Batch] = Readings) -> None:
        self.rows = 0
        self._folder = folder / RECORD_NAMES[kind]
        self._hour = -1
        self._file: GrowingFile | None = None
        self._waiting: list[pa.Table] = []

    def write(self, batch: Batch) -> None:
        """Append a batch to the file of its hour."""
        table = table_of(batch)
        hour = (batch.watermark_ms - 1) // MS_PER_H
        if self._file is None or hour != self._hour:
            self.close()
            self._open(hour, table.schema)
        self._waiting.append(table)
        self.rows += len(table)
        if sum(map(len, self._waiting)) >= GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """Finish the file of the hour."""
        if self._file is not None:
            self._flush()
            self._file.close()
            self._file = None

    def _open(self, hour: int, schema: pa.Schema) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._hour = hour
        stamp = utc(hour * MS_PER_H).strftime("%Y%m%dT%H")
        self._file = GrowingFile(self._folder / f"{stamp}.parquet", schema)

    def _flush(self) -> None:
        if self._file is not None and self._waiting:
            self._file.write(pa.concat_tables(self._waiting))
            self._waiting = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def table_of(batch: Batch) -> pa.Table:
    """Return a batch as a table, with when it was received, its watermark and its source in every row."""
    columns: dict[str, Any] = {f.name: getattr(batch, f.name) for f in fields(batch) if f.type not in _SCALARS}
    rows = len(next(iter(columns.values())))
    same = {name: np.full(rows, getattr(batch, name), np.int64) for name in ("received_ms", "watermark_ms")}
    code = arrow_column(np.zeros(rows, np.int8))
    source = pa.DictionaryArray.from_arrays(code, arrow_column(np.array([batch.source])))
    return arrow_table({**columns, **same, "source": source})
