"""One DuckDB file: SQL in, Arrow tables out. One writer, any number of readers, errors as plain sentences.

It knows no tables of ours (``infra.stores.duckdb``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from citybrain.errors import StoreError

SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    # A city may have no internet: an extension that is not there is an error, not a download.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "memory_limit": "256MB",
    "checkpoint_threshold": "32MB",
}


class DuckFile:
    """A DuckDB file that this process owns. Thread-safe: writes one at a time, readers on cursors of their own.

    Raises
    ------
    StoreError
        When it cannot be opened, read or written for now.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._closed = False
        self._database = self._open()
        self._writer = self._database.cursor()

    def _open(self) -> duckdb.DuckDBPyConnection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return duckdb.connect(str(self.path), config=SETTINGS)
        except duckdb.Error as error:
            raise StoreError(_sentence(self.path, error)) from error

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Hold the writer for one transaction: all of it is durable at the end, or none of it."""
        with self._lock:
            self._must_be_open()
            try:
                self._writer.begin()
                yield self._writer
                self._writer.commit()
            except BaseException as error:
                self._undo(error)
                if isinstance(error, duckdb.Error):
                    raise StoreError(_sentence(self.path, error)) from error
                raise

    def _undo(self, error: BaseException) -> None:
        try:
            self._writer.rollback()
        except duckdb.Error:
            # A failed commit (no space) invalidates the whole database object: only a new one can go on.
            error = duckdb.FatalException(str(error))
        if isinstance(error, duckdb.FatalException):
            self._database.close()
            self._database = self._open()
            self._writer = self._database.cursor()

    def query(self, sql: str, parameters: Sequence[object] = ()) -> pa.Table:
        """Return the rows of a SELECT, as of the newest commit."""
        with self.snapshot() as query:
            return query(sql, parameters)

    @contextmanager
    def snapshot(self) -> Iterator[Callable[[str, Sequence[object]], pa.Table]]:
        """Give a function that answers SELECTs, all as of the same commit."""
        self._must_be_open()
        try:
            with self._database.cursor() as cursor:
                cursor.begin()
                yield lambda sql, parameters: cursor.sql(sql, params=list(parameters)).to_arrow_table()
                cursor.rollback()
        except duckdb.Error as error:
            raise StoreError(_sentence(self.path, error)) from error

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the few rows of a SELECT as tuples."""
        self._must_be_open()
        try:
            with self._database.cursor() as cursor:
                return cursor.execute(sql, list(parameters)).fetchall()
        except duckdb.Error as error:
            raise StoreError(_sentence(self.path, error)) from error

    def close(self) -> None:
        """Write what is pending and let go of the file."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._writer.close()
                self._database.close()

    def _must_be_open(self) -> None:
        if self._closed:
            raise StoreError(f"{self.path}: the store is closed")


def insert(writer: duckdb.DuckDBPyConnection, table: str, columns: Mapping[str, object]) -> None:
    """Append columns (Arrow arrays or equally long arrays) to a table, by name."""
    rows = pa.table(dict(columns))
    writer.register("incoming", rows)
    try:
        writer.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")  # noqa: S608 - names are ours
    finally:
        writer.unregister("incoming")


def in_order(rows: pa.Table, first: str, second: str) -> pa.Table:
    """Return the rows by two columns of whole numbers. Most were written in that order: looking is less than sorting.

    Examples
    --------
    >>> in_order(pa.table({"at": [2, 1, 1], "row": [0, 9, 8]}), "at", "row").to_pydict()
    {'at': [1, 1, 2], 'row': [8, 9, 0]}
    """
    major, minor = rows.column(first).to_numpy(), rows.column(second).to_numpy()
    step = np.diff(major)
    if np.all((step > 0) | (step == 0) & (np.diff(minor) >= 0)):
        return rows
    return rows.take(np.lexsort((minor, major)))


def _sentence(path: Path, error: duckdb.Error) -> str:
    text = str(error)
    if "Could not set lock" in text or "already open" in text or "being used by another process" in text:
        return f"{path}: another process holds this file; only one process at a time may open a DuckDB store"
    if "No space left" in text or "not enough space" in text:
        return f"{path}: no space left on the disk"
    return f"{path}: {text.splitlines()[0] if text else type(error).__name__}"
