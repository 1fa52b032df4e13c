"""The typical week from a stream of records: means and spread between days."""

from __future__ import annotations

import numpy as np
import pytest

from citybrain.typical import AREA_METRICS
from models.weekly import WeekOfStates
from tests.fakes import area_indices, corridor_network, segment_states

NETWORK = corridor_network(4, partitions=2)
MONDAY_MS = 1_789_948_800_000
DAY_MS = 86_400_000


def _week(*speeds_kmh: float) -> WeekOfStates:
    """One morning quarter (08:00) a day from Monday on, at that day's speed, both partitions, first closes."""
    week = WeekOfStates(NETWORK, "UTC", "simulated")
    for day, speed in enumerate(speeds_kmh):
        for minute in range(15):
            at = MONDAY_MS + day * DAY_MS + 8 * 3_600_000 + minute * 60_000
            for partition in range(2):
                jitter = 1.0 if minute % 2 else -1.0
                pane = segment_states(NETWORK, partition=partition, pane_start_ms=at, speed_kmh=speed + jitter * 0.7)
                week.add_states(pane)
            week.add_areas(area_indices(NETWORK, pane_start_ms=at, speed_kmh=speed, vkt_veh_km=120.0))
    return week


def test_mean_and_spread_are_those_between_days() -> None:
    typical = _week(40.0, 44.0, 48.0).typical()
    assert typical.speed_kmh[0, 32] == pytest.approx(np.full(4, 44.0), abs=0.06)
    assert typical.speed_sd_kmh[0, 32] == pytest.approx(np.full(4, 4.0), abs=0.01)
    assert typical.flow_vph[0, 32] == pytest.approx(np.full(4, 600.0))
    assert typical.n[0, 32].tolist() == [45.0] * 4
    assert typical.made_of == "simulated"


def test_areas_have_their_indices_and_delay_as_a_rate() -> None:
    typical = _week(40.0, 44.0, 48.0).typical()
    speed = typical.area_mean[AREA_METRICS.index("speed_kmh"), 0, 32, 0]
    delay = typical.area_mean[AREA_METRICS.index("delay_veh_h_per_h"), 0, 32, 0]
    assert speed == pytest.approx(44.0)
    assert delay == pytest.approx(np.mean([60 * 120 * (1 / v - 1 / 50) for v in (40, 44, 48)]))


def test_a_revision_changes_nothing() -> None:
    week = _week(40.0)
    late = segment_states(NETWORK, pane_start_ms=MONDAY_MS + 8 * 3_600_000, revision=1, speed_kmh=5.0)
    week.add_states(late)
    assert week.typical().speed_kmh[0, 32, 0] == pytest.approx(40.0, abs=0.06)


def test_days_may_be_added_after_the_week_was_asked_for() -> None:
    week = _week(40.0)
    week.typical()
    at = MONDAY_MS + DAY_MS + 8 * 3_600_000
    week.add_states(segment_states(NETWORK, pane_start_ms=at, speed_kmh=50.0))
    assert week.typical().speed_kmh[0, 32, 0] == pytest.approx(45.0, abs=0.06)


def test_missing_speeds_count_neither_as_zero_nor_as_an_observation() -> None:
    week = WeekOfStates(NETWORK, "UTC", "simulated")
    at = MONDAY_MS + 8 * 3_600_000
    week.add_states(segment_states(NETWORK, pane_start_ms=at, speed_kmh=np.array([30.0, np.nan])))
    typical = week.typical()
    assert typical.speed_kmh[0, 32, 0] == 30
    assert np.isnan(typical.speed_kmh[0, 32, 1])
    assert typical.n[0, 32, :2].tolist() == [1.0, 0.0]
