"""Early warning: monotone in what should matter, silent on what is not known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.warning import COEFFICIENTS, FEATURES, HORIZONS, Outlook, probabilities, reasons

Small = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def _column(*values: float) -> Small:
    return np.array(values, dtype=np.float32)


CALM = Outlook(
    p_forecast=np.full((1, 3), 0.01, dtype=np.float32),
    fast=_column(0.9),
    slow=_column(0.9),
    downstream=_column(0.9),
    downstream_slow=_column(0.9),
    utilisation=_column(0.4),
)


def _p(outlook: Outlook) -> float:
    return float(probabilities(outlook)[0, -1])


def test_one_row_of_coefficients_a_horizon_and_one_a_feature() -> None:
    assert COEFFICIENTS.shape == (len(HORIZONS), len(FEATURES))


def test_a_calm_road_is_not_warned_of() -> None:
    assert _p(CALM) < 0.05


def test_a_falling_speed_a_growing_queue_ahead_and_a_poor_forecast_each_raise_the_probability() -> None:
    assert _p(replace(CALM, p_forecast=np.full((1, 3), 0.6, dtype=np.float32))) > _p(CALM)
    falling = probabilities(replace(CALM, fast=_column(0.7)))
    assert falling[0, 0] > probabilities(CALM)[0, 0]
    assert _p(replace(CALM, downstream=_column(0.2))) > _p(CALM)


def test_all_together_pass_the_threshold() -> None:
    bad = Outlook(np.full((1, 3), 0.6, dtype=np.float32), _column(0.6), *map(_column, (0.85, 0.2, 0.6, 0.95)))
    assert _p(bad) > 0.6


def test_the_probability_does_not_fall_with_the_horizon() -> None:
    rng = np.random.default_rng(5)
    outlook = Outlook(*(rng.random(shape, dtype=np.float32) for shape in ((50, 3), 50, 50, 50, 50, 50)))
    assert (np.diff(probabilities(outlook), axis=1) >= 0).all()


def test_what_is_not_known_of_the_neighbours_counts_as_nothing_unusual() -> None:
    nothing = _column(np.nan)
    assert _p(replace(CALM, downstream=nothing, utilisation=nothing)) == _p(CALM)


def test_an_unknown_speed_has_no_probability() -> None:
    assert np.isnan(_p(replace(CALM, fast=_column(np.nan))))


def test_reasons_hold_where_they_should() -> None:
    bad = replace(CALM, fast=_column(0.6), downstream=_column(0.3), utilisation=_column(0.9))
    held = reasons(bad, _column(0.9), _column(0.5))
    assert [code for code, where in held.items() if where[0]] == [
        "queue_downstream",
        "trend_down",
        "near_capacity",
        "below_typical",
        "typical_peak",
    ]
    assert not any(where[0] for where in reasons(CALM, _column(0.9), _column(0.9)).values())
