from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow.parquet as pq
import pytest

from citybrain.clock import epoch_ms
from citybrain.errors import ConfigError
from citybrain.records import Readings, encode
from citybrain.settings import SimulatedFeed
from simulators.calendar import on
from simulators.city import SimulatedCity
from simulators.day import DayRun
from simulators.happenings import end_ms, start_ms
from simulators.incidentrates import IncidentRules, work_zone_share
from simulators.places import Place
from simulators.scenario import (
    Closure,
    Event,
    Incidents,
    PlannedFault,
    PlannedIncident,
    Scenario,
    Sensing,
    Spell,
    Works,
)
from simulators.traffic import FULL
from tests.fakes import grid_network

LISBON = "Europe/Lisbon"
GRID = grid_network(columns=5, rows=4)
FEED = SimulatedFeed(trips=20_000, incidents_per_day=0.0, faulty_share=0.0)
TUESDAY = date(2026, 3, 10)
DAY = on(TUESDAY, LISBON)
NAMED = Scenario("A day")
MIDDLE = Place(segment="s6")


def at(clock: str, day: date = TUESDAY) -> int:
    return epoch_ms(datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=ZoneInfo(LISBON)))


def city(scenario: Scenario = NAMED, feed: SimulatedFeed = FEED, **more: object) -> SimulatedCity:
    return SimulatedCity(GRID, feed, LISBON, scenario=scenario, **more)  # type: ignore[arg-type]


def run_to(run: DayRun, clock: str) -> None:
    while run.now_ms < at(clock):
        run.step()


def test_times_of_a_day_reach_to_the_next_morning() -> None:
    assert start_ms(DAY, "04:00") == DAY.start_ms
    assert start_ms(DAY, "23:30") == at("23:30")
    assert start_ms(DAY, "01:30") == at("01:30", TUESDAY + timedelta(days=1))
    assert end_ms(DAY, "04:00") == DAY.end_ms


def test_a_closed_road_is_empty_while_it_is_closed_and_fills_again() -> None:
    closed = replace(NAMED, closures=(Closure(MIDDLE, "07:00", "08:00"),))
    run = city(closed).run_of(DAY)
    run_to(run, "07:00")
    before = run.engine.entered[6]
    assert before > 0
    run_to(run, "07:59")
    assert run.engine.entered[6] - before <= 1, "only who was let in in the very second"
    run_to(run, "08:10")
    assert run.engine.entered[6] > before + 5
    assert run.engine.capacity_share.min() == 1.0


def test_works_leave_less_than_the_lanes_share_and_a_closure_on_top_nothing() -> None:
    both = replace(
        NAMED, works=(Works(MIDDLE, "05:00", "07:00", name="Pipes"),), closures=(Closure(MIDDLE, "06:00", "06:30"),)
    )
    run = city(both).run_of(DAY)
    shares = []
    for clock in ("05:30", "06:15", "06:45", "07:05"):
        run_to(run, clock)
        shares.append(float(run.engine.capacity_share[6]))
    assert shares == pytest.approx([work_zone_share(2, 1), 0.0, work_zone_share(2, 1), 1.0])
    assert 0.35 < work_zone_share(2, 1) < 0.5, "more than an incident leaves, less than the lanes' share"
    assert [(mark.kind, mark.name, mark.segments) for mark in run.marks] == [
        ("works", "Pipes", ("s6",)),
        ("closure", "", ("s6",)),
    ]


def test_weather_comes_and_goes_and_brings_incidents() -> None:
    rain = replace(NAMED, weather=(Spell("heavy_rain", "05:00", "06:00", capacity=0.8, free_flow=0.9, incidents=3.0),))
    run = city(rain).run_of(DAY)
    run_to(run, "05:30")
    assert run.engine.air.tolist() == [0.8, 0.9]
    run_to(run, "06:01")
    assert run.engine.air.tolist() == [1.0, 1.0]
    often = replace(NAMED, incidents=Incidents(rate=IncidentRules(per_million_km=10_000.0, rubbernecking=0.0)))
    storm = replace(often, weather=(Spell("heavy_rain", "12:00", "20:00", incidents=3.0),))
    wet, dry = (city(which).run_of(DAY).incidents for which in (storm, often))
    span = at("12:00"), at("20:00")
    counts = [sum(span[0] <= one.onset_ms < span[1] for one in found) for found in (wet, dry)]
    assert counts[0] / counts[1] == pytest.approx(3.0, rel=0.2)
    outside = [sum(not span[0] <= one.onset_ms < span[1] for one in found) for found in (wet, dry)]
    assert outside[0] / outside[1] == pytest.approx(1.0, rel=0.25)


def test_a_planned_incident_happens_on_its_day_only() -> None:
    plan = PlannedIncident(MIDDLE, "09:00", timedelta(minutes=20), day=2)
    two = city(replace(NAMED, days=2, incidents=Incidents(planned=(plan,))))
    first, second = (two.run_of(on(TUESDAY + timedelta(days=n), LISBON)).incidents for n in range(2))
    assert first == ()
    assert [(one.segment, one.onset_ms) for one in second] == [(6, at("09:00", TUESDAY + timedelta(days=1)))]


def test_visitors_of_an_event_come_before_it_and_leave_after_it() -> None:
    match = Event("Match", MIDDLE, attendance=8000, begin="18:00", end="20:00", car_share=0.5, persons_per_car=2.0)
    usual, more = (city(which).run_of(DAY).engine.trips for which in (NAMED, replace(NAMED, events=(match,))))
    assert len(more) == len(usual) + 2 * 2000

    def between(begin: str, end: str) -> int:
        first, last = ((at(clock) - DAY.fill_ms) / 1000 for clock in (begin, end))
        counts = [int(((trips.depart_s >= first) & (trips.depart_s < last)).sum()) for trips in (more, usual)]
        return counts[0] - counts[1]

    assert between("16:00", "18:15") > 1800
    assert between("20:00", "20:50") == pytest.approx(0.9 * 2000, rel=0.05)
    assert (np.diff(more.origin) >= 0).all(), "in the order that the engine wants"


def test_a_planned_fault_stands_in_the_truth_and_is_seen(tmp_path: Path) -> None:
    fault = PlannedFault("d3", "silent", "04:10", "04:20")
    silent = city(replace(NAMED, sensors=Sensing(faults=(fault,))), truth_folder=tmp_path)
    run = silent.run_of(DAY)
    seen = {
        batch.observed_to_ms[0]: 3 in batch.detector
        for batch in run.batches(DAY.start_ms, at("04:30"))
        if isinstance(batch, Readings)
    }
    run.close()
    assert [seen[at(clock)] for clock in ("04:05", "04:15", "04:25")] == [True, False, True]
    (row,) = pq.read_table(tmp_path / "faults-20260310.parquet").to_pylist()
    assert (row["detector"], row["kind"], row["onset_ms"]) == (3, "silent", at("04:10"))


def test_drawn_incidents_come_at_the_scenarios_rate_or_so_many_a_day() -> None:
    rules = IncidentRules(per_million_km=5000.0)
    at_rate = city(replace(NAMED, incidents=Incidents(rate=rules))).run_of(DAY).incidents
    assert {one.kind for one in at_rate} == {"incident", "rubbernecking"}
    assert city(replace(NAMED, incidents=Incidents(per_day=0.0, rate=rules))).run_of(DAY).incidents == ()


def test_what_a_scenario_says_goes_before_the_citys_settings() -> None:
    said = replace(NAMED, seed=7, incidents=Incidents(per_day=3.0), sensors=Sensing(timedelta(seconds=60), 0.25))
    feed = city(said).feed
    assert (feed.seed, feed.incidents_per_day, feed.interval, feed.faulty_share) == (
        7,
        3.0,
        timedelta(seconds=60),
        0.25,
    )
    assert city(NAMED).feed == FEED


def test_a_feed_may_name_a_scenario_and_is_refused_with_all_its_errors(tmp_path: Path) -> None:
    assert SimulatedCity(GRID, replace(FEED, scenario="storm"), LISBON).scenario.title == "A storm"
    own = tmp_path / "own.toml"
    own.write_text('title = "Own"\n[[closures]]\nplace.segment = "s999"\nbegin = "10:00"\nend = "11:00"\n')
    with pytest.raises(ConfigError, match=r"own.toml:3: closures\[1\].place.segment: 's999' seen"):
        SimulatedCity(GRID, replace(FEED, scenario=str(own)), LISBON)


def test_a_scenario_of_a_sunday_is_driven_like_one_on_any_day() -> None:
    sunday = replace(NAMED, first=date(2026, 3, 15))
    monday = on(date(2026, 3, 16), LISBON)
    assert len(city(sunday).run_of(monday).engine.trips) < 0.8 * len(city(NAMED).run_of(DAY).engine.trips)


def test_the_same_scenario_and_seed_are_the_same_bytes() -> None:
    busy = replace(
        NAMED,
        seed=3,
        closures=(Closure(MIDDLE, "04:20", "04:40"),),
        weather=(Spell("medium_rain", "04:10", "05:00"),),
        events=(Event("Fair", MIDDLE, 3000, "05:00", "06:00"),),
    )

    def sent(scenario: Scenario) -> list[bytes]:
        return [encode(batch) for batch in city(scenario).run_of(DAY).batches(DAY.start_ms, at("05:00"))]

    assert sent(busy) == sent(busy)
    assert sent(busy) != sent(replace(busy, seed=4))
    assert sent(busy) != sent(replace(busy, closures=()))


def test_signals_trucks_and_the_capacity_drop_are_the_scenarios_to_switch_on() -> None:
    full = replace(NAMED, traffic=FULL)
    plain, run = (city(which).run_of(DAY) for which in (NAMED, full))
    assert plain.engine.roads.signals is None
    assert plain.engine.trips.kind is None
    assert run.engine.roads.signals is not None
    assert run.engine.trips.kind is not None
    assert run.engine.trips.kind.mean() == pytest.approx(0.05, abs=0.01)
    assert run.engine.roads.capacity_drop is not None
