from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulators.engine import EXIT, Engine, Trips
from simulators.roads import at_junction, in_roundabout, roads_from, roads_of
from tests.fakes import grid_network
from tests.simulators.links import run


def test_the_diagram_of_a_road_is_consistent() -> None:
    roads = roads_of(grid_network())
    np.testing.assert_allclose(roads.storage_veh, 143, err_msg="0.5 km of two lanes at 143 veh/km a lane")
    np.testing.assert_allclose(roads.free_s, 36.0)
    np.testing.assert_allclose(roads.storage_veh / roads.capacity_vps, roads.free_s + roads.wave_s)
    wave_kmh = 0.5 / roads.wave_s * 3600
    assert ((wave_kmh > 14) & (wave_kmh < 20)).all()


def test_a_stated_capacity_is_what_junctions_let_through_and_the_road_between_carries_more() -> None:
    network = grid_network()
    stated = replace(network, segments=replace(network.segments, capacity_vph=np.full(len(network.segments), 1900.0)))
    roads = roads_of(stated)
    shared = at_junction(roads.from_node, roads.to_node)
    np.testing.assert_allclose(roads.discharge_vps[shared] * 3600, 1900)
    np.testing.assert_allclose(roads.capacity_vps * 3600, 3600)
    np.testing.assert_allclose(roads.discharge_vps[~shared] * 3600, 3600)


def test_without_a_stated_capacity_a_junction_lets_its_green_share_through() -> None:
    network = grid_network()
    unknown = replace(network, segments=replace(network.segments, capacity_vph=np.full(len(network.segments), np.nan)))
    roads = roads_of(unknown)
    shared = at_junction(roads.from_node, roads.to_node)
    np.testing.assert_allclose(roads.discharge_vps[shared] * 3600, 2 * 1800 * 0.56)


def test_a_node_on_a_plain_road_is_no_junction_and_a_crossing_is_one() -> None:
    # 0 - 1 - 2 in both directions, and a side road between 1 and 3 in a second layout.
    plain = at_junction(np.array([0, 1, 1, 2], np.int32), np.array([1, 0, 2, 1], np.int32))
    crossing = at_junction(np.array([0, 1, 1, 2, 3, 1], np.int32), np.array([1, 0, 2, 1, 1, 3], np.int32))
    assert plain.tolist() == [False, False, False, False]
    assert crossing.tolist() == [True, False, False, True, True, False]


def test_a_small_ring_of_one_way_links_is_a_roundabout_and_a_block_of_streets_is_none() -> None:
    node = np.arange(4, dtype=np.int32)
    ring_from, ring_to = np.append(node, 4), np.append((node + 1) % 4, 0)
    small = in_roundabout(ring_from, ring_to, np.array([20.0, 20.0, 20.0, 20.0, 50.0]))
    assert small.tolist() == [True, True, True, True, False]
    assert not in_roundabout(ring_from, ring_to, np.full(5, 119.0)).any()
    both = in_roundabout(np.array([0, 1], np.int32), np.array([1, 0], np.int32), np.array([20.0, 20.0]))
    assert not both.any()


@pytest.mark.parametrize(("weights", "share"), [((0.5, 0.5), 0.5), ((10.0, 0.5), 10 / 10.5)])
def test_whoever_circles_goes_first(weights: tuple[float, float], share: float) -> None:
    roads = roads_from(
        np.array([0, 1, 2], np.int32),
        np.array([2, 2, 3], np.int32),
        length_m=np.full(3, 300.0),
        speed_ms=np.full(3, 10.0),
        lanes=np.ones(3, np.int32),
        capacity_vps=np.full(3, 0.5),
        weight=np.array([*weights, 0.5]),
    )
    n = 1000
    trips = Trips(
        np.tile(np.arange(0.0, 2.0 * n, 2.0), 2),
        np.repeat(np.array([0, 1], np.int32), n),
        np.zeros(2 * n, np.int16),
    )
    engine = Engine(roads, trips)
    _, left = run(engine, np.array([[0, 1, 2, EXIT]], np.int32), 1500)
    through = left[-1] - left[499]
    assert through[0] / through[2] == pytest.approx(share, abs=0.01)
