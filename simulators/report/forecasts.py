"""Forecasts: errors by horizon and reliability of probabilities in; their section of the report out."""

from __future__ import annotations

import numpy as np

from citybrain.records import HORIZONS_MIN
from simulators.judgement.judge import Judgement
from simulators.report import charts, prose
from simulators.report.svg import Line
from simulators.report.wording import percent, signed, table

TOLD_MIN = (5, 15, 30, 45, 60)


def forecasts(judgement: Judgement) -> str:
    """Return the section."""
    errors = judgement.forecasts
    if errors is None:
        return "<p>The run has no forecasts to judge.</p>"
    x = np.array(HORIZONS_MIN, dtype=float)

    def chart(group: str, label: str) -> str:
        lines = [
            Line("forecast", x, errors.mae("forecast", group), "published"),
            Line("persistence", x, errors.mae("persistence", group), "worse"),
            Line("typical week", x, errors.mae("typical", group), "good", True),
        ]
        return charts.line_chart(
            lines,
            label=label,
            x_label="minutes ahead",
            y_label="MAE, km/h",
            y_from=0.0,
            x_ticks=TOLD_MIN,
            size=(560, 280),
        )

    parts = [
        f'<p>{prose.FORECASTS}</p><div class="two"><div><h3>All traffic</h3>',
        chart("all", "Errors of forecasts by horizon"),
        "</div><div><h3>Where it came to a jam</h3>",
        chart("jam", "Errors of forecasts by horizon in jams"),
        "</div></div>",
        _forecast_table(judgement),
        '<h3>Probabilities of congestion</h3><div class="three">',
    ]
    for name, one in judgement.reliability.items():
        said, came = one.points()
        scores = f"Brier {one.brier:.4f}, skill {one.skill:.2f}, came {percent(one.rate)}"
        caption = f"{name} ahead: {scores}, error of calibration {one.calibration_error:.3f}"
        parts.append(
            f"<div>{charts.reliability_chart(said, came, one.n, label=caption)}<p class='note'>{caption}.</p></div>"
        )
    parts.append("</div>")
    return "".join(parts)


def _forecast_table(judgement: Judgement) -> str:
    errors = judgement.forecasts
    assert errors is not None, "there are forecasts"
    covered = errors.covered()
    body = []
    for horizon in TOLD_MIN:
        at = HORIZONS_MIN.index(horizon)
        cells = [
            f"{errors.mae(way, group)[at]:.2f}"
            for group in ("all", "jam")
            for way in ("forecast", "persistence", "typical")
        ]
        body.append(
            [
                f"{horizon} min",
                *cells,
                signed(errors.bias("forecast")[at]),
                f"{errors.rmse('forecast')[at]:.2f}",
                percent(covered[at]),
            ]
        )
    heads = [
        "MAE, km/h",
        "forecast",
        "persistence",
        "typical",
        "forecast, jam",
        "persistence, jam",
        "typical, jam",
        "forecast's bias",
        "RMSE",
        "in 10 to 90 %",
    ]
    return table(heads, body)
