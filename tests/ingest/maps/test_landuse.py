from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from citybrain.errors import ConfigError
from citybrain.landuse import LandUse
from ingest.maps.landuse import land_use

SIDE_M2 = (0.004 * 111_195.0) ** 2 * np.cos(np.radians(41.152))
"""Size of the squares below."""


def osm_file(folder: Path, *areas: tuple[float, float, str, str]) -> Path:
    """Write squares of 0.004 degrees with their south-western corner and one tag."""
    nodes, ways = [], []
    for number, (lon, lat, key, value) in enumerate(areas):
        first = 4 * number + 1
        corners = ((lon, lat), (lon + 0.004, lat), (lon + 0.004, lat + 0.004), (lon, lat + 0.004))
        nodes += [f'<node id="{first + at}" version="1" lon="{x}" lat="{y}"/>' for at, (x, y) in enumerate(corners)]
        refs = "".join(f'<nd ref="{first + at % 4}"/>' for at in range(5))
        ways.append(f'<way id="{number + 1}" version="1">{refs}<tag k="{key}" v="{value}"/></way>')
    path = folder / "city.osm"
    path.write_text(f'<osm version="0.6">{"".join(nodes)}{"".join(ways)}</osm>')
    return path


def test_areas_are_homes_or_work_with_their_size(tmp_path: Path) -> None:
    path = osm_file(
        tmp_path,
        (-8.60, 41.15, "landuse", "residential"),
        (-8.65, 41.15, "landuse", "industrial"),
        (-8.70, 41.15, "amenity", "hospital"),
        (-8.75, 41.15, "landuse", "forest"),
    )
    found = land_use(path)
    assert len(found) == 3
    order = np.argsort(found.lon)
    np.testing.assert_allclose(found.homes_m2[order], [0, 0, SIDE_M2], rtol=1e-3)
    np.testing.assert_allclose(found.work_m2[order], [1.5 * SIDE_M2, 0.4 * SIDE_M2, 0.03 * SIDE_M2], rtol=1e-3)
    np.testing.assert_allclose(found.lon[order], [-8.698, -8.648, -8.598], atol=1e-4)
    np.testing.assert_allclose(found.lat, 41.152, atol=1e-4)


def test_only_what_lies_within_the_bounds_counts(tmp_path: Path) -> None:
    path = osm_file(tmp_path, (-8.60, 41.15, "landuse", "residential"), (-8.90, 41.15, "landuse", "residential"))
    assert land_use(path, (-8.7, 41.0, -8.5, 41.3)).lon == pytest.approx([-8.598], abs=1e-4)


def test_a_file_with_roads_alone_has_no_land_use(tmp_path: Path) -> None:
    assert len(land_use(osm_file(tmp_path, (-8.60, 41.15, "highway", "residential")))) == 0


def test_it_is_the_same_after_a_file(tmp_path: Path) -> None:
    found = land_use(osm_file(tmp_path, (-8.60, 41.15, "landuse", "retail")))
    found.save(tmp_path / "landuse.arrow", "mapped by hand")
    back = LandUse.load(tmp_path / "landuse.arrow")
    assert back.lon.tolist() == found.lon.tolist()
    assert back.work_m2.tolist() == found.work_m2.tolist()


@pytest.mark.parametrize("content", [None, b"no map"])
def test_what_is_no_map_and_no_land_use_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.osm.pbf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="readable OpenStreetMap file"):
        land_use(path)
    with pytest.raises(ConfigError, match="cannot be read as land use"):
        LandUse.load(path)
