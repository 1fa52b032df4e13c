from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulators.engine import Trips
from simulators.roads import roads_of
from simulators.traffic import FULL, QUEUE_DISCHARGE_LOSS, TrafficRules, roads_under, vehicles_under
from simulators.vehicles import TRUCK, VehicleRules
from tests.fakes import grid_network

GRID = grid_network()


def test_the_defaults_change_nothing() -> None:
    roads = roads_under(GRID, TrafficRules())
    np.testing.assert_array_equal(roads.discharge_vps, roads_of(GRID).discharge_vps)
    assert roads.signals is None
    assert roads.capacity_drop is None
    trips = Trips(np.arange(3.0), np.zeros(3, np.int32), np.zeros(3, np.int16))
    assert vehicles_under(trips, TrafficRules(), np.random.default_rng(1)).kind is None


def test_with_everything_on_there_are_signals_trucks_and_a_drop_on_motorways_alone() -> None:
    motorway = np.arange(len(GRID.segments)) % 5 == 0
    network = replace(GRID, segments=replace(GRID.segments, road_class=np.where(motorway, 0, 2).astype(np.int32)))
    roads = roads_under(network, FULL)
    assert roads.signals is not None
    assert roads.capacity_drop is not None
    np.testing.assert_allclose(roads.capacity_drop, np.where(motorway, QUEUE_DISCHARGE_LOSS, 0.0))
    trips = Trips(np.arange(20_000.0), np.zeros(20_000, np.int32), np.zeros(20_000, np.int16))
    kind = vehicles_under(trips, FULL, np.random.default_rng(1)).kind
    assert kind is not None
    assert (kind == TRUCK).mean() == pytest.approx(FULL.vehicles.truck_share, rel=0.1)


def test_shares_that_none_can_be_are_refused_with_the_value_seen() -> None:
    with pytest.raises(ValueError, match=r"truck_share: 1\.5 seen, 0 to 1 allowed"):
        VehicleRules(truck_share=1.5)
    with pytest.raises(ValueError, match=r"capacity_drop: 0\.9 seen, 0 to 0\.5 allowed"):
        TrafficRules(capacity_drop=0.9)
