from __future__ import annotations

from collections.abc import Callable
from datetime import date

import numpy as np
import pytest

from citybrain.errors import ConfigError
from citybrain.settings import SimulatedFeed
from simulators.level import DayLevel, city_with, level_of, trips_for
from tests.fakes import grid_network


def like_bpr(capacity: int, tried: list[int]) -> Callable[[int], float]:
    def index_at(trips: int) -> float:
        tried.append(trips)
        return 1.0 + 0.5 * (trips / capacity) ** 6

    return index_at


@pytest.mark.parametrize("first", [100_000, 400_000, 900_000])
def test_the_trips_that_give_an_index_are_found_from_anywhere(first: int) -> None:
    tried: list[int] = []
    trips, index = trips_for(like_bpr(350_000, tried), 1.8, first)
    assert index == pytest.approx(1.8, abs=0.05)
    assert trips == pytest.approx(350_000 * 1.6 ** (1 / 6), rel=0.02)
    assert len(tried) <= 8
    again: list[int] = []
    trips_for(like_bpr(350_000, again), 1.8, first)
    assert again == tried


def test_an_index_that_jumps_over_the_target_is_said_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"2 not met by any number of trips tried; .* trips give 1\.2"):
        trips_for(lambda trips: 1.2 if trips < 300_000 else 4.0, 2.0, 280_000)


@pytest.mark.parametrize("target", [1.0, 5.0])
def test_a_target_out_of_reach_is_refused_before_anything_is_run(target: float) -> None:
    def never(trips: int) -> float:
        raise AssertionError(f"{trips} were run")

    with pytest.raises(ConfigError, match=r"1\.05 to 3 allowed"):
        trips_for(never, target, 1000)


def test_peaks_are_half_hours_and_their_sides_of_the_day() -> None:
    hour = np.arange(4.125, 28, 0.25) % 24
    tti = np.ones(len(hour))
    tti[(hour > 7.5) & (hour < 8)] = [1.6, 1.8]
    tti[(hour > 17.9) & (hour < 18.3)] = 2.0
    level = DayLevel(hour, tti, tti, tti, tti)
    assert level.morning == pytest.approx(1.7)
    assert level.evening == pytest.approx(1.5)
    assert level.mean(0, 4) == 1.0


def test_a_small_citys_morning_is_slow_and_its_early_hours_are_empty() -> None:
    feed = SimulatedFeed(incidents_per_day=40.0, faulty_share=0.5)
    level = level_of(city_with(grid_network(), feed, "Europe/Lisbon", 330_000), date(2026, 11, 17), until_hour=10)
    assert level.hour == pytest.approx([4.125 + 0.25 * quarter - 1 / 120 for quarter in range(24)])
    assert level.morning > 1.04
    assert level.mean(4, 6) < 1.02
    assert level.on_road[:4].max() < 0.15 * level.on_road.max()
    assert np.isnan(level.evening)
