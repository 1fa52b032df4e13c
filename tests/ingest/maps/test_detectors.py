"""Detectors: placed by class, along a corridor, or from a list."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from citybrain.errors import ConfigError
from ingest.maps.detectors import placed, read_list, snapped
from tests.ingest.maps.build import link, place


def test_loops_lie_in_the_middle_third_and_cover_the_carriageway() -> None:
    links = [link(str(k), (k, k + 1), km=0.3, lanes=3) for k in range(200)]
    loops = placed(links, np.random.default_rng(1), cameras=0)
    assert len(loops) > 180
    assert len(np.unique(loops.id)) == len(np.unique(loops.segment)) == len(loops)
    assert loops.position_m.min() >= 100.0
    assert loops.position_m.max() <= 200.0
    assert set(loops.lanes.tolist()) == {3}


def test_the_same_seed_places_the_same_detectors() -> None:
    links = [link(str(k), (k, k + 1), road_class="tertiary") for k in range(50)]
    one, two = (placed(links, np.random.default_rng(7)) for _ in range(2))
    assert one.id.tolist() == two.id.tolist()
    assert one.position_m.tolist() == two.position_m.tolist()
    assert placed(links, np.random.default_rng(8)).id.tolist() != one.id.tolist()


def test_cameras_stand_at_the_ends_of_segments_that_follow_one_another_on_a_motorway() -> None:
    motorway = [link(f"m{k}", (k, k + 1), km=0.5, road="A 1", road_class="motorway") for k in range(10)]
    street = [link("s", (0, 40))]
    made = placed([*street, *motorway[::-1]], np.random.default_rng(1), cameras=6)
    cameras = made.kind == "camera"
    assert np.sum(cameras) == 6
    assert made.position_m[cameras].tolist() == [500.0] * 6
    order = made.segment[cameras].tolist()
    assert order == sorted(order, reverse=True), "in driving order, which here runs against the rows"
    assert 0 not in order


def test_a_listed_detector_goes_to_the_direction_it_looks_at(tmp_path: Path) -> None:
    links = [link("east", (0, 10), km=1.0, lanes=2), link("west", (10, 0), km=1.0, lanes=2)]
    lon, lat = place(300, 0)
    path = tmp_path / "d.csv"
    path.write_text(f"id,lon,lat,bearing,lanes,kind\na,{lon},{lat},90,,\nb,{lon},{lat},265,1,radar\n")
    made, far = snapped(read_list(path), links)
    assert made.segment.tolist() == [0, 1]
    assert made.position_m == pytest.approx([300.0, 700.0], abs=1.0)
    assert made.lanes.tolist() == [2, 1]
    assert made.kind.tolist() == ["loop", "radar"]
    assert far == []


def test_without_a_bearing_it_goes_to_the_side_of_the_road_it_lies_on(tmp_path: Path) -> None:
    links = [link("east", (0, 10), km=1.0), link("west", (10, 0), km=1.0)]
    path = tmp_path / "d.csv"
    rows = [place(500, -5), place(500, 5), place(500, 200)]
    path.write_text("id,lon,lat\n" + "".join(f"d{k},{lon},{lat}\n" for k, (lon, lat) in enumerate(rows)))
    made, far = snapped(read_list(path), links)
    assert made.id.tolist() == ["d0", "d1"]
    assert made.segment.tolist() == [0, 1], "traffic keeps to the right"
    assert far == ["detector d2 is left out: 200 m from a road seen, 50 m allowed"]


@pytest.mark.parametrize("text", ["id,x\n1,2\n", "id,lon,lat\na,b,c\n"])
def test_a_list_without_places_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(ConfigError, match="a CSV with columns id,lon,lat allowed"):
        read_list(tmp_path / "d.csv")
