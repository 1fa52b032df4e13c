"""The city's congestion index today: frames in, a Plotly figure out. Pure; asks nobody.

Line of today, the middle 80 % of typical days as a band, and the forecast with its 80 %.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dashboard.figures.look import Look
from dashboard.figures.times import local, values, with_holes
from dashboard.texts import text

LEAST_TOP = 4.0
HIGHEST = 10.0


def figure(
    today: pd.DataFrame,
    typical: pd.DataFrame,
    forecast: pd.DataFrame,
    *,
    day: tuple[int, int],
    timezone: str,
    pane_ms: int,
    look: Look,
) -> dict[str, Any]:
    """Return the figure.

    Parameters
    ----------
    today
        ``time_start_ms``, ``tpi`` by pane.
    typical
        ``time_ms``, ``mean``, ``low``, ``high``; may have no rows.
    forecast
        ``time_ms``, ``tpi``, ``low``, ``high``; may have no rows.
    day
        The half-open civil day, ms UTC.
    timezone, pane_ms, look
        The city's zone, the length of a pane, and how the page looks.
    """
    seen = today[["time_start_ms", "tpi"]].assign(time_ms=today["time_start_ms"] + pane_ms)
    traces = [*_band(typical, timezone, look), *_fan(forecast, timezone, look), _today(seen, timezone, pane_ms, look)]
    top = _top(pd.concat([seen["tpi"], typical["high"], forecast["high"]]))
    layout = look.layout()
    layout["xaxis"]["range"] = local(day, timezone)
    layout["xaxis"]["dtick"] = 3 * 3_600_000
    layout["yaxis"] |= {"range": [0, top], "dtick": 2 if top > LEAST_TOP else 1}
    if seen["tpi"].notna().any():
        layout["shapes"] = [_now_line(int(seen["time_ms"].iloc[-1]), timezone, look)]
    else:
        layout["annotations"] = [nothing(text("index.none", look.language), look)]
    return {"data": traces, "layout": layout}


def nothing(sentence: str, look: Look) -> dict[str, Any]:
    """Return a note in the middle of an empty chart."""
    font = {"color": look.colors.soft, "size": look.px(13)}
    return {"text": sentence, "showarrow": False, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "font": font}


def edges(times: list[str], low: list[float | None], high: list[float | None], color: str) -> list[dict[str, Any]]:
    """Return two traces that fill what lies between ``low`` and ``high``, silent on hover."""
    bare = {"x": times, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "connectgaps": False}
    return [{**bare, "y": low}, {**bare, "y": high, "fill": "tonexty", "fillcolor": color}]


def _band(typical: pd.DataFrame, timezone: str, look: Look) -> list[dict[str, Any]]:
    if typical.empty:
        return []
    times = local(typical["time_ms"], timezone)
    band = edges(times, values(typical["low"]), values(typical["high"]), look.colors.band)
    name = text("segment.typical", look.language)
    mean = {"x": times, "y": values(typical["mean"]), "mode": "lines", "line": {"width": 0}, "name": name}
    return [*band, {**mean, "hovertemplate": "%{y:.1f}"}]


def _fan(forecast: pd.DataFrame, timezone: str, look: Look) -> list[dict[str, Any]]:
    if forecast.empty:
        return []
    times = local(forecast["time_ms"], timezone)
    fan = edges(times, values(forecast["low"]), values(forecast["high"]), look.colors.fan)
    line = {"color": look.colors.forecast, "width": look.px(2), "dash": "dot"}
    name = text("segment.forecast", look.language)
    mean = {"x": times, "y": values(forecast["tpi"]), "mode": "lines", "line": line, "name": name}
    return [*fan, {**mean, "hovertemplate": "%{y:.1f}"}]


def _today(seen: pd.DataFrame, timezone: str, pane_ms: int, look: Look) -> dict[str, Any]:
    whole = with_holes(seen, "time_ms", pane_ms)
    return {
        "x": local(whole["time_ms"], timezone),
        "y": values(whole["tpi"]),
        "mode": "lines",
        "name": text("index.today", look.language),
        "line": {"color": look.colors.today, "width": look.px(2)},
        "hovertemplate": "%{y:.1f}",
        "connectgaps": False,
    }


def _now_line(now_ms: int, timezone: str, look: Look) -> dict[str, Any]:
    (at,) = local([now_ms], timezone)
    line = {"color": look.colors.soft, "width": look.px(1), "dash": "dot"}
    return {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper", "line": line, "layer": "below"}


def _top(known: pd.Series[Any]) -> float:
    """Return the axis' end: an even number with some room, so that it seldom moves."""
    highest = np.nanmax(known.to_numpy(float), initial=0.0)
    return float(min(HIGHEST, max(LEAST_TOP, 2 * np.ceil((highest + 0.4) / 2))))
