"""What detectors counted: tables in, vehicles an hour by segment and civil hour out; and how well a model meets them.

A table (CSV or Parquet) names a detector or a segment, says when, and gives vehicles or vehicles an hour. Readings that
a run of the simulated city wrote are such tables, too. Several days become one mean day.

References
----------
GEH: UK Department for Transport, Design Manual for Roads and Bridges, volume 12, section 2, and TAG unit M3.1: a link
is met where GEH is below 5, a model where 85 % of its links are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from citybrain.clock import utc
from citybrain.errors import ConfigError
from citybrain.network import Network
from citybrain.units import MS_PER_H
from simulators.roads import FloatArray, IntArray

MET = 5.0
"""GEH below which a link is met."""
COVERED_H = 0.75
"""An hour that was counted for less is left out."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Mean flows, one row a segment and civil hour; arrays have shape (n,).

    Attributes
    ----------
    segment, hour
        Where and when.
    vph
        Vehicles an hour over the whole carriageway.
    """

    segment: IntArray
    hour: IntArray
    vph: FloatArray

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.vph)

    def of_hours(self, hours: Iterable[int]) -> Counts:
        """Return those of some hours."""
        kept = np.isin(self.hour, list(hours))
        return Counts(self.segment[kept], self.hour[kept], self.vph[kept])


def geh(model_vph: FloatArray, counted_vph: FloatArray) -> FloatArray:
    """Return the GEH statistic of hourly flows: ``sqrt(2 (m - c)^2 / (m + c))``, 0 where both are 0.

    Examples
    --------
    >>> geh(np.array([1200.0, 0.0]), np.array([1000.0, 0.0])).round(2)
    array([6.03, 0.  ])
    """
    both = np.maximum(model_vph + counted_vph, 1e-12)
    return np.asarray(np.sqrt(2.0 * (model_vph - counted_vph) ** 2 / both))


def read_counts(paths: Sequence[Path], network: Network, timezone: str) -> Counts:
    """Read what was counted.

    Parameters
    ----------
    paths
        CSV or Parquet files, or folders of Parquet files. Columns: ``detector`` (id, or index as in a run's readings)
        or ``segment`` (id); ``hour`` (0..23), ``time`` (local, or with its offset; the begin of the interval), or
        ``observed_from_ms`` and ``observed_to_ms``; ``count_veh`` or ``flow_vph``.
    network
        The city.
    timezone
        Its IANA zone.

    Raises
    ------
    ConfigError
        If a file cannot be read, lacks a column, or nothing in it lies on the network.
    """
    parts = [_rows(_table(file), network, timezone, file) for path in paths for file in _files(path)]
    detector, segment, hour, vehicles, length_h = (np.concatenate(column) for column in zip(*parts, strict=True))
    by_place = _by_detector(network, detector, segment, hour, vehicles, length_h)
    if not len(by_place):
        raise ConfigError(f"{', '.join(map(str, paths))}: no hour counted for {COVERED_H * 60:g} min seen, one needed")
    return by_place


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise ConfigError(f"{path}: no such file or folder seen, counts as CSV or Parquet allowed")
    found = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not found:
        raise ConfigError(f"{path}: no Parquet file seen, at least one allowed")
    return found


def _table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path) if path.suffix == ".parquet" else pyarrow.csv.read_csv(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ConfigError(f"{path}: cannot be read as a table ({error})") from error


def _rows(table: pa.Table, network: Network, timezone: str, path: Path) -> tuple[npt.NDArray[Any], ...]:
    """Return detector (-1 where a segment is named), segment, hour, vehicles and hours counted, by row."""
    names = set(table.column_names)
    measure = next((name for name in ("count_veh", "flow_vph") if name in names), "")
    place = next((name for name in ("detector", "segment") if name in names), "")
    when = next((name for name in ("hour", "time", "observed_from_ms") if name in names), "")
    if not (measure and place and when):
        raise ConfigError(
            f"{path}: columns {', '.join(sorted(names))} seen; detector or segment, hour, time or observed_from_ms and "
            "observed_to_ms, and count_veh or flow_vph allowed"
        )
    detector, segment = _places(table.column(place), place, network, path)
    hour, length_h = _hours(table, when, timezone, path)
    value = table.column(measure).to_numpy(zero_copy_only=False).astype(np.float64)
    vehicles = value if measure == "count_veh" else value * length_h
    known = (segment >= 0) & np.isfinite(vehicles) & (vehicles >= 0)
    if not known.any():
        raise ConfigError(f"{path}: no {place} of the network with a number seen, at least one allowed")
    return detector[known], segment[known], hour[known], vehicles[known], length_h[known]


def _places(column: pa.ChunkedArray, place: str, network: Network, path: Path) -> tuple[IntArray, IntArray]:
    ids = network.detectors.id if place == "detector" else network.segments.id
    if pa.types.is_integer(column.type) and place == "detector" and path.suffix == ".parquet":
        index = column.to_numpy().astype(np.int32)
        index = np.where((index >= 0) & (index < len(ids)), index, -1).astype(np.int32)
    else:
        number = {str(name): at for at, name in enumerate(ids)}
        index = np.array([number.get(str(name), -1) for name in column.to_pylist()], dtype=np.int32)
    if place == "segment":
        return np.full(len(index), -1, np.int32), index
    return index, np.where(index >= 0, network.detectors.segment[index], -1).astype(np.int32)


def _hours(table: pa.Table, when: str, timezone: str, path: Path) -> tuple[IntArray, FloatArray]:
    """Return the civil hour in which each interval begins, and its length in hours."""
    if when == "hour":
        hour = table.column("hour").to_numpy().astype(np.int32)
        if hour.min(initial=0) < 0 or hour.max(initial=0) > 23:
            raise ConfigError(f"{path}: hour {int(hour.min())} to {int(hour.max())} seen, 0 to 23 allowed")
        return hour, np.ones(len(hour))
    if when == "observed_from_ms":
        begin = table.column(when).to_numpy().astype(np.int64)
        end = table.column("observed_to_ms").to_numpy().astype(np.int64)
        zone = ZoneInfo(timezone)
        whole, row = np.unique(begin // MS_PER_H, return_inverse=True)
        civil = np.array([utc(int(at) * MS_PER_H).astimezone(zone).hour for at in whole], dtype=np.int32)
        return civil[row], (end - begin) / MS_PER_H
    column = table.column("time")
    if not pa.types.is_timestamp(column.type):
        raise ConfigError(f"{path}: time {column[0]} seen, a time such as 2026-03-10T07:00 allowed")
    local = column if column.type.tz is None else pc.local_timestamp(column.cast(pa.timestamp("ms", timezone)))
    moment = local.cast(pa.timestamp("ms")).to_numpy().astype("datetime64[ms]").astype(np.int64)
    steps = np.diff(np.unique(moment))
    length_h = float(steps.min()) / MS_PER_H if len(steps) else 1.0
    return (moment // MS_PER_H % 24).astype(np.int32), np.full(len(moment), min(length_h, 1.0))


def _by_detector(
    network: Network, detector: IntArray, segment: IntArray, hour: IntArray, vehicles: FloatArray, length_h: FloatArray
) -> Counts:
    """Return the mean flow of each segment and hour: lanes added up, whole carriageways averaged."""
    key = (detector.astype(np.int64) + 1) * len(network.segments) * 24 + segment.astype(np.int64) * 24 + hour
    kept, row = np.unique(key, return_inverse=True)
    counted_h = np.bincount(row, weights=length_h)
    vph = np.bincount(row, weights=vehicles) / np.maximum(counted_h, 1e-12)
    enough = counted_h >= COVERED_H
    kept, vph = kept[enough], vph[enough]
    device, cell = np.divmod(kept, len(network.segments) * 24)
    lanes = network.segments.lanes[cell // 24].astype(np.float64)
    seen_lanes = np.where(device > 0, network.detectors.lanes[np.maximum(device - 1, 0)], lanes)
    where, at = np.unique(cell, return_inverse=True)
    # A carriageway that is seen once by lanes and once as a whole counts each lane twice: so the mean a lane.
    per_lane = np.bincount(at, weights=vph) / np.bincount(at, weights=seen_lanes)
    width = network.segments.lanes[where // 24]
    return Counts((where // 24).astype(np.int32), (where % 24).astype(np.int32), per_lane * width)
