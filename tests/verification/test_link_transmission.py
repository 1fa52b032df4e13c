"""The traffic model against closed forms of traffic-flow theory: within 1 % or one vehicle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.engine import EXIT, Engine, Trips
from simulators.roads import roads_from
from simulators.sensors import passed_at
from tests.simulators.links import along, at_random, chain, departures, every, run


def test_at_free_flow_the_travel_time_is_length_over_speed_however_the_links_are_cut() -> None:
    roads = chain([137.0, 411.0, 29.0, 1003.0, 61.0, 359.0], [0.5] * 6, speed_ms=13.9)
    depart = every(7.3, 700)
    engine = Engine(roads, departures(depart))
    _, left = run(engine, along(roads), 1000)
    assert engine.arrived == len(depart)
    np.testing.assert_allclose(engine.arrival_s - depart, 2000.0 / 13.9, rtol=0.01)
    assert np.diff(left[300:600, 5]).sum() == pytest.approx(300 / 7.3, abs=1)


def test_a_bottleneck_discharges_its_capacity_and_queue_delay_and_clearing_are_as_by_the_counts() -> None:
    demand, capacity, after, during = 0.8, 0.5, 0.2, 1200.0
    roads = chain([4000.0, 500.0], [1.0, capacity], lanes=[2, 1])
    depart = np.concatenate([every(1 / demand, during), every(1 / after, during + 2500, during)])
    engine = Engine(roads, departures(depart))
    _, left = run(engine, along(roads), 4500)
    free_s = roads.free_s[0]
    start = int(free_s)
    assert np.diff(left[start + 50 : start + 1050, 0]).sum() == pytest.approx(capacity * 1000, abs=1)
    arrived_at_bottleneck = np.interp(np.arange(4500) + 1 - free_s, depart, np.arange(1, len(depart) + 1), left=0)
    assert (arrived_at_bottleneck - left[:, 0]).max() == pytest.approx((demand - capacity) * during, abs=2)
    delay = engine.arrival_s - depart - roads.free_s.sum()
    assert delay.max() == pytest.approx((demand - capacity) * during / capacity, rel=0.01)
    late = depart[delay > 1.5].max() - during
    assert late == pytest.approx((demand - capacity) * during / (capacity - after), rel=0.01)


@pytest.mark.parametrize("behind_m", [400.0, 800.0, 1600.0])
def test_a_shock_travels_at_the_quotient_of_the_jumps_in_flow_and_density(behind_m: float) -> None:
    q1, q2 = 0.4, 0.15
    roads = chain([2000.0, 300.0], [0.5, q2])
    engine = Engine(roads, departures(every(1 / q1, 3000)))
    queued_since: list[float] = []

    def watch(engine: Engine) -> None:
        _, queued = passed_at(engine, np.array([0], np.int32), np.array([1 - behind_m / 2000.0]))
        if queued[0] and not queued_since:
            queued_since.append(engine.now_s)

    run(engine, along(roads), 2500, watch)
    wave_ms = 2000.0 / roads.wave_s[0]
    k1, k2 = q1 / 20.0, roads.jam_veh_m[0] - q2 / wave_ms
    speed_ms = (q2 - q1) / (k2 - k1)
    assert queued_since[0] - roads.free_s[0] == pytest.approx(behind_m / -speed_ms, rel=0.01, abs=1 / q1 + 3)


def test_a_stop_of_r_seconds_costs_the_delay_of_its_triangle_and_is_gone_when_it_should_be() -> None:
    r, q, s = 120.0, 0.25, 0.5
    roads = chain([1500.0, 100.0], [s, s])
    engine = Engine(roads, departures(every(1 / q, 3000)))

    def stop(engine: Engine) -> None:
        if engine.now_s == 600:
            engine.restrict(1, 0.0)
        if engine.now_s == 600 + r:
            engine.restrict(1, 1.0)

    _, left = run(engine, along(roads), 2000, stop)
    one_vehicle = r
    assert engine.delay_s[0] == pytest.approx(r**2 * q / (2 * (1 - q / s)), abs=one_vehicle)
    assert left[719, 0] - left[600, 0] <= 1
    gone = 600 + r + r * q / (s - q)
    due = np.floor((np.arange(1, 2001) - roads.free_s[0]) * q) + 1
    late = np.flatnonzero(due - left[:, 0] >= 2) + 1
    assert late.max() == pytest.approx(gone, abs=2 / q)


def test_a_full_link_takes_what_fits_and_then_holds_back_those_upstream() -> None:
    roads = chain([1000.0, 500.0, 500.0], [0.5, 0.5, 0.5])
    engine = Engine(roads, departures(every(2.5, 2000)))

    def close(engine: Engine) -> None:
        if engine.now_s == 500:
            engine.restrict(2, 0.0)

    entered, left = run(engine, along(roads), 1500, close)
    on_it = entered[500, 1] - left[500, 1]
    assert entered[-1, 1] - entered[500, 1] == pytest.approx(roads.storage_veh[1] - on_it, abs=1)
    assert left[-1, 0] == left[-300, 0], "nobody leaves the link before a full one"
    assert engine.on_link[0] == pytest.approx(roads.storage_veh[0], abs=1)
    assert engine.waiting_at_origin()[0] == 601 - engine.departed


def test_a_queue_upstream_passes_what_the_full_link_lets_in() -> None:
    roads = chain([1000.0, 500.0, 200.0], [0.5, 0.5, 0.2])
    engine = Engine(roads, departures(every(2.0, 4000)))
    _, left = run(engine, along(roads), 4000)
    assert left[-1, 0] - left[-1001, 0] == pytest.approx(200, abs=1)


@pytest.mark.parametrize("capacities", [(1.0, 0.5), (0.5, 0.5), (1.5, 0.3)])
def test_two_saturated_links_share_the_one_they_merge_into_by_their_capacities(capacities: tuple[float, float]) -> None:
    roads = roads_from(
        np.array([0, 1, 2], np.int32),
        np.array([2, 2, 3], np.int32),
        length_m=np.full(3, 500.0),
        speed_ms=np.full(3, 20.0),
        lanes=np.array([2, 1, 1], np.int32),
        capacity_vps=np.array([*capacities, 0.5]),
    )
    n = 3000
    trips = Trips(
        np.concatenate([np.arange(n) * 0.9, np.arange(n) * 1.9]),
        np.repeat(np.array([0, 1], np.int32), n),
        np.zeros(2 * n, np.int16),
    )
    engine = Engine(roads, trips)
    _, left = run(engine, np.array([[0, 1, 2, EXIT]], np.int32), 2500)
    through = left[-1] - left[500]
    share = capacities[0] / sum(capacities)
    assert through[2] == pytest.approx(1000, abs=1)
    assert through[0] == pytest.approx(share * 1000, abs=2)
    assert through[1] == pytest.approx((1 - share) * 1000, abs=2)


@pytest.mark.parametrize("accumulation", [20, 60, 100, 200, 350, 480])
def test_production_of_a_ring_rises_with_accumulation_to_its_capacity_and_falls_again(accumulation: int) -> None:
    n, length_m, speed_ms = 10, 400.0, 20.0
    node = np.arange(n, dtype=np.int32)
    roads = roads_from(
        node,
        (node + 1) % n,
        length_m=np.full(n, length_m),
        speed_ms=np.full(n, speed_ms),
        lanes=np.ones(n, np.int32),
        capacity_vps=np.full(n, 0.5),
    )
    origin = np.sort(np.arange(accumulation) % n).astype(np.int32)
    engine = Engine(roads, Trips(np.zeros(accumulation), origin, np.zeros(accumulation, np.int16)))
    _, left = run(engine, node[None, :], 4000)
    assert engine.on_road == accumulation
    flow = (left[-1] - left[-2001]).mean() / 2000
    density = accumulation / (n * length_m)
    wave_ms = length_m / roads.wave_s[0]
    theory = min(speed_ms * density, 0.5, wave_ms * (roads.jam_veh_m[0] - density))
    assert flow == pytest.approx(theory, rel=0.012)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), closures=st.lists(st.tuples(st.integers(0, 19), st.integers(1, 250)), max_size=4))
def test_at_any_time_all_who_entered_are_inside_or_have_left(seed: int, closures: list[tuple[int, int]]) -> None:
    rng = np.random.default_rng(seed)
    nodes, links = 8, 20
    roads = at_random(rng, nodes, links)
    count = 400
    origin = np.sort(rng.integers(0, nodes, count)).astype(np.int32)
    depart = np.concatenate([np.sort(rng.uniform(0, 150, (origin == node).sum())) for node in range(nodes)])
    engine = Engine(roads, Trips(depart, origin, rng.integers(0, 3, count).astype(np.int16)))
    for second in range(300):
        if second % 60 == 0:  # routes change under way
            ways = [rng.choice(np.flatnonzero(roads.from_node == node), 3) for node in range(nodes)]
            next_link = np.stack(ways, axis=1).astype(np.int32)
            next_link[np.arange(3), rng.integers(0, nodes, 3)] = EXIT
        for link, at in closures:
            if at == second:
                engine.restrict(link, 0.0)
            if at + 40 == second:
                engine.restrict(link, 1.0)
        engine.step(next_link)
        on_link = engine.on_link
        assert (on_link >= 0).all()
        assert (on_link <= roads.storage_veh).all()
        assert engine.departed == engine.on_road + engine.arrived
        due = int((depart <= engine.now_s).sum())
        assert due == engine.departed + int(engine.waiting_at_origin().sum())
        assert (engine.waiting_at_origin() >= 0).all()
    on_the_road = [engine._queue[s] for s in _slots(engine)]
    assert len(set(on_the_road)) == engine.on_road, "each vehicle is in one place"
    assert np.isnan(engine.arrival_s[on_the_road]).all()


def _slots(engine: Engine) -> list[int]:
    return [
        int(engine._start[link] + number % engine._size[link])
        for link in range(engine.links)
        for number in range(int(engine.left[link]), int(engine.entered[link]))
    ]
