"""Answers that every store gives alike: sums, means and records in, frames out. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from citybrain.records import HORIZONS_MIN, Forecasts

MS_PER_MIN = 60_000
FAN = ("mean_kmh", "q10_kmh", "q50_kmh", "q90_kmh", "p_congested")


def speeds_wide(means: pd.DataFrame, segments: Sequence[int]) -> pd.DataFrame:
    """Return speed_kmh by time_start_ms (index) and segment (columns, in the given order)."""
    wide = means.pivot_table(index="time_start_ms", columns="segment", values="speed_kmh", dropna=False)
    return wide.reindex(columns=pd.Index(segments, name="segment"))


def most_delayed(means: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Return the segments with most delay: segment, delay_veh_h, speed_kmh, tti, level."""
    frame = means[["segment", "delay_veh_h", "speed_kmh", "tti", "level"]]
    delayed = frame[frame["delay_veh_h"] > 0]
    return delayed.sort_values(["delay_veh_h", "segment"], ascending=[False, True]).head(limit).reset_index(drop=True)


def forecast_fan(forecasts: Sequence[Forecasts], segment: int) -> pd.DataFrame:
    """Return one segment's forecast by horizon: time_ms, horizon_min, mean, quantiles, p_congested."""
    frame = pd.DataFrame({"time_ms": np.zeros(0, np.int64), "horizon_min": np.zeros(0, np.int64)})
    for forecast in forecasts:
        at = np.flatnonzero(forecast.segment == segment)
        horizons = np.repeat(HORIZONS_MIN, len(at))
        made_ms = forecast.pane_start_ms + forecast.pane_ms
        frame = pd.DataFrame({"time_ms": made_ms + horizons * MS_PER_MIN, "horizon_min": horizons})
        for name in FAN:
            frame[name] = getattr(forecast, name)[at].reshape(-1).astype(np.float64)
    return frame.reindex(columns=["time_ms", "horizon_min", *FAN])


def whole_bins(from_ms: int, to_ms: int, step_ms: int | None, bin_ms: int) -> tuple[int, int]:
    """Return the first and the end of the whole bins in [from, to) that a step may be made of; none is (to, to)."""
    first, last = -(-from_ms // bin_ms) * bin_ms, to_ms // bin_ms * bin_ms
    if last <= first or (step_ms is not None and step_ms % bin_ms):
        return to_ms, to_ms
    return first, last


def require_step(step_ms: int | None, pane_ms: int) -> None:
    """Refuse a step that panes do not fill.

    Raises
    ------
    ValueError
        If it is none.
    """
    if step_ms is not None and (step_ms <= 0 or step_ms % pane_ms):
        raise ValueError(f"step_ms: {step_ms} seen, a multiple of the pane of {pane_ms} allowed")
