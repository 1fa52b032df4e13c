"""The city's index ahead: the newest forecasts and states of the segments in, the index for the next hour out.

The index is recomputed from sums, as everywhere: each segment's vehicle-kilometres of now at its forecast speed. How
far it may be wrong grows with the horizon to what days differ by; both are this screen's, no stage decides by them.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from citybrain.indices import delay_time_proportion, traffic_performance_index
from citybrain.records import HORIZONS_MIN, Forecasts, SegmentStates
from dashboard.context import Context
from dashboard.live.vitals import CITY
from dashboard.queries import BAND_SD

FloatArray = npt.NDArray[np.float64]

MINUTE_MS = 60_000
OLDEST_MS = 15 * MINUTE_MS
FADE_MIN = 90.0
"""A deviation from the typical day is forgotten with this time constant, as in the forecast itself."""
COLUMNS = ["time_ms", "tpi", "low", "high"]


class Sums(NamedTuple):
    """Vehicle-hours at the forecast speeds, shape (13,), of now first; the same at free flow."""

    vht_veh_h: FloatArray
    free_veh_h: float


def city_outlook(context: Context, now_ms: int, *, run: str = "") -> pd.DataFrame:
    """Return the index now and at each horizon: ``time_ms``, ``tpi``, ``low``, ``high`` (80 %); no rows if unknown."""
    states = {pane.partition: pane for pane in context.store.latest_states(run=run)}
    newest = [each for each in context.store.latest_forecasts(run=run) if _is_current(each, states, now_ms)]
    if not newest:
        return pd.DataFrame(columns=COLUMNS, dtype=float)
    parts = [partition_sums(states[each.partition], each) for each in newest]
    total = Sums(np.sum([part.vht_veh_h for part in parts], axis=0), sum(part.free_veh_h for part in parts))
    tpi = index_of(total)
    times = now_ms + MINUTE_MS * np.array([0, *HORIZONS_MIN])
    spread = np.array([_spread(context, int(at), (int(at) - now_ms) / MINUTE_MS) for at in times])
    low, high = np.clip(tpi - spread, 0, 10), np.clip(tpi + spread, 0, 10)
    frame = pd.DataFrame({"time_ms": times, "tpi": tpi, "low": low, "high": high})
    return frame[np.isfinite(tpi)]


def partition_sums(states: SegmentStates, forecasts: Forecasts) -> Sums:
    """Return one partition's vehicle-hours now and at each horizon, over segments known at all of them."""
    row = np.full(int(max(states.segment.max(initial=0), forecasts.segment.max(initial=0))) + 1, -1)
    row[states.segment] = np.arange(len(states.segment))
    at = row[forecasts.segment]
    ahead = forecasts.mean_kmh.astype(float)
    known = (at >= 0) & (ahead > 0).all(axis=1) & (states.vht_veh_h[at] > 0)
    at, ahead = at[known], ahead[known]
    later = (states.vkt_veh_km[at][:, None] / ahead).sum(axis=0)
    return Sums(np.concatenate([[states.vht_veh_h[at].sum()], later]), float(states.vht_free_flow_veh_h[at].sum()))


def index_of(sums: Sums) -> FloatArray:
    """Return the traffic performance index of vehicle-hours; NaN where nothing drives.

    Examples
    --------
    >>> index_of(Sums(np.array([10.0, 20.0]), 10.0))
    array([0., 4.])
    """
    if not sums.free_veh_h > 0:
        return np.full(len(sums.vht_veh_h), np.nan)
    return traffic_performance_index(delay_time_proportion(np.maximum(1.0, sums.vht_veh_h / sums.free_veh_h)))


def _is_current(forecasts: Forecasts, states: dict[int, Any], now_ms: int) -> bool:
    made_ms = forecasts.pane_start_ms + forecasts.pane_ms
    return forecasts.partition in states and now_ms - made_ms <= OLDEST_MS


def _spread(context: Context, instant_ms: int, ahead_min: float) -> float:
    """Return how far the index may be off, 80 %: what days differ by, less what is still remembered of now."""
    if context.typical is None:
        return 0.0
    sd = context.typical.area_at("tpi", CITY, instant_ms, context.city.timezone)[1]
    keep = math.exp(-ahead_min / FADE_MIN)
    return BAND_SD * sd * math.sqrt(1 - keep**2) if math.isfinite(sd) else 0.0
