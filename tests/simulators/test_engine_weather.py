"""Weather in the engine; what weather a day has is tested in ``test_happenings``."""

from __future__ import annotations

import numpy as np
import pytest

from simulators.engine import Engine
from simulators.roads import Roads
from tests.simulators.links import along, chain, departures, every, run

CAPACITY_VPS = 0.5


def road(links: int) -> Roads:
    return chain([400.0] * links, [CAPACITY_VPS] * links)


def test_in_bad_weather_roads_carry_less_and_are_driven_more_slowly() -> None:
    roads = road(3)
    engine = Engine(roads, departures(every(1.0, 2400)))
    run(engine, along(roads), 600)
    before = engine.left[2]
    engine.weather(0.8, 0.9)
    run(engine, along(roads), 300)
    settled = engine.left[2]
    run(engine, along(roads), 1000)
    assert (engine.left[2] - settled) / 1000 == pytest.approx(0.8 * CAPACITY_VPS, rel=0.01)
    assert before / 600 > 0.8 * CAPACITY_VPS
    np.testing.assert_allclose(engine.free_s, roads.free_s / 0.9)
    engine.weather(1.0, 1.0)
    settled = engine.left[2]
    run(engine, along(roads), 500)
    assert (engine.left[2] - settled) / 500 == pytest.approx(CAPACITY_VPS, rel=0.01)


def test_a_lone_vehicle_takes_longer_in_bad_weather() -> None:
    roads = road(3)
    engine = Engine(roads, departures(np.array([10.0])))
    engine.weather(0.8, 0.5)
    run(engine, along(roads), 1000)
    assert engine.arrival_s[0] - 10.0 == pytest.approx(2 * roads.free_s.sum(), abs=1.0)


def test_weather_opens_no_closed_road_and_a_reopened_road_has_its_weather() -> None:
    roads = road(2)
    engine = Engine(roads, departures(every(1.0, 3000)))
    engine.restrict(1, 0.0)
    engine.weather(0.5, 0.9)
    run(engine, along(roads), 500)
    assert engine.left[1] == 0
    engine.restrict(1, 1.0)
    run(engine, along(roads), 300)
    settled = engine.left[1]
    run(engine, along(roads), 1000)
    assert (engine.left[1] - settled) / 1000 == pytest.approx(0.5 * CAPACITY_VPS, rel=0.01)


def test_a_state_keeps_its_weather() -> None:
    roads, trips = road(2), departures(every(1.0, 2000))
    engine = Engine(roads, trips)
    engine.weather(0.5, 0.7)
    run(engine, along(roads), 300)
    state = {name: values.copy() for name, values in engine.dump().items()}
    other = Engine(roads, trips)
    other.load(state)
    for each in (engine, other):
        run(each, along(roads), 300)
    assert engine.left.tolist() == other.left.tolist()
    np.testing.assert_array_equal(other.free_s, roads.free_s / 0.7)


@pytest.mark.parametrize("shares", [(0.0, 1.0), (1.0, 0.0), (1.2, 1.0)])
def test_shares_that_are_none_are_refused(shares: tuple[float, float]) -> None:
    engine = Engine(road(2), departures(every(1.0, 10.0)))
    with pytest.raises(ValueError, match=r"share: .* seen, above 0 to 1 allowed"):
        engine.weather(*shares)
