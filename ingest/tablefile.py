"""One CSV or Parquet file of detector values: blocks of columns out, in UTC and in our units; bad rows refused.

Order and batches are `ingest.tables`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from citybrain.errors import ConfigError, FeedError, Reason
from citybrain.messages import DeadLetter
from citybrain.network import Network
from citybrain.records import FloatArray, IntArray, LongArray
from citybrain.settings import Metric, TableFeed
from citybrain.units import KMH_PER_MPH, KMH_PER_MS, MS_PER_H

METRICS: tuple[Metric, ...] = get_args(Metric)
EXCERPT = 300
STAGE = "tables"
NO_VALUE = ["", "-", "nan", "NaN", "NA", "N/A", "n/a", "null", "NULL", "None"]

_SPEED = {"km/h": 1.0, "mph": KMH_PER_MPH, "m/s": KMH_PER_MS}
_SHARE = {"share": 1.0, "percent": 0.01}
_TIME = {"s": 1.0, "min": 60.0}
_PERIOD_MS = {"h": MS_PER_H, "min": 60_000, "s": 1000}
_ZONE = r"(?:Z|z|[+-]\d{2}(?::?\d{2})?)$"
_CLOCK_AND_ZONE = re.compile(r":\d{2}(?:[.,]\d+)?\s*" + _ZONE)
_NUMBER = r"^\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*$"


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Readable rows of known detectors; arrays have shape (n,), ``values`` (metrics, n) in the order of `METRICS`."""

    detector: IntArray
    to_ms: LongArray
    values: FloatArray

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.detector)

    def take(self, rows: npt.NDArray[Any] | slice) -> Rows:
        """Return some rows."""
        return Rows(self.detector[rows], self.to_ms[rows], self.values[:, rows])

    @classmethod
    def joined(cls, parts: list[Rows]) -> Rows:
        """Return the rows of all parts, one after the other."""
        return cls(
            np.concatenate([part.detector for part in parts]),
            np.concatenate([part.to_ms for part in parts]),
            np.concatenate([part.values for part in parts], axis=1),
        )


@dataclass
class Refused:
    """Rows of one file that cannot be used: one dead letter a reason, with the first row and the number of all."""

    source: str
    file: str
    stage: str = STAGE
    letters: dict[Reason, DeadLetter] = field(default_factory=dict)

    def add(self, reason: Reason, detail: str, *, row: int, count: int, excerpt: str) -> None:
        """Count rows; the first of a reason is told."""
        before = self.letters.get(reason)
        if before is not None:
            count += before.count
            detail, row, excerpt = before.detail, before.offset, before.excerpt
        self.letters[reason] = DeadLetter(
            reason=reason,
            detail=detail,
            stage=self.stage,
            topic=self.file,
            partition=-1,
            offset=row,
            source=self.source,
            record_ms=0,
            count=count,
            excerpt=excerpt[:EXCERPT],
        )


def factor(metric: Metric, unit: str, interval_ms: int) -> float:
    """Return what a value in ``unit`` is multiplied with to be in the unit of ``metric``.

    Raises
    ------
    ConfigError
        If the unit is none of this metric.

    Examples
    --------
    >>> factor("flow_vph", "veh/5min", 300_000), factor("flow_vph", "veh", 30_000), factor("speed_kmh", "m/s", 1)
    (12.0, 120.0, 3.6)
    """
    tables = {"speed_kmh": _SPEED, "occupancy": _SHARE, "travel_time_s": _TIME}
    if metric in tables:
        known = tables[metric]
        if unit in known:
            return known[unit]
        raise ConfigError(f"metric {metric}: unit {unit!r} seen, {', '.join(known)} allowed")
    period_ms = interval_ms if unit == "veh" else _period_ms(unit)
    if not period_ms:
        raise ConfigError(f"metric {metric}: unit {unit!r} seen, veh, veh/h, veh/5min (any interval) allowed")
    return interval_ms / period_ms if metric == "count_veh" else MS_PER_H / period_ms


def _period_ms(unit: str) -> int:
    match = re.fullmatch(r"veh/(\d*)(h|min|s)", unit)
    return int(match[1] or 1) * _PERIOD_MS[match[2]] if match else 0


def instants_ms(stamps: list[str], feed: TableFeed) -> tuple[LongArray, npt.NDArray[np.bool_]]:
    """Return the stamps as ms UTC, and which of them could be read.

    A repeated hour at the end of daylight saving is taken as the first; a time that the zone's clocks leap over
    cannot be read.
    """
    text = pd.Series(stamps, dtype="str").str.strip()
    pattern = "ISO8601" if feed.time_format == "iso" else feed.time_format
    zoned = text.str.contains(_CLOCK_AND_ZONE) if feed.time_format == "iso" else pd.Series("%z" in pattern, text.index)
    if feed.ignore_zone:
        text = text.where(~zoned, text.str.replace(_ZONE, "", regex=True).str.rstrip())
        pattern, zoned = pattern.replace("%z", "").rstrip(), zoned & False
    instants = pd.Series(pd.NaT, index=text.index, dtype="datetime64[us, UTC]")
    if zoned.any():
        instants[zoned] = pd.to_datetime(text[zoned], format=pattern, errors="coerce", utc=True)
    if not zoned.all():
        naive = pd.to_datetime(text[~zoned], format=pattern, errors="coerce").astype("datetime64[us]")
        first = np.ones(len(naive), dtype=np.bool_)
        local = naive.dt.tz_localize(feed.timezone, ambiguous=first, nonexistent="NaT")
        instants[~zoned] = local.dt.tz_convert("UTC")
    readable = instants.notna().to_numpy()
    whole = instants.dt.tz_localize(None).to_numpy().astype("datetime64[ms]").astype(np.int64)
    return np.where(readable, whole, 0), readable


class TableFile:
    """One file of a feed.

    Parameters
    ----------
    path
        ``.csv`` (also ``.gz``, ``.bz2``, ``.zst``) or ``.parquet``.
    feed
        How it is to be read.
    network
        Whose detectors it names.
    """

    def __init__(self, path: Path, feed: TableFeed, network: Network) -> None:
        self.path = path
        self.refused = Refused(feed.name, path.name)
        self._feed = feed
        self._detectors: Mapping[str, int] = {str(name): row for row, name in enumerate(network.detectors.id)}
        self._lanes = network.detectors.lanes
        self._interval_ms = round(feed.interval.total_seconds() * 1000)
        self._factors = {
            metric: factor(metric, column.unit, self._interval_ms) for metric, column in feed.metrics.items()
        }

    def rows(self, block_bytes: int = 2**20) -> Iterator[Rows]:
        """Yield the file's rows in blocks, in the file's order; what cannot be used is in `refused` then.

        Raises
        ------
        FeedError
            If the file cannot be read or lacks a column.
        """
        self.refused = Refused(self._feed.name, self.path.name)
        at = 0
        for block in self._blocks(self._columns, block_bytes):
            yield self._rows(block, at)
            at += block.num_rows

    def span(self) -> tuple[int, int, bool]:
        """Return the first and the last end of an interval, ms UTC, and whether they come in order; 0, -1 if none."""
        first, last, before, in_order = 0, -1, -1, True
        for block in self._blocks([self._feed.time_column], 2**22):
            to_ms, readable = self._to_ms(block.column(0))
            to_ms = to_ms[readable]
            if not len(to_ms):
                continue
            low, high = int(to_ms.min()), int(to_ms.max())
            in_order = in_order and int(to_ms[0]) >= before and bool((np.diff(to_ms) >= 0).all())
            first, last, before = (low if last < 0 else min(first, low)), max(last, high), int(to_ms[-1])
        return first, last, in_order

    @cached_property
    def _columns(self) -> list[str]:
        metrics = [column.column for column in self._feed.metrics.values()]
        return list(
            dict.fromkeys([self._feed.detector_column, self._feed.time_column, *metrics, *self._feed.keep_where])
        )

    def _blocks(self, columns: list[str], block_bytes: int) -> Iterator[pa.RecordBatch]:
        try:
            blocks = self._parquet(columns) if ".parquet" in self.path.suffixes else self._csv(columns, block_bytes)
            for block in blocks:
                yield block.select(columns)
        except (pa.ArrowInvalid, pa.ArrowKeyError, pa.ArrowTypeError, OSError, UnicodeDecodeError) as error:
            raise FeedError(f"{self.path}: cannot be read as a table ({_first_line(error)})") from error

    def _parquet(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(self.path) as file:
            self._need(columns, file.schema_arrow.names)
            yield from file.iter_batches(batch_size=65_536, columns=columns)

    def _csv(self, columns: list[str], block_bytes: int) -> Iterator[pa.RecordBatch]:
        delimiter = self._delimiter()
        with (
            pa.input_stream(str(self.path), compression="detect") as stream,
            pa_csv.open_csv(
                stream,
                read_options=pa_csv.ReadOptions(use_threads=False, block_size=block_bytes),
                parse_options=pa_csv.ParseOptions(delimiter=delimiter, invalid_row_handler=self._skip),
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(columns, pa.string()),
                    include_columns=columns,
                    strings_can_be_null=True,
                    null_values=NO_VALUE,
                ),
            ) as reader,
        ):
            yield from reader

    def _delimiter(self) -> str:
        with pa.input_stream(str(self.path), compression="detect") as stream:
            header = stream.read(65_536).splitlines()[:1]
        names = header[0].decode("utf-8-sig") if header else ""
        for delimiter in (",", ";", "\t", "|"):
            seen = [name.strip().strip('"') for name in names.split(delimiter)]
            if self._feed.time_column in seen:
                self._need(self._columns, seen)
                return delimiter
        raise FeedError(f"{self.path}: no column {self._feed.time_column!r}; its first line is {names[:200]!r}")

    def _need(self, columns: list[str], seen: list[str]) -> None:
        absent = [name for name in columns if name not in seen]
        if absent:
            raise FeedError(f"{self.path}: column {', '.join(map(repr, absent))} needed, seen {', '.join(seen)}")

    def _skip(self, row: pa_csv.InvalidRow) -> str:
        detail = f"{row.actual_columns} columns seen, {row.expected_columns} allowed"
        self.refused.add("malformed", detail, row=row.number or -1, count=1, excerpt=row.text)
        return "skip"

    def _rows(self, block: pa.RecordBatch, at: int) -> Rows:
        kept = self._kept(block)
        detector, known, absent = self._detector(block.column(self._feed.detector_column))
        to_ms, in_time = self._to_ms(block.column(self._feed.time_column))
        values = np.full((len(METRICS), block.num_rows), np.nan)
        readable = in_time & ~absent
        for metric, column in self._feed.metrics.items():
            values[METRICS.index(metric)], right = self._values(metric, block.column(column.column), detector)
            readable &= right
        self._refuse(block, at, kept & ~readable, "malformed")
        self._refuse(block, at, kept & readable & ~known, "unknown_detector")
        good = kept & readable & known
        rows = Rows(detector, to_ms, values)
        return rows if good.all() else rows.take(good)

    def _kept(self, block: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        kept = np.ones(block.num_rows, dtype=np.bool_)
        for name, wanted in self._feed.keep_where.items():
            text = pc.utf8_trim_whitespace(block.column(name).cast(pa.string()))
            kept &= pc.fill_null(pc.equal(text, wanted), False).to_numpy(zero_copy_only=False)
        return kept

    def _detector(self, column: pa.Array) -> tuple[IntArray, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        codes, names = _coded(column.cast(pa.string()))
        rows = np.array([self._detectors.get(name.strip(), -1) for name in names] + [-1], dtype=np.int32)
        detector = rows[codes]
        return np.maximum(detector, 0), detector >= 0, codes < 0

    def _to_ms(self, column: pa.Array) -> tuple[LongArray, npt.NDArray[np.bool_]]:
        if pa.types.is_timestamp(column.type):
            zoned = column.type.tz is not None and not self._feed.ignore_zone
            suffix = "Z" if zoned else ""
            naive = column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64()).cast(pa.timestamp("us"))
            column = pc.binary_join_element_wise(naive.cast(pa.string()), suffix, "")
            feed = replace(self._feed, time_format="iso")
        else:
            feed = self._feed
        codes, stamps = _coded(column.cast(pa.string()))
        instants, readable = instants_ms(stamps, feed)
        if feed.stamp_edge == "start":
            instants = instants + self._interval_ms
        # The code of an empty stamp is -1: the entry appended here.
        return np.append(instants, 0)[codes], np.append(readable, False)[codes]

    def _values(self, metric: Metric, column: pa.Array, detector: IntArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        number, right = _numbers(column)
        for missing in self._feed.missing:
            number[number == missing] = np.nan
        scale = self._factors[metric]
        if scale != 1.0:
            number *= scale
        if self._feed.scope == "lane" and metric in ("flow_vph", "count_veh"):
            number *= self._lanes[detector]
        return number, right

    def _refuse(self, block: pa.RecordBatch, at: int, bad: npt.NDArray[np.bool_], reason: Reason) -> None:
        if not bad.any():
            return
        first = int(np.flatnonzero(bad)[0])
        row = {name: str(value) for name, value in block.slice(first, 1).to_pylist()[0].items()}
        excerpt = ", ".join(f"{name}={value}" for name, value in row.items())
        if reason == "unknown_detector":
            detail = f"detector {row[self._feed.detector_column]!r} seen, a detector of the network allowed"
        else:
            detail = f"a detector, a time ({self._feed.time_format}) and numbers allowed, seen {excerpt}"
        self.refused.add(reason, detail, row=at + first, count=int(bad.sum()), excerpt=excerpt)


def _coded(text: pa.Array) -> tuple[npt.NDArray[np.int64], list[str]]:
    # A table names few detectors and few times, many times over: each is read once.
    coded = text.dictionary_encode()
    codes = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, coded.dictionary.to_pylist()


def _numbers(column: pa.Array) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    right = np.ones(len(column), dtype=np.bool_)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = pc.utf8_trim_whitespace(column)
        try:
            number = column.cast(pa.float64())
        except pa.ArrowInvalid:
            is_number = pc.match_substring_regex(column, _NUMBER)
            right = pc.fill_null(is_number, True).to_numpy(zero_copy_only=False)
            number = pc.if_else(is_number, column, pa.scalar(None, pa.string())).cast(pa.float64())
    else:
        number = column.cast(pa.float64())
    values = np.array(pc.fill_null(number, np.nan).to_numpy(zero_copy_only=False), dtype=np.float64)
    infinite = np.isinf(values)
    return values, right & ~infinite


def _first_line(error: Exception) -> str:
    return next(islice(str(error).splitlines(), 1), type(error).__name__)[:200]
