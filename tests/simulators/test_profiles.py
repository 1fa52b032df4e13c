from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from simulators.profiles import DAY_TYPES, PURPOSES, DayType, FloatArray, Purpose, _Slope, trips_per_hour

MINUTES = np.arange(0, 24, 1 / 60)


def hourly(day_type: DayType, *purposes: Purpose, through: float = 0.05) -> FloatArray:
    kind = np.full(len(MINUTES), DAY_TYPES.index(day_type))
    rates = [trips_per_hour(name, kind, MINUTES, through) for name in purposes or PURPOSES]
    return np.asarray(np.sum(rates, axis=0).reshape(24, 60).mean(axis=1))


def tops(shares: FloatArray) -> list[int]:
    """Return the hours that have more than both their neighbours and a third of the highest."""
    before, after = np.roll(shares, 1), np.roll(shares, -1)
    return np.flatnonzero((shares > before) & (shares >= after) & (shares > shares.max() / 3)).tolist()


@pytest.mark.parametrize(
    ("day_type", "purpose", "wanted"),
    [
        ("weekday", "to_work", [7]),
        ("weekday", "to_home", [17]),
        ("weekday", "through", [7, 16]),
        ("friday", "to_home", [16]),
        ("saturday", "other", [12, 15]),
        ("sunday", "through", [15]),
        ("sunday", "to_home", [18]),
    ],
)
def test_each_purpose_has_its_peaks(day_type: DayType, purpose: Purpose, wanted: list[int]) -> None:
    assert tops(hourly(day_type, purpose)) == wanted


def test_a_weekday_has_two_peaks_a_saturday_and_a_sunday_one_broad_top() -> None:
    assert [hour for hour in tops(hourly("weekday")) if hourly("weekday")[hour] > 0.08] == [7, 17]
    for day_type in ("saturday", "sunday"):
        shares = hourly(day_type)
        assert shares[12:18].min() > 0.9 * shares.max()
        assert shares[7] < 0.5 * shares.max()


def test_outside_the_peaks_hours_have_their_published_share() -> None:
    weekday = hourly("weekday", through=0.0)
    for hour, published in ((1, 0.00627), (10, 0.04994), (12, 0.05765), (22, 0.02494), (23, 0.01791)):
        assert weekday[hour] == pytest.approx(published, rel=0.03), hour
    assert weekday.sum() == pytest.approx(1.0, abs=1e-4)


def test_a_days_trips_are_to_a_weekdays_as_published() -> None:
    town = {name: hourly(name, through=0.0).sum() for name in DAY_TYPES}
    land = {name: hourly(name, "through", through=1.0).sum() for name in DAY_TYPES}
    for totals, published in ((town, 0.237635 / 0.762365 * 2.5), (land, 0.27882 / 0.72118 * 2.5)):
        assert (totals["saturday"] + totals["sunday"]) / 2 == pytest.approx(published, rel=0.01)
        assert totals["sunday"] != totals["saturday"]
    assert town["friday"] == pytest.approx(1.08, abs=0.03)


def test_no_rate_is_below_nothing_and_none_jumps_within_a_day() -> None:
    for day_type in DAY_TYPES:
        kind = np.full(len(MINUTES), DAY_TYPES.index(day_type))
        for purpose in PURPOSES:
            rate = trips_per_hour(purpose, kind, MINUTES, 0.05)
            assert rate.min() >= 0
            assert np.abs(np.diff(rate)).max() < 0.003


def test_the_slope_between_hours_is_that_of_scipys_monotone_curve() -> None:
    rng = np.random.default_rng(1)
    shares = rng.random(24) * (rng.random(24) > 0.2)
    values = np.concatenate([[0.0], np.cumsum(np.concatenate([shares[-2:], shares, shares[:2]]))])
    hour = np.arange(0.0, 24.0, 1 / 60)
    wanted = PchipInterpolator(np.arange(-2.0, 27.0), values).derivative()(hour)
    np.testing.assert_array_equal(_Slope(values)(hour), wanted)
