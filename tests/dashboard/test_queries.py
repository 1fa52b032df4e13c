from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from dashboard import queries
from infra.stores.protocol import Batch
from tests.dashboard.conftest import MIN, TUESDAY_8H, World
from tests.fakes import area_indices, forecasts, segment_states, typical_week

DAY = dt.date(2026, 11, 24)


def test_a_typical_day_has_the_quarters_of_the_civil_day_and_the_middle_eighty_percent(world: World) -> None:
    share = np.linspace(0.4, 0.9, 96)
    world.typical = typical_week(world.network, share=share)
    day = queries.typical_day(world.context(), 3, DAY)
    assert len(day) == 96
    assert day["time_ms"].iloc[32] == TUESDAY_8H + 7.5 * MIN
    assert day["speed_kmh"].iloc[32] == pytest.approx(50 * share[32], rel=1e-6)
    assert day["high_kmh"].iloc[32] == pytest.approx(50 * share[32] * (1 + 0.05 * 1.28155), rel=1e-5)


@pytest.mark.parametrize(("day", "quarters"), [("2026-10-25", 100), ("2026-03-29", 92)])
def test_a_day_on_which_the_clocks_change_is_as_long_as_it_is(world: World, day: str, quarters: int) -> None:
    assert len(queries.typical_day(world.context(), 0, dt.date.fromisoformat(day))) == quarters
    assert len(queries.typical_area_day(world.context(), dt.date.fromisoformat(day))) == quarters


def test_a_band_never_reaches_below_standstill(world: World) -> None:
    world.typical.speed_sd_kmh[:] = 100
    assert (queries.typical_day(world.context(), 0, DAY)["low_kmh"] == 0).all()


def test_a_citys_day_is_read_with_delay_as_a_rate(world: World) -> None:
    world.store.write(Batch(areas=[area_indices(world.network, pane_start_ms=TUESDAY_8H)]))
    day = queries.area_day(world.context(), DAY)
    assert day["time_start_ms"].tolist() == [TUESDAY_8H]
    assert day["delay_veh_h_per_h"].tolist() == pytest.approx([30.0])
    assert queries.area_day(world.context(), DAY + dt.timedelta(days=1)).empty


def test_a_long_series_comes_in_coarser_steps(world: World) -> None:
    panes = [segment_states(world.network, pane_start_ms=TUESDAY_8H + k * MIN) for k in range(10)]
    world.store.write(Batch(states=panes))
    context, segment = world.context(), int(world.network.segments_of(0)[0])
    short = queries.segment_series(context, segment, TUESDAY_8H, TUESDAY_8H + 10 * MIN)
    week = queries.segment_series(context, segment, TUESDAY_8H, TUESDAY_8H + 7 * 1440 * MIN)
    assert (len(short), len(week)) == (10, 3)
    assert week["speed_kmh"].tolist() == pytest.approx([40.0] * 3)


def test_the_newest_forecast_of_a_segment(world: World) -> None:
    world.store.write(Batch(forecasts=[forecasts(world.network, pane_start_ms=TUESDAY_8H)]))
    frame = queries.segment_forecast(world.context(), int(world.network.segments_of(0)[0]))
    assert frame["time_ms"].iloc[0] == TUESDAY_8H + 6 * MIN
    assert len(frame) == 12


def test_what_is_usual_now_is_not_known_without_a_typical_week() -> None:
    assert np.isnan(queries.typical_speed(None, 0, TUESDAY_8H, "Europe/Lisbon"))
