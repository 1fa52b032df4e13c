"""OpenStreetMap: what a way becomes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from citybrain.errors import ConfigError
from ingest.maps.defaults import DEFAULTS
from ingest.maps.links import Link
from ingest.maps.osm import MAIN_CLASSES, MINOR_CLASSES, imported, junctions_of, links_of, read_ways
from tests.conftest import ROOT, shared_data
from tests.ingest.maps.build import osm_file

CROSS = {1: (0.0, 0.0), 2: (300.0, 0.0), 3: (600.0, 0.0), 4: (300.0, 400.0), 5: (300.0, -400.0), 6: (150.0, 200.0)}


def _links(path: Path, ways: dict[int, tuple[list[int], dict[str, str]]]) -> dict[str, Link]:
    read = read_ways(osm_file(path / "m.osm", CROSS, ways), classes=[*MAIN_CLASSES, *MINOR_CLASSES])
    return {link.id: link for link in links_of(read, junctions_of(read))}


def _one(path: Path, **tags: str) -> dict[str, Link]:
    return _links(
        path, {10: ([1, 2, 3], {"highway": "primary"} | {key.replace("_", ":"): v for key, v in tags.items()})}
    )


def test_a_two_way_road_is_cut_at_the_junction_and_runs_both_ways(tmp_path: Path) -> None:
    links = _links(
        tmp_path,
        {10: ([1, 2, 3], {"highway": "primary", "name": "Main"}), 11: ([4, 2, 5], {"highway": "secondary"})},
    )
    assert sorted(links) == ["w10-0b", "w10-0f", "w10-1b", "w10-1f", "w11-0b", "w11-0f", "w11-1b", "w11-1f"]
    there, back = links["w10-0f"], links["w10-0b"]
    assert (there.from_node, there.to_node, back.from_node, back.to_node) == (1, 2, 2, 1)
    np.testing.assert_array_equal(there.points, back.points[::-1])
    assert there.road == "Main"
    assert there.length_km == pytest.approx(0.3, rel=1e-3)


def test_a_node_in_the_middle_of_one_road_is_no_junction(tmp_path: Path) -> None:
    assert sorted(_one(tmp_path)) == ["w10-0b", "w10-0f"]


@pytest.mark.parametrize(
    ("tags", "directions"),
    [
        ({}, "bf"),
        ({"oneway": "yes"}, "f"),
        ({"oneway": "-1"}, "b"),
        ({"oneway": "no"}, "bf"),
        ({"highway": "motorway"}, "f"),
        ({"highway": "motorway", "oneway": "no"}, "bf"),
        ({"highway": "motorway_link"}, "bf"),
        ({"junction": "roundabout"}, "f"),
        ({"oneway": "reversible"}, ""),
        ({"access": "private"}, ""),
        ({"access": "no", "motor_vehicle": "yes"}, "bf"),
        ({"motor_vehicle": "no"}, ""),
        ({"area": "yes"}, ""),
        ({"highway": "footway"}, ""),
    ],
)
def test_directions_follow_the_tags_and_what_they_imply(tmp_path: Path, tags: dict[str, str], directions: str) -> None:
    tagged = {10: ([1, 2, 3], {"highway": "primary"} | tags)}
    classes = [*MAIN_CLASSES, "motorway_link"]
    read = read_ways(osm_file(tmp_path / "m.osm", CROSS, tagged), classes=classes)
    assert "".join(sorted(link.id[-1] for link in links_of(read))) == directions


def test_a_roundabout_is_a_ring_of_one_way_links_and_none_ends_where_it_began(tmp_path: Path) -> None:
    links = _links(
        tmp_path,
        {
            10: ([2, 4, 6, 5, 2], {"highway": "primary", "junction": "roundabout"}),
            11: ([1, 2], {"highway": "primary"}),
        },
    )
    ring = [link for link in links.values() if link.id.startswith("w10")]
    assert [(link.from_node, link.to_node) for link in ring] == [(2, 6), (6, 2)]


def test_a_road_without_tags_gets_the_defaults_of_its_class(tmp_path: Path) -> None:
    link = _one(tmp_path)["w10-0f"]
    assert (link.lanes, link.free_flow_kmh, link.capacity_vph) == (1, 45.0, 950.0)
    assert np.isnan(link.limit_kmh)
    assert link.road == ""


@pytest.mark.parametrize(
    ("tags", "there", "back"),
    [
        ({"lanes": "4"}, 2, 2),
        ({"lanes": "1"}, 1, 1),
        ({"lanes": "3", "lanes_forward": "2", "lanes_backward": "1"}, 2, 1),
        ({"lanes": "many"}, 1, 1),
        ({"lanes": "2;4"}, 1, 1),
    ],
)
def test_lanes_are_those_of_one_direction(tmp_path: Path, tags: dict[str, str], there: int, back: int) -> None:
    links = _one(tmp_path, **tags)
    assert (links["w10-0f"].lanes, links["w10-0b"].lanes) == (there, back)
    assert links["w10-0f"].capacity_vph == 950.0 * there


def test_limits_are_read_by_direction_and_unit(tmp_path: Path) -> None:
    links = _one(tmp_path, maxspeed="80", maxspeed_backward="50 mph")
    assert links["w10-0f"].limit_kmh == 80.0
    assert links["w10-0b"].limit_kmh == pytest.approx(80.4672)
    assert links["w10-0f"].free_flow_kmh == 72.0


def test_minor_roads_cut_main_ones_and_are_not_in_the_network(tmp_path: Path) -> None:
    path = osm_file(
        tmp_path / "m.osm",
        CROSS,
        {10: ([1, 2, 3], {"highway": "primary"}), 11: ([4, 2], {"highway": "residential"})},
    )
    links = imported(path)
    assert sorted((link.from_node, link.to_node) for link in links) == [(1, 2), (2, 1), (2, 3), (3, 2)]


def test_what_lies_outside_the_bounds_is_cut_off(tmp_path: Path) -> None:
    path = osm_file(tmp_path / "m.osm", CROSS, {10: ([1, 2, 3], {"highway": "primary"})})
    ways = read_ways(path, classes=MAIN_CLASSES, bounds=(-8.611, 41.0, -8.6064, 42.0))
    assert [way.nodes for way in ways] == [(1, 2)]


def test_a_blind_one_way_road_is_left_out_as_nobody_comes_back(tmp_path: Path) -> None:
    path = osm_file(
        tmp_path / "m.osm",
        CROSS,
        {10: ([1, 2, 3], {"highway": "primary"}), 11: ([2, 4], {"highway": "primary", "oneway": "yes"})},
    )
    assert {node for link in imported(path) for node in (link.from_node, link.to_node)} == {1, 2, 3}


def test_a_map_without_roads_or_no_map_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no connected road seen"):
        imported(osm_file(tmp_path / "m.osm", CROSS, {}))
    with pytest.raises(ConfigError, match="no such file"):
        imported(tmp_path / "nowhere.pbf")
    (tmp_path / "x.pbf").write_bytes(b"nothing of the kind")
    with pytest.raises(ConfigError, match="a readable OpenStreetMap file"):
        imported(tmp_path / "x.pbf")


def test_the_real_extract_of_porto_gives_the_size_of_the_demo_city() -> None:
    links = imported(shared_data("osm/porto.osm.pbf"), bounds=(-8.72, 41.105, -8.54, 41.215))
    assert 4_500 < len(links) < 5_500
    assert len({link.id for link in links}) == len(links)
    assert 650 < sum(link.length_km for link in links) < 720
    assert min(link.length_km for link in links) > 0.005


def test_the_page_on_cities_says_what_is_assumed_by_class() -> None:
    page = (ROOT / "docs" / "cities.md").read_text(encoding="utf-8")
    for name, assumed in DEFAULTS.items():
        if name.endswith("_link"):
            continue
        both = [assumed, DEFAULTS[f"{name}_link"]] if f"{name}_link" in DEFAULTS else [assumed]
        columns = [
            ", ".join(f"{getattr(one, column):g}" for one in both)
            for column in ("limit_kmh", "lanes", "free_flow_share", "capacity_vph_per_lane")
        ]
        label = f"{name}, ramp" if len(both) == 2 else name
        assert f"| {label} | {' | '.join(columns)} |" in page
