"""Segments in, detectors out: those of a list, or for a map that has none loops by class and cameras on a corridor."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import shapely

from citybrain.errors import ConfigError
from citybrain.network import Detectors
from ingest.maps.links import M_PER_DEGREE, Link, Points

LOOP_SHARE = {"motorway": 1.0, "trunk": 1.0, "primary": 0.98, "secondary": 0.95, "tertiary": 0.75, "link": 0.75}
"""Share of the segments of a class that get a loop; half of any other class do."""
CAMERA_GAP_KM = 0.35
"""Cameras along a corridor are at least so far apart."""
SNAP_M = 50.0
"""A detector of a list may lie so far from its road."""

Row = tuple[str, int, float, int, str]
"""A detector: id, number of its link, metres from the start, lanes, kind."""


class Listed(NamedTuple):
    """A detector by its place: degrees, degrees clockwise from north (NaN: not known), lanes (0: all of the road's)."""

    id: str
    lon: float
    lat: float
    bearing: float
    lanes: int
    kind: str


def no_detectors() -> Detectors:
    """Return an empty table."""
    return table_of([])


def placed(links: Sequence[Link], rng: np.random.Generator, *, cameras: int = 24) -> Detectors:
    """Put one whole-carriageway loop into the middle third of most segments, and cameras along the longest motorways.

    Parameters
    ----------
    links
        Segments in the network's order.
    rng
        Draws which segments go without, and where a loop lies.
    cameras
        Number of cameras, at the ends of consecutive segments of two corridors, for travel times between them.
    """
    rows: list[Row] = []
    for at, link in enumerate(links):
        place = rng.uniform(1 / 3, 2 / 3) * link.length_km * 1000
        if rng.random() < LOOP_SHARE.get(link.road_class, 0.5):
            rows.append((f"L{at + 1:04d}", at, round(place, 1), link.lanes, "loop"))
    for number, at in enumerate(_camera_segments(links, cameras), start=1):
        rows.append((f"C{number:03d}", at, round(links[at].length_km * 1000, 1), links[at].lanes, "camera"))
    return table_of(rows)


def read_list(path: Path) -> list[Listed]:
    """Read a CSV with columns ``id,lon,lat``.

    Where they are there also ``bearing`` (degrees clockwise from north, driving direction), ``lanes`` (else all of the
    road's) and ``kind`` (else ``loop``).

    Raises
    ------
    ConfigError
        If the file cannot be read so.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return [
                Listed(
                    row["id"], float(row["lon"]), float(row["lat"]), float(row.get("bearing") or math.nan),
                    int(row.get("lanes") or 0), row.get("kind") or "loop",
                )
                for row in csv.DictReader(lines)
            ]  # fmt: skip
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: {error!r} seen, a CSV with columns id,lon,lat allowed") from error


def snapped(listed: Sequence[Listed], links: Sequence[Link]) -> tuple[Detectors, list[str]]:
    """Put detectors onto the nearest links.

    Without a bearing a detector of a two-way road goes to the direction on whose right side it lies.

    Returns
    -------
    tuple[Detectors, list[str]]
        The detectors, and in plain words those that lie further than `SNAP_M` from any road and are left out.
    """
    roads = _Roads.of(links)
    rows: list[Row] = []
    far: list[str] = []
    for one in listed:
        at, position_m, distance_m = roads.nearest(one.lon, one.lat, one.bearing)
        if distance_m > SNAP_M:
            far.append(f"detector {one.id} is left out: {distance_m:.0f} m from a road seen, {SNAP_M:g} m allowed")
            continue
        position = min(position_m, links[at].length_km * 1000)
        lanes = min(one.lanes or links[at].lanes, links[at].lanes)
        rows.append((one.id, at, round(position, 1), lanes, one.kind))
    return table_of(rows), far


@dataclass(frozen=True, slots=True, eq=False)
class _Roads:
    """Lines of the links in metres, in a search tree."""

    lines: list[shapely.LineString]
    tree: shapely.STRtree
    origin: Points
    scale: Points

    @classmethod
    def of(cls, links: Sequence[Link]) -> _Roads:
        origin = links[0].points[0]
        scale = M_PER_DEGREE * np.array([np.cos(np.radians(origin[1])), 1.0])
        lines = [shapely.LineString((link.points - origin) * scale) for link in links]
        return cls(lines, shapely.STRtree(lines), origin, scale)

    def nearest(self, lon: float, lat: float, bearing: float) -> tuple[int, float, float]:
        """Return the link, metres from its start and metres from the road, best by distance and direction."""
        east, north = (np.array([lon, lat]) - self.origin) * self.scale
        place = shapely.Point(east, north)
        near = self.tree.query(place, predicate="dwithin", distance=SNAP_M).tolist()
        if not near:
            return 0, 0.0, float(place.distance(self.lines[int(self.tree.nearest(place))]))
        return min((self._fit(at, place, bearing) for at in near), key=lambda fit: fit[0])[1]

    def _fit(self, at: int, place: shapely.Point, bearing: float) -> tuple[float, tuple[int, float, float]]:
        """Return how badly a link fits, and what `nearest` returns of it: a wrong direction is as bad as 30 m."""
        line = self.lines[at]
        along = line.project(place)
        before, after = line.interpolate(max(along - 5, 0)), line.interpolate(min(along + 5, line.length))
        ahead = np.array([after.x - before.x, after.y - before.y])
        if math.isnan(bearing):
            aside = np.array([place.x - before.x, place.y - before.y])
            wrong = float(ahead[0] * aside[1] - ahead[1] * aside[0] > 0)  # the place lies to the left
            wrong *= 0.1  # tells two directions apart, not two roads
        else:
            wanted = np.array([math.sin(math.radians(bearing)), math.cos(math.radians(bearing))])
            wrong = (1 - float(ahead @ wanted) / max(float(np.hypot(*ahead)), 1e-9)) / 2
        distance = float(line.distance(place))
        return distance + 30 * wrong, (at, float(along), distance)


def table_of(rows: Sequence[Row]) -> Detectors:
    """Return the table of detectors."""
    ids, segment, position, lanes, kind = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    return Detectors(
        np.array(ids, dtype=np.str_),
        np.array(segment, dtype=np.int32),
        np.array(position, dtype=np.float64),
        np.array(lanes, dtype=np.int32),
        np.array(kind, dtype=np.str_),
    )


def _camera_segments(links: Sequence[Link], cameras: int) -> list[int]:
    """Return the segments that get a camera: from the two longest chains of one motorway, evenly, in driving order."""
    chains = sorted(_chains(links), key=lambda chain: -sum(links[at].length_km for at in chain))[:2]
    chosen: list[int] = []
    for chain in chains if cameras else []:
        spread = _spread(links, chain)
        wanted = min(cameras // len(chains), len(spread))
        chosen += [spread[k] for k in np.linspace(0, len(spread) - 1, wanted).round().astype(int).tolist()]
    return chosen


def _spread(links: Sequence[Link], chain: list[int]) -> list[int]:
    kept, since = [], CAMERA_GAP_KM
    for at in chain:
        since += links[at].length_km
        if since >= CAMERA_GAP_KM:
            kept.append(at)
            since = 0.0
    return kept


def _chains(links: Sequence[Link]) -> list[list[int]]:
    """Return the chains of segments that follow one another on one named motorway."""
    starts: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    ends: set[tuple[str, int]] = set()
    for at, link in enumerate(links):
        if link.road_class == "motorway" and link.road:
            starts[link.road, link.from_node].append(at)
            ends.add((link.road, link.to_node))
    chains, used = [], set[int]()
    heads = [at for key, members in starts.items() if key not in ends for at in members]
    for head in [*heads, *(at for members in starts.values() for at in members)]:
        chain: list[int] = []
        following: int | None = head
        while following is not None and following not in used:
            used.add(following)
            chain.append(following)
            onward = starts.get((links[following].road, links[following].to_node), [])
            following = next((at for at in onward if at not in used), None)
        chains.append(chain)
    return [chain for chain in chains if chain]
