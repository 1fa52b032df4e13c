"""GeoJSON LineStrings in, links out: lines meet where they share a coordinate, and are then treated like ways of a map.

Properties that are understood are in `PROPERTIES`; others are ignored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from citybrain.errors import ConfigError
from ingest.maps.defaults import DEFAULTS
from ingest.maps.links import Link, largest_part
from ingest.maps.osm import Way, junctions_of, links_of

PROPERTIES = (
    "id",
    "name",
    "ref",
    "highway",
    "oneway",
    "junction",
    "lanes",
    "maxspeed",
    "free_flow_kmh",
    "capacity_vph",
)
"""As OpenStreetMap names and writes them; ``free_flow_kmh`` and ``capacity_vph`` (one direction) are our own."""

_GRID_DEGREES = 1e-6
"""Coordinates closer than this are one place."""


def imported(path: Path, *, default_class: str = "primary", connected: bool = True) -> list[Link]:
    """Read a road network from a GeoJSON FeatureCollection of LineStrings or MultiLineStrings.

    Parameters
    ----------
    path
        The file, coordinates in degrees WGS 84.
    default_class
        Class of a line without ``highway``.
    connected
        Keep only the largest part in which every place can be reached from every other.

    Raises
    ------
    ConfigError
        If the file is no such collection, or nothing of it remains.
    """
    try:
        features = json.loads(path.read_text(encoding="utf-8"))["features"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: {error!r} seen, a GeoJSON FeatureCollection allowed") from error
    ways: list[Way] = []
    own: dict[int, dict[str, Any]] = {}
    places: dict[tuple[int, int], int] = {}
    for number, feature in enumerate(features, start=1):
        properties = feature.get("properties") or {}
        for line in _lines(path, number, feature.get("geometry") or {}):
            way = _way(path, number, len(ways) + 1, properties, line, places, default_class)
            own[way.id] = properties
            ways.append(way)
    links = [_with(link, path, own) for link in links_of(ways, junctions_of(ways))]
    links = largest_part(links) if connected and links else links
    if not links:
        raise ConfigError(f"{path}: {len(features)} features seen and no connected road in them, at least one allowed")
    return links


def _lines(path: Path, number: int, geometry: dict[str, Any]) -> Iterator[list[list[float]]]:
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind == "LineString" and coordinates:
        yield coordinates
    elif kind == "MultiLineString" and coordinates:
        yield from coordinates
    else:
        raise ConfigError(f"{path}: feature {number}: geometry {kind!r} seen, LineString or MultiLineString allowed")


def _way(
    path: Path,
    number: int,
    way_id: int,
    properties: dict[str, Any],
    line: list[list[float]],
    places: dict[tuple[int, int], int],
    default_class: str,
) -> Way:
    tags = {name: _text(properties[name]) for name in PROPERTIES if properties.get(name) is not None}
    tags.setdefault("highway", default_class)
    if tags["highway"] not in DEFAULTS:
        raise ConfigError(
            f"{path}: feature {number}: highway {tags['highway']!r} seen, one of {', '.join(DEFAULTS)} allowed"
        )
    try:
        points = np.array([place[:2] for place in line], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: feature {number}: {error} seen, coordinates [lon, lat] allowed") from error
    if points.ndim != 2 or len(points) < 2 or np.abs(points[:, 0]).max() > 180 or np.abs(points[:, 1]).max() > 90:
        raise ConfigError(f"{path}: feature {number}: {line[0]!r} seen, two or more coordinates in degrees allowed")
    grid = np.round(points / _GRID_DEGREES).astype(np.int64).tolist()
    nodes = tuple(places.setdefault((lon, lat), len(places)) for lon, lat in grid)
    return Way(way_id, nodes, points, tags)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _with(link: Link, path: Path, own: dict[int, dict[str, Any]]) -> Link:
    """Give a link what its feature says and a map would not."""
    number, part = link.id[1:].split("-")
    properties = own[int(number)]
    free_flow, capacity = (_positive(path, properties, name) for name in ("free_flow_kmh", "capacity_vph"))
    return replace(
        link,
        id=f"{properties.get('id', f'l{number}')}-{part}",
        free_flow_kmh=link.free_flow_kmh if math.isnan(free_flow) else free_flow,
        capacity_vph=link.capacity_vph if math.isnan(capacity) else capacity,
    )


def _positive(path: Path, properties: dict[str, Any], name: str) -> float:
    seen = properties.get(name)
    if seen is None:
        return math.nan
    if isinstance(seen, bool) or not isinstance(seen, int | float) or not 0 < seen < math.inf:
        raise ConfigError(f"{path}: {name}: {seen!r} seen, a number above 0 allowed")
    return float(seen)
