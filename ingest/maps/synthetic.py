"""Networks for a load test: a number of detectors in, links of a grid town or more detectors on a real one out.

Nothing here resembles a certain city; sizes are exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from citybrain.errors import ConfigError
from citybrain.network import Detectors, Network, RoadClass, StrArray
from ingest.maps.links import Link, length_km

LANES = 3
MOST_SEGMENTS = 50_000
"""Beyond it segments get more than one station each: a platform of a million detectors has no million roads."""
ARTERIAL_EVERY = 5
LON, LAT = -8.61, 41.15
STEP_LON, STEP_LAT = 0.00592, 0.00452
"""Blocks of about half a kilometre."""


def segments_for(detectors: int) -> int:
    """Return how many segments a grid town with so many detectors gets, a station of one loop a lane on each.

    Examples
    --------
    >>> segments_for(30_000), segments_for(1_000_000)
    (10000, 50000)
    """
    return max(8, min(math.ceil(detectors / LANES), MOST_SEGMENTS))


def grid_links(segments: int) -> list[Link]:
    """Return two-way roads of three lanes as a grid, at least 8 and at most a few per cent more links than asked for.

    Every fifth road is primary, the others are secondary.
    """
    side = max(2, math.ceil((1 + math.sqrt(1 + segments)) / 2))
    rows = max(2, math.ceil((segments / 2 + side) / (2 * side - 1)))
    east = [(r * side + c, r * side + c + 1, r, "East") for r in range(rows) for c in range(side - 1)]
    north = [(r * side + c, (r + 1) * side + c, c, "North") for r in range(rows - 1) for c in range(side)]
    return [
        _link(ends, number, name, side)
        for begin, end, number, name in (*east, *north)
        for ends in ((begin, end), (end, begin))
    ]


def _link(ends: tuple[int, int], number: int, name: str, side: int) -> Link:
    points = np.array([(LON + STEP_LON * (node % side), LAT + STEP_LAT * (node // side)) for node in ends])
    main = number % ARTERIAL_EVERY == 0
    kind: RoadClass = "primary" if main else "secondary"
    free_kmh, limit_kmh = (55.0, 60.0) if main else (45.0, 50.0)
    road = f"{name} {'Avenue' if main else 'Road'} {number}"
    capacity_vph = (950.0 if main else 850.0) * LANES
    return Link(
        f"g{ends[0]}-{ends[1]}", road, kind, *ends, points, length_km(points), LANES, limit_kmh, free_kmh, capacity_vph
    )


def loops_on(links: Sequence[Link], count: int) -> Detectors:
    """Return exactly so many lane loops, spread evenly over the links: a station of one a lane, then another."""
    segment = np.arange(count, dtype=np.int64) * len(links) // count
    nth = np.arange(count) - np.searchsorted(segment, segment)
    lanes = np.array([link.lanes for link in links])[segment]
    station, lane = nth // lanes, nth % lanes
    stations = np.zeros(len(links), dtype=np.int64)
    np.maximum.at(stations, segment, station + 1)
    length_m = 1000 * np.array([link.length_km for link in links])[segment]
    return Detectors(
        id=np.char.add(np.array([link.id for link in links])[segment], _suffix(station, lane)),
        segment=segment.astype(np.int32),
        position_m=length_m * (station + 0.5) / stations[segment],
        lanes=np.ones(count, dtype=np.int32),
        kind=np.full(count, "loop"),
    )


def _suffix(station: npt.NDArray[np.int64], lane: npt.NDArray[np.int64]) -> StrArray:
    return np.array([f":{s}.{i + 1}" for s, i in zip(station.tolist(), lane.tolist(), strict=True)], dtype=np.str_)


def repeated(network: Network, count: int) -> Network:
    """Return a network with exactly so many detectors: fewer of its own, or copies beside them. Cameras are left out.

    Raises
    ------
    ConfigError
        If it has no detector but cameras.
    """
    own = np.flatnonzero(network.detectors.kind != "camera")
    if not len(own):
        raise ConfigError("a city without detectors seen, at least one that is no camera allowed to be repeated")
    if count <= len(own):
        chosen, copy = own[np.arange(count) * len(own) // count], np.zeros(count, dtype=np.int64)
    else:
        chosen, copy = own[np.arange(count) % len(own)], np.arange(count) // len(own)
    detectors = network.detectors
    suffix = np.array(["", *(f"~{nth}" for nth in range(1, int(copy.max(initial=0)) + 1))])[copy]
    made = Detectors(
        id=np.char.add(detectors.id[chosen], suffix),
        segment=detectors.segment[chosen],
        position_m=detectors.position_m[chosen],
        lanes=detectors.lanes[chosen],
        kind=detectors.kind[chosen],
    )
    return replace(network, detectors=made)
