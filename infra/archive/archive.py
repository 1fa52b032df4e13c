"""The archive below one folder: messages in, files by topic, day, hour and partition out; and back, in offset order.

``<folder>/<topic>/<day>/<hour>/<partition>-<first offset>-<first record time>-<checksum>.parquet`` holds record time,
offset, key and value of messages, heartbeats included, so that any period can be computed again to the same bytes.
Hours are of record time, UTC. No file is ever changed and none is shared, so that several workers write at once, and a
partition may move between them: one that died or was thought dead writes some messages twice, and the reader takes each
offset once. When an hour is over its files become one.
"""

from __future__ import annotations

import heapq
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from citybrain.clock import utc
from citybrain.topics import TopicName
from citybrain.wire import Message
from infra.archive.files import HOUR_MS, PARTIAL, SUFFIX, files_of, once, read, remove, table_of, verify, write
from infra.archive.manifest import manifest_path

LEFT_OVER_S = 3600
"""A half-written file so old belongs to nobody any more."""


class Archive:
    """The archive below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, messages: Sequence[Message]) -> int:
        """Write messages, one file for each topic, partition and hour; durable when it returns. Returns their number.

        Raises
        ------
        StoreError
            If the disk does not take them, or has too little space left.
        """
        groups: dict[tuple[TopicName, int, int], list[Message]] = defaultdict(list)
        for message in messages:
            groups[message.topic, message.partition, message.record_ms // HOUR_MS].append(message)
        for (topic, partition, hour), group in groups.items():
            write(self.hour_folder(topic, hour), topic, partition, table_of(group))
        return len(groups)

    def merge(self, topic: TopicName, partition: int, hour_ms: int) -> None:
        """Make one file of the files of a partition's hour; a crash in between leaves some twice, none missing.

        Raises
        ------
        ArchiveDamaged
            If one of them is not what was written: all stay as they are.
        StoreError
            If the disk does not take it.
        """
        folder = self.hour_folder(topic, hour_ms // HOUR_MS)
        files = files_of(folder, partition)
        if len(files) > 1 or any(not manifest_path(file).exists() for file in files):
            try:
                for file in files:
                    verify(file)
                kept = write(folder, topic, partition, read(files))
            except FileNotFoundError:
                return  # another worker, which has the partition too, is doing the same
            for file in files:
                if file != kept:
                    remove(file)
        for scratch in folder.glob(f".{partition}-*{PARTIAL}"):
            if time.time() - scratch.stat().st_mtime > LEFT_OVER_S:
                scratch.unlink(missing_ok=True)

    def unmerged(self, topic: TopicName, partition: int, from_ms: int, to_ms: int) -> list[int]:
        """Return the hours in [from, to) in which a partition has several files: who wrote them may have died."""
        hours = self.hours(topic, from_ms, to_ms)
        return [hour for hour in hours if len(files_of(self.hour_folder(topic, hour), partition)) > 1]

    def retain(self, from_ms: int) -> list[str]:
        """Remove the hours that end before an instant, oldest first; returns their names.

        Raises
        ------
        StoreError
            If a file cannot be removed.
        """
        removed = []
        for topic in sorted(path.name for path in self.folder.glob("*") if path.is_dir()):
            for hour in self.hours(topic, 0, max(0, from_ms // HOUR_MS * HOUR_MS)):  # type: ignore[arg-type]
                folder = self.hour_folder(topic, hour)  # type: ignore[arg-type]
                for file in folder.iterdir():
                    remove(file)
                _remove_empty(folder)
                _remove_empty(folder.parent)
                removed.append(str(folder.relative_to(self.folder)))
        return removed

    def read(self, topic: TopicName, from_ms: int, to_ms: int, *, without: Collection[Path] = ()) -> Iterator[Message]:
        """Yield the messages whose record time lies in [from, to): each partition by offset, partitions by time.

        ``without`` are files to leave out.
        """
        for hour in self.hours(topic, from_ms, to_ms):
            folder = self.hour_folder(topic, hour)
            partitions = partitions_in(folder)
            streams = [self._messages(topic, folder, partition, from_ms, to_ms, without) for partition in partitions]
            yield from (message for *_, message in heapq.merge(*streams, key=lambda item: item[:2]))

    def span(self, topic: TopicName) -> tuple[int, int] | None:
        """Return the first and the end of the last hour that it holds, ms UTC; None where it holds nothing."""
        hours = self.hours(topic, 0, 2**62)
        return (hours[0] * HOUR_MS, (hours[-1] + 1) * HOUR_MS) if hours else None

    def hour_folder(self, topic: TopicName, hour: int) -> Path:
        """Return the folder of an hour, counted since 1970."""
        at = utc(hour * HOUR_MS)
        return self.folder / topic / at.strftime("%Y-%m-%d") / at.strftime("%H")

    def hours(self, topic: TopicName, from_ms: int, to_ms: int) -> list[int]:
        """Return the hours, counted since 1970, that it has a folder for and that [from, to) touches, ascending."""
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
        self, topic: TopicName, folder: Path, partition: int, from_ms: int, to_ms: int, without: Collection[Path]
    ) -> Iterator[tuple[int, int, Message]]:
        """Yield a partition's messages by offset, each behind a time that never falls, by which they are merged."""
        table = self._table(folder, partition, without)
        if table is None:
            return
        offsets, times = table.column("offset").to_pylist(), table.column("record_ms").to_pylist()
        keys, values = table.column("key"), table.column("value")
        passed = 0
        for row, (offset, record_ms) in enumerate(zip(offsets, times, strict=True)):
            passed = max(passed, record_ms)
            if from_ms <= record_ms < to_ms:
                message = Message(topic, partition, offset, record_ms, keys[row].as_py(), values[row].as_py())
                yield passed, partition, message

    @staticmethod
    def _table(folder: Path, partition: int, without: Collection[Path]) -> pa.Table | None:
        """Read an hour of a partition; where a worker makes one file of several meanwhile, that one too."""
        tables: dict[Path, pa.Table] = {}
        vanished = True
        while vanished:
            vanished = False
            for file in files_of(folder, partition):
                if file not in without and file not in tables:
                    try:
                        tables[file] = read([file])
                    except FileNotFoundError:
                        vanished = True
        return once(pa.concat_tables(list(tables.values()))) if tables else None


def partitions_in(folder: Path) -> list[int]:
    """Return the partitions that have a file in an hour's folder."""
    return sorted({int(file.name.split("-")[0]) for file in folder.glob(f"*{SUFFIX}")})


def _remove_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()
