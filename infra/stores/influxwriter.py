"""What a write does to the InfluxDB store: records in; rows, rolled-up bins and, last of all, marks out.

The order makes a crash harmless: rows of panes, rows of bins, marks of bins, marks of panes. Until its mark is written
a pane is not there, and the log repeats it whole. One writer at a time has a partition (its consumer group sees to
that), so what a mark says can be compared with what comes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from citybrain.errors import StoreRefused
from citybrain.network import Network
from citybrain.records import AreaIndices, SegmentStates
from infra.stores.influxread import Buckets, Reader
from infra.stores.influxschema import BINS, CITY_AREAS, RUNS, STATES, Mark, Measure, Schema
from infra.stores.influxserver import InfluxServer
from infra.stores.newest import R, bin_length_ms, newest_of
from infra.stores.packing import Columns
from infra.stores.protocol import Batch
from infra.stores.sums import sums_of_states

KEPT_BINS = 2
"""Panes of so many newest bins stay in memory, to roll them up without reading them back."""


class InfluxWriter:
    """Writes records; not thread-safe."""

    def __init__(
        self, server: InfluxServer, schema: Schema, reader: Reader, buckets: Buckets, network: Network, pane_ms: int
    ) -> None:
        self._server, self._schema, self._reader, self._buckets = server, schema, reader, buckets
        self._network, self._pane_ms, self.bin_ms = network, pane_ms, bin_length_ms(pane_ms)
        self._write_id = 0
        self._runs: set[str] = set()
        self._newest_ms: dict[str, dict[int, int]] = {}
        """By run and partition: start of the newest pane that was stored, as far as this process knows."""
        self._recent: dict[tuple[str, int, int], SegmentStates] = {}

    def write(self, batch: Batch, run: str) -> None:
        """Write what is newer than what is stored."""
        for state in batch.states:
            _refuse_infinite(state)
        for areas in batch.areas:
            _refuse_infinite(areas)
        self._register(run)
        fresh = self._fresh_states(batch.states, run)
        states = [mark for mark, _ in fresh]
        self._rows(STATES, run, (line for _, state in fresh for line in self._schema.state_lines(state, run)))
        ahead = {(mark.partition, mark.start_ms): state for mark, state in fresh}
        self._remember(run, ahead)
        self._roll(run, ahead)
        self._areas(batch.areas, run)
        self._marks(STATES, run, states)
        for mark in states:
            newest = self._newest_ms[run]
            newest[mark.partition] = max(mark.start_ms, newest.get(mark.partition, mark.start_ms))

    def forget(self, run: str) -> None:
        """Know nothing of a run any more."""
        self._runs.discard(run)
        self._newest_ms.pop(run, None)
        self._recent = {key: state for key, state in self._recent.items() if key[0] != run}

    def write_bins(self, sums: pd.DataFrame, run: str) -> None:
        """Put sums in the place of bins: all segments of a partition in a bin at once."""
        self._register(run)
        self._bins(sums, run)

    def _register(self, run: str) -> None:
        if run in self._runs:
            return
        if run:
            self._server.write(self._buckets.runs, [f"{RUNS},{self._schema.tags(run)} seen=1i 0"])
        newest = self._reader.newest_marks(STATES, run)
        self._newest_ms[run] = {mark.partition: mark.start_ms for mark in newest}
        self._write_id = max([self._write_id, *(mark.write_id for mark in newest)])
        self._runs.add(run)

    def _fresh_states(self, records: list[SegmentStates], run: str) -> list[tuple[Mark, SegmentStates]]:
        newest = newest_of(records, lambda record: (record.partition, record.pane_start_ms))
        known = self._versions(STATES, run, [(state.partition, state.pane_start_ms) for state in newest])
        return [
            (self._mark(state, state.partition, len(state.segment)), state)
            for state in newest
            if state.version > known.get((state.partition, state.pane_start_ms), -1)
        ]

    def _areas(self, records: list[AreaIndices], run: str) -> None:
        newest = newest_of(records, lambda record: (0, record.pane_start_ms))
        known = self._versions(CITY_AREAS, run, [(0, areas.pane_start_ms) for areas in newest])
        fresh = [areas for areas in newest if areas.version > known.get((0, areas.pane_start_ms), -1)]
        self._rows(CITY_AREAS, run, (line for areas in fresh for line in self._schema.area_lines(areas, run)))
        self._marks(CITY_AREAS, run, [self._mark(areas, 0, len(areas.area)) for areas in fresh])

    def _versions(self, measure: Measure, run: str, panes: Sequence[tuple[int, int]]) -> dict[tuple[int, int], int]:
        """Return the stored versions around these panes; asked every time, so that no memory of ours can be old."""
        if not panes:
            return {}
        starts = [start for _, start in panes]
        marks = self._reader.marks_between(measure, run, min(starts), max(starts) + 1)
        return {(mark.partition, mark.start_ms): mark.version for mark in marks}

    def _mark(self, record: R, partition: int, rows: int) -> Mark:
        status = getattr(record, "status", "closed")
        revision = getattr(record, "revision", 0)
        return Mark(partition, record.pane_start_ms, record.version, self._next_id(), rows, revision, status)

    def _next_id(self) -> int:
        """Return an id that grows over restarts and, clocks allowing, over processes: microseconds since 1970."""
        self._write_id = max(self._write_id + 1, time.time_ns() // 1000)
        return self._write_id

    # Bins

    def _remember(self, run: str, fresh: dict[tuple[int, int], SegmentStates]) -> None:
        for (partition, start), state in fresh.items():
            self._recent[run, partition, start] = state
        newest = dict(sorted(fresh))
        for key in [key for key in self._recent if key[0] == run and key[1] in newest]:
            if key[2] < self._bin(newest[key[1]]) - (KEPT_BINS - 1) * self.bin_ms:
                del self._recent[key]

    def _roll(self, run: str, fresh: dict[tuple[int, int], SegmentStates]) -> None:
        """Make the bins that are over, and those that changed, from their panes."""
        due = {
            (partition, start)
            for partition in {partition for partition, _ in fresh}
            for start in self._due(run, partition, [at for of, at in fresh if of == partition])
        }
        if not due:
            return
        starts = [start for _, start in due]
        stored = {
            (mark.partition, mark.start_ms): mark.version
            for mark in self._reader.marks_between(STATES, run, min(starts), max(starts) + self.bin_ms)
        }
        panes = sorted(key for key in {*stored, *fresh} if (key[0], self._bin(key[1])) in due)
        rows = [self._known(run, key, stored, fresh) for key in panes]
        missing = [key for key, state in zip(panes, rows, strict=True) if state is None]
        parts = [_columns(state) for state in rows if state is not None]
        starts_of = [np.full(len(state.segment), state.pane_start_ms) for state in rows if state is not None]
        if missing:
            read = self._read(run, missing)
            parts.append(read)
            starts_of.append(read["time"])
        if not parts:
            return
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        time_ms = np.concatenate(starts_of)
        order = np.lexsort((joined["segment"], time_ms))
        joined = {name: values[order] for name, values in joined.items()}
        self._bins(sums_of_states(joined, time_ms[order], self.bin_ms), run)

    def _due(self, run: str, partition: int, touched: list[int]) -> set[int]:
        old = self._newest_ms[run].get(partition)
        newest = max([*touched, *([] if old is None else [old])])
        end = self._bin(newest + self._pane_ms)
        bins = {self._bin(start) for start in touched}
        if old is not None and self._bin(old) == self._bin(old + self._pane_ms):  # its bin was not over yet
            bins.add(self._bin(old))
        return {start for start in bins if start < end}

    def _known(
        self,
        run: str,
        key: tuple[int, int],
        stored: dict[tuple[int, int], int],
        fresh: dict[tuple[int, int], SegmentStates],
    ) -> SegmentStates | None:
        if key in fresh:
            return fresh[key]
        recent = self._recent.get((run, *key))
        return recent if recent is not None and recent.version == stored[key] else None

    def _read(self, run: str, panes: Iterable[tuple[int, int]]) -> Columns:
        wanted = set(panes)
        starts = [start for _, start in wanted]

        def choose() -> list[Mark]:
            marks = self._reader.marks_between(
                STATES, run, min(starts), max(starts) + 1, [partition for partition, _ in wanted]
            )
            return [mark for mark in marks if (mark.partition, mark.start_ms) in wanted]

        return self._reader.whole(STATES, run, choose).rows

    def _bins(self, sums: pd.DataFrame, run: str) -> None:
        write_id = self._next_id()
        self._rows(BINS, run, self._schema.bin_lines(sums, write_id, run))
        partition = self._network.segments.partition[sums["segment"].to_numpy()].tolist()
        sizes = Counter(zip(partition, sums["time_start_ms"].tolist(), strict=True))
        self._marks(BINS, run, [Mark(of, start, write_id, write_id, size) for (of, start), size in sizes.items()])

    def _bin(self, at_ms: int) -> int:
        return at_ms // self.bin_ms * self.bin_ms

    # Lines

    def _rows(self, measure: Measure, run: str, lines: Iterable[str]) -> None:
        self._server.write(self._buckets.of(measure, run), list(lines))

    def _marks(self, measure: Measure, run: str, marks: list[Mark]) -> None:
        tags = self._schema.tags(run)
        self._server.write(self._buckets.of(measure, run), [mark.line(measure, tags) for mark in marks])


def _columns(state: SegmentStates) -> Columns:
    names = [name for name in SegmentStates.__dataclass_fields__ if isinstance(getattr(state, name), np.ndarray)]
    return {name: getattr(state, name) for name in names}


def _refuse_infinite(record: SegmentStates | AreaIndices) -> None:
    for name in type(record).__dataclass_fields__:
        value = getattr(record, name)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and np.isinf(value).any():
            raise StoreRefused(f"{name}: {value[np.isinf(value)][0]} seen, finite numbers or NaN allowed")
