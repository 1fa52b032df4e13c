from __future__ import annotations

from datetime import date

import numpy as np

from citybrain.network import Network
from citybrain.records import Readings
from simulators.buses import BusRules, lines_of
from simulators.calendar import on
from simulators.cameras import Seen, taken
from simulators.engine import EXIT, Engine
from simulators.floating import Floating, bus_line_rng
from simulators.probes import ProbeRules
from simulators.roads import roads_of
from simulators.sensorplan import SensorPlan, with_plan
from tests.fakes import grid_network
from tests.simulators.links import departures, every

DAY = on(date(2026, 11, 17), "Europe/Lisbon")
BUSES = BusRules(lines=3, headway_min=(2.0, 3.0))
SIX_O_CLOCK_S = 9000


def test_a_network_with_loops_alone_has_no_probes_and_no_buses_and_nothing_is_watched() -> None:
    network = grid_network()
    engine = Engine(roads_of(network), departures(every(5.0, 60.0)))
    floating = Floating(network, engine.roads, engine, DAY, seed=1)
    assert engine.watched is None
    assert floating.readings(engine, taken(engine), network="n", source="s", observed_ms=(0, 30_000)) == []
    assert floating.dump() == {}


def test_probes_and_buses_speak_as_sources_of_their_own_on_their_own_detectors() -> None:
    network, engine, floating = city()
    batches = drive(network, engine, floating, 60)
    by_source: dict[str, set[str]] = {}
    for batch in batches:
        by_source.setdefault(batch.source, set()).update(network.detectors.kind[batch.detector].tolist())
    assert by_source == {"simulated-probes": {"probe"}, "simulated-buses": {"bus"}}
    assert len(batches) == 120, "each speaks in every interval, if only to say that it is there"


def test_a_saved_state_goes_on_to_the_same_batches() -> None:
    network, engine, floating = city()
    drive(network, engine, floating, 30)
    _, _, other = city()
    other.load({name: values.copy() for name, values in floating.dump().items()})
    for _ in range(10):
        seen, at = advance(engine)
        mine, theirs = (
            each.readings(engine, seen, network="n", source="s", observed_ms=at) for each in (floating, other)
        )
        for one, same in zip(mine, theirs, strict=True):
            assert one.detector.tolist() == same.detector.tolist()
            assert one.travel_time_s.tolist() == same.travel_time_s.tolist()


def city() -> tuple[Network, Engine, Floating]:
    network = grid_network(4, 4)
    lines = lines_of(network, roads_of(network), BUSES, bus_line_rng(1))
    plan = SensorPlan(probes=ProbeRules(share=0.5), buses=BUSES)
    network = with_plan(network, plan, np.random.default_rng(1), lines=lines)
    roads = roads_of(network)
    trips = departures(every(3.0, SIX_O_CLOCK_S + 3600.0, start_s=SIX_O_CLOCK_S))
    engine = Engine(roads, trips, start_s=SIX_O_CLOCK_S)
    return network, engine, Floating(network, roads, engine, DAY, seed=1, probes=plan.probes, buses=BUSES)


def advance(engine: Engine) -> tuple[Seen, tuple[int, int]]:
    next_link = np.full((1, engine.roads.nodes), EXIT, np.int32)
    next_link[0, :3] = [0, 1, 2]
    for _ in range(30):
        engine.step(next_link)
    end_ms = round(engine.now_s) * 1000
    return taken(engine), (end_ms - 30_000, end_ms)


def drive(network: Network, engine: Engine, floating: Floating, intervals: int) -> list[Readings]:
    batches = []
    for _ in range(intervals):
        seen, at = advance(engine)
        batches += floating.readings(engine, seen, network=network.version, source="simulated", observed_ms=at)
    return batches
