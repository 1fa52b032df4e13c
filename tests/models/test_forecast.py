"""The forecast: what it returns to, how it learns, and what it does not know."""

from __future__ import annotations

import numpy as np
import pytest

from citybrain.records import HORIZONS_MIN
from citybrain.typical import Typical
from models.forecast import FADE_MIN, KEEP_NOW, ForecastMemory, ForecastModel
from tests.fakes import corridor_network, typical_week

NETWORK = corridor_network(3)
NOON_MS = 1_789_992_000_000
MINUTE_MS = 60_000


def _model(typical: Typical | None, pane_ms: int = MINUTE_MS) -> ForecastModel:
    segments = NETWORK.segments_of(0)
    return ForecastModel.of(
        NETWORK.segments.free_flow_kmh,
        segments,
        typical=typical,
        timezone="UTC",
        congested=0.5,
        pane_ms=pane_ms,
    )


def _watch(model: ForecastModel, speeds_kmh: list[list[float]], pane_ms: int = MINUTE_MS) -> tuple[ForecastMemory, int]:
    memory, end_ms = model.new(), NOON_MS
    for speeds in speeds_kmh:
        end_ms += pane_ms
        model.observe(memory, np.array(speeds), end_ms, pane_ms)
    return memory, end_ms


def test_a_deviation_fades_towards_the_typical_day() -> None:
    model = _model(typical_week(NETWORK, share=0.9))
    memory, end_ms = _watch(model, [[81.0, 41.0, 81.0]])
    ahead = model.ahead(memory, end_ms)
    expected = 81 - 40 * KEEP_NOW * np.exp(-np.array(HORIZONS_MIN) / FADE_MIN)
    bias = ahead.mean_kmh[1] - expected
    assert np.abs(bias).max() < 0.5
    assert (np.diff(ahead.mean_kmh[1]) > 0).all()


def test_the_forecast_follows_the_typical_day_at_the_time_it_is_for() -> None:
    share = np.full(96, 0.9)
    share[50:] = 0.4
    model = _model(typical_week(NETWORK, share=share))
    memory, end_ms = _watch(model, [[81.0, 81.0, 81.0]])
    ahead = model.ahead(memory, end_ms)
    assert ahead.mean_kmh[0, 0] > 70
    assert ahead.mean_kmh[0, -1] < 60
    assert ahead.p_congested[0, -1] > ahead.p_congested[0, 0]


def test_without_a_typical_day_it_tends_to_the_long_mean() -> None:
    model = _model(None)
    memory, end_ms = _watch(model, [[70.0, 70.0, 70.0]] * 600 + [[30.0, 70.0, 70.0]] * 10)
    ahead = model.ahead(memory, end_ms)
    assert ahead.mean_kmh[0, 0] < ahead.mean_kmh[0, -1] < 70
    assert ahead.mean_kmh[1] == pytest.approx(np.full(12, 70.0), abs=2.5)


def test_where_nothing_is_known_nothing_is_forecast() -> None:
    model = _model(None)
    memory, end_ms = _watch(model, [[np.nan, 70.0, 70.0]] * 3)
    ahead = model.ahead(memory, end_ms)
    for values in (ahead.mean_kmh, ahead.q10_kmh, ahead.q50_kmh, ahead.q90_kmh, ahead.p_congested):
        assert np.isnan(values[0]).all()
        assert np.isfinite(values[1]).all()


def test_a_segment_never_observed_has_its_typical_day() -> None:
    model = _model(typical_week(NETWORK, share=0.9))
    memory, end_ms = _watch(model, [[np.nan, 81.0, 81.0]] * 3)
    assert model.ahead(memory, end_ms).mean_kmh[0] == pytest.approx(np.full(12, 81.0), abs=0.5)


def test_quantiles_are_in_order_and_widen() -> None:
    model = _model(typical_week(NETWORK))
    memory, end_ms = _watch(model, [[60.0, 50.0, 81.0]] * 3)
    ahead = model.ahead(memory, end_ms)
    assert (ahead.q10_kmh < ahead.q50_kmh).all()
    assert (ahead.q50_kmh < ahead.q90_kmh).all()
    width = ahead.q90_kmh - ahead.q10_kmh
    assert width[1, -1] > width[1, 0]
    assert ((ahead.p_congested >= 0) & (ahead.p_congested <= 1)).all()


def test_it_learns_how_long_deviations_last_here() -> None:
    rng = np.random.default_rng(3)
    model = _model(typical_week(NETWORK, share=0.7), pane_ms=5 * MINUTE_MS)
    gap, speeds = np.zeros(3), []
    for _ in range(2000):
        gap = 0.6 * gap + rng.normal(0, 8, 3)
        speeds.append((63 + gap).tolist())
    memory, _ = _watch(model, speeds, 5 * MINUTE_MS)
    keep, prior = model.keep(memory), model.keep(model.new())
    # Of three segments the prior is still a part.
    assert 0.55 < keep[0] < prior[0] - 0.05
    assert keep[5] < prior[5] / 2


def test_the_band_holds_four_of_five_once_it_has_learnt() -> None:
    rng = np.random.default_rng(4)
    model = _model(typical_week(NETWORK, share=0.7), pane_ms=5 * MINUTE_MS)
    memory, end_ms, inside = model.new(), NOON_MS, []
    ahead = None
    for step in range(1500):
        speed = 63 + rng.normal(0, 12, 3)
        if ahead is not None and step > 700:
            inside.append((ahead.q10_kmh[:, 0] <= speed) & (speed <= ahead.q90_kmh[:, 0]))
        end_ms += 5 * MINUTE_MS
        model.observe(memory, speed, end_ms, 5 * MINUTE_MS)
        ahead = model.ahead(memory, end_ms)
    assert np.mean(inside) == pytest.approx(0.8, abs=0.04)


def test_a_gap_in_the_panes_is_not_mistaken_for_five_minutes() -> None:
    model = _model(typical_week(NETWORK), pane_ms=5 * MINUTE_MS)
    memory = model.new()
    model.observe(memory, np.full(3, 60.0), NOON_MS, 5 * MINUTE_MS)
    before = memory.book.counts.sum(axis=(0, 2))
    model.observe(memory, np.full(3, 60.0), NOON_MS + 15 * MINUTE_MS, 5 * MINUTE_MS)
    gained = memory.book.counts.sum(axis=(0, 2)) - before
    assert np.flatnonzero(gained > 1).tolist() == [HORIZONS_MIN.index(15)]
