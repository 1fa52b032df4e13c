"""Areas: city, districts, streets; from polygons, places or a regular division that says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from citybrain.errors import ConfigError
from ingest.maps.areas import areas_of, by_compass, by_places, by_polygons, by_stretch
from tests.ingest.maps.build import place

PLACES = np.array([place(-1000, 0), place(-900, 50), place(1000, 0), place(4000, 0)])


def _square(west: float, south: float, east: float, north: float) -> dict[str, object]:
    ring = [place(west, south), place(east, south), place(east, north), place(west, north), place(west, south)]
    return {"type": "Polygon", "coordinates": [ring]}


def test_a_segment_lies_in_the_polygon_that_holds_it_or_in_the_nearest(tmp_path: Path) -> None:
    features = [
        {"properties": {"name": "East"}, "geometry": _square(0, -500, 2000, 500)},
        {"properties": {"name": "West"}, "geometry": _square(-2000, -500, 0, 500)},
    ]
    (tmp_path / "d.geojson").write_text(json.dumps({"features": features}))
    division = by_polygons(tmp_path / "d.geojson", PLACES)
    assert [division.names[k] for k in division.district] == ["West", "West", "East", "East"]
    assert not division.regular


def test_named_places_divide_a_city_and_say_that_they_are_no_borders(tmp_path: Path) -> None:
    (west, lat), (east, _) = place(-1000, 0), place(1500, 0)
    (tmp_path / "p.csv").write_text(f"name,lon,lat\nBaixa,{west},{lat}\nFoz,{east},{lat}\n")
    division = by_places(tmp_path / "p.csv", PLACES)
    assert [division.names[k] for k in division.district] == ["Baixa", "Baixa", "Foz", "Foz"]
    assert division.regular


def test_without_anything_a_map_is_divided_by_the_compass() -> None:
    east, north = np.meshgrid(np.arange(6.0), np.arange(6.0))
    places = np.stack([east.ravel(), north.ravel()], axis=1)
    division = by_compass(places)
    assert division.regular
    assert np.bincount(division.district).tolist() == [4] * 9
    assert division.names[division.district[0]] == "South-west"
    assert division.names[division.district[-1]] == "North-east"
    assert division.names[division.district[14]] == "Centre"


def test_a_road_without_a_map_is_divided_into_stretches() -> None:
    division = by_stretch(np.array([0.0, 9.9, 10.0, 35.0]))
    assert [division.names[k] for k in division.district] == [
        "km 0 to 10",
        "km 0 to 10",
        "km 10 to 20",
        "km 30 to 40",
    ]


def test_streets_of_a_kilometre_are_areas_of_their_own_and_the_others_are_one() -> None:
    division = by_stretch(np.array([1.0, 2.0, 3.0, 4.0, 15.0]))
    road = np.array(["Long", "Long", "Short", "", "Long"])
    areas, district, street = areas_of("X", division, road, np.array([0.6, 0.6, 0.5, 3.0, 1.0]))
    assert areas.id.tolist() == [
        "city",
        "km-0-to-10",
        "km-0-to-10/long",
        "km-0-to-10/other-roads",
        "km-10-to-20",
        "km-10-to-20/long",
    ]
    assert areas.parent.tolist() == [-1, 0, 1, 1, 0, 4]
    assert areas.level.tolist() == [0, 1, 2, 2, 1, 2]
    assert district.tolist() == [1, 1, 1, 1, 4]
    assert street.tolist() == [2, 2, 3, 3, 5]


def test_districts_of_one_name_get_ids_of_their_own(tmp_path: Path) -> None:
    features = [
        {"properties": {"name": "Centro"}, "geometry": _square(0, -500, 2000, 500)},
        {"properties": {"name": "Centro"}, "geometry": _square(-2000, -500, 0, 500)},
    ]
    (tmp_path / "d.geojson").write_text(json.dumps({"features": features}))
    division = by_polygons(tmp_path / "d.geojson", PLACES)
    areas, _, _ = areas_of("X", division, np.array([""] * 4), np.ones(4))
    assert areas.id.tolist() == ["city", "centro", "centro/other-roads", "centro-2", "centro-2/other-roads"]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("{}", "GeoJSON features with a property 'name' allowed"),
        ('{"features": []}', "no feature seen, polygons allowed"),
        (
            '{"features": [{"properties": {"name": "a"}, "geometry": {"type": "Point", "coordinates": [1, 2]}}]}',
            "Point seen, polygons allowed",
        ),
    ],
)
def test_polygons_that_are_none_are_one_sentence(tmp_path: Path, content: str, error: str) -> None:
    (tmp_path / "d.geojson").write_text(content)
    with pytest.raises(ConfigError, match=error):
        by_polygons(tmp_path / "d.geojson", PLACES)


@pytest.mark.parametrize("content", ["", "name,x,y\na,1,2\n", "name,lon,lat\na,one,2\n"])
def test_places_that_are_none_are_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "p.csv").write_text(content)
    with pytest.raises(ConfigError, match="allowed"):
        by_places(tmp_path / "p.csv", PLACES)
