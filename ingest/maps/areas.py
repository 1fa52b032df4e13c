"""Places of segments in, districts and streets out: from polygons, from named places, or a regular division."""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry import shape

from citybrain.errors import ConfigError
from citybrain.network import AREA_LEVELS, Areas, FloatArray, IntArray, StrArray

STREET_MIN_KM = 1.0
"""A named road with less than this in a district is counted among its other roads."""
STRETCH_KM = 10.0
"""Length of the stretches that a road without a map is divided into."""

Places = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Division:
    """Districts: their names, and the district of each segment, shape (n,); regular where no border stands behind."""

    names: tuple[str, ...]
    district: IntArray
    regular: bool


def by_polygons(path: Path, lon_lat: Places) -> Division:
    """Put each segment into the polygon that holds its middle, or into the nearest one.

    Raises
    ------
    ConfigError
        If the file is no GeoJSON of polygons that each have a ``name``.
    """
    try:
        features = json.loads(path.read_text(encoding="utf-8"))["features"]
        named = [(str(f["properties"]["name"]), shape(f["geometry"])) for f in features]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: {error!r} seen, GeoJSON features with a property 'name' allowed") from error
    wrong = {polygon.geom_type for _, polygon in named} - {"Polygon", "MultiPolygon"}
    if wrong or not named:
        raise ConfigError(f"{path}: {', '.join(sorted(wrong)) or 'no feature'} seen, polygons allowed")
    tree = shapely.STRtree([polygon for _, polygon in named])
    return Division(tuple(name for name, _ in named), _nearest(tree, lon_lat), False)


def by_places(path: Path, lon_lat: Places) -> Division:
    """Put each segment to the nearest of the named places in a CSV with columns ``name,lon,lat``.

    Raises
    ------
    ConfigError
        If the file cannot be read so.
    """
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = [(row["name"], float(row["lon"]), float(row["lat"])) for row in csv.DictReader(lines)]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: {error!r} seen, a CSV with columns name,lon,lat allowed") from error
    if not rows:
        raise ConfigError(f"{path}: no place seen, at least one allowed")
    squeeze = np.array([np.cos(np.radians(np.mean([row[2] for row in rows]))), 1.0])
    tree = shapely.STRtree(shapely.points(np.array([row[1:] for row in rows]) * squeeze))
    return Division(tuple(row[0] for row in rows), _nearest(tree, lon_lat * squeeze), True)


def by_compass(lon_lat: Places) -> Division:
    """Divide a map into three by three fields with as many segments each, named by the compass."""
    column = _thirds(lon_lat[:, 0])
    row = np.zeros(len(lon_lat), dtype=np.int64)
    for third in range(3):
        row[column == third] = _thirds(lon_lat[column == third, 1])
    names = ("South-west", "West", "North-west", "South", "Centre", "North", "South-east", "East", "North-east")
    return Division(names, (column * 3 + row).astype(np.int32), True)


def by_stretch(middle_km: FloatArray) -> Division:
    """Divide a road into stretches of `STRETCH_KM`, named by their kilometres."""
    stretch = np.floor(middle_km / STRETCH_KM).astype(np.int64)
    numbers, district = np.unique(stretch, return_inverse=True)
    names = tuple(f"km {n * STRETCH_KM:g} to {(n + 1) * STRETCH_KM:g}" for n in numbers.tolist())
    return Division(names, district.astype(np.int32), True)


def areas_of(city: str, division: Division, road: StrArray, length_km: FloatArray) -> tuple[Areas, IntArray, IntArray]:
    """Return all areas, and the rows of each segment's district and street, shape (n,) each.

    Row 0 is the city; then each district that has segments, followed by its streets. Roads that are short there, or
    have no name, are one area, "other roads".
    """
    rows: list[tuple[str, str, str, int]] = [("city", city, "city", -1)]
    district, street = np.zeros(len(road), dtype=np.int32), np.zeros(len(road), dtype=np.int32)
    taken: set[str] = {"city"}
    for number in np.unique(division.district).tolist():
        inside = np.flatnonzero(division.district == number)
        name = division.names[number]
        at, key = len(rows), _free(slug(name), taken)
        rows.append((key, name, "district", 0))
        district[inside] = at
        for label, segments in _streets(road[inside], length_km[inside]).items():
            street[inside[segments]] = len(rows)
            rows.append((_free(f"{key}/{slug(label)}", taken), label, "street", at))
    ids, names, levels, parents = zip(*rows, strict=True)
    level = np.array([AREA_LEVELS.index(name) for name in levels], dtype=np.int32)
    return Areas(np.array(ids), np.array(names), level, np.array(parents, dtype=np.int32)), district, street


def slug(name: str) -> str:
    """Return a name as it may stand in an address.

    Examples
    --------
    >>> slug("Avenida de Fernão de Magalhães")
    'avenida-de-fernao-de-magalhaes'
    >>> slug("文三路")
    '文三路'
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", name.lower()) if not unicodedata.combining(c))
    return re.sub(r"[\W_]+", "-", plain).strip("-") or "unnamed"


def _nearest(tree: shapely.STRtree, places: Places) -> IntArray:
    return np.asarray(tree.nearest(shapely.points(places)), dtype=np.int32).reshape(-1)


def _streets(road: StrArray, length_km: FloatArray) -> dict[str, list[int]]:
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for at, name in enumerate(road.tolist()):
        groups[name].append(at)
    streets = {
        name: members for name, members in sorted(groups.items()) if name and length_km[members].sum() >= STREET_MIN_KM
    }
    rest = [at for name, members in groups.items() if name not in streets for at in members]
    return {**streets, "other roads": sorted(rest)} if rest else streets


def _free(wanted: str, taken: set[str]) -> str:
    name, again = wanted, 2
    while name in taken:
        name, again = f"{wanted}-{again}", again + 1
    taken.add(name)
    return name


def _thirds(values: FloatArray) -> npt.NDArray[np.int64]:
    rank = np.empty(len(values), dtype=np.int64)
    rank[np.argsort(values, kind="stable")] = np.arange(len(values))
    return rank * 3 // max(len(values), 1)
