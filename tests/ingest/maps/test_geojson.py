"""GeoJSON: lines that meet become a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from citybrain.errors import ConfigError
from ingest.maps.geojson import imported
from tests.ingest.maps.build import place

A, B, C, D = (list(place(*metres)) for metres in ((0, 0), (500, 0), (1000, 0), (500, 500)))


def _file(path: Path, *features: tuple[Any, dict[str, Any]]) -> Path:
    made = [
        {"type": "Feature", "properties": properties, "geometry": {"type": "LineString", "coordinates": line}}
        for line, properties in features
    ]
    (path / "r.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": made}))
    return path / "r.geojson"


def test_lines_are_cut_where_another_meets_them(tmp_path: Path) -> None:
    links = imported(_file(tmp_path, ([A, B, C], {"id": "x", "name": "Main"}), ([B, D], {"id": "y"})))
    assert sorted(link.id for link in links) == ["x-0b", "x-0f", "x-1b", "x-1f", "y-0b", "y-0f"]
    main = next(link for link in links if link.id == "x-0f")
    assert main.road == "Main"
    assert main.length_km == pytest.approx(0.5, rel=1e-3)
    assert main.road_class == "primary"


def test_properties_are_read_as_in_openstreetmap(tmp_path: Path) -> None:
    tags = {"highway": "secondary", "oneway": True, "lanes": 3, "maxspeed": 60, "capacity_vph": 2500}
    (link,) = imported(_file(tmp_path, ([A, B], tags)), connected=False)
    assert (link.lanes, link.limit_kmh, link.capacity_vph, link.road_class) == (3, 60.0, 2500.0, "secondary")
    assert link.free_flow_kmh == 54.0


def test_a_free_flow_speed_of_ones_own_is_taken(tmp_path: Path) -> None:
    links = imported(_file(tmp_path, ([A, B], {"free_flow_kmh": 42.5})))
    assert [link.free_flow_kmh for link in links] == [42.5, 42.5]


def test_coordinates_a_centimetre_apart_are_one_place(tmp_path: Path) -> None:
    near = (np.array(B) + 1e-7).tolist()
    links = imported(_file(tmp_path, ([A, B], {}), ([near, C], {})))
    assert len({node for link in links for node in (link.from_node, link.to_node)}) == 3


@pytest.mark.parametrize(
    ("line", "properties", "error"),
    [
        ([A], {}, "two or more coordinates"),
        ([[500000, 20], [500100, 20]], {}, "coordinates in degrees allowed"),
        ([A, B], {"highway": "boulevard"}, "highway 'boulevard' seen, one of motorway"),
        ([A, B], {"capacity_vph": "many"}, "capacity_vph: 'many' seen, a number above 0 allowed"),
        ([A, B], {"oneway": "yes"}, "no connected road"),
        ([A, ["x", "y"]], {}, r"coordinates \[lon, lat\] allowed"),
    ],
)
def test_a_wrong_feature_is_one_sentence(tmp_path: Path, line: Any, properties: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        imported(_file(tmp_path, (line, properties)))


def test_points_and_files_that_are_no_geojson_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.geojson"
    path.write_text(json.dumps({"features": [{"geometry": {"type": "Point", "coordinates": A}}]}))
    with pytest.raises(ConfigError, match="geometry 'Point' seen"):
        imported(path)
    path.write_text("[]")
    with pytest.raises(ConfigError, match="a GeoJSON FeatureCollection allowed"):
        imported(path)
