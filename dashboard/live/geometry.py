"""A road network in, its geometry for the browser out: one binary file and GeoJSON.

Coordinates of the binary are metres east and north of an origin, on the plane that touches the city there. A network
without a map is drawn as one straight line, and says so.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np
import numpy.typing as npt

from citybrain.network import AREA_LEVELS, ROAD_CLASSES, Network
from citybrain.settings import CitySettings
from citybrain.units import M_PER_KM

MAGIC = b"CBN1"
M_PER_DEGREE_LON, M_PER_DEGREE_LAT = 111_320.0, 110_574.0

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Plane:
    """The network laid out in metres: points of all segments, and where each segment begins.

    Attributes
    ----------
    origin
        Longitude and latitude of (0, 0); (0, 0) for a schematic network.
    points
        Metres east and north, shape (p, 2), finite.
    start
        Segment i has points ``start[i]..start[i + 1]``, shape (n + 1,).
    schematic
        True where the network has no map and the layout is a straight line.
    """

    origin: tuple[float, float]
    points: Points
    start: npt.NDArray[np.int64]
    schematic: bool

    @cached_property
    def middle(self) -> Points:
        """Point halfway along each segment, shape (n, 2)."""
        return np.array([_halfway(self.points[a:b]) for a, b in zip(self.start, self.start[1:], strict=False)])

    @cached_property
    def heading(self) -> Points:
        """Vector from the first to the last point of each segment, shape (n, 2)."""
        return self.points[self.start[1:] - 1] - self.points[self.start[:-1]]

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """Least x, least y, greatest x, greatest y."""
        low, high = self.points.min(axis=0), self.points.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def plane(network: Network) -> Plane:
    """Lay the network out in metres; the origin is the middle of its points."""
    lon_lat = network.lon_lat.astype(np.float64)
    start = network.segments.geometry_start.astype(np.int64)
    if not len(lon_lat) or np.isnan(lon_lat).any() or (np.diff(start) < 2).any():
        return _line(network)
    lon0, lat0 = (float(value) for value in (lon_lat.min(axis=0) + lon_lat.max(axis=0)) / 2)
    east = (lon_lat[:, 0] - lon0) * math.cos(math.radians(lat0)) * M_PER_DEGREE_LON
    north = (lon_lat[:, 1] - lat0) * M_PER_DEGREE_LAT
    return Plane((lon0, lat0), np.column_stack([east, north]), start, schematic=False)


def network_binary(network: Network, settings: CitySettings, laid: Plane) -> bytes:
    """Return the network as the browser reads it: magic, length of the JSON, JSON, then 4-byte aligned arrays."""
    segments = network.segments
    road_names, road = np.unique(segments.road, return_inverse=True)
    has_detector = np.zeros(len(segments), dtype=np.uint8)
    has_detector[network.detectors.segment] = 1
    meta = _meta(network, settings, laid, [str(name) for name in road_names])
    arrays: tuple[npt.NDArray[np.generic], ...] = (
        laid.start.astype("<u4"),
        laid.points.astype("<f4"),
        segments.road_class.astype(np.uint8),
        np.clip(segments.lanes, 1, 255).astype(np.uint8),
        segments.length_km.astype("<f4"),
        segments.free_flow_kmh.astype("<f4"),
        road.astype("<u4"),
        _district_number(network).astype("<u2"),
        has_detector,
    )
    text = _padded(msgspec.json.encode(meta))
    return b"".join([MAGIC, struct.pack("<I", len(text)), text, *(_padded(array.tobytes()) for array in arrays)])


def geojson(network: Network, laid: Plane) -> bytes:
    """Return the segments as a GeoJSON FeatureCollection, WGS 84; without a geometry where there is no map."""
    segments, areas = network.segments, network.areas
    lon_lat = np.round(network.lon_lat.astype(np.float64), 6)
    features = []
    for i in range(len(segments)):
        points = None if laid.schematic else lon_lat[laid.start[i] : laid.start[i + 1]]
        line = None if points is None else {"type": "LineString", "coordinates": points.tolist()}
        limit = float(segments.limit_kmh[i])
        properties = {
            "segment": i,
            "id": str(segments.id[i]),
            "road": str(segments.road[i]),
            "road_class": ROAD_CLASSES[segments.road_class[i]],
            "length_km": float(segments.length_km[i]),
            "lanes": int(segments.lanes[i]),
            "limit_kmh": None if math.isnan(limit) else limit,
            "free_flow_kmh": float(segments.free_flow_kmh[i]),
            "district": str(areas.id[segments.district[i]]),
        }
        features.append({"type": "Feature", "id": i, "geometry": line, "properties": properties})
    collection = {
        "type": "FeatureCollection",
        "network": network.version,
        "attribution": network.attribution,
        "features": features,
    }
    return msgspec.json.encode(collection)


def _meta(network: Network, settings: CitySettings, laid: Plane, roads: list[str]) -> dict[str, object]:
    detectors = zip(network.detectors.id.tolist(), network.detectors.segment.tolist(), strict=True)
    return {
        "version": network.version,
        "n": len(network.segments),
        "points": len(laid.points),
        "origin": laid.origin,
        "bounds": laid.bounds,
        "schematic": laid.schematic,
        "attribution": network.attribution,
        "areas_regular": network.areas_regular,
        "roads": roads,
        "areas": _areas(network, laid),
        "city": {"name": settings.name, "name_zh": settings.name_zh, "timezone": settings.timezone},
        "classes": list(ROAD_CLASSES),
        "level_breaks": list(settings.thresholds.level_breaks),
        "detectors": [{"id": name, "segment": segment} for name, segment in detectors],
    }


def _areas(network: Network, laid: Plane) -> list[dict[str, object]]:
    areas, segments = network.areas, network.segments
    rows = []
    for area in range(len(areas)):
        level = AREA_LEVELS[areas.level[area]]
        of = segments.district if level == "district" else segments.street
        within = np.ones(len(segments), dtype=bool) if level == "city" else of == area
        x, y = laid.middle[within].mean(axis=0).tolist() if within.any() else (0.0, 0.0)
        parent = int(areas.parent[area])
        name = str(areas.name[area])
        rows.append({"id": str(areas.id[area]), "name": name, "level": level, "parent": parent, "x": x, "y": y})
    return rows


def _district_number(network: Network) -> npt.NDArray[np.int32]:
    return np.clip(network.segments.district, 0, 65_535)


def _line(network: Network) -> Plane:
    ends = np.concatenate([[0.0], np.cumsum(network.segments.length_km)]) * M_PER_KM
    points = np.column_stack([np.column_stack([ends[:-1], ends[1:]]).reshape(-1), np.zeros(2 * (len(ends) - 1))])
    return Plane((0.0, 0.0), points, np.arange(0, 2 * len(ends), 2)[: len(ends)], schematic=True)


def _halfway(points: Points) -> Points:
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    half = along[-1] / 2
    return np.array([np.interp(half, along, points[:, 0]), np.interp(half, along, points[:, 1])])


def _padded(blob: bytes) -> bytes:
    return blob + b"\0" * (-len(blob) % 4)
