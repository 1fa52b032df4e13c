"""A table of detector stations along a road in, a corridor of one segment a station out."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from citybrain.errors import ConfigError
from citybrain.network import Detectors, FloatArray, RoadClass
from citybrain.units import KM_PER_MILE, KMH_PER_MPH
from ingest.maps.links import Link, Points

LANE_CAPACITY_VPH = 2400.0
"""Most that a lane carries over a quarter of an hour, pc/h (HCM 6th edition, exhibit 12-4, 120 km/h)."""


@dataclass(frozen=True, slots=True)
class StationColumns:
    """Names of the columns; an empty name is a column that the table does not have.

    Attributes
    ----------
    id, position
        Name of a station, and its place along the road, growing in driving direction.
    length
        Length of the stretch a station stands for; without it, half-way to its neighbours.
    lanes, free_flow, capacity
        Lanes, free-flow speed, capacity of the carriageway (veh/h).
    lon, lat
        Place of the station, degrees.
    distance
        Unit of position and length.
    speed
        Unit of the free-flow speed.
    """

    id: str = "station_id"
    position: str = "x_km"
    length: str = "length_km"
    lanes: str = "lanes"
    free_flow: str = "free_speed_kmh"
    capacity: str = "capacity_vph"
    lon: str = ""
    lat: str = ""
    distance: Literal["km", "mile"] = "km"
    speed: Literal["km/h", "mph"] = "km/h"


@dataclass(frozen=True, slots=True)
class Station:
    """One station: NaN where the table says nothing."""

    id: str
    position_km: float
    length_km: float
    lanes: int
    free_flow_kmh: float
    capacity_vph: float
    lon: float
    lat: float


@dataclass(frozen=True, slots=True, eq=False)
class Corridor:
    """Stations in driving order, those that cannot be used with the reason, and what was changed, in plain words."""

    stations: tuple[Station, ...]
    notes: tuple[str, ...]


def read_stations(path: Path, columns: StationColumns) -> Corridor:
    """Read a table of stations; they are put in order of their position, equal ones in that of the table.

    A station without a usable length or free-flow speed is left out with a note. The number of lanes is raised to what
    the capacity needs, at `LANE_CAPACITY_VPH` a lane: such tables tag single lanes of wide roads.

    Raises
    ------
    ConfigError
        If the file cannot be read, a column is missing, a number is none, or a station stands there twice.
    """
    rows = _rows(path, columns)
    counts = Counter(row[columns.id] for row in rows)
    if repeated := [name for name, times in counts.items() if times > 1]:
        raise ConfigError(f"{path}: station {repeated[0]!r} seen {counts[repeated[0]]} times, once allowed")
    stations = [_station(path, number, row, columns) for number, row in enumerate(rows, start=2)]
    stations.sort(key=lambda station: station.position_km)
    if not columns.length:
        stations = _with_lengths(stations)
    usable = [s for s in stations if s.length_km > 0 and s.free_flow_kmh > 0]
    notes = [
        f"station {s.id} is left out: length {s.length_km:g} km and free-flow speed {s.free_flow_kmh:g} km/h seen, "
        "both above 0 allowed"
        for s in stations
        if not (s.length_km > 0 and s.free_flow_kmh > 0)
    ]
    if not usable:
        raise ConfigError(f"{path}: no station with a length and a free-flow speed seen, at least one allowed")
    widened = [_widened(station) for station in usable]
    notes += [
        f"station {new.id} has {new.lanes} lanes, not {old.lanes}: its capacity is {old.capacity_vph:g} veh/h"
        for old, new in zip(usable, widened, strict=True)
        if new.lanes != old.lanes
    ]
    return Corridor(tuple(widened), tuple(notes))


def links_of(stations: Sequence[Station], road: str, road_class: RoadClass = "motorway") -> list[Link]:
    """Return one link a station, each leading into the next; on a map where every station has a place."""
    return [
        Link(
            id=station.id,
            road=road,
            road_class=road_class,
            from_node=at,
            to_node=at + 1,
            points=points,
            length_km=station.length_km,
            lanes=station.lanes,
            limit_kmh=math.nan,
            free_flow_kmh=station.free_flow_kmh,
            capacity_vph=station.capacity_vph,
        )
        for at, (station, points) in enumerate(zip(stations, _lines(stations), strict=True))
    ]


def along_km(stations: Sequence[Station]) -> FloatArray | None:
    """Return where the stations lie along the road, or None where all have a place on the map."""
    on_map = all(math.isfinite(station.lon) and math.isfinite(station.lat) for station in stations)
    return None if on_map and len(stations) > 1 else np.array([station.position_km for station in stations])


def detectors_of(links: Sequence[Link]) -> Detectors:
    """Return one whole-carriageway station in the middle of each link, named like it."""
    return Detectors(
        np.array([link.id for link in links], dtype=np.str_),
        np.arange(len(links), dtype=np.int32),
        np.array([link.length_km * 500 for link in links]),
        np.array([link.lanes for link in links], dtype=np.int32),
        np.array(["station"] * len(links), dtype=np.str_),
    )


def _rows(path: Path, columns: StationColumns) -> list[dict[str, str]]:
    wanted = [columns.id, columns.position, columns.length, columns.lanes, columns.free_flow, columns.capacity]
    wanted = [name for name in [*wanted, columns.lon, columns.lat] if name]
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            table = csv.DictReader(lines)
            seen = list(table.fieldnames or [])
            if missing := [name for name in wanted if name not in seen]:
                raise ConfigError(f"{path}: column {missing[0]!r} wanted, {', '.join(seen) or 'nothing'} seen")
            rows = [row for row in table if any(row.values())]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: {error} seen, a readable CSV allowed") from error
    if not rows:
        raise ConfigError(f"{path}: no station seen, at least one allowed")
    return rows


def _station(path: Path, line: int, row: dict[str, str], columns: StationColumns) -> Station:
    def number(column: str) -> float:
        text = (row.get(column) or "").strip() if column else ""
        try:
            return float(text) if text else math.nan
        except ValueError as error:
            raise ConfigError(f"{path}:{line}: {column}: {text!r} seen, a number allowed") from error

    km = KM_PER_MILE if columns.distance == "mile" else 1.0
    kmh = KMH_PER_MPH if columns.speed == "mph" else 1.0
    position, lanes = number(columns.position) * km, number(columns.lanes)
    if not math.isfinite(position):
        raise ConfigError(f"{path}:{line}: {columns.position}: nothing seen, a number allowed")
    return Station(
        row[columns.id].strip(),
        position,
        number(columns.length) * km,
        max(1, int(lanes)) if math.isfinite(lanes) else 1,
        number(columns.free_flow) * kmh,
        number(columns.capacity),
        number(columns.lon),
        number(columns.lat),
    )


def _with_lengths(stations: list[Station]) -> list[Station]:
    """Give each station the road from half-way to the one before to half-way to the one after; at an end, twice half.

    Stations of one place share the stretch of that place.
    """
    places, at, sharing = np.unique([s.position_km for s in stations], return_inverse=True, return_counts=True)
    if len(places) < 2:
        return stations
    gap = np.diff(places)
    length = (np.concatenate([gap[:1], gap]) + np.concatenate([gap, gap[-1:]])) / 2
    return [
        Station(s.id, s.position_km, float(length[k] / sharing[k]), s.lanes, *_rest(s))
        for s, k in zip(stations, at.tolist(), strict=True)
    ]


def _rest(station: Station) -> tuple[float, float, float, float]:
    return station.free_flow_kmh, station.capacity_vph, station.lon, station.lat


def _widened(station: Station) -> Station:
    needed = math.ceil(station.capacity_vph / LANE_CAPACITY_VPH) if math.isfinite(station.capacity_vph) else 1
    lanes = max(station.lanes, needed)
    return Station(station.id, station.position_km, station.length_km, lanes, *_rest(station))


def _lines(stations: Sequence[Station]) -> list[Points]:
    """Return a line for each station: from half-way to the one before, through it, to half-way to the one after."""
    if along_km(stations) is not None:
        return [np.full((2, 2), np.nan) for _ in stations]
    places = np.array([(s.lon, s.lat) for s in stations])
    middle = (places[1:] + places[:-1]) / 2
    start = np.concatenate([[2 * places[0] - middle[0]], middle])
    end = np.concatenate([middle, [2 * places[-1] - middle[-1]]])
    return [np.stack(three) for three in zip(start, places, end, strict=True)]
