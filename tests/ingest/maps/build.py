"""Small maps for the tests of the importers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from citybrain.network import RoadClass
from ingest.maps.links import M_PER_DEGREE, Link

LAT0, LON0 = 41.15, -8.61


def link(
    name: str,
    ends: tuple[int, int],
    *,
    km: float = 0.5,
    road: str = "Rua A",
    road_class: RoadClass = "primary",
    lanes: int = 1,
) -> Link:
    """Return a link whose nodes lie on a line, 100 m apart by number."""
    points = np.array([place(100.0 * ends[0], 0.0), place(100.0 * ends[1], 0.0)])
    return Link(name, road, road_class, *ends, points, km, lanes, 50.0, 45.0, 900.0)


def place(east_m: float, north_m: float) -> tuple[float, float]:
    """Return longitude and latitude so many metres from the middle of the small map."""
    return LON0 + east_m / M_PER_DEGREE / float(np.cos(np.radians(LAT0))), LAT0 + north_m / M_PER_DEGREE


def osm_file(
    path: Path, nodes: dict[int, tuple[float, float]], ways: dict[int, tuple[list[int], dict[str, str]]]
) -> Path:
    """Write an OpenStreetMap XML file; nodes are metres east and north."""
    lines = ["<?xml version='1.0' encoding='UTF-8'?>", "<osm version='0.6'>"]
    for number, metres in nodes.items():
        lon, lat = place(*metres)
        lines.append(f"<node id='{number}' version='1' lon='{lon:.7f}' lat='{lat:.7f}'/>")
    for number, (refs, tags) in ways.items():
        lines.append(f"<way id='{number}' version='1'>")
        lines += [f"<nd ref='{ref}'/>" for ref in refs]
        lines += [f"<tag k='{key}' v='{value}'/>" for key, value in tags.items()]
        lines.append("</way>")
    path.write_text("\n".join([*lines, "</osm>"]), encoding="utf-8")
    return path
