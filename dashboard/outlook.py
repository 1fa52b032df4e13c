"""The city's index ahead: its newest value and the typical week in, the index for the next hour out.

As for a segment (``models.forecast``): what is typical then, plus the deviation of now, which fades. Summing the
segments' forecasts up was tried and dropped: vehicle-hours go with the inverse of the speed, so that mean speeds tell
too few of them, and the index fell at once by half in a peak. This is the screen's; no stage decides by it.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from citybrain.records import HORIZONS_MIN
from dashboard.context import Context
from dashboard.live.vitals import CITY
from dashboard.queries import BAND_SD

MINUTE_MS = 60_000
OLDEST_MS = 15 * MINUTE_MS
FADE_MIN = 90.0
"""A deviation from the typical day is forgotten with this time constant, as in the segments' forecast."""
COLUMNS = ["time_ms", "tpi", "low", "high"]


def city_outlook(context: Context, now_ms: int, *, run: str = "") -> pd.DataFrame:
    """Return the index now and at each horizon: ``time_ms``, ``tpi``, ``low``, ``high`` (80 %); no rows if unknown."""
    newest = context.store.latest_areas(run=run)
    if newest is None or context.typical is None or now_ms - newest.pane_start_ms > OLDEST_MS:
        return pd.DataFrame(columns=COLUMNS, dtype=float)
    now = float(newest.tpi[newest.area == CITY][0])
    ahead_min = np.array([0, *HORIZONS_MIN], dtype=float)
    times = now_ms + (MINUTE_MS * ahead_min).astype(np.int64)
    usual = np.array([context.typical.area_at("tpi", CITY, int(at), context.city.timezone) for at in times])
    keep = np.exp(-ahead_min / FADE_MIN)
    tpi = np.clip(usual[:, 0] + (now - usual[0, 0]) * keep, 0, 10)
    # Days differ by so much; of that, what is still remembered of now is known.
    spread = BAND_SD * np.nan_to_num(usual[:, 1]) * np.sqrt(1 - keep**2)
    low, high = np.clip(tpi - spread, 0, 10), np.clip(tpi + spread, 0, 10)
    frame = pd.DataFrame({"time_ms": times, "tpi": tpi, "low": low, "high": high})
    return frame if math.isfinite(now) and np.isfinite(tpi).all() else frame.iloc[:0]
