from __future__ import annotations

import numpy as np
import pytest

from simulators.engine import EXIT, Engine, Trips
from simulators.roads import roads_from
from simulators.vehicles import CAR, TRUCK
from tests.simulators.links import along, chain, departures, every, run


def test_a_lane_closure_lowers_capacity_and_storage_to_their_shares() -> None:
    roads = chain([800.0, 400.0, 400.0], [1.0, 1.0, 1.0], lanes=[2, 2, 2])
    engine = Engine(roads, departures(every(1.0, 4000)))
    engine.restrict(1, 0.35, 0.5)
    _, left = run(engine, along(roads), 2000)
    assert left[-1, 1] - left[-1001, 1] == pytest.approx(350, abs=1)
    assert engine.storage[1] == roads.storage_veh[1] // 2
    engine.restrict(1, 1.0)
    _, left = run(engine, along(roads), 1000)
    assert left[-1, 2] - left[-501, 2] == pytest.approx(500, abs=1)


def test_a_capacity_unused_for_hours_lets_no_more_than_one_vehicle_through_at_once() -> None:
    roads = chain([400.0, 400.0], [0.5, 0.25])
    engine = Engine(roads, departures(every(2.0, 7400, 7200)))
    _, left = run(engine, along(roads), 7400)
    assert (left[7300:7400, 1] - left[7300, 1])[-1] == pytest.approx(25, abs=1)
    assert (left[7200:, 1] <= 1 + 0.25 * np.arange(1, 201)).all()


def test_a_share_outside_0_to_1_is_refused_with_the_value_seen() -> None:
    engine = Engine(chain([100.0], [0.5]), departures(every(2.0, 10)))
    with pytest.raises(ValueError, match=r"capacity share of link 0: 1\.5 seen, 0 to 1 allowed"):
        engine.restrict(0, 1.5)


def test_a_road_without_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"length_m: 0\.0 seen, above 0 allowed"):
        chain([100.0, 0.0], [0.5, 0.5])


def test_a_locked_city_says_where_and_a_queue_that_moves_is_not_locked() -> None:
    node = np.arange(4, dtype=np.int32)
    ring = roads_from(
        node,
        (node + 1) % 4,
        length_m=np.full(4, 70.0),
        speed_ms=np.full(4, 10.0),
        lanes=np.ones(4, np.int32),
        capacity_vps=np.full(4, 0.5),
    )
    full = np.repeat(node, 10)
    engine = Engine(ring, Trips(np.full(40, 0.0), full, np.zeros(40, np.int16)))
    run(engine, node[None, :], 1200)
    assert engine.stalled(600.0).tolist() == [0, 1, 2, 3]
    assert engine.on_road == 40, "nobody is taken away"
    moving = Engine(chain([300.0, 300.0], [0.5, 0.05]), departures(every(2.0, 2000)))
    run(moving, along(moving.roads), 1500)
    assert moving.head_delay_s()[0] > 600
    assert moving.stalled(600.0).tolist() == []


def test_a_saved_state_goes_on_to_the_same_end() -> None:
    roads = chain([300.0, 150.0, 400.0], [0.5, 0.3, 0.5])
    whole, first, second = (Engine(roads, departures(every(1.9, 900))) for _ in range(3))
    run(whole, along(roads), 2500)
    run(first, along(roads), 600)
    second.load({name: values.copy() for name, values in first.dump().items()})
    run(second, along(roads), 1900)
    np.testing.assert_array_equal(second.arrival_s, whole.arrival_s)
    np.testing.assert_array_equal(second.entered, whole.entered)
    np.testing.assert_array_equal(second.time_spent_s(), whole.time_spent_s())


def test_a_vehicle_moves_at_most_one_link_a_second_even_over_very_short_ones() -> None:
    roads = chain([1.0] * 6, [0.5] * 6)
    engine = Engine(roads, departures(np.zeros(1)))
    entered, _ = run(engine, along(roads), 10)
    assert entered.sum(axis=1)[:6].tolist() == [1, 2, 3, 4, 5, 6]
    assert engine.arrived == 1


def test_time_spent_is_the_area_between_the_two_counts() -> None:
    roads = chain([500.0, 500.0], [0.5, 0.25])
    engine = Engine(roads, departures(every(2.0, 600)))
    entered, left = run(engine, along(roads), 800)
    np.testing.assert_allclose(engine.time_spent_s(), (entered - left).sum(axis=0), rtol=0.01)


def test_vehicles_for_different_ways_leave_in_the_order_in_which_they_came() -> None:
    fork = roads_from(
        np.array([0, 1, 1], np.int32),
        np.array([1, 2, 3], np.int32),
        length_m=np.full(3, 200.0),
        speed_ms=np.full(3, 20.0),
        lanes=np.ones(3, np.int32),
        capacity_vps=np.array([0.5, 0.5, 0.5]),
    )
    n = 300
    trips = Trips(every(2.0, 2.0 * n), np.zeros(n, np.int32), (np.arange(n) % 2).astype(np.int16))
    engine = Engine(fork, trips)
    engine.restrict(1, 0.1)
    next_link = np.array([[0, 1, EXIT, EXIT], [0, 2, EXIT, EXIT]], np.int32)
    _, left = run(engine, next_link, 1500)
    flows = left[-1] - left[-1001]
    assert flows[1] == pytest.approx(50, abs=1)
    assert flows[2] == pytest.approx(50, abs=1), "those for the free way are held back by those before them"


def test_a_truck_that_waits_for_room_is_not_passed_over_by_the_cars_of_the_other_road() -> None:
    roads = roads_from(
        np.array([0, 1, 2, 3], np.int32),
        np.array([2, 2, 3, 4], np.int32),
        length_m=np.array([300.0, 300.0, 20.0, 200.0]),
        speed_ms=np.full(4, 10.0),
        lanes=np.ones(4, np.int32),
        capacity_vps=np.array([0.5, 0.5, 0.5, 0.2]),
    )
    origin = np.repeat(np.array([0, 1], np.int32), 500)
    kind = np.where(origin == 0, TRUCK, CAR).astype(np.int8)
    engine = Engine(roads, Trips(np.tile(np.arange(500.0) * 2, 2), origin, np.zeros(1000, np.int16), kind))
    run(engine, np.array([[0, 1, 2, 3, EXIT]], np.int32), 3600)
    assert engine.left[2] > 200, "there is a queue for the time of it"
    assert engine.left[0] == pytest.approx(engine.left[1], abs=2), "roads of one capacity take turns"
