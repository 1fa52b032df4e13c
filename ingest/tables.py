"""Table archives: the files of a `TableFeed` in, `Readings` in time order out.

A file that is in time order is streamed; one that is not is held whole while it is read, at 56 bytes a row. Files
whose times overlap are merged, each with a block in memory. Dead letters are in `TableArchive.refused`.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from citybrain.errors import ConfigError
from citybrain.messages import DeadLetter
from citybrain.network import Network
from citybrain.records import ByteArray, FloatArray, LongArray, Quality, Readings
from citybrain.settings import SumoFeed, TableFeed
from ingest.publish import heartbeat
from ingest.tablefile import METRICS, Rows, TableFile

MERGE_BYTES = 64 * 2**20
CLOSING_MS = 600_000
NO_VEHICLE = np.uint8(Quality.NO_VEHICLE)


@dataclass(slots=True)
class _Part:
    """A file, from when to when it reaches, and whether it is in order."""

    file: TableFile
    first_ms: int
    last_ms: int
    in_order: bool


class TableArchive:
    """The archive of one table feed.

    Parameters
    ----------
    feed
        Where it is and how it is to be read.
    network
        Whose detectors it names.
    folder
        The city folder: relative globs begin there.
    data
        What ``{data}`` in the glob stands for.
    rows_per_batch
        0 makes a batch of all rows that end together, for playing at a pace; a number fills batches with so many
        rows, for reading as fast as it goes.

    Raises
    ------
    ConfigError
        If no file matches, ``{data}`` is needed and not given, or a unit is wrong.
    """

    def __init__(
        self, feed: TableFeed, network: Network, folder: Path, *, data: Path | None = None, rows_per_batch: int = 0
    ) -> None:
        self._feed = feed
        self._network = network
        self._rows_per_batch = rows_per_batch
        self._files = [TableFile(path, feed, network) for path in files_of(feed, folder, data)]
        self._scanned: list[_Part] | None = None
        self._undated: list[TableFile] = []

    @property
    def refused(self) -> list[DeadLetter]:
        """Rows that could not be used, as far as has been read: one letter a file and reason, with their number."""
        return [
            msgspec.structs.replace(letter, record_ms=self.span_ms[1])
            for file in self._files
            for letter in file.refused.letters.values()
        ]

    @property
    def span_ms(self) -> tuple[int, int]:
        """First and last end of an interval in the archive, ms UTC; raises `FeedError` on an unreadable file."""
        parts = self._parts()
        return min((part.first_ms for part in parts), default=0), max((part.last_ms for part in parts), default=0)

    def batches(self, from_ms: int | None = None, to_ms: int | None = None) -> Iterator[Readings]:
        """Yield the readings that end after ``from_ms`` and begin before ``to_ms``, in time order.

        ``received_ms`` is the end of a batch's last interval; the watermark the latest end of which every row has
        been given. After the last row comes a batch without rows, whose watermark lies ten minutes ahead: nothing
        more will come, so that the last panes close.
        """
        interval_ms = round(self._feed.interval.total_seconds() * 1000)
        low = -(2**62) if from_ms is None else from_ms
        high = 2**62 if to_ms is None else to_ms + interval_ms
        parts = [part for part in self._parts() if part.last_ms > low and part.first_ms < high]
        for file in self._undated:
            for _ in file.rows():
                pass
        inside = (_within(rows, low, high) for rows in _in_order(parts))
        last_ms = None
        for rows, complete_ms in _cut((rows for rows in inside if len(rows)), self._rows_per_batch):
            last_ms = int(rows.to_ms[-1])
            yield self._readings(rows, interval_ms, last_ms, complete_ms)
        if last_ms is not None:
            end_ms = last_ms + CLOSING_MS
            yield heartbeat(self._network.version, self._feed.name, end_ms, end_ms)

    def _parts(self) -> list[_Part]:
        if self._scanned is None:
            parts = [_Part(file, *file.span()) for file in self._files]
            self._scanned = [part for part in parts if part.last_ms >= 0]
            # Without one readable time a file has nothing to give but its dead letters.
            self._undated = [part.file for part in parts if part.last_ms < 0]
        return self._scanned

    def _readings(self, rows: Rows, interval_ms: int, received_ms: int, watermark_ms: int) -> Readings:
        value: dict[str, FloatArray] = {str(name): rows.values[at] for at, name in enumerate(METRICS)}
        flow = np.where(np.isnan(value["flow_vph"]), value["count_veh"], value["flow_vph"])
        return Readings(
            network=self._network.version,
            source=self._feed.name,
            received_ms=received_ms,
            watermark_ms=watermark_ms,
            detector=rows.detector,
            observed_from_ms=rows.to_ms - interval_ms,
            observed_to_ms=rows.to_ms,
            **value,
            speed_kind=np.zeros(len(rows), dtype=np.uint8),
            quality_flow=_quality(flow),
            quality_speed=np.where(
                np.isnan(value["speed_kmh"]) & (flow == 0), NO_VEHICLE, _quality(value["speed_kmh"])
            ),
            quality_occupancy=_quality(value["occupancy"]),
            quality_travel_time=_quality(value["travel_time_s"]),
        )


def files_of(feed: TableFeed | SumoFeed, folder: Path, data: Path | None = None) -> list[Path]:
    """Return the files of the feed, sorted by name.

    Raises
    ------
    ConfigError
        If there are none.
    """
    pattern = feed.files
    if "{data}" in pattern:
        if data is None:
            raise ConfigError(f"feed {feed.name!r}: files {pattern!r}: no folder given that {{data}} stands for")
        pattern = pattern.replace("{data}", glob.escape(str(data)))
    rooted = pattern if Path(pattern).is_absolute() else str(Path(glob.escape(str(folder))) / pattern)
    found = sorted(Path(name) for name in glob.glob(rooted, recursive=True))
    if not found:
        raise ConfigError(f"feed {feed.name!r}: no file matches {rooted!r}")
    return found


def _quality(values: FloatArray) -> ByteArray:
    return np.where(np.isnan(values), np.uint8(Quality.MISSING), np.uint8(Quality.OK))


def _within(rows: Rows, low_ms: int, high_ms: int) -> Rows:
    inside = (rows.to_ms > low_ms) & (rows.to_ms < high_ms)
    return rows if inside.all() else rows.take(inside)


def _in_order(parts: list[_Part]) -> Iterator[Rows]:
    """Yield all rows in order of their end: groups of overlapping files one after the other."""
    group: list[_Part] = []
    reach_ms = 0
    for part in sorted(parts, key=lambda part: part.first_ms):
        if group and part.first_ms > reach_ms:
            yield from _merged(group)
            group = []
        group.append(part)
        reach_ms = max(reach_ms, part.last_ms) if len(group) > 1 else part.last_ms
    if group:
        yield from _merged(group)


def _merged(group: list[_Part]) -> Iterator[Rows]:
    streams = [_sorted_blocks(part, MERGE_BYTES // len(group)) for part in group]
    if len(streams) == 1:
        yield from streams[0]
        return
    held: list[list[Rows]] = [[] for _ in streams]
    open_ = set(range(len(streams)))
    while open_:
        # Every stream has shown its rows up to the least of the newest ends seen: what lies before is complete.
        behind = min(open_, key=lambda at: held[at][-1].to_ms[-1] if held[at] else -(2**62))
        block = next(streams[behind], None)
        if block is None:
            open_.discard(behind)
        elif len(block):
            held[behind].append(block)
        if any(not held[at] for at in open_):
            continue
        horizon_ms = min((int(held[at][-1].to_ms[-1]) for at in open_), default=2**62)
        ready = []
        for at, blocks in enumerate(held):
            if not blocks:
                continue
            rows = Rows.joined(blocks)
            cut = int(np.searchsorted(rows.to_ms, horizon_ms, side="left"))
            ready.append(rows.take(slice(0, cut)))
            # An open stream keeps at least its newest end.
            held[at] = [rows.take(slice(cut, None))] if cut < len(rows) else []
        together = Rows.joined(ready) if ready else None
        if together is not None and len(together):
            yield together.take(np.argsort(together.to_ms, kind="stable"))


def _sorted_blocks(part: _Part, block_bytes: int) -> Iterator[Rows]:
    blocks = part.file.rows(min(max(block_bytes, 2**16), 2**20))
    if part.in_order:
        yield from blocks
        return
    whole = Rows.joined(list(blocks))
    yield whole.take(np.argsort(whole.to_ms, kind="stable"))


def _cut(blocks: Iterator[Rows], rows_per_batch: int) -> Iterator[tuple[Rows, int]]:
    """Cut ordered rows into batches; with each comes the latest end of which every row has been given."""
    held: Rows | None = None
    complete_ms = -1
    for block in blocks:
        rows = block if held is None else Rows.joined([held, block])
        if complete_ms < 0:
            complete_ms = int(rows.to_ms[0]) - 1
        # The newest end may go on in the next block.
        sure = int(np.searchsorted(rows.to_ms, rows.to_ms[-1], side="left"))
        bounds = _bounds(rows.to_ms[:sure], rows_per_batch)
        for begin, end in bounds:
            batch = rows.take(slice(begin, end))
            complete_ms = _complete(rows.to_ms, end, complete_ms)
            yield batch, complete_ms
        held = rows.take(slice(bounds[-1][1] if bounds else 0, None))
    if held is not None and len(held):
        ends = _bounds(held.to_ms, rows_per_batch, last=True)
        for begin, end in ends:
            complete_ms = int(held.to_ms[-1]) if end == len(held) else _complete(held.to_ms, end, complete_ms)
            yield held.take(slice(begin, end)), complete_ms


def _complete(to_ms: LongArray, end: int, before_ms: int) -> int:
    """Return the latest end that is complete once rows up to ``end`` are given, with more rows after them."""
    last_ms = int(to_ms[end - 1])
    if int(to_ms[end]) > last_ms:
        return last_ms
    earlier = int(np.searchsorted(to_ms, last_ms, side="left"))
    return max(before_ms, int(to_ms[earlier - 1])) if earlier else before_ms


def _bounds(to_ms: LongArray, rows_per_batch: int, *, last: bool = False) -> list[tuple[int, int]]:
    if not len(to_ms):
        return []
    if rows_per_batch:
        ends = np.arange(rows_per_batch, len(to_ms) + 1, rows_per_batch)
        if last and (not len(ends) or ends[-1] < len(to_ms)):
            ends = np.append(ends, len(to_ms))
    else:
        ends = np.append(np.flatnonzero(np.diff(to_ms)) + 1, len(to_ms))
    return list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)) if len(ends) else []
