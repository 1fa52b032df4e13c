"""Links in, network out: geometry simplified, districts, partitions and detectors assigned, rows in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from citybrain.errors import ConfigError
from citybrain.network import ROAD_CLASSES, Detectors, FloatArray, IntArray, Network, Segments
from ingest.maps.areas import Division, areas_of, by_compass, by_stretch
from ingest.maps.links import M_PER_DEGREE, Link
from ingest.maps.partition import bisected

Places = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What a network is to be made like.

    Attributes
    ----------
    city
        Name of the city, for its area.
    partitions
        Number of Kafka partitions.
    detect
        Gives the detectors from the links in the network's order.
    divide
        Gives the districts from the middles of the segments, degrees, shape (n, 2).
    tolerance_m
        Geometry may move so far when it is simplified.
    attribution
        Whom the data is owed to.
    """

    city: str
    partitions: int
    detect: Callable[[Sequence[Link]], Detectors]
    divide: Callable[[Places], Division] = by_compass
    tolerance_m: float = 4.0
    attribution: str = ""


def network_of(links: Sequence[Link], options: BuildOptions, along_km: FloatArray | None = None) -> Network:
    """Return the network of links; segments of a partition follow one another.

    Parameters
    ----------
    links
        Links in any order.
    options
        What the network is to be made like.
    along_km
        Where the middle of each link lies along the road, shape (n,), for links without a map; their districts are
        stretches of that road.

    Raises
    ------
    ConfigError
        If there are fewer links than partitions.
    """
    if len(links) < max(1, options.partitions):
        raise ConfigError(f"{len(links)} segments seen for {options.partitions} partitions, at least one each allowed")
    places = _metres(_middles(links)) if along_km is None else np.stack([along_km * 1000, 0 * along_km], axis=1)
    partition = bisected(places, options.partitions)
    order = np.argsort(partition, kind="stable")
    links = [links[at] for at in order.tolist()]
    lines = [_simplified(link.points, options.tolerance_m) for link in links]
    division = options.divide(_middles(links)) if along_km is None else by_stretch(along_km[order])
    road = np.array([link.road for link in links], dtype=np.str_)
    length = np.array([link.length_km for link in links])
    areas, district, street = areas_of(options.city, division, road, length)
    segments = Segments(
        id=np.array([link.id for link in links], dtype=np.str_),
        road=road,
        road_class=np.array([ROAD_CLASSES.index(link.road_class) for link in links], dtype=np.int32),
        **_nodes(links),
        length_km=length,
        lanes=np.array([link.lanes for link in links], dtype=np.int32),
        limit_kmh=np.array([link.limit_kmh for link in links]),
        free_flow_kmh=np.array([link.free_flow_kmh for link in links]),
        capacity_vph=np.array([link.capacity_vph for link in links]),
        partition=partition[order],
        district=district,
        street=street,
        geometry_start=np.cumsum([0, *(len(line) for line in lines)]).astype(np.int32),
    )
    lon_lat = np.concatenate(lines).astype(np.float32)
    return Network(segments, options.detect(links), areas, lon_lat, options.attribution, division.regular)


def _nodes(links: Sequence[Link]) -> dict[str, IntArray]:
    """Return the ends of the links, numbered from 0 in the order in which they appear."""
    ends = np.array([(link.from_node, link.to_node) for link in links], dtype=np.int64).reshape(-1)
    _, first, number = np.unique(ends, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int32)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first), dtype=np.int32)
    pairs = rank[number].reshape(-1, 2)
    return {"from_node": np.ascontiguousarray(pairs[:, 0]), "to_node": np.ascontiguousarray(pairs[:, 1])}


def _middles(links: Sequence[Link]) -> Places:
    """Return the place half-way along each link, degrees, shape (n, 2)."""
    lines = [shapely.LineString(link.points) for link in links]
    return np.array([line.interpolate(0.5, normalized=True).coords[0] for line in lines], dtype=np.float64)


def _metres(lon_lat: Places) -> Places:
    squeeze = float(np.cos(np.radians(lon_lat[:, 1].mean())))
    metres: Places = (lon_lat - lon_lat.mean(axis=0)) * M_PER_DEGREE * np.array([squeeze, 1.0])
    return metres


def _simplified(points: Places, tolerance_m: float) -> Places:
    """Return a line that keeps its ends and stays within the tolerance (Douglas-Peucker)."""
    if np.isnan(points).any():
        return points
    scale = M_PER_DEGREE * np.array([np.cos(np.radians(points[0, 1])), 1.0])
    line = shapely.LineString((points - points[0]) * scale).simplify(tolerance_m)
    simple: Places = np.array(line.coords) / scale + points[0]
    return simple
