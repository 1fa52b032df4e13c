from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from itertools import takewhile
from zoneinfo import ZoneInfo

import numpy as np

from citybrain.clock import epoch_ms
from citybrain.network import Network
from citybrain.records import Passages, Readings, encode
from citybrain.settings import SimulatedFeed
from simulators.buses import BusRules, lines_of
from simulators.city import SimulatedCity
from simulators.faults import FaultKind
from simulators.floating import bus_line_rng
from simulators.probes import ProbeRules
from simulators.roads import roads_of
from simulators.scenario import PlannedFault, Scenario, Sensing
from simulators.sensorplan import SensorPlan, with_plan
from tests.fakes import grid_network

GRID = grid_network(columns=4, rows=3)
FEED = SimulatedFeed(trips=20_000, incidents_per_day=0.0, faulty_share=0.0)
BUSES = BusRules(lines=2, headway_min=(3.0, 4.0))
PROBES = ProbeRules(share=0.3)


def test_probes_and_buses_of_a_scenario_speak_beside_the_loops_as_sources_of_their_own() -> None:
    lines = lines_of(GRID, roads_of(GRID), BUSES, bus_line_rng(FEED.seed))
    plan = SensorPlan(probes=PROBES, buses=BUSES)
    network = with_plan(GRID, plan, np.random.default_rng(1), lines=lines)
    found = told(network, Sensing(plan=plan), "07:00", "07:15")
    kinds: dict[str, set[str]] = {}
    for batch in found:
        assert isinstance(batch, Readings)
        kinds.setdefault(batch.source, set()).update(network.detectors.kind[batch.detector].tolist())
    assert kinds == {"simulated": {"loop"}, "simulated-probes": {"probe"}, "simulated-buses": {"bus"}}
    received = [batch.received_ms for batch in found]
    assert received == sorted(received)


def test_a_line_that_is_down_sends_the_same_however_late_one_begins() -> None:
    faults = tuple(PlannedFault(f"d{i}", kind, "06:00", "08:00", factor=25.0) for i, kind in enumerate(LATE))
    sensing = Sensing(faults=faults)
    early, late = (told(GRID, sensing, begin, "07:20") for begin in ("06:50", "07:05"))
    same = [encode(batch) for batch in early if batch.watermark_ms > at("07:05")]
    assert same == [encode(batch) for batch in late]
    burst = [batch for batch in late if isinstance(batch, Readings) and (batch.detector == 0).sum() > 40]
    assert [batch.watermark_ms for batch in burst] == [at("07:15")]


def test_a_class_of_road_covered_by_half_has_half_of_its_detectors() -> None:
    found = told(GRID, Sensing(coverage={"primary": 0.5}), "07:00", "07:05")
    reporting = {int(detector) for batch in found if isinstance(batch, Readings) for detector in batch.detector}
    assert len(reporting) == len(GRID.detectors) // 2


LATE: tuple[FaultKind, ...] = ("late_burst", "out_of_order")


def told(network: Network, sensing: Sensing, begin: str, end: str) -> list[Readings | Passages]:
    city = SimulatedCity(network, FEED, "Europe/Lisbon", scenario=replace(Scenario("A day"), sensors=sensing))
    batches = city.batches(at(begin))
    found = list(takewhile(lambda batch: batch.watermark_ms <= at(end), batches))
    batches.close()
    return found


def at(clock: str) -> int:
    return epoch_ms(datetime.fromisoformat(f"{date(2026, 3, 10)}T{clock}").replace(tzinfo=ZoneInfo("Europe/Lisbon")))
