"""When a feed begins, and that it goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from citybrain.clock import ScaledClock, SystemClock, epoch_ms
from citybrain.errors import ConfigError
from citybrain.settings import CitySettings, SimulatedFeed
from cli.feedclock import LEAD_MS, feed_clock, last_tuesday_ms, remembering, sent_before


@dataclass(frozen=True)
class Batch:
    received_ms: int


def city(tmp_path: Path) -> CitySettings:
    return CitySettings(folder=tmp_path, data_folder=tmp_path, name="Test", timezone="Europe/Lisbon")


@pytest.mark.parametrize(
    ("now", "tuesday"),
    [
        ("2026-11-24T23:59:00+00:00", "2026-11-17T07:00:00+00:00"),  # on a Tuesday: the one before
        ("2026-11-25T00:30:00+00:00", "2026-11-24T07:00:00+00:00"),
        ("2026-11-23T12:00:00+00:00", "2026-11-17T07:00:00+00:00"),
        ("2026-07-01T00:30:00+00:00", "2026-06-30T06:00:00+00:00"),  # summer time
    ],
)
def test_the_demo_starts_on_the_last_tuesday_at_seven_by_the_city_s_clock(now: str, tuesday: str) -> None:
    now_ms = epoch_ms(datetime.fromisoformat(now))
    assert last_tuesday_ms(now_ms, "07:00", "Europe/Lisbon") == epoch_ms(datetime.fromisoformat(tuesday))


def test_a_start_that_is_no_time_of_day_is_refused_with_the_value_seen() -> None:
    with pytest.raises(ConfigError, match="'noon' seen"):
        last_tuesday_ms(0, "noon", "UTC")


def test_a_demo_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    feed = SimulatedFeed(speed=5.0, start="07:00")
    stopped_ms = epoch_ms(datetime(2026, 3, 3, 9, 30, tzinfo=UTC))
    clock, from_ms = feed_clock(city(tmp_path), feed, stopped_ms)
    assert isinstance(clock, ScaledClock)
    assert (clock.start_ms, from_ms) == (stopped_ms, stopped_ms)


def test_a_new_demo_sends_the_minutes_before_its_start_at_once(tmp_path: Path) -> None:
    clock, from_ms = feed_clock(city(tmp_path), SimulatedFeed(speed=5.0, start="07:00"), None)
    assert isinstance(clock, ScaledClock)
    assert from_ms == clock.start_ms - LEAD_MS


def test_a_feed_at_real_time_follows_the_machine_s_clock_and_leaves_the_gap(tmp_path: Path) -> None:
    clock, from_ms = feed_clock(city(tmp_path), SimulatedFeed(), 0)
    assert isinstance(clock, SystemClock)
    assert clock.now_ms() - from_ms == pytest.approx(LEAD_MS, abs=5000)


def test_what_was_sent_is_noted_only_once_the_next_batch_is_asked_for(tmp_path: Path) -> None:
    def batches() -> Iterator[Batch]:
        yield from (Batch(1_000_000), Batch(2_000_000))

    passing = remembering(batches(), tmp_path, "loops")
    next(passing)
    assert sent_before(tmp_path, "loops") is None
    next(passing)
    assert sent_before(tmp_path, "loops") == 1_000_000
    passing.close()  # type: ignore[attr-defined]
    assert sent_before(tmp_path, "loops") == 1_000_000
