from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from citybrain.errors import ConfigError
from simulators.buses import BusRules
from simulators.demand import DemandRules
from simulators.faults import FAULT_KINDS
from simulators.places import Place
from simulators.probes import ProbeRules
from simulators.roads import FloatArray
from simulators.scenario import Scenario
from simulators.scenariofile import City, parse_scenario, read_scenario, ready_names
from simulators.sensorplan import SensorPlan
from simulators.traffic import QUEUE_DISCHARGE_LOSS
from tests.conftest import ROOT
from tests.fakes import grid_network

GRID = grid_network(columns=4, rows=3)
PATH = Path("own.toml")
BAD = """\
title = ""
fist = 1
days = 2
first = 2026-03-10
holidays = [2026-03-11, 2026-03-20]

[[events]]
name = "Match"
place = { busiest = "motorway", road = "East Road 1" }
attendance = -1
begin = "20:00"
end = "19:00"
day = 3

[[closures]]
place = { segment = "s0x" }
begin = "10:00"
end = "26:00"

[[incidents.planned]]
place = { road = "East Road 1", km = 70 }
at = "23:00"
duration = "30h"

[sensors]
interval = "7s"
faulty_share = 1.5
coverage = { motorway = 1.2, motorwy = 0.3 }

[[sensors.faults]]
detector = "d9x"
kind = "dead"
begin = "05:00"
end = "06:00"

[demand]
factor = "much"
"""


def busy() -> FloatArray:
    return np.arange(len(GRID.segments), dtype=np.float64)


CITY = City(GRID, busy)


def said(text: str, city: City | None = CITY) -> list[str]:
    with pytest.raises(ConfigError) as error:
        parse_scenario(text, PATH, city)
    return str(error.value).splitlines()


def test_every_error_is_told_at_once_each_with_its_place_and_what_is_allowed() -> None:
    assert said(BAD) == [
        "own.toml:1: title: '' seen, a text that is not empty allowed",
        "own.toml:2: fist: unknown setting 'fist' seen, 'first' (nearest) allowed",
        "own.toml:5: holidays[2]: 2026-03-20 seen, a day of the scenario, 2026-03-10 to 2026-03-11 allowed",
        "own.toml:9: events[1].place: road and busiest seen, one of segment, road and busiest allowed",
        "own.toml:10: events[1].attendance: -1 seen, a whole number of 1 or more allowed",
        "own.toml:12: events[1].end: '19:00' seen, a time after 20:00 and at the latest 04:00, the day's end allowed",
        "own.toml:13: events[1].day: 3 seen, 0 to 2 (days of the scenario) allowed",
        "own.toml:16: closures[1].place.segment: 's0x' seen, 's0' (nearest) allowed",
        "own.toml:18: closures[1].end: '26:00' seen, a time of day such as '07:04' allowed",
        "own.toml:21: incidents.planned[1].place.km: 70 seen, 0 to 1.50 km of 'East Road 1' allowed",
        (
            "own.toml:23: incidents.planned[1].duration: '30h' seen, "
            "at most 5 h (from 23:00 to the day's end at 04:00) allowed"
        ),
        "own.toml:26: sensors.interval: 7 s seen, whole seconds from 2 that divide an hour allowed",
        "own.toml:27: sensors.faulty_share: 1.5 seen, a share from 0 to 1 allowed",
        "own.toml:28: sensors.coverage.motorway: 1.2 seen, a share from 0 to 1 allowed",
        "own.toml:28: sensors.coverage.motorwy: unknown name 'motorwy' seen, 'motorway' (nearest) allowed",
        "own.toml:31: sensors.faults[1].detector: 'd9x' seen, 'd9' (nearest) allowed",
        f"own.toml:32: sensors.faults[1].kind: 'dead' seen, one of {', '.join(map(repr, FAULT_KINDS))} allowed",
        "own.toml:37: demand.factor: 'much' seen, a number allowed",
    ]


def test_without_a_city_the_file_alone_is_judged() -> None:
    lines = said(BAD, None)
    assert not any("s0x" in line or "d9x" in line or "km: 70" in line for line in lines)
    assert len(lines) == len(said(BAD)) - 3


def test_what_is_no_toml_is_one_error_with_its_line() -> None:
    (line,) = said('title = "A"\ndays = \n')
    assert line.startswith("own.toml:2: 'days =' seen, TOML allowed")


def test_a_scenario_of_a_title_alone_is_an_ordinary_day_of_the_city() -> None:
    assert parse_scenario('title = "A day"', PATH, CITY) == Scenario(
        "A day", demand=DemandRules(grows_from=date(2026, 3, 10))
    )


def test_times_after_midnight_belong_to_the_day_before() -> None:
    night = '[[works]]\nplace = { segment = "s1" }\nbegin = "22:00"\nend = "04:00"\n'
    assert parse_scenario(f'title = "A"\n{night}', PATH, CITY).works[0].end == "04:00"
    (line,) = said(f'title = "A"\n{night.replace("04:00", "04:01")}')
    assert "works[1].end: '04:01' seen, a time after 22:00" in line


def test_an_incident_may_last_to_the_end_of_its_day_and_no_longer() -> None:
    text = 'title = "A"\n[[incidents.planned]]\nplace.segment = "s1"\nat = "02:00"\nduration = "LONG"\n'
    found = parse_scenario(text.replace("LONG", "2h"), PATH, CITY).incidents.planned[0]
    assert found.duration == timedelta(hours=2)
    assert "'2h 1min' seen, at most 2 h (from 02:00" in said(text.replace("LONG", "2h 1min"))[0]


def test_the_ready_scenarios_are_good_for_a_city_that_has_hardly_anything() -> None:
    assert set(ready_names()) >= {
        "weekday", "friday-stadium", "storm", "motorway-closed", "sunday", "week", "sensor-catastrophe", "evacuation",
    }  # fmt: skip
    for name in ready_names():
        scenario = read_scenario(name, CITY).scenario
        assert len(scenario.description) > 150, f"{name} says what it is in a paragraph"


def test_in_every_ready_scenario_trucks_drive_and_motorways_lose_capacity_to_queues() -> None:
    for name in ready_names():
        traffic = read_scenario(name).scenario.traffic
        assert traffic is not None, name
        assert (traffic.vehicles.truck_share, traffic.capacity_drop) == (0.05, QUEUE_DISCHARGE_LOSS), name


def test_a_plan_of_sensors_says_where_they_are_and_what_of_it_is_wrong() -> None:
    text = 'title = "A"\n[sensors.plan]\nloops = { primary = 0.8 }\nprobes = { share = 0.1 }\nbuses = {}\n'
    plan = parse_scenario(text, PATH, CITY).sensors.plan
    assert plan == SensorPlan(loops={"primary": 0.8}, probes=ProbeRules(share=0.1), buses=BusRules())
    assert parse_scenario('title = "A"', PATH).sensors.plan.probes is None
    assert said(text.replace("0.8", "1.8").replace("0.1", "1.1").replace("buses = {}", "single = 2.0")) == [
        "own.toml:3: sensors.plan.loops.primary: 1.8 seen, a share from 0 to 1 allowed",
        "own.toml:4: sensors.plan.probes: probes: share 1.1 seen, 0 to 1 allowed",
        "own.toml:5: sensors.plan.single: 2.0 seen, a share from 0 to 1 allowed",
    ]


def test_ready_scenarios_fall_on_the_days_they_speak_of() -> None:
    dates = {name: read_scenario(name).scenario.first.strftime("%A") for name in ready_names()}
    assert (dates["friday-stadium"], dates["sunday"], dates["week"]) == ("Friday", "Sunday", "Monday")


def test_the_example_in_the_docs_is_a_scenario_and_every_ready_one_has_its_picture_there() -> None:
    text = (ROOT / "docs" / "simulation.md").read_text()
    example = text.split("```toml\n")[1].split("```")[0]
    found = parse_scenario(example, PATH)
    assert found.traffic is not None
    assert (found.days, found.events[0].name, found.traffic.signals.enabled) == (2, "Market", True)
    for name in ready_names():
        assert f"(scenarios/{name}.svg)" in text
        assert (ROOT / "docs" / "scenarios" / f"{name}.svg").exists()


def test_another_name_than_a_ready_one_is_a_path(tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_text('title = "Mine"')
    assert read_scenario(str(own)).name == "mine"
    with pytest.raises(ConfigError, match=r"scenario 'weekdy' seen, the path of a TOML file or a ready scenario \("):
        read_scenario("weekdy")


def test_days_of_a_scenario_repeat_after_it() -> None:
    week = replace(Scenario("A"), days=7, first=parse_scenario('title="A"\nfirst=2026-03-09', PATH).first)
    assert week.number_of(week.first) == 1
    assert week.number_of(week.first + timedelta(days=8)) == 2
    assert week.number_of(week.first - timedelta(days=1)) == 7
    assert week.like(week.first + timedelta(days=15)) == week.first + timedelta(days=1)


def test_a_place_that_says_nothing_is_refused() -> None:
    (line,) = said('title = "A"\n[[closures]]\nplace = { both_ways = true }\nbegin = "10:00"\nend = "11:00"\n')
    assert "closures[1].place: nothing seen, one of segment, road and busiest allowed" in line
    assert Place() == Place(segment="")
