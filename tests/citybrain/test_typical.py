"""The typical week: its file keeps what a quarter of an hour can tell, and instants are read by civil time."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from citybrain.clock import epoch_ms
from citybrain.errors import ModelError
from citybrain.typical import AREA_METRICS, BINS, DAY_TYPES, Typical, day_type_and_bin


def typical(rng: np.random.Generator, segments: int = 7, areas: int = 2) -> Typical:
    shape = (len(DAY_TYPES), BINS, segments)
    speed = rng.uniform(5, 120, shape).astype(np.float32)
    speed[:, :, 0] = np.nan
    area = (len(AREA_METRICS), len(DAY_TYPES), BINS, areas)
    return Typical(
        "abc",
        "simulated",
        np.full(shape, 75, dtype=np.float32),
        speed,
        rng.uniform(0, 12, shape).astype(np.float32),
        rng.uniform(0, 6000, shape).astype(np.float32),
        rng.uniform(0, 10, area).astype(np.float32),
        rng.uniform(0, 1, area).astype(np.float32),
    )


def test_a_file_keeps_speeds_to_a_quarter_and_flows_to_their_own_error(tmp_path: Path) -> None:
    made = typical(np.random.default_rng(1))
    made.save(tmp_path / "week.arrow")
    read = Typical.load(tmp_path / "week.arrow")
    assert (read.network, read.made_of) == ("abc", "simulated")
    np.testing.assert_allclose(read.speed_kmh, made.speed_kmh, atol=0.2501)
    np.testing.assert_allclose(np.sqrt(read.flow_vph), np.sqrt(made.flow_vph), atol=0.5001)
    np.testing.assert_allclose(read.n, made.n, rtol=1e-6)
    np.testing.assert_allclose(read.area_mean, made.area_mean, rtol=0.0040)
    assert np.isnan(read.speed_kmh[:, :, 0]).all()


def test_a_file_that_was_read_and_written_again_is_the_same_week(tmp_path: Path) -> None:
    typical(np.random.default_rng(2)).save(tmp_path / "a.arrow")
    once = Typical.load(tmp_path / "a.arrow")
    once.save(tmp_path / "b.arrow")
    assert Typical.load(tmp_path / "b.arrow").version == once.version


@pytest.mark.parametrize(
    ("local", "day_type", "place"),
    [
        ("2026-11-24T07:30:00", 0, 30.0),
        ("2026-11-21T00:00:00", 1, 0.0),
        ("2026-11-22T23:59:00", 2, 95.9333),
        ("2026-07-07T12:07:30", 0, 48.5),  # summer time
    ],
)
def test_the_place_in_the_week_follows_the_city_s_clock(local: str, day_type: int, place: float) -> None:
    zone = ZoneInfo("Europe/Lisbon")
    instant_ms = epoch_ms(datetime.fromisoformat(local).replace(tzinfo=zone).astimezone(UTC))
    seen_type, seen_place = day_type_and_bin(instant_ms, "Europe/Lisbon")
    assert seen_type == day_type
    assert seen_place == pytest.approx(place, abs=1e-3)


def test_between_two_quarters_the_values_are_mixed_and_an_unknown_one_is_bridged() -> None:
    week = typical(np.random.default_rng(3))
    week.speed_kmh[0, 10, 1], week.speed_kmh[0, 11, 1] = 40.0, 60.0
    week.speed_kmh[0, 10, 2], week.speed_kmh[0, 11, 2] = np.nan, 60.0
    at_ms = epoch_ms(datetime(2026, 11, 24, 2, 45, tzinfo=UTC))  # the boundary of quarters 10 and 11
    seen = week.segments_at("speed_kmh", at_ms, "UTC")
    assert seen[1] == pytest.approx(50.0)
    assert seen[2] == 60.0
    assert np.isnan(seen[0])


def test_a_file_of_another_kind_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "week.arrow").write_bytes(b"no arrow")
    with pytest.raises(ModelError, match=r"week\.arrow: cannot be read"):
        Typical.load(tmp_path / "week.arrow")
