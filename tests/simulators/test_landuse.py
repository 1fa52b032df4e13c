from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from citybrain.cityfile import load_city
from citybrain.landuse import LandUse
from citybrain.settings import SimulatedFeed
from simulators.city import SimulatedCity
from simulators.landuse import MAP_SHARE, mixed
from simulators.roads import roads_of
from simulators.zones import zones_of
from tests.fakes import grid_network

GRID = grid_network(columns=6, rows=5)
ROADS = roads_of(GRID)


def land(homes_at: int, work_at: int, cells: int = 40) -> LandUse:
    """Return land use whose homes are around one node and whose work is around another."""
    half = cells // 2
    first = GRID.segments.geometry_start[:-1][
        [np.flatnonzero(GRID.segments.from_node == n)[0] for n in (homes_at, work_at)]
    ]
    at = np.repeat(GRID.lon_lat[first].astype(np.float64), [half, cells - half], axis=0)
    at += np.random.default_rng(1).uniform(-0.001, 0.001, at.shape)
    homes = np.repeat([1000.0, 0.0], [half, cells - half])
    return LandUse(at[:, 0], at[:, 1], homes, 1000.0 - homes)


def test_homes_and_work_are_where_the_map_has_them() -> None:
    plain, told = (zones_of(GRID, ROADS, np.random.default_rng(1), each) for each in (None, land(14, 3)))
    lived, worked = told.of_node[14], told.of_node[3]
    assert int(np.argmax(told.home)) == lived
    assert int(np.argmax(told.work)) == worked
    assert told.home[lived] > 3 * plain.home[lived]
    assert told.home[worked] < plain.home[worked]


def test_the_map_has_its_share_and_what_is_not_drawn_keeps_the_rest() -> None:
    even = np.ones(ROADS.nodes)
    home, work = mixed(GRID, ROADS, land(14, 3), even, even)
    assert home.sum() == pytest.approx(ROADS.nodes)
    assert home[14] == pytest.approx(1 - MAP_SHARE + MAP_SHARE * ROADS.nodes)
    assert np.delete(home, 14) == pytest.approx(1 - MAP_SHARE)
    assert work[3] == home[14]


@pytest.mark.parametrize(
    "useless",
    [
        None,
        land(14, 3, cells=10),
        replace(land(14, 3), lon=land(14, 3).lon + 5),
        replace(land(14, 3), homes_m2=np.zeros(40), work_m2=np.zeros(40)),
    ],
)
def test_without_a_map_of_use_the_roads_alone_tell(useless: LandUse | None) -> None:
    even = np.ones(ROADS.nodes)
    home, work = mixed(GRID, ROADS, useless, even, even)
    assert home.tolist() == work.tolist() == even.tolist()


def test_a_city_folder_with_land_use_is_simulated_with_it(tmp_path: Path) -> None:
    (tmp_path / "city.toml").write_text('name = "G"\ntimezone = "Europe/Lisbon"\n[[simulated]]\ntrips = 5000\n')
    assert load_city(tmp_path).simulated[0].land_use == ""
    land(14, 3).save(tmp_path / "landuse.arrow", "mapped by hand")
    feed = load_city(tmp_path).simulated[0]
    told = SimulatedCity(GRID, feed, "Europe/Lisbon")
    plain = SimulatedCity(GRID, SimulatedFeed(trips=5000), "Europe/Lisbon")
    assert int(np.argmax(told.zones.home)) == told.zones.of_node[14]
    assert told.zones.home.tolist() != plain.zones.home.tolist()
