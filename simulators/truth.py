"""What really happened: an engine in, Parquet files beside the run out. No stage of the platform ever reads them.

An hour each, by its first minute: ``segments-<hour>`` has a row a segment and minute with traffic, ``city-<hour>`` one
a minute, ``queues-<hour>`` one an incident and minute as long as it or its queue lasts. A day each: ``trips-<day>``,
``incidents-<day>`` and ``faults-<day>`` (what is wrong with which detector; one that is not there is well). The columns
are in docs/simulation.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from citybrain.arrowcolumns import arrow_column, arrow_table
from citybrain.clock import utc
from citybrain.units import M_PER_KM, MS_PER_H, MS_PER_S, S_PER_H
from simulators.calendar import Day
from simulators.edie import MINUTE_S, Minute
from simulators.engine import Engine
from simulators.faults import Fault
from simulators.hourfiles import GROUP_ROWS, GrowingFile
from simulators.incidents import Incident
from simulators.reach import Upstream
from simulators.roads import KMH_PER_MS, FloatArray, IntArray

LOCKED_S = 900.0
"""A head that has not moved for so long counts as locked."""
_PART_MINUTES = 15
"""Minutes of the segments that are held until they are written together."""
_QUEUE_COLUMNS = {
    "day": np.str_,
    "incident": np.int32,
    "minute_ms": np.int64,
    "reach_m": np.float32,
    "queue_veh": np.int32,
}


@dataclass(slots=True)
class _Today:
    """A day's incidents, by their row, and those whose queue is followed."""

    day: Day
    incidents: tuple[Incident, ...]
    faults: tuple[Fault, ...]
    followed: set[int] = field(default_factory=set)

    @property
    def stamp(self) -> str:
        return self.day.date.strftime("%Y%m%d")

    def follow(self, minute_ms: int) -> list[int]:
        """Return the rows of the incidents that last in a minute or whose queue still stands."""
        end_ms = minute_ms + MINUTE_S * MS_PER_S
        lasting = {i for i, one in enumerate(self.incidents) if one.onset_ms < end_ms and one.end_ms > minute_ms}
        self.followed |= lasting
        return sorted(self.followed)


class TruthFiles:
    """Collects minutes and writes the files of an hour when it is full, those of a day when it begins and is over.

    Parameters
    ----------
    folder
        Where the files go; made where it is absent.
    zone_of_node
        Zone of each node, to name where trips begin; their node only where not given.
    """

    def __init__(self, folder: Path, zone_of_node: IntArray | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._zone_of_node = zone_of_node
        self._segments: list[dict[str, npt.NDArray[Any]]] = []
        self._parts: GrowingFile | None = None
        self._city: list[dict[str, float | int]] = []
        self._queues: list[dict[str, Any]] = []
        self._today: _Today | None = None
        self._upstream: Upstream | None = None

    def day(self, day: Day, incidents: Sequence[Incident], faults: Sequence[Fault]) -> None:
        """Write what is known of a day before it begins."""
        self._today = _Today(day, tuple(incidents), tuple(faults))
        _write(_records(Fault, faults), self.folder / f"faults-{self._today.stamp}.parquet")
        self._write_incidents(self._today)

    def minute(self, engine: Engine, measured: Minute, end_ms: int) -> None:
        """Take in one minute that ended at an instant, ms UTC; writes the hour when it is full."""
        minute_ms = end_ms - MINUTE_S * MS_PER_S
        self._segments.append(_segments(engine, measured, minute_ms))
        if len(self._segments) == _PART_MINUTES:
            self._write_segments(int(self._city[0]["minute_ms"]) if self._city else minute_ms)
        self._city.append(
            {
                "minute_ms": minute_ms,
                "on_road_veh": engine.on_road,
                "waiting_veh": int(engine.waiting_at_origin().sum()),
                "arrived": engine.arrived,
                "vkt_veh_km": float(measured.distance_m.sum()) / M_PER_KM,
                "vht_veh_h": float(measured.time_s.sum()) / S_PER_H,
                "vht_free_flow_veh_h": float((measured.distance_m / engine.roads.speed_ms).sum()) / S_PER_H,
                "locked_segments": len(engine.stalled(LOCKED_S)),
            }
        )
        if self._today:
            self._queues += self._reaches(engine, measured, minute_ms, self._today)
        if end_ms % MS_PER_H == 0:
            self.flush()

    def over(self, engine: Engine, free_flow_min: FloatArray) -> None:
        """Write what is known of a day once it is over, or as far as it has come: its trips, its incidents' queues.

        Parameters
        ----------
        engine
            The traffic.
        free_flow_min
            Free-flow minutes from each node to each zone, shape (zones, nodes).
        """
        self.flush()
        if self._today:
            parts = self._trips(engine, free_flow_min, self._today.day)
            _write_parts(parts, self.folder / f"trips-{self._today.stamp}.parquet")
            self._write_incidents(self._today)

    def flush(self) -> None:
        """Write the minutes collected so far."""
        if not self._city:
            return
        first_ms = int(self._city[0]["minute_ms"])
        stamp = utc(first_ms).strftime("%Y%m%dT%H")
        self._write_segments(first_ms)
        if self._parts:
            self._parts.close()
            self._parts = None
        city = {name: np.array([row[name] for row in self._city]) for name in self._city[0]}
        _write(arrow_table(city), self.folder / f"city-{stamp}.parquet")
        _write(_queues(self._queues), self.folder / f"queues-{stamp}.parquet")
        self._city, self._queues = [], []

    def _write_segments(self, first_ms: int) -> None:
        """Write the minutes of the segments that are held to the file of the hour, which began at an instant."""
        if not self._segments:
            return
        table = arrow_table(
            {name: np.concatenate([part[name] for part in self._segments]) for name in self._segments[0]}
        )
        self._segments = []
        stamp = utc(first_ms).strftime("%Y%m%dT%H")
        self._parts = self._parts or GrowingFile(self.folder / f"segments-{stamp}.parquet", table.schema)
        self._parts.write(table)

    def _reaches(self, engine: Engine, measured: Minute, minute_ms: int, today: _Today) -> list[dict[str, Any]]:
        followed = today.follow(minute_ms)
        if not followed:
            return []
        self._upstream = self._upstream or Upstream(engine.roads)
        jammed, rows = self._upstream.jammed(measured), []
        for row in followed:
            incident = today.incidents[row]
            reach = self._upstream.reach(incident.segment, jammed, measured)
            if incident.end_ms <= minute_ms and not reach.metres:
                today.followed.discard(row)
                continue
            about = {"day": today.stamp, "incident": row, "minute_ms": minute_ms}
            rows.append(
                {**about, "reach_m": reach.metres, "queue_veh": reach.vehicles, "segments": list(reach.segments)}
            )
        return rows

    def _write_incidents(self, today: _Today) -> None:
        """Write a day's incidents with the furthest reach of their queues, as far as it is known."""
        count = len(today.incidents)
        furthest, at_ms, gone_ms = np.zeros(count, np.float32), np.zeros(count, np.int64), np.zeros(count, np.int64)
        for path in self._queue_files(today.day):
            queues = pq.ParquetFile(path).read(columns=["day", "incident", "minute_ms", "reach_m"])
            for row in queues.to_pylist():
                i, metres = row["incident"], row["reach_m"]
                if row["day"] != today.stamp or i >= count or not metres:
                    continue
                gone_ms[i] = max(gone_ms[i], row["minute_ms"] + MINUTE_S * MS_PER_S)
                if metres > furthest[i]:
                    furthest[i], at_ms[i] = metres, row["minute_ms"]
        none = furthest == 0
        table = _records(Incident, today.incidents)
        table = table.append_column("furthest_m", arrow_column(furthest))
        table = table.append_column("furthest_ms", arrow_column(at_ms, missing=none))
        table = table.append_column("queue_gone_ms", arrow_column(gone_ms, missing=none))
        _write(table, self.folder / f"incidents-{today.stamp}.parquet")

    def _queue_files(self, day: Day) -> list[Path]:
        first, last = (utc(ms).strftime("queues-%Y%m%dT%H.parquet") for ms in (day.fill_ms, day.end_ms))
        return [path for path in sorted(self.folder.glob("queues-*.parquet")) if first <= path.name <= last]

    def _trips(self, engine: Engine, free_flow_min: FloatArray, day: Day) -> Iterator[pa.Table]:
        """Yield the trips that have departed, in the order of their departure; who is on the way has no arrival."""
        trips = engine.trips
        row = np.flatnonzero(trips.depart_s <= engine.now_s)
        row = row[np.argsort(trips.depart_s[row], kind="stable")]
        for first in range(0, max(len(row), 1), GROUP_ROWS):
            yield self._some_trips(row[first : first + GROUP_ROWS], engine, free_flow_min, day)

    def _some_trips(self, row: npt.NDArray[np.int64], engine: Engine, free_flow_min: FloatArray, day: Day) -> pa.Table:
        trips = engine.trips
        origin, zone = trips.origin[row], trips.zone[row]
        depart_s, arrival_s = trips.depart_s[row], engine.arrival_s[row].astype(np.float64)
        free_s = free_flow_min[zone, origin] * 60.0
        on_way = np.isnan(arrival_s)
        arrive_ms = day.fill_ms + np.round(np.nan_to_num(arrival_s) * MS_PER_S).astype(np.int64)
        # Nobody is earlier than the quickest way allows but by the rounding of arrivals to float32.
        delay_s = np.maximum(arrival_s - depart_s - free_s, 0.0).astype(np.float32)
        columns = {
            "depart_ms": arrow_column(day.fill_ms + np.round(depart_s * MS_PER_S).astype(np.int64)),
            "arrive_ms": arrow_column(arrive_ms, missing=on_way),
            "origin_node": arrow_column(origin.astype(np.int32)),
            "destination_zone": arrow_column(zone.astype(np.int16)),
            "free_flow_s": arrow_column(free_s.astype(np.float32)),
            "delay_s": arrow_column(delay_s, missing=on_way),
        }
        if self._zone_of_node is not None:
            columns["origin_zone"] = arrow_column(self._zone_of_node[origin].astype(np.int16))
        return arrow_table(columns)


def _segments(engine: Engine, measured: Minute, minute_ms: int) -> dict[str, npt.NDArray[Any]]:
    """Return the rows of the segments with traffic in a minute."""
    seen = np.flatnonzero(measured.time_s > 0)
    roads = engine.roads
    distance, time_s, left = measured.distance_m[seen], measured.time_s[seen], measured.left[seen]
    length_km, speed_ms, free_s = roads.length_m[seen] / M_PER_KM, roads.speed_ms[seen], roads.free_s[seen]
    with np.errstate(invalid="ignore", divide="ignore"):
        speed = np.minimum(distance / time_s, speed_ms) * KMH_PER_MS
        travel_time = np.where(left > 0, free_s + measured.late_s[seen] / left, np.nan)
    return {
        "minute_ms": np.full(len(seen), minute_ms),
        "segment": seen.astype(np.int32),
        "flow_vph": (distance / M_PER_KM / length_km * (S_PER_H / MINUTE_S)).astype(np.float32),
        "density_veh_km": (time_s / MINUTE_S / length_km).astype(np.float32),
        "speed_kmh": speed.astype(np.float32),
        "travel_time_s": travel_time.astype(np.float32),
        "delay_veh_h": (np.maximum(time_s - distance / speed_ms, 0.0) / S_PER_H).astype(np.float32),
        "queue_veh": measured.queue_veh[seen].astype(np.int16),
        "queue_m": measured.queue_m[seen].astype(np.float32),
        "left_veh": left.astype(np.int16),
    }


def _records(kind: type[Incident] | type[Fault], rows: Sequence[Incident] | Sequence[Fault]) -> pa.Table:
    """Return records as a table that has its columns' types even without a row."""
    columns: dict[str, npt.NDArray[Any]] = {}
    for name, spec in kind.__dataclass_fields__.items():
        dtype = {"int": np.int64, "float": np.float64, "bool": np.bool_}.get(str(spec.type), np.str_)
        columns[name] = np.array([getattr(row, name) for row in rows], dtype)
    return arrow_table(columns)


def _queues(rows: Sequence[dict[str, Any]]) -> pa.Table:
    columns = [arrow_column(np.array([row[name] for row in rows], dtype)) for name, dtype in _QUEUE_COLUMNS.items()]
    ends = np.cumsum([0, *(len(row["segments"]) for row in rows)], dtype=np.int32)
    segments = np.array([segment for row in rows for segment in row["segments"]], np.int32)
    lists = pa.ListArray.from_arrays(arrow_column(ends), arrow_column(segments))
    return pa.Table.from_arrays([*columns, lists], [*_QUEUE_COLUMNS, "segments"])


def _write(table: pa.Table, path: Path) -> None:
    _write_parts(iter([table]), path)


def _write_parts(tables: Iterator[pa.Table], path: Path) -> None:
    """Write tables of the same columns, one at least, one after the other, a few rows at a time."""
    first = next(tables)
    file = GrowingFile(path, first.schema)
    for table in chain([first], tables):
        file.write(table)
    file.close()
