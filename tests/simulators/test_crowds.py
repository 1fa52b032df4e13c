from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from citybrain.errors import ConfigError
from simulators.crowds import Crowd, Flight, crowd_trips, flight_trips, joined
from simulators.demand import zone_minutes
from simulators.engine import Engine, Trips
from simulators.roads import roads_of
from simulators.routes import Routes
from simulators.zones import node_positions_km, zones_of
from tests.fakes import grid_network

NETWORK = grid_network(columns=6, rows=5)
ROADS = roads_of(NETWORK)
ZONES = zones_of(NETWORK, ROADS, np.random.default_rng(1))
ROUTES = Routes(ROADS, ZONES.sinks, np.random.default_rng(2))
PLACES = node_positions_km(NETWORK, ROADS)
MIDDLE = (float(PLACES[:, 0].mean()), float(PLACES[:, 1].mean()))
GAME = Crowd(MIDDLE, 2000, begins_s=20_000.0, ends_s=26_000.0)


def crowd(seed: int = 1, game: Crowd = GAME) -> Trips:
    return crowd_trips(game, ZONES, PLACES, np.random.default_rng(seed))


def test_a_crowd_comes_before_the_begin_and_leaves_after_the_end() -> None:
    trips = crowd()
    near = np.hypot(*(PLACES[trips.origin] - MIDDLE).T) <= GAME.radius_km + 1e-9
    leaving = near & (trips.depart_s >= GAME.ends_s)
    coming = ~leaving
    assert leaving.sum() == coming.sum() == 2000
    assert (trips.depart_s[coming] < GAME.begins_s).mean() == pytest.approx(0.9, abs=0.02)
    emptied = GAME.ends_s + GAME.emptied_s
    assert (trips.depart_s[leaving] <= emptied).mean() == pytest.approx(0.9, abs=0.02)
    quarter = (trips.depart_s[leaving] - GAME.ends_s) // (GAME.emptied_s / 4)
    counts = np.bincount(quarter.astype(int))
    assert counts[0] < counts[2], "an S-curve: slowly at first"
    assert counts[2] > 3 * counts[5]


def test_those_who_come_go_where_they_came_from_and_never_within_their_zone() -> None:
    trips = crowd()
    assert (ZONES.of_node[trips.origin] != trips.zone).all()
    place = np.unique(ZONES.of_node[np.hypot(*(PLACES - MIDDLE).T) <= GAME.radius_km])
    coming = np.isin(trips.zone, place)
    out = np.bincount(ZONES.of_node[trips.origin[coming]], minlength=len(ZONES))
    back = np.bincount(trips.zone[~coming], minlength=len(ZONES))
    np.testing.assert_array_equal(out, back)


def test_a_crowd_of_one_seed_is_the_same_and_of_another_is_not() -> None:
    assert crowd(1).depart_s.tolist() == crowd(1).depart_s.tolist()
    assert crowd(1).depart_s.tolist() != crowd(2).depart_s.tolist()


def test_the_engine_takes_a_crowd_with_the_usual_trips_and_all_arrive() -> None:
    usual = Trips(np.array([5.0, 9.0]), np.array([0, 3], np.int32), np.array([3, 0], np.int16))
    small = Crowd(MIDDLE, 60, begins_s=7000.0, ends_s=9000.0, emptied_s=600.0)
    engine = Engine(ROADS, joined(usual, crowd(game=small)))
    for _ in range(12_000):
        engine.step(ROUTES.next_link)
    assert engine.arrived == 122


def test_trips_joined_are_sorted_and_begin_with_the_engine_at_the_earliest() -> None:
    early = Crowd(MIDDLE, 300, begins_s=100.0, ends_s=5000.0)
    trips = crowd(game=early)
    assert trips.depart_s.min() == 0.0
    assert (np.lexsort((trips.depart_s, trips.origin)) == np.arange(600)).all()


def test_an_end_before_the_begin_is_refused_with_what_was_seen() -> None:
    with pytest.raises(ConfigError, match="from 9 to 8 s"):
        Crowd(MIDDLE, 10, begins_s=9.0, ends_s=8.0)


def test_an_evacuation_leads_every_car_to_a_gate_along_an_s_curve() -> None:
    gates = np.isin(np.arange(len(ZONES)), ZONES.of_node[[0, 29]])
    zones = replace(ZONES, gate_vps=np.where(gates, 1.0, 0.0))
    flight = Flight(np.full(len(ZONES), 100), ordered_s=3600.0, left_in_s=7200.0)
    trips = flight_trips(flight, zones, zone_minutes(zones, ROUTES.minutes), np.random.default_rng(1))
    assert len(trips) == 100 * (len(ZONES) - 2)
    assert gates[trips.zone].all()
    assert not gates[zones.of_node[trips.origin]].any()
    assert trips.depart_s.min() >= 3600.0
    assert (trips.depart_s <= 3600.0 + 7200.0).mean() == pytest.approx(0.9, abs=0.02)
    near_first = zones.of_node[1]
    own = trips.zone[zones.of_node[trips.origin] == near_first]
    assert (own == zones.of_node[0]).mean() > 0.5, "the near gate is taken more"


def test_a_city_without_gates_cannot_be_left() -> None:
    flight = Flight(np.full(len(ZONES), 5), 100.0, 3600.0)
    assert not (ZONES.gate_vps > 0).any()
    with pytest.raises(ConfigError, match="without gates"):
        flight_trips(flight, ZONES, zone_minutes(ZONES, ROUTES.minutes), np.random.default_rng(1))
