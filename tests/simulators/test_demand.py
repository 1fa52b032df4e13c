from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
import structlog
import structlog.testing

from citybrain.errors import ConfigError
from simulators.calendar import day_types, local_hours, on
from simulators.demand import HOME, Demand, DemandRules, Factors, demand_of, gravity
from simulators.engine import Trips
from simulators.profiles import DAY_TYPES, PURPOSES
from simulators.roads import Roads, roads_of
from simulators.routes import Routes
from simulators.supply import LOAD_LIMIT, carried, loads, ways_of, worst
from simulators.vehicles import VehicleRules
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
    assert int(np.argmax(hours[:12])) == 7, "the early peak"
    assert 12 + int(np.argmax(hours[12:])) == 17
    assert 0.3 * hours[7] < hours[10:16].min()
    assert hours[[2, 4]].max() < 0.09 * hours[7]


def gated() -> tuple[Roads, Zones, Routes]:
    """Return the grid with two corners of it as gates."""
    roads, zones, routes, _ = made()
    gate_vps = np.where(np.isin(np.arange(len(zones)), zones.of_node[[0, 29]]), 1.0, 0.0)
    inner = gate_vps == 0
    home, work = (np.where(inner, weight, 0.0) for weight in (zones.home, zones.work))
    return roads, replace(zones, gate_vps=gate_vps, home=home / home.sum(), work=work / work.sum()), routes


def test_commuters_from_outside_come_in_the_morning_and_leave_in_the_evening() -> None:
    roads, zones, routes = gated()
    demand = demand_of(roads, zones, routes, 50_000)
    day = on(TUESDAY, LISBON)
    trips, purpose = demand.with_purposes(day, np.random.default_rng(1))
    _, hours = local_hours(day)
    hour = hours[(trips.depart_s // 60).astype(np.int64)]
    gate = zones.gate_vps > 0
    starts, ends = gate[zones.of_node[trips.origin]], gate[trips.zone]
    through = purpose == PURPOSES.index("through")
    assert through.mean() == pytest.approx(0.05, abs=0.01)
    assert (starts & ends)[through].all()
    assert not (starts & ends)[~through].any()
    morning, evening = (hour > 7) & (hour < 9) & ~through, (hour > 17) & (hour < 19) & ~through
    assert starts[morning].sum() > 1.3 * ends[morning].sum()
    assert ends[evening].sum() > 1.15 * starts[evening].sum()


def test_a_holiday_is_driven_like_a_sunday_and_years_grow() -> None:
    roads, zones, routes, plain = made()
    rules = DemandRules(holidays=(TUESDAY,), growth_per_year=0.10, grows_from=date(2025, 11, 17))
    counts = {}
    for name, demand in (("plain", plain), ("holiday", demand_of(roads, zones, routes, 50_000, rules))):
        counts[name] = [len(demand.of_day(on(at, LISBON), np.random.default_rng(1))) for at in (TUESDAY, SUNDAY)]
    assert counts["holiday"][0] == pytest.approx(counts["holiday"][1], rel=0.03)
    assert counts["holiday"][1] == pytest.approx(1.10 * counts["plain"][1], rel=0.03)
    assert counts["plain"][0] > 1.3 * counts["plain"][1]


def test_the_night_after_a_friday_is_a_saturdays() -> None:
    kind, hour = day_types(on(date(2026, 11, 20), LISBON))
    assert [DAY_TYPES[at] for at in np.unique(kind[hour >= 4])] == ["friday"]
    late = np.arange(len(hour)) > 12 * 60
    assert [DAY_TYPES[at] for at in np.unique(kind[(hour < 3.9) & late])] == ["saturday"]


def test_a_day_of_the_change_to_winter_time_has_its_hour_twice_and_one_type() -> None:
    kind, _ = day_types(on(date(2026, 10, 24), LISBON))
    assert len(kind) == 25 * 60 + 30
    assert [DAY_TYPES[at] for at in np.unique(kind)] == ["saturday", "sunday"]


def test_rules_that_cannot_be_are_refused_all_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        DemandRules(trips=-1, through=1.2, live_outside=0.7, work_outside=0.7, week=("weekday",))
    assert len(str(error.value).splitlines()) == 4
    assert "through: 1.2 seen" in str(error.value)


def test_trucks_are_drawn_by_their_share_and_change_no_trip() -> None:
    roads, zones, routes, plain = made()
    mixed = demand_of(roads, zones, routes, 50_000, DemandRules(vehicles=VehicleRules(0.1)))
    day = on(TUESDAY, LISBON)
    with_trucks, cars = (each.of_day(day, np.random.default_rng(1)) for each in (mixed, plain))
    assert cars.kind is None
    assert with_trucks.kind is not None
    assert with_trucks.kind.mean() == pytest.approx(0.1, abs=0.01)
    assert with_trucks.depart_s.tolist() == cars.depart_s.tolist()


def test_factors_multiply_the_trips_of_their_zones_purposes_and_hours() -> None:
    _, zones, _, demand = made(400_000)
    ends, hours = np.ones((4, len(zones))), np.ones(24)
    ends[HOME, 3] = 2.0
    hours[12] = 0.5
    more = demand.times(Factors(ends, hours))
    day = on(TUESDAY, LISBON)
    drawn = []
    for each in (demand, more):
        trips, purpose = each.with_purposes(day, np.random.default_rng(1))
        drawn.append(np.bincount(zones.of_node[trips.origin[purpose == 0]], minlength=len(zones)))
    ratio = drawn[1] / drawn[0]
    assert ratio[3] == pytest.approx(2.0, rel=0.15)
    assert np.delete(ratio, 3).mean() == pytest.approx(1.0, abs=0.08)
    noon = [per_hour(each.of_day(day, np.random.default_rng(1)), TUESDAY)[12] for each in (demand, more)]
    assert noon[1] == pytest.approx(0.5 * noon[0], rel=0.1)


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
    np.testing.assert_allclose(matrix.sum(axis=1), out, rtol=2e-6)
    np.testing.assert_allclose(matrix.sum(axis=0), into, rtol=2e-6)
    assert (matrix * minutes).sum() < (np.outer(out, into) * minutes).sum()


def test_balancing_goes_on_until_the_tolerance_is_met() -> None:
    rng = np.random.default_rng(5)
    out, into = rng.dirichlet(np.full(40, 0.3)), rng.dirichlet(np.full(40, 0.3))
    will = np.exp(-0.6 * rng.uniform(1, 40, (40, 40)))
    np.fill_diagonal(will, 0.0)
    for tolerance in (1e-3, 1e-8):
        matrix = gravity(out, into, will, tolerance)
        error = np.abs(matrix.sum(axis=1) / out - 1).max()
        assert error <= 2 * tolerance


def test_zones_without_a_way_out_have_no_trips_and_the_others_keep_their_margins() -> None:
    out, into = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    will = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    matrix = gravity(out, into, will)
    assert matrix[2].sum() == 0
    np.testing.assert_allclose(matrix.sum(axis=1)[:2], out[:2], rtol=1e-5)


def test_margins_that_cannot_be_met_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    will = 1.0 - np.eye(2)
    monkeypatch.setattr("simulators.demand.log", structlog.get_logger())  # one that no test before has bound
    with structlog.testing.capture_logs() as told:
        gravity(np.array([0.9, 0.1]), np.array([0.9, 0.1]), will)
    assert [(line["event"], line["log_level"]) for line in told] == [("gravity_unbalanced", "warning")]


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
