"""The two charts: frames in, figures out that Plotly accepts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from dashboard.figures import city_index, segment_day
from dashboard.figures.look import COLORS, Look
from dashboard.figures.times import local, with_holes

MINUTE_MS = 60_000
DAY = (1_795_478_400_000, 1_795_564_800_000)  # 2026-11-24 in Lisbon
ZONE = "Europe/Lisbon"


def index_today(panes: int = 10) -> pd.DataFrame:
    return pd.DataFrame({"time_start_ms": DAY[0] + MINUTE_MS * np.arange(panes), "tpi": np.linspace(1, 5, panes)})


def band() -> pd.DataFrame:
    return pd.DataFrame({"time_ms": [DAY[0], DAY[1]], "mean": [2.0, 3.0], "low": [1.0, 2.0], "high": [3.0, 4.0]})


def ahead() -> pd.DataFrame:
    return pd.DataFrame({"time_ms": [DAY[0] + 10 * MINUTE_MS], "tpi": [5.0], "low": [4.5], "high": [5.5]})


def index_figure(today: pd.DataFrame, *, look: Look | None = None) -> dict[str, Any]:
    return city_index.figure(
        today, band(), ahead(), day=DAY, timezone=ZONE, pane_ms=MINUTE_MS, look=look or Look()
    )  # fmt: skip


def segment_figure(today: pd.DataFrame, *, rows: int = 1) -> dict[str, Any]:
    typical = pd.DataFrame({"time_ms": [DAY[0]], "speed_kmh": [45.0], "low_kmh": [40.0], "high_kmh": [50.0]})
    fan = pd.DataFrame({"time_ms": [DAY[1]], "q10_kmh": [30.0], "q50_kmh": [40.0], "q90_kmh": [45.0]})
    return segment_day.figure(
        today, typical[:rows], fan[:rows], day=DAY, free_flow_kmh=50.0, timezone=ZONE, pane_ms=MINUTE_MS, look=Look()
    )


@pytest.mark.parametrize("theme", list(COLORS))
@pytest.mark.parametrize("language", ["en", "zh"])
def test_plotly_accepts_the_figures(theme: str, language: Any) -> None:
    figure = go.Figure(index_figure(index_today(), look=Look(language, theme, 2.0)))
    assert len(figure.data) == 7
    speeds = pd.DataFrame({"time_start_ms": [DAY[0]], "speed_kmh": [44.0]})
    assert len(go.Figure(segment_figure(speeds)).data) == 7


def test_a_pane_is_drawn_at_its_end_in_local_time() -> None:
    line = index_figure(index_today(2))["data"][-1]
    assert line["x"] == ["2026-11-24T00:01:00", "2026-11-24T00:02:00"]
    assert line["y"] == [1.0, 5.0]


def test_a_line_breaks_where_nothing_was_observed() -> None:
    today = index_today(8).drop(index=[3, 4, 5, 6])
    assert index_figure(today)["data"][-1]["y"].count(None) == 1
    assert len(with_holes(index_today(8), "time_start_ms", MINUTE_MS)) == 8


def test_a_day_without_a_pane_says_so_and_has_no_line_for_now() -> None:
    figure = index_figure(index_today(0))
    assert [note["text"] for note in figure["layout"]["annotations"]] == ["No closed minute yet"]
    assert "shapes" not in figure["layout"]
    unknown = pd.DataFrame({"time_start_ms": [DAY[0]], "speed_kmh": [np.nan]})
    assert segment_figure(unknown)["layout"]["annotations"][0]["text"] == "No observation today"


def test_a_segment_without_typical_day_and_forecast_has_its_own_line_only() -> None:
    speeds = pd.DataFrame({"time_start_ms": [DAY[0]], "speed_kmh": [70.0]})
    figure = segment_figure(speeds, rows=0)
    assert len(figure["data"]) == 1
    assert figure["layout"]["yaxis"]["range"] == [0, 80]


@pytest.mark.parametrize(("highest", "top"), [(0.5, 4), (3.5, 4), (3.9, 6), (9.9, 10), (np.nan, 4)])
def test_the_index_axis_leaves_room_and_ends_at_10(highest: float, top: float) -> None:
    today = index_today(1).assign(tpi=[highest])
    none = band()[:0]
    figure = city_index.figure(
        today, none, ahead()[:0], day=DAY, timezone=ZONE, pane_ms=MINUTE_MS, look=Look()
    )  # fmt: skip
    assert figure["layout"]["yaxis"]["range"] == [0, top]


@pytest.mark.parametrize("told", [None, {}, {"language": "de", "theme": "pink", "unit": "big"}, {"unit": -3}])
def test_a_look_that_makes_no_sense_is_the_default(told: dict[str, Any] | None) -> None:
    assert Look.of(told) == Look()


def test_local_times_repeat_an_hour_when_clocks_go_back() -> None:
    before = 1_792_890_000_000  # 2026-10-25 01:00 UTC, when Lisbon leaves summer time
    assert local([before - 1_800_000, before + 1_800_000], ZONE) == ["2026-10-25T01:30:00", "2026-10-25T01:30:00"]
