"""Questions of charts and the API: store and typical week in, frames out. Times are ms UTC, missing is NaN."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from citybrain.clock import epoch_ms
from citybrain.typical import AREA_METRICS, BINS, Typical, day_type_and_bin
from dashboard.context import Context
from dashboard.live.vitals import CITY

QUARTER_MS = 15 * 60_000
BAND_SD = 1.2815515655446004
"""Standard deviations of the middle 80 % of a normal distribution."""
MOST_POINTS = 3000
"""A series longer than this is asked for in coarser steps."""


def local_date(instant_ms: int, timezone: str) -> date:
    """Return the civil date of an instant.

    Examples
    --------
    >>> local_date(1_790_000_000_000, "Asia/Shanghai")
    datetime.date(2026, 9, 21)
    """
    return datetime.fromtimestamp(instant_ms / 1000, UTC).astimezone(ZoneInfo(timezone)).date()


def day_bounds(day: date, timezone: str) -> tuple[int, int]:
    """Return the half-open civil day, ms UTC; 23 or 25 h long where the clocks change.

    Examples
    --------
    >>> [end - start for start, end in [day_bounds(date(2026, 10, 25), "Europe/Lisbon")]]
    [90000000]
    """
    zone = ZoneInfo(timezone)
    start, end = (datetime.combine(each, time(), zone) for each in (day, day + timedelta(days=1)))
    return epoch_ms(start), epoch_ms(end)


def segment_series(
    context: Context, segment: int, from_ms: int, to_ms: int, *, step_ms: int | None = None, run: str = ""
) -> pd.DataFrame:
    """Return one segment's panes in [from, to): ``time_start_ms``, ``speed_kmh``, ``flow_vph``, ``level``...

    Without a step, the pane, or a coarser one where that would be more than `MOST_POINTS`.
    """
    pane_ms = context.city.time.pane_ms
    if step_ms is None and (to_ms - from_ms) // pane_ms > MOST_POINTS:
        step_ms = pane_ms * -(-(to_ms - from_ms) // (pane_ms * MOST_POINTS))
    return context.store.series(segment, from_ms, to_ms, step_ms=step_ms, run=run)


def segment_forecast(context: Context, segment: int, *, run: str = "") -> pd.DataFrame:
    """Return the newest forecast: ``time_ms``, ``horizon_min``, ``mean_kmh``, quantiles, ``p_congested``."""
    return context.store.forecast_of(segment, run=run)


def typical_day(context: Context, segment: int, day: date) -> pd.DataFrame:
    """Return a segment's typical day by quarter of an hour; no rows without a typical week.

    Columns are ``time_ms`` (middle of the quarter), ``speed_kmh``, ``low_kmh`` and ``high_kmh`` (the middle 80 % of
    days), ``flow_vph``.
    """
    typical = context.typical
    if typical is None:
        return pd.DataFrame(columns=["time_ms", "speed_kmh", "low_kmh", "high_kmh", "flow_vph"], dtype=float)
    times, kind, quarter = _quarters(day, context.city.timezone)
    mean = typical.speed_kmh[kind, quarter, segment].astype(float)
    spread = BAND_SD * typical.speed_sd_kmh[kind, quarter, segment].astype(float)
    flow = typical.flow_vph[kind, quarter, segment].astype(float)
    low = np.maximum(0.0, mean - spread)
    columns = {"time_ms": times, "speed_kmh": mean, "low_kmh": low, "high_kmh": mean + spread, "flow_vph": flow}
    return pd.DataFrame(columns)


def area_day(context: Context, day: date, *, area: int = CITY, run: str = "") -> pd.DataFrame:
    """Return an area's panes of a civil day, ``time_start_ms`` and indices; ``delay_veh_h_per_h`` is the rate."""
    frame = context.store.areas(*day_bounds(day, context.city.timezone), area=area, run=run)
    return frame.assign(delay_veh_h_per_h=frame["delay_veh_h"] * (3_600_000 / context.city.time.pane_ms))


def typical_area_day(context: Context, day: date, metric: str = "tpi", *, area: int = CITY) -> pd.DataFrame:
    """Return an index's typical day: ``time_ms`` (middle of the quarter), ``mean``, ``low``, ``high`` (80 % of days).

    ``metric`` is one of `citybrain.typical.AREA_METRICS`; no rows without a typical week.
    """
    typical = context.typical
    if typical is None:
        return pd.DataFrame(columns=["time_ms", "mean", "low", "high"], dtype=float)
    times, kind, quarter = _quarters(day, context.city.timezone)
    at = AREA_METRICS.index(metric)
    mean = typical.area_mean[at, kind, quarter, area].astype(float)
    spread = BAND_SD * typical.area_sd[at, kind, quarter, area].astype(float)
    low = np.maximum(0.0, mean - spread)
    return pd.DataFrame({"time_ms": times, "mean": mean, "low": low, "high": mean + spread})


def typical_speed(typical: Typical | None, segment: int, instant_ms: int, timezone: str) -> float:
    """Return the speed that is usual on a segment at an instant, km/h; NaN where not known."""
    if typical is None:
        return float("nan")
    return float(typical.segments_at("speed_kmh", instant_ms, timezone)[segment])


def columns(frame: pd.DataFrame, names: list[str], digits: int = 4) -> dict[str, list[Any]]:
    """Return columns for JSON: rounded, None where missing; columns that the frame lacks are left out.

    Examples
    --------
    >>> columns(pd.DataFrame({"a": [1.23456, np.nan], "b": [1, 2]}), ["a", "b", "c"], 2)
    {'a': [1.23, None], 'b': [1, 2]}
    """
    return {name: _listed(frame[name], digits) for name in names if name in frame}


def _listed(column: pd.Series[Any], digits: int) -> list[Any]:
    if column.dtype.kind != "f":
        return column.tolist()
    return [None if np.isnan(value) else round(value, digits) for value in column.tolist()]


def _quarters(day: date, timezone: str) -> tuple[Any, Any, Any]:
    """Return middles of the civil day's quarters, ms UTC, with type of day and bin of each; each shape (about 96,)."""
    start, end = day_bounds(day, timezone)
    times = np.arange(start + QUARTER_MS // 2, end, QUARTER_MS)
    places = [day_type_and_bin(int(at), timezone) for at in times]
    return times, np.array([kind for kind, _ in places]), np.array([min(int(place), BINS - 1) for _, place in places])
