from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from citybrain.errors import ConfigError
from citybrain.network import ROAD_CLASSES, Network
from citybrain.records import Quality
from simulators.buses import Buses, BusLine, BusRules, lines_of, links_of
from simulators.calendar import local_hours, on
from simulators.engine import EXIT, Engine
from simulators.roads import FloatArray, Roads, roads_of
from tests.fakes import corridor_network, grid_network
from tests.simulators.links import departures, every

DAY = on(date(2026, 11, 17), "Europe/Lisbon")
RULES = BusRules()
FIVE_O_CLOCK_S = 90 * 60
"""From the fill at 03:30 to 05:00."""


def test_lines_are_connected_ways_there_and_back_and_avoid_motorways() -> None:
    network = grid_network(6, 6)
    barred = np.where(np.arange(len(network.segments)) % 7 == 0, ROAD_CLASSES.index("motorway"), 2).astype(np.int32)
    network = replace(network, segments=replace(network.segments, road_class=barred))
    roads = roads_of(network)
    lines = lines_of(network, roads, replace(RULES, lines=5), np.random.default_rng(1))
    assert len(lines) == 10
    for there, back in zip(lines[::2], lines[1::2], strict=True):
        for line in (there, back):
            assert (roads.to_node[line.links[:-1]] == roads.from_node[line.links[1:]]).all()
            assert (network.segments.road_class[line.links] != ROAD_CLASSES.index("motorway")).all()
            assert len(line.links) >= 3
        assert roads.from_node[there.links[0]] == roads.to_node[back.links[-1]]
        assert 360.0 <= there.headway_s <= 900.0
    again = lines_of(network, roads, replace(RULES, lines=5), np.random.default_rng(1))
    assert [line.links.tolist() for line in again] == [line.links.tolist() for line in lines]
    assert set(links_of(lines).tolist()) == {int(link) for line in lines for link in line.links}


def test_stops_come_at_their_distance() -> None:
    network, roads = city()
    lines = lines_of(grid_network(6, 6), roads_of(grid_network(6, 6)), RULES, np.random.default_rng(1))
    for line in lines:
        assert line.stops.sum() == int(500.0 * len(line.links) // 350.0)
    assert lines_of(network, roads, RULES, np.random.default_rng(1)) == (), "a one-way road has no way back"


def test_buses_set_out_at_their_headway_between_half_past_five_and_half_past_midnight() -> None:
    buses = Buses(*city(), (LINE,), DAY, rules=RULES, seed=(1,))
    at = np.array(buses.departures[0])
    assert len(at) == pytest.approx(19 * 6, abs=1)
    assert np.diff(at) == pytest.approx(np.full(len(at) - 1, 600.0))
    hour = local_hours(DAY)[1][(at // 60).astype(int)]
    assert ((hour >= 5.5) | (hour <= 0.5)).all()


def test_on_a_free_link_a_bus_takes_its_own_free_time_and_its_dwell() -> None:
    found = drive(ENDLESS)
    free_s = 20.0 / RULES.speed_share
    without = np.concatenate([found[link] for link in (1, 3, 5)])
    assert without == pytest.approx(np.full(len(without), free_s))
    dwell = np.concatenate([found[link] for link in (0, 2, 4)]) - free_s
    assert len(dwell) > 800
    assert dwell.mean() == pytest.approx(20.0, rel=0.06)
    assert dwell.std() / dwell.mean() == pytest.approx(0.6, rel=0.12)
    assert dwell.min() > 0.0


def test_the_speeds_of_buses_are_below_those_of_cars() -> None:
    found = drive(ENDLESS)
    length_m = 500.0
    speed_kmh = [length_m / np.mean(found[link]) * 3.6 for link in (0, 1)]
    assert speed_kmh[0] < 0.55 * 90.0, "with a stop"
    assert speed_kmh[1] == pytest.approx(0.85 * 90.0), "without"


def test_in_a_queue_a_bus_waits_as_the_cars_do() -> None:
    network, roads = city()
    engine = Engine(roads, departures(every(1.5, 10_200.0, start_s=FIVE_O_CLOCK_S)), start_s=FIVE_O_CLOCK_S)
    engine.restrict(2, 0.4)
    buses = Buses(network, roads, (replace(LINE, headway_s=60.0),), DAY, rules=RULES, seed=(1,))
    found = run(engine, buses, intervals=160)
    assert np.mean(found[1]) > 2 * 20.0 / RULES.speed_share
    assert found[1][-1] == pytest.approx(500.0 * roads.jam_veh_m[1] / (0.4 * roads.capacity_vps[1]), rel=0.5)


def test_before_a_closed_road_a_bus_waits() -> None:
    network, roads = city()
    engine = Engine(roads, departures(np.zeros(0)), start_s=FIVE_O_CLOCK_S)
    engine.restrict(3, 0.0)
    buses = Buses(network, roads, (LINE,), DAY, rules=RULES, seed=(1,))
    found = run(engine, buses, intervals=240)
    assert set(found) == {0, 1, 2}
    assert buses.on_road > 5
    engine.restrict(3, 1.0)
    assert 3 in run(engine, buses, intervals=20)


def test_a_reading_of_buses_is_of_their_own_detectors_and_counts_nobody() -> None:
    network, roads = city()
    engine = Engine(roads, departures(np.zeros(0)), start_s=FIVE_O_CLOCK_S)
    buses = Buses(network, roads, (replace(LINE, headway_s=60.0),), DAY, rules=RULES, seed=(1,))
    run(engine, buses, intervals=120)
    step(engine, 30)
    batch = buses.readings(engine, network=network.version, source="buses", observed_ms=(0, 30_000))
    assert len(batch)
    assert set(network.detectors.kind[batch.detector]) == {"bus"}
    assert np.isnan(batch.count_veh).all()
    assert (batch.quality_speed == Quality.DERIVED).all()


def test_a_saved_state_goes_on_to_the_same_journeys() -> None:
    network, roads = city()
    engine = Engine(roads, departures(every(3.0, 9000.0, start_s=FIVE_O_CLOCK_S)), start_s=FIVE_O_CLOCK_S)
    often = replace(LINE, headway_s=60.0)
    one, other = (Buses(network, roads, (often,), DAY, rules=RULES, seed=(1,)) for _ in range(2))
    run(engine, one, intervals=120)
    assert one.on_road
    other.load({name: values.copy() for name, values in one.dump().items()})
    for _ in range(30):
        step(engine, 30)
        mine, theirs = one.journeys(engine), other.journeys(engine)
        assert [part.tolist() for part in mine] == [part.tolist() for part in theirs]


def test_rules_that_cannot_be_are_refused() -> None:
    for wrong, said in (
        ({"lines": -1}, "-1 lines seen, 0 or above"),
        ({"headway_min": (9.0, 3.0)}, r"headway \(9.0, 3.0\) min seen"),
        ({"speed_share": 0.0}, r"speed share 0.0 seen"),
        ({"dwell_s": 0.0}, r"dwell_s 0.0 seen"),
    ):
        with pytest.raises(ConfigError, match=said):
            BusRules(**wrong)


LINE = BusLine(np.arange(6, dtype=np.int32), np.array([1, 0, 1, 0, 1, 0], np.int32), 600.0, 120.0)
ENDLESS = replace(LINE, headway_s=120.0)


def city() -> tuple[Network, Roads]:
    network = corridor_network(kind="bus")
    return network, roads_of(network)


def drive(line: BusLine) -> dict[int, FloatArray]:
    """Return the journeys of buses on an empty road from 05:00 for twelve hours, by link."""
    network, roads = city()
    buses = Buses(network, roads, (line,), DAY, rules=RULES, seed=(1,))
    engine = Engine(roads, departures(np.zeros(0)), start_s=FIVE_O_CLOCK_S)
    return {link: np.array(seconds) for link, seconds in run(engine, buses, intervals=1440).items()}


def run(engine: Engine, buses: Buses, *, intervals: int) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for _ in range(intervals):
        step(engine, 30)
        for link, seconds in zip(*(part.tolist() for part in buses.journeys(engine)), strict=True):
            found.setdefault(link, []).append(seconds)
    return found


def step(engine: Engine, seconds: int) -> None:
    next_link = np.append(np.arange(engine.links), EXIT).astype(np.int32)[None, :]
    for _ in range(seconds):
        engine.step(next_link)
