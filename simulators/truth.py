"""What really happened: an engine in, Parquet files beside the run out. No stage of the platform ever reads them.

``segments-<hour>.parquet`` has one row a segment and minute with traffic, ``city-<hour>.parquet`` one a minute;
``incidents-<day>.parquet`` and ``faults-<day>.parquet`` one each. Speeds, flows and densities are Edie's: total
distance and total time of all vehicles in the minute, from where each of them was at its ends.

References
----------
Edie (1963), Discussion of traffic stream measurements and definitions, 2nd ISTTT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from citybrain.clock import utc
from citybrain.units import M_PER_KM, MS_PER_H, S_PER_H
from simulators.calendar import Day
from simulators.engine import Engine
from simulators.faults import Fault
from simulators.incidents import Incident
from simulators.roads import KMH_PER_MS, FloatArray

MINUTE_S = 60
LOCKED_S = 900.0
"""A head that has not moved for so long counts as locked."""


@dataclass(frozen=True, slots=True)
class Minute:
    """Edie's sums of one minute, shape (links,): vehicle-metres, vehicle-seconds, and vehicles that left."""

    distance_m: FloatArray
    time_s: FloatArray
    left: npt.NDArray[np.int64]


class Measure:
    """Turns the engine's cumulative sums into those of intervals."""

    def __init__(self, engine: Engine) -> None:
        self._before = self._sums(engine)

    def since(self, engine: Engine) -> Minute:
        """Return the sums since the last call."""
        now = self._sums(engine)
        distance, time_s, left = (new - old for new, old in zip(now, self._before, strict=True))
        self._before = now
        return Minute(np.maximum(distance, 0.0), np.maximum(time_s, 0.0), left.astype(np.int64))

    @staticmethod
    def _sums(engine: Engine) -> tuple[FloatArray, FloatArray, FloatArray]:
        left = engine.left[: engine.links].astype(np.float64)
        link, position = positions(engine)
        inside = np.bincount(link, weights=position, minlength=engine.links)
        return left * engine.roads.length_m + inside, engine.time_spent_s(), left


def positions(engine: Engine) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Return the link of every vehicle on the road and where on it, m from its start, in their order.

    Those under way are where free flow has taken them; those in the queue stand at the density of the queue.
    """
    counts = engine.on_link
    link = np.repeat(np.arange(engine.links), counts)
    rank = np.arange(len(link)) - np.repeat(np.cumsum(counts) - counts, counts)
    start, size = engine.slots(link)
    entry = engine.entry_s[start + (engine.left[link] + rank) % size]
    roads = engine.roads
    free = np.minimum((engine.now_s - entry) / roads.free_s[link], 1.0)
    queued = 1.0 - rank / engine.storage[link]
    return link, roads.length_m[link] * np.maximum(np.minimum(free, queued), 0.0)


class TruthFiles:
    """Collects minutes and writes one pair of files an hour.

    Parameters
    ----------
    folder
        Where the files go; made where it is absent.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._segments: list[dict[str, npt.NDArray[Any]]] = []
        self._city: list[dict[str, float | int]] = []

    def day(self, day: Day, incidents: Sequence[Incident], faults: Sequence[Fault]) -> None:
        """Write what is known of a day before it begins."""
        stamp = day.date.strftime("%Y%m%d")
        for name, kind, rows in (("incidents", Incident, incidents), ("faults", Fault, faults)):
            columns = {key: [asdict(row)[key] for row in rows] for key in kind.__dataclass_fields__}
            _write(pa.table(columns), self.folder / f"{name}-{stamp}.parquet")

    def minute(self, engine: Engine, measured: Minute, end_ms: int) -> None:
        """Take in one minute that ended at an instant, ms UTC; writes the hour when it is full."""
        seen = np.flatnonzero(measured.time_s > 0)
        distance, time_s = measured.distance_m[seen], measured.time_s[seen]
        length_km = engine.roads.length_m[seen] / M_PER_KM
        with np.errstate(invalid="ignore", divide="ignore"):
            speed = np.minimum(distance / time_s, engine.roads.speed_ms[seen]) * KMH_PER_MS
        self._segments.append(
            {
                "minute_ms": np.full(len(seen), end_ms - MINUTE_S * 1000),
                "segment": seen.astype(np.int32),
                "flow_vph": (distance / M_PER_KM / length_km * (S_PER_H / MINUTE_S)).astype(np.float32),
                "density_veh_km": (time_s / MINUTE_S / length_km).astype(np.float32),
                "speed_kmh": speed.astype(np.float32),
                "left_veh": measured.left[seen].astype(np.int32),
            }
        )
        self._city.append(
            {
                "minute_ms": end_ms - MINUTE_S * 1000,
                "on_road_veh": engine.on_road,
                "waiting_veh": int(engine.waiting_at_origin().sum()),
                "arrived": engine.arrived,
                "vkt_veh_km": float(measured.distance_m.sum()) / M_PER_KM,
                "vht_veh_h": float(measured.time_s.sum()) / S_PER_H,
                "vht_free_flow_veh_h": float((measured.distance_m / engine.roads.speed_ms).sum()) / S_PER_H,
                "locked_segments": len(engine.stalled(LOCKED_S)),
            }
        )
        if end_ms % MS_PER_H == 0:
            self.flush()

    def flush(self) -> None:
        """Write the minutes collected so far."""
        if not self._city:
            return
        stamp = utc(int(self._city[0]["minute_ms"])).strftime("%Y%m%dT%H")
        columns = {name: np.concatenate([part[name] for part in self._segments]) for name in self._segments[0]}
        _write(pa.table(columns), self.folder / f"segments-{stamp}.parquet")
        _write(pa.Table.from_pylist(self._city), self.folder / f"city-{stamp}.parquet")
        self._segments, self._city = [], []


def _write(table: pa.Table, path: Path) -> None:
    partial = path.with_suffix(".partial")
    pq.write_table(table, partial, compression="zstd")
    partial.replace(path)
