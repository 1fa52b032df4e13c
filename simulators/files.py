"""Batches of a simulated city in, Parquet files by hour out: for analysts and tests, without a broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from citybrain.clock import utc
from citybrain.records import RECORD_NAMES, Passages, Readings
from citybrain.units import MS_PER_H

Batch = Readings | Passages
_SCALARS = {"str", "int"}


def write_batches(
    batches: Iterator[Batch], until_ms: int, folder: Path, told: Callable[[int], object] = lambda _: None
) -> dict[str, int]:
    """Write what was observed before an instant to ``readings/`` and ``passages/``, one file an hour.

    Parameters
    ----------
    batches
        As they come, by rising watermark; may be endless.
    until_ms
        Intervals that end after it are not written, ms UTC.
    folder
        Where the folders are made.
    told
        Hears the watermark after every batch, ms UTC.

    Returns
    -------
    dict[str, int]
        Rows written, by record.
    """
    rows = dict.fromkeys((RECORD_NAMES[Readings], RECORD_NAMES[Passages]), 0)
    waiting: list[Batch] = []
    for batch in batches:
        over = batch.watermark_ms > until_ms
        if waiting and (over or _hour(batch) != _hour(waiting[0])):
            _write(waiting, folder)
            waiting = []
        if over:
            break
        waiting.append(batch)
        rows[RECORD_NAMES[type(batch)]] += len(batch.detector if isinstance(batch, Readings) else batch.camera)
        told(batch.watermark_ms)
    if waiting:
        _write(waiting, folder)
    return rows


def _hour(batch: Batch) -> int:
    # An interval that ends on the hour belongs to the hour before.
    return (batch.watermark_ms - 1) // MS_PER_H


def _write(batches: list[Batch], folder: Path) -> None:
    stamp = utc(_hour(batches[0]) * MS_PER_H).strftime("%Y%m%dT%H")
    for kind in (Readings, Passages):
        tables = [_table(batch) for batch in batches if isinstance(batch, kind)]
        if tables:
            path = folder / RECORD_NAMES[kind] / f"{stamp}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.concat_tables(tables), path, compression="zstd")


def _table(batch: Batch) -> pa.Table:
    columns: dict[str, Any] = {f.name: getattr(batch, f.name) for f in fields(batch) if f.type not in _SCALARS}
    rows = len(next(iter(columns.values())))
    return pa.table({**columns, "received_ms": pa.array([batch.received_ms] * rows, pa.int64())})
