from __future__ import annotations

from datetime import date, time

import numpy as np
import pytest

from simulators.calendar import on
from simulators.incidents import MEAN_MIN, SD_MIN, Scripted, incident_at, incidents_of, remaining_capacity
from simulators.roads import roads_of
from tests.fakes import grid_network

NETWORK = grid_network()
ROADS = roads_of(NETWORK)
DAY = on(date(2026, 11, 17), "Europe/Lisbon")


def test_what_is_left_of_the_capacity_is_less_than_the_lanes_share() -> None:
    for lanes in range(2, 7):
        for blocked in range(1, lanes):
            assert 0 < remaining_capacity(lanes, blocked) < (lanes - blocked) / lanes


def test_the_number_and_the_duration_of_a_days_incidents_are_as_set_and_as_published() -> None:
    drawn = [
        incident
        for seed in range(40)
        for incident in incidents_of(NETWORK, ROADS, DAY, per_day=50.0, scripted=(), rng=np.random.default_rng(seed))
    ]
    assert len(drawn) / 40 == pytest.approx(50, rel=0.06)
    minutes = np.array([(incident.end_ms - incident.onset_ms) / 60_000 for incident in drawn])
    assert minutes.mean() == pytest.approx(MEAN_MIN, rel=0.03)
    assert minutes.std() == pytest.approx(SD_MIN, rel=0.1)
    assert {incident.capacity_share for incident in drawn} == {0.35}


def test_a_scripted_incident_happens_at_its_local_time_besides_the_drawn_ones() -> None:
    script = Scripted(segment=7, at=time(7, 5, 30), duration_s=1500.0)
    incidents = incidents_of(NETWORK, ROADS, DAY, per_day=0.0, scripted=(script,), rng=np.random.default_rng(1))
    assert len(incidents) == 1
    assert incidents[0].segment == 7
    assert incidents[0].onset_ms - DAY.start_ms == (3 * 3600 + 5 * 60 + 30) * 1000
    assert incidents[0].end_ms - incidents[0].onset_ms == 1_500_000


def test_an_incident_before_four_in_the_morning_falls_into_the_end_of_the_day() -> None:
    script = Scripted(segment=7, at=time(3, 45), duration_s=600.0)
    incidents = incidents_of(NETWORK, ROADS, DAY, per_day=0.0, scripted=(script,), rng=np.random.default_rng(1))
    assert DAY.end_ms - incidents[0].onset_ms == 15 * 60_000


def test_an_incident_on_no_segment_or_of_no_duration_is_refused() -> None:
    with pytest.raises(ValueError, match=r"segment 999 seen, 0 to \d+ allowed"):
        incident_at(ROADS, 999, 0, 60.0, 1)
    with pytest.raises(ValueError, match="duration 0 s seen, above 0 allowed"):
        incident_at(ROADS, 1, 0, 0, 1)
