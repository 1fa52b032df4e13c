"""Instants in, the naive local times that a chart's axis shows out; and holes where nothing was observed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

FloatArray = npt.NDArray[np.float64]


def local(instants_ms: object, timezone: str) -> list[str]:
    """Return instants, ms UTC, as civil times without a zone, which Plotly draws as they stand.

    Examples
    --------
    >>> local([1_790_000_000_000], "Europe/Lisbon")
    ['2026-09-21T15:13:20']
    """
    index = pd.DatetimeIndex(pd.to_datetime(np.asarray(instants_ms, dtype=np.int64), unit="ms", utc=True))
    return [str(moment) for moment in index.tz_convert(timezone).strftime("%Y-%m-%dT%H:%M:%S")]


def values(column: object, digits: int = 2) -> list[float | None]:
    """Return numbers for a chart, None where missing.

    Examples
    --------
    >>> values([1.234, float("nan")])
    [1.23, None]
    """
    numbers = np.asarray(column, dtype=np.float64)
    return [None if np.isnan(number) else round(float(number), digits) for number in numbers]


def with_holes(frame: pd.DataFrame, time: str, pane_ms: int) -> pd.DataFrame:
    """Return the frame with an empty row after each row that the next does not follow within three panes.

    A line then breaks there instead of joining what was seen to what was seen much later.
    """
    times = frame[time].to_numpy(np.int64)
    breaks = times[:-1][np.diff(times) > 3 * pane_ms]
    if not len(breaks):
        return frame
    holes = pd.DataFrame({time: breaks + pane_ms})
    return pd.concat([frame, holes]).sort_values(time, kind="stable")
