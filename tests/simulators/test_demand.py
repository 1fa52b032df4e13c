from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from citybrain.errors import ConfigError
from simulators.calendar import local_hours, on
from simulators.demand import Demand, demand_of, gravity
from simulators.engine import Trips
from simulators.roads import Roads, roads_of
from simulators.routes import Routes
from simulators.supply import LOAD_LIMIT, carried, loads, ways_of, worst
from simulators.zones import SINKS, Zones, zones_of
from tests.fakes import grid_network

LISBON = "Europe/Lisbon"
TUESDAY, SATURDAY, SUNDAY = date(2026, 11, 17), date(2026, 11, 21), date(2026, 11, 22)


def made(trips: int = 50_000) -> tuple[Roads, Zones, Routes, Demand]:
    network = grid_network(columns=6, rows=5)
    roads = roads_of(network)
    zones = zones_of(network, roads, np.random.default_rng(1))
    routes = Routes(roads, zones.sinks, np.random.default_rng(2))
    return roads, zones, routes, demand_of(roads, zones, routes, trips)


def per_hour(trips: Trips, day: date) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    _, hours = local_hours(on(day, LISBON))
    hour = hours[(trips.depart_s // 60).astype(np.int64)].astype(np.int64)
    return np.bincount(hour, minlength=24)


def test_a_weekday_has_its_two_peaks_a_busy_noon_and_a_quiet_night() -> None:
    *_, demand = made()
    trips = demand.of_day(on(TUESDAY, LISBON), np.random.default_rng(1))
    assert len(trips) == pytest.approx(50_000, rel=0.03)
    hours = per_hour(trips, TUESDAY)
    assert int(np.argmax(hours[:12])) == 7
    assert 12 + int(np.argmax(hours[12:])) == 17
    assert 0.3 * hours[7] < hours[10:16].min()
    assert hours[[2, 4]].max() < 0.03 * hours[7]


def test_saturday_and_sunday_have_less_traffic_and_no_morning_peak() -> None:
    *_, demand = made()
    day = {
        name: per_hour(demand.of_day(on(name, LISBON), np.random.default_rng(1)), name) for name in (SATURDAY, SUNDAY)
    }
    for hours in day.values():
        assert 11 <= int(np.argmax(hours)) <= 18
        assert hours.sum() < 45_000
    assert day[SUNDAY].sum() < day[SATURDAY].sum()


def test_trips_are_sorted_start_where_a_road_leads_away_and_end_elsewhere() -> None:
    roads, zones, _, demand = made()
    trips = demand.of_day(on(TUESDAY, LISBON), np.random.default_rng(1))
    order = np.lexsort((trips.depart_s, trips.origin))
    assert (order == np.arange(len(trips))).all()
    assert np.isin(trips.origin, roads.from_node).all()
    assert (zones.of_node[trips.origin] != trips.zone).all()
    assert trips.depart_s.min() >= 0
    assert trips.depart_s.max() < on(TUESDAY, LISBON).seconds


def test_the_gravity_model_meets_both_margins_and_prefers_what_is_near() -> None:
    rng = np.random.default_rng(4)
    out, into = rng.dirichlet(np.ones(8)), rng.dirichlet(np.ones(8))
    minutes = rng.uniform(2, 20, (8, 8))
    matrix = gravity(out, into, np.exp(-0.2 * minutes))
    np.testing.assert_allclose(matrix.sum(axis=1), out, rtol=1e-3)
    np.testing.assert_allclose(matrix.sum(axis=0), into, rtol=1e-6)
    assert (matrix * minutes).sum() < (np.outer(out, into) * minutes).sum()


def test_every_zone_has_its_own_nodes_as_sinks_and_its_departures_add_up() -> None:
    _, zones, _, _ = made()
    assert zones.sinks.shape == (len(zones), SINKS)
    assert (zones.of_node[zones.sinks] == np.arange(len(zones))[:, None]).all()
    sums = np.bincount(zones.of_node, weights=zones.origin_share)
    np.testing.assert_allclose(sums, 1.0)
    assert zones.home.sum() == pytest.approx(1.0)
    assert zones.work.sum() == pytest.approx(1.0)


def test_loads_of_the_tree_are_those_of_walking_every_way() -> None:
    roads, zones, routes, _ = made()
    matrix = np.random.default_rng(3).random((len(zones), len(zones)))
    ways = ways_of(roads, routes.next_link, np.isfinite(routes.minutes))
    walked, seen = np.zeros(len(roads)), np.zeros(len(roads))
    values = np.random.default_rng(5).random(len(roads))
    highest = worst(ways, values).reshape(len(zones), -1)
    for node in range(roads.nodes):
        for zone in range(len(zones)):
            at, top = node, 0.0
            while (link := routes.next_link[zone, at]) >= 0:
                walked[link] += matrix[zones.of_node[node], zone] * zones.origin_share[node]
                top = max(top, values[link])
                at = roads.to_node[link]
            assert highest[zone, node] == top
    seen = loads(ways, zones, matrix, len(roads))
    np.testing.assert_allclose(seen, walked)


def test_trips_that_the_roads_cannot_carry_are_made_elsewhere() -> None:
    roads, zones, routes, _ = made()
    ways = ways_of(roads, routes.next_link, np.isfinite(routes.minutes))
    even = np.ones((len(zones), len(zones)))
    np.fill_diagonal(even, 0.0)
    even[3] *= 200.0
    total = 6.0
    load = loads(ways, zones, even / even.sum() * total, len(roads)) / roads.discharge_vps
    (kept,) = carried([even], [[total]], roads, zones, ways)
    after = loads(ways, zones, kept * total, len(roads)) / roads.discharge_vps
    assert load.max() > 1.5 * LOAD_LIMIT
    assert after.max() < 1.1 * LOAD_LIMIT
    assert kept.sum() == pytest.approx(1.0)


def test_a_network_without_any_way_is_refused() -> None:
    network = grid_network(columns=2, rows=2)
    roads = roads_of(network)
    zones = zones_of(network, roads, np.random.default_rng(1))
    routes = Routes(roads, zones.sinks, np.random.default_rng(2))
    routes.minutes[:] = np.inf
    with pytest.raises(ConfigError, match="no two zones with a way between them"):
        demand_of(roads, zones, routes, 1000)
