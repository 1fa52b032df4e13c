"""Archive: messages of raw topics in, Parquet files by topic, day and hour out; and back, in offset order.

``<folder>/<topic>/<day>/<hour>/<partition>-<first offset>-<first record time>.parquet`` holds record time, offset, key
and value of messages, heartbeats included, so that any period can be computed again to the same bytes. Hours are of
record time, UTC. A file appears whole or not at all; a worker that died writes the same messages again, and the reader
takes each offset once. When an hour is over its files become one.
"""

from __future__ import annotations

import heapq
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from citybrain.clock import utc
from citybrain.errors import StoreError
from citybrain.topics import TopicName
from citybrain.wire import Message

HOUR_MS = 3_600_000
SCHEMA = pa.schema([("offset", pa.int64()), ("record_ms", pa.int64()), ("key", pa.binary()), ("value", pa.binary())])
SUFFIX = ".parquet"
PARTIAL = ".partial"


class Archive:
    """The archive below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, messages: Sequence[Message]) -> int:
        """Write messages, one file for each topic, partition and hour; durable when it returns. Returns their number.

        Raises
        ------
        StoreError
            If the disk does not take them.
        """
        groups: dict[tuple[TopicName, int, int], list[Message]] = defaultdict(list)
        for message in messages:
            groups[message.topic, message.partition, message.record_ms // HOUR_MS].append(message)
        try:
            for (topic, partition, hour), group in groups.items():
                _write(self._hour(topic, hour), partition, _table(group))
        except OSError as error:
            raise StoreError(f"archive {self.folder}: cannot be written ({error.strerror})") from error
        return len(groups)

    def merge(self, topic: TopicName, partition: int, hour_ms: int) -> None:
        """Make one file of the files of a partition's hour; a crash in between leaves some twice, none missing."""
        folder = self._hour(topic, hour_ms // HOUR_MS)
        files = _files(folder, partition)
        if len(files) > 1:
            try:
                kept = _write(folder, partition, _read(files))
                for file in files:
                    if file != kept:
                        file.unlink(missing_ok=True)
            except OSError as error:
                raise StoreError(f"archive {folder}: cannot be written ({error.strerror})") from error

    def read(self, topic: TopicName, from_ms: int, to_ms: int) -> Iterator[Message]:
        """Yield the messages whose record time lies in [from, to): each partition by offset, partitions by time."""
        for hour in self._hours(topic, from_ms, to_ms):
            folder = self._hour(topic, hour)
            partitions = sorted({int(file.name.split("-")[0]) for file in folder.glob(f"*{SUFFIX}")})
            streams = [self._messages(topic, folder, partition, from_ms, to_ms) for partition in partitions]
            yield from (message for *_, message in heapq.merge(*streams, key=lambda item: item[:2]))

    def span(self, topic: TopicName) -> tuple[int, int] | None:
        """Return the first and the end of the last hour that it holds, ms UTC; None where it holds nothing."""
        hours = self._hours(topic, 0, 2**62)
        return (hours[0] * HOUR_MS, (hours[-1] + 1) * HOUR_MS) if hours else None

    def _hour(self, topic: TopicName, hour: int) -> Path:
        at = utc(hour * HOUR_MS)
        return self.folder / topic / at.strftime("%Y-%m-%d") / at.strftime("%H")

    def _hours(self, topic: TopicName, from_ms: int, to_ms: int) -> list[int]:
        found = []
        for folder in (self.folder / topic).glob("*/*"):
            try:
                at = datetime.strptime(f"{folder.parent.name} {folder.name}", "%Y-%m-%d %H").replace(tzinfo=UTC)
            except ValueError:
                continue  # not ours
            hour = int(at.timestamp()) * 1000 // HOUR_MS
            if from_ms // HOUR_MS <= hour <= (to_ms - 1) // HOUR_MS:
                found.append(hour)
        return sorted(found)

    def _messages(
        self, topic: TopicName, folder: Path, partition: int, from_ms: int, to_ms: int
    ) -> Iterator[tuple[int, int, Message]]:
        """Yield a partition's messages by offset, each behind a time that never falls, by which they are merged."""
        table = _read(_files(folder, partition))
        offsets, times = table.column("offset").to_pylist(), table.column("record_ms").to_pylist()
        keys, values = table.column("key"), table.column("value")
        passed = 0
        for row, (offset, record_ms) in enumerate(zip(offsets, times, strict=True)):
            passed = max(passed, record_ms)
            if from_ms <= record_ms < to_ms:
                message = Message(topic, partition, offset, record_ms, keys[row].as_py(), values[row].as_py())
                yield passed, partition, message


def _files(folder: Path, partition: int) -> list[Path]:
    return sorted(folder.glob(f"{partition}-*{SUFFIX}"))


def _table(messages: Iterable[Message]) -> pa.Table:
    rows = [(m.offset, m.record_ms, m.key, m.value) for m in messages]
    columns = zip(*rows, strict=True)
    return pa.table([pa.array(column, kind) for column, kind in zip(columns, SCHEMA.types, strict=True)], schema=SCHEMA)


def _write(folder: Path, partition: int, table: pa.Table) -> Path:
    """Write one file, under its name only when it is whole and on the disk."""
    first = (table.column(name)[0].as_py() for name in ("offset", "record_ms"))
    path = folder / ("-".join([str(partition), *(f"{number:015d}" for number in first)]) + SUFFIX)
    folder.mkdir(parents=True, exist_ok=True)
    if path.exists():
        # Written again from the same offset, maybe less of it: what was there stays.
        table = _once(pa.concat_tables([pq.read_table(path, schema=SCHEMA), table]))
    scratch = path.with_suffix(PARTIAL)
    with scratch.open("wb") as sink:
        pq.write_table(table, sink, compression="zstd", use_dictionary=False, write_statistics=["offset", "record_ms"])
        sink.flush()
        os.fsync(sink.fileno())
    scratch.replace(path)
    return path


def _read(files: Sequence[Path]) -> pa.Table:
    """Return the rows of some files by offset, each offset once."""
    try:
        tables = [pq.read_table(file, schema=SCHEMA) for file in files]
    except (OSError, pa.ArrowInvalid) as error:
        raise StoreError(f"archive: {files[0].parent} cannot be read ({error})") from error
    return _once(pa.concat_tables(tables))


def _once(table: pa.Table) -> pa.Table:
    """Return the rows by offset, each offset once."""
    table = table.combine_chunks()
    order = cast(Any, pa.compute).sort_indices(table, sort_keys=[("offset", "ascending"), ("record_ms", "ascending")])
    table = table.take(order)
    offsets, times = table.column("offset").to_numpy(), table.column("record_ms").to_numpy()
    repeated = (offsets[1:] == offsets[:-1]) & (times[1:] == times[:-1])
    return table.filter(pa.array([True, *(~repeated).tolist()])) if repeated.any() else table
