from __future__ import annotations

import numpy as np

from simulators.engine import EXIT, Engine, Trips
from simulators.roads import Roads, roads_from
from simulators.routes import EVERY_S, GROUPS, Routes
from tests.simulators.links import chain, departures, every


def two_ways() -> Roads:
    """Return a short way 0-1-3 (links 0, 1) and a longer one 0-2-3 (links 2, 3), and a last link 3-4."""
    return roads_from(
        np.array([0, 1, 0, 2, 3], np.int32),
        np.array([1, 3, 2, 3, 4], np.int32),
        length_m=np.array([400.0, 400.0, 700.0, 700.0, 100.0]),
        speed_ms=np.full(5, 20.0),
        lanes=np.full(5, 1, np.int32),
        capacity_vps=np.full(5, 0.5),
    )


def routes(roads: Roads, sink: int) -> Routes:
    return Routes(roads, np.array([[sink]], np.int32), np.random.default_rng(1))


def test_the_quicker_way_is_taken_and_ends_at_the_sink() -> None:
    found = routes(two_ways(), 4)
    assert found.next_link[0].tolist() == [0, 1, 3, 4, EXIT]
    np.testing.assert_allclose(found.minutes[0, 0] * 60, 45.0, atol=0.1)


def test_drivers_leave_a_blocked_way_within_minutes_and_come_back_when_it_is_free() -> None:
    roads = two_ways()
    found = routes(roads, 4)
    engine = Engine(roads, departures(every(4.0, 7200)))
    taken = []
    for second in range(1, 7200):
        if second == 1200:
            engine.restrict(1, 0.0)
        if second == 2400:
            engine.restrict(1, 1.0)
        engine.step(found.next_link)
        if second % EVERY_S == 0:
            found.update(engine)
        taken.append(int(found.next_link[0, 0]))
    assert set(taken[:1199]) == {0}
    assert set(taken[1200 + 2 * GROUPS * EVERY_S : 2400]) == {2}
    assert set(taken[5400:]) == {0}
    assert engine.entered[2] > 0


def test_of_two_parallel_links_the_quicker_is_taken() -> None:
    roads = roads_from(
        np.array([0, 0, 1], np.int32),
        np.array([1, 1, 0], np.int32),
        length_m=np.array([500.0, 300.0, 100.0]),
        speed_ms=np.full(3, 20.0),
        lanes=np.ones(3, np.int32),
        capacity_vps=np.full(3, 0.5),
    )
    assert routes(roads, 1).next_link[0, 0] == 1


def test_a_node_without_a_way_to_the_zone_is_infinitely_far() -> None:
    found = routes(chain([100.0, 100.0], [0.5, 0.5]), 1)
    assert np.isfinite(found.minutes[0, :2]).all()
    assert np.isinf(found.minutes[0, 2])


def test_while_nothing_changes_nothing_is_computed_again() -> None:
    roads = two_ways()
    found = routes(roads, 4)
    engine = Engine(roads, Trips(np.zeros(0), np.zeros(0, np.int32), np.zeros(0, np.int16)))
    engine.now_s = 0.0
    assert not any(found.update(engine) for _ in range(GROUPS))
