"""The charts' callbacks: what the browser tells (moment, segment, look) in, figures out. They ask and draw, no more.

Callbacks are coroutines that leave the questions to a thread: Dash would run a plain function on the event loop, and
hold up the live map with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import dash
from dash import Input, Output

from dashboard import queries
from dashboard.context import Context
from dashboard.figures import city_index, segment_day
from dashboard.figures.look import Look
from dashboard.outlook import city_outlook

Data = Mapping[str, Any] | None
Figure = dict[str, Any]


def register_charts(app: dash.Dash, context: Context) -> None:
    """Register the callbacks of the two charts."""

    @app.callback(Output("index-chart", "figure"), Input("moment", "data"), Input("look", "data"))
    async def city_index_chart(moment: Data, look: Data) -> Figure:
        return await asyncio.to_thread(city_index_figure, context, moment, Look.of(look))

    @app.callback(
        Output("segment-chart", "figure"), Input("selected", "data"), Input("moment", "data"), Input("look", "data")
    )
    async def segment_chart(selected: Data, moment: Data, look: Data) -> Figure:
        return await asyncio.to_thread(segment_figure, context, selected, moment, Look.of(look))


def city_index_figure(context: Context, moment: Data, look: Look) -> Figure:
    """Return the city's index of the day that holds the moment."""
    now_ms, run = _now(context, moment), _run(moment)
    day = queries.local_date(now_ms - 1, context.city.timezone)
    return city_index.figure(
        queries.area_day(context, day, run=run),
        queries.typical_area_day(context, day),
        city_outlook(context, now_ms, run=run),
        day=queries.day_bounds(day, context.city.timezone),
        timezone=context.city.timezone,
        pane_ms=context.city.time.pane_ms,
        look=look,
    )


def segment_figure(context: Context, selected: Data, moment: Data, look: Look) -> Figure:
    """Return the chosen segment's day; an empty chart where none is chosen, or one that the network lacks."""
    segment = (selected or {}).get("segment")
    if not isinstance(segment, int) or not 0 <= segment < len(context.network.segments):
        return segment_day.empty(look)
    now_ms, run = _now(context, moment), _run(selected)
    day = queries.local_date(now_ms - 1, context.city.timezone)
    bounds = queries.day_bounds(day, context.city.timezone)
    return segment_day.figure(
        queries.segment_series(context, segment, *bounds, run=run),
        queries.typical_day(context, segment, day),
        queries.segment_forecast(context, segment, run=run),
        day=bounds,
        free_flow_kmh=float(context.network.segments.free_flow_kmh[segment]),
        timezone=context.city.timezone,
        pane_ms=context.city.time.pane_ms,
        look=look,
    )


def _now(context: Context, moment: Data) -> int:
    """Return the end of the newest pane as the browser heard it, or the city's time before the first."""
    told = (moment or {}).get("time_ms")
    return told if isinstance(told, int) and told > 0 else context.live.city_ms()


def _run(data: Data) -> str:
    run = (data or {}).get("run")
    return run if isinstance(run, str) else ""
