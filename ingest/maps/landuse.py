"""OpenStreetMap extracts in, land use out: areas of ``landuse`` and ``amenity`` added up in cells.

An extract that holds only roads has none; then there is nothing to keep, and the simulated city guesses from its roads.
Buildings, storeys and single shops are not looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import osmium

from citybrain.errors import ConfigError
from citybrain.landuse import LandUse
from ingest.maps.links import M_PER_DEGREE
from ingest.maps.osm import Bounds

HOMES = {("landuse", "residential"): 1.0}
WORK = {
    ("landuse", "residential"): 0.03,
    ("landuse", "commercial"): 1.0,
    ("landuse", "retail"): 1.0,
    ("landuse", "industrial"): 0.4,
    ("landuse", "education"): 0.7,
    ("amenity", "school"): 0.7,
    ("amenity", "college"): 0.7,
    ("amenity", "university"): 0.7,
    ("amenity", "hospital"): 1.5,
    ("amenity", "marketplace"): 1.0,
    ("amenity", "townhall"): 1.0,
}
"""Ground of homes and of work, in that of homes and of offices [judgement]."""
CELL_M = 250.0
_LARGEST_M2 = 2e7
"""An area beyond 20 km2 says nothing of where in it people live."""


def land_use(path: Path, bounds: Bounds | None = None) -> LandUse:
    """Read the land use of an OpenStreetMap file; without a row where the file holds none.

    Raises
    ------
    ConfigError
        If the file cannot be read.
    """
    cells: dict[tuple[int, int], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0, 0.0])
    for lon, lat, size, homes, work in _areas(path, bounds):
        row = round(lat * M_PER_DEGREE / CELL_M)
        column = round(lon * M_PER_DEGREE * float(np.cos(np.radians(row * CELL_M / M_PER_DEGREE))) / CELL_M)
        cell = cells[row, column]
        for at, value in enumerate((size, size * lon, size * lat, size * homes, size * work)):
            cell[at] += value
    rows = np.array([cells[key] for key in sorted(cells)]).reshape(-1, 5)
    whole = rows[:, 0]
    return LandUse(rows[:, 1] / whole, rows[:, 2] / whole, rows[:, 3], rows[:, 4])


def _areas(path: Path, bounds: Bounds | None) -> Iterator[tuple[float, float, float, float, float]]:
    """Yield middle, size in m2, and weights as homes and work of each area."""
    wanted = osmium.filter.KeyFilter("landuse", "amenity")
    try:
        for thing in osmium.FileProcessor(str(path)).with_areas(wanted).with_filter(wanted):
            if not isinstance(thing, osmium.osm.Area):
                continue
            keys = [(key, thing.tags.get(key) or "") for key in ("landuse", "amenity")]
            homes, work = (max(table.get(key, 0.0) for key in keys) for table in (HOMES, WORK))
            if not homes and not work:
                continue
            for ring in thing.outer_rings():
                lon, lat, size = _middle([(node.lon, node.lat) for node in ring])
                if 0 < size <= _LARGEST_M2 and (bounds is None or _inside(lon, lat, bounds)):
                    yield lon, lat, size, homes, work
    except (RuntimeError, OSError) as error:  # osmium raises RuntimeError for whatever it cannot read
        raise ConfigError(f"{path}: {error} seen, a readable OpenStreetMap file (.osm, .osm.pbf) allowed") from error


def _middle(ring: list[tuple[float, float]]) -> tuple[float, float, float]:
    """Return the mean of a ring's corners, degrees, and its size, m2 (shoelace)."""
    points = np.array(ring)
    middle = points[:-1].mean(axis=0)
    x, y = ((points - middle) * M_PER_DEGREE * [np.cos(np.radians(middle[1])), 1.0]).T
    size = abs(float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]))) / 2
    return float(middle[0]), float(middle[1]), size


def _inside(lon: float, lat: float, bounds: Bounds) -> bool:
    return bounds[0] <= lon <= bounds[2] and bounds[1] <= lat <= bounds[3]
