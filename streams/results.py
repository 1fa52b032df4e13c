"""Results: messages of the log in, ``segment_states.parquet``, ``area_indices.parquet`` and dead letters out.

Of each pane the newest version counts. Rows come by time, then by row of the network; nothing that depends on how
readings were cut into batches (versions, offsets) is written, so the same readings give the same bytes.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from citybrain.messages import DeadLetter, decode_json
from citybrain.network import AREA_LEVELS, Network
from citybrain.records import AreaIndices, SegmentStates, decode
from citybrain.settings import TimeSettings
from citybrain.wire import Message
from streams.ring import Times

STATES_FILE, AREAS_FILE, LETTERS_FILE = "segment_states.parquet", "area_indices.parquet", "dead_letters.parquet"
ROWS_A_GROUP = 1 << 18
LETTERS_KEPT = 100_000
TIME = pa.timestamp("ms", tz="UTC")
STATE_COLUMNS = (
    "flow_vph",
    "speed_kmh",
    "occupancy",
    "density_veh_km",
    "travel_time_s",
    "tti",
    "dtp",
    "vkt_veh_km",
    "vht_veh_h",
    "vht_free_flow_veh_h",
    "delay_veh_h",
    "vehicles",
    "coverage",
    "level",
    "quality",
)
AREA_COLUMNS = (
    "vkt_veh_km",
    "vht_veh_h",
    "vht_free_flow_veh_h",
    "delay_veh_h",
    "speed_kmh",
    "tti",
    "dtp",
    "tpi",
    "coverage",
)
BYTE_COLUMNS = ("level", "quality")


class _File:
    """One Parquet file that grows pane by pane, in row groups of a fixed number of panes."""

    def __init__(self, path: Path, rows_a_pane: int) -> None:
        self._path, self._scratch = path, path.with_suffix(".partial")
        self._panes_a_group = max(1, ROWS_A_GROUP // max(1, rows_a_pane))
        self._waiting: list[pa.Table] = []
        self._writer: pq.ParquetWriter | None = None
        self.rows = 0

    def add(self, pane: pa.Table) -> None:
        self._waiting.append(pane)
        self.rows += pane.num_rows
        if len(self._waiting) >= self._panes_a_group:
            self._write()

    def _write(self) -> None:
        table = pa.concat_tables(self._waiting)
        self._waiting = []
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._scratch, table.schema, compression="zstd")
        self._writer.write_table(table, row_group_size=table.num_rows)

    def close(self, empty: pa.Table) -> None:
        if self._waiting or self._writer is None:
            self._waiting = self._waiting or [empty]
            self._write()
        assert self._writer is not None
        self._writer.close()
        self._scratch.replace(self._path)


class Recorder:
    """A sink of the log that writes results into a folder; only panes that start in [from, to) are kept."""

    def __init__(self, network: Network, time: TimeSettings, folder: Path, from_ms: int, to_ms: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        times = Times.of(time)
        self._network, self._folder, self._span = network, folder, (from_ms, to_ms)
        self._settled_ms = times.capacity * times.pane_ms
        self._awaited = frozenset(np.unique(network.detector_partition).tolist())
        self._states: dict[int, dict[int, SegmentStates]] = {}
        self._areas: dict[int, AreaIndices] = {}
        self._newest_ms: dict[int, int] = {}
        self._state_file = _File(folder / STATES_FILE, len(network.segments))
        self._area_file = _File(folder / AREAS_FILE, len(network.areas))
        self._letters: list[DeadLetter] = []
        self.refused: Counter[str] = Counter()
        self._segments = _names(network.segments.id)
        self._area_names = _names(network.areas.id)
        self._levels = pa.DictionaryArray.from_arrays(pa.array(network.areas.level, pa.int32()), list(AREA_LEVELS))

    def __call__(self, message: Message) -> None:
        """Take one message of the log."""
        if message.topic == "segment-states":
            self._take_states(decode(SegmentStates, message.value))
        elif message.topic == "area-indices":
            indices = decode(AreaIndices, message.value)
            before = self._areas.get(indices.pane_start_ms)
            if before is None or indices.revision >= before.revision:
                self._areas[indices.pane_start_ms] = indices
        elif message.topic == "dead-letters":
            self.refuse(decode_json(DeadLetter, message.value))

    def _take_states(self, states: SegmentStates) -> None:
        pane = self._states.setdefault(states.pane_start_ms, {})
        before = pane.get(states.partition)
        if before is None or (states.version, states.revision) >= (before.version, before.revision):
            pane[states.partition] = states
        if states.revision == 0:
            self._newest_ms[states.partition] = max(states.pane_start_ms, self._newest_ms.get(states.partition, 0))
            if self._awaited <= self._newest_ms.keys():
                self._write(min(self._newest_ms.values()) - self._settled_ms)

    def refuse(self, letter: DeadLetter) -> None:
        """Take one dead letter."""
        self.refused[letter.reason] += letter.count
        if len(self._letters) < LETTERS_KEPT:
            self._letters.append(letter)

    def _write(self, before_ms: int) -> None:
        """Write the panes that no partition will revise any more."""
        for start in sorted(start for start in self._states if start < before_ms):
            parts = self._states.pop(start)
            if self._span[0] <= start < self._span[1]:
                self._state_file.add(self._state_rows(start, parts))
        for start in sorted(start for start in self._areas if start < before_ms - 2 * self._settled_ms):
            indices = self._areas.pop(start)
            if self._span[0] <= start < self._span[1]:
                self._area_file.add(self._area_rows(start, indices))

    def close(self) -> tuple[int, int]:
        """Write what is left and return the number of rows of states and of areas."""
        self._write(2**63)
        self._state_file.close(self._state_rows(0, {}).slice(0, 0))
        none = np.full(len(self._network.areas), np.nan)
        columns = {name: pa.array(none) for name in AREA_COLUMNS}
        self._area_file.close(self._area_table(0, columns).slice(0, 0))
        letters = pa.Table.from_pylist([msgspec.to_builtins(letter) for letter in self._letters], LETTER_SCHEMA)
        pq.write_table(letters, self._folder / LETTERS_FILE, compression="zstd")
        return self._state_file.rows, self._area_file.rows

    def _state_rows(self, start_ms: int, parts: dict[int, SegmentStates]) -> pa.Table:
        n = len(self._network.segments)
        columns: dict[str, Any] = {
            name: np.zeros(n, np.uint8) if name in BYTE_COLUMNS else np.full(n, np.nan) for name in STATE_COLUMNS
        }
        columns["coverage"][:] = 0.0
        for states in parts.values():
            for name in STATE_COLUMNS:
                columns[name][states.segment] = getattr(states, name)
        values = {name: pa.array(column) for name, column in columns.items()}
        return pa.table({"time_start": _instants(start_ms, n), "segment": self._segments, **values})

    def _area_rows(self, start_ms: int, indices: AreaIndices) -> pa.Table:
        return self._area_table(start_ms, {name: pa.array(getattr(indices, name)) for name in AREA_COLUMNS})

    def _area_table(self, start_ms: int, columns: dict[str, pa.Array]) -> pa.Table:
        n = len(self._network.areas)
        keys = {"time_start": _instants(start_ms, n), "area": self._area_names, "level": self._levels}
        return pa.table({**keys, **columns})


LETTER_SCHEMA = pa.schema(
    [(f.name, pa.int64() if f.type is int else pa.string()) for f in msgspec.structs.fields(DeadLetter)]
)


def _names(ids: np.ndarray[Any, np.dtype[np.str_]]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.arange(len(ids), dtype=np.int32)), pa.array(ids.tolist()))


def _instants(start_ms: int, n: int) -> pa.Array:
    return pa.array(np.full(n, start_ms, dtype=np.int64)).cast(TIME)
