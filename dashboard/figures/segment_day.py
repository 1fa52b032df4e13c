"""One segment's day: frames in, a Plotly figure out. Pure; asks nobody.

Speed so far, the typical day with the middle 80 % of days, and the forecast fan of 10-90 %.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dashboard.figures.city_index import edges, nothing
from dashboard.figures.look import Look
from dashboard.figures.times import local, values, with_holes
from dashboard.texts import text

HEADROOM = 1.15


def figure(
    today: pd.DataFrame,
    typical: pd.DataFrame,
    forecast: pd.DataFrame,
    *,
    day: tuple[int, int],
    free_flow_kmh: float,
    timezone: str,
    pane_ms: int,
    look: Look,
) -> dict[str, Any]:
    """Return the figure.

    Parameters
    ----------
    today
        ``time_start_ms``, ``speed_kmh`` by pane.
    typical
        ``time_ms``, ``speed_kmh``, ``low_kmh``, ``high_kmh``; may have no rows.
    forecast
        ``time_ms``, ``q10_kmh``, ``q50_kmh``, ``q90_kmh``; may have no rows.
    day
        The half-open civil day, ms UTC.
    free_flow_kmh
        Free-flow speed, for the axis.
    timezone, pane_ms, look
        The city's zone, the length of a pane, and how the page looks.
    """
    traces = [
        *_typical(typical, timezone, look),
        *_fan(forecast, timezone, look),
        _today(today, timezone, pane_ms, look),
    ]
    highest = np.nanmax(np.concatenate([[free_flow_kmh], today["speed_kmh"].to_numpy(float)]))
    layout = look.layout()
    layout["xaxis"]["range"] = local(day, timezone)
    layout["xaxis"]["dtick"] = 6 * 3_600_000
    layout["yaxis"] |= {"range": [0, round(HEADROOM * float(highest))], "nticks": 6}
    if not today["speed_kmh"].notna().any():
        layout["annotations"] = [nothing(text("segment.none", look.language), look)]
    return {"data": traces, "layout": layout}


def empty(look: Look) -> dict[str, Any]:
    """Return a chart without a segment."""
    return {"data": [], "layout": look.layout()}


def _typical(typical: pd.DataFrame, timezone: str, look: Look) -> list[dict[str, Any]]:
    if typical.empty:
        return []
    times = local(typical["time_ms"], timezone)
    band = edges(times, values(typical["low_kmh"]), values(typical["high_kmh"]), look.colors.band)
    line = {"color": look.colors.typical, "width": look.px(1.2)}
    return [*band, _line(times, typical["speed_kmh"], text("segment.typical", look.language), line)]


def _fan(forecast: pd.DataFrame, timezone: str, look: Look) -> list[dict[str, Any]]:
    if forecast.empty:
        return []
    times = local(forecast["time_ms"], timezone)
    fan = edges(times, values(forecast["q10_kmh"]), values(forecast["q90_kmh"]), look.colors.fan)
    line = {"color": look.colors.forecast, "width": look.px(2), "dash": "dot"}
    return [*fan, _line(times, forecast["q50_kmh"], text("segment.forecast", look.language), line)]


def _today(today: pd.DataFrame, timezone: str, pane_ms: int, look: Look) -> dict[str, Any]:
    seen = today[["time_start_ms", "speed_kmh"]].assign(time_ms=today["time_start_ms"] + pane_ms)
    whole = with_holes(seen, "time_ms", pane_ms)
    line = {"color": look.colors.today, "width": look.px(1.6)}
    return _line(local(whole["time_ms"], timezone), whole["speed_kmh"], text("segment.today", look.language), line)


def _line(times: list[str], column: object, name: str, line: dict[str, Any]) -> dict[str, Any]:
    return {
        "x": times,
        "y": values(column, 1),
        "mode": "lines",
        "name": name,
        "line": line,
        "hovertemplate": "%{y:.0f}",
        "connectgaps": False,
    }
