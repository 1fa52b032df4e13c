"""The city and its districts: indices over time, published and true, and the network's fundamental diagram."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from simulators.happenings import Mark
from simulators.judgement.judge import LONG_MS, Judgement
from simulators.report import charts, prose
from simulators.report.svg import WIDE, Line
from simulators.report.wording import index_score, local, minutes_of, shaded, signed, table, time_axis

SMOOTH_MS = 5 * 60_000
_PARTS_OF_DAY = (("night", 0, 6, "seen"), ("morning", 6, 11, "published"), ("midday", 11, 15, "good"),
                 ("evening", 15, 21, "worse"), ("late", 21, 24, "plum"))  # fmt: skip


def indices(judgement: Judgement, marks: Sequence[Mark] = ()) -> str:
    """Return the section of indices; what is known to have happened is shaded."""
    if judgement.area_published is None:
        return "<p>The run has no published indices of areas.</p>"
    published, true, seen = (
        series.over(SMOOTH_MS) for series in (judgement.area_published, judgement.area_true, judgement.area_seen)
    )
    minutes = {id(series): minutes_of(judgement, series.start_ms) for series in (published, true, seen)}

    def lines(metric: str, at: int, names: bool) -> list[Line]:
        told = [
            ("truth", true, "truth", False),
            ("truth on observed segments", seen, "worse", True),
            ("published", published, "published", False),
        ]
        return [
            Line(name, minutes[id(series)], getattr(series, metric)[:, at], ink, dashed)
            for name, series, ink, dashed in told
            if names or name != "truth on observed segments"
        ]

    ticks, ticks_text = time_axis(judgement)

    def over_day(metric: str, y_label: str, y_from: float, height: float) -> str:
        return charts.line_chart(
            lines(metric, 0, True), label=f"The city's {y_label} over time", x_label="local time", y_label=y_label,
            y_from=y_from, x_ticks=ticks, x_text=ticks_text, size=(WIDE, height), spans=shaded(judgement, marks),
        )  # fmt: skip

    parts = [
        f"<p>{prose.INDICES}</p><h3>The city's travel time index, 5-minute sums</h3>",
        over_day("tti", "TTI", 1.0, 320),
        "<h3>The city's traffic performance index</h3>",
        over_day("tpi", "TPI, 0 to 10", 0.0, 240),
    ]
    names = judgement.network.areas.name[judgement.area_rows]
    order = [at for at in np.argsort(-np.nansum(true.vkt, axis=0)).tolist() if judgement.area_rows[at] != 0][:25]
    if order:
        panels = [(str(names[at]), lines("tti", at, False)) for at in order]
        high = float(np.nanpercentile(true.over(LONG_MS).tti[:, order], 99))
        parts.append(f"<h3>Districts' travel time index</h3><p class='note'>{prose.DISTRICTS}</p>")
        parts.append(
            charts.small_multiples(
                panels, label="TTI of districts", y=(1.0, min(max(high, 1.5), 2.5)), x=time_axis(judgement, 3)
            )
        )
    parts.append(_index_table(judgement, [0, *order], names))
    return "".join(parts)


def _index_table(judgement: Judgement, rows: Sequence[int], names: npt.NDArray[np.str_]) -> str:
    body = []
    for at in rows:
        cells = [str(names[at])]
        for metric, digits in (("tti", 3), ("tpi", 2)):
            whole = index_score(judgement, judgement.area_true, metric, at)
            part = index_score(judgement, judgement.area_seen, metric, at)
            cells += [f"{whole.truth:.{digits}f}", signed(whole.bias, digits), f"{whole.mae:.{digits}f}",
                      f"{whole.rmse:.{digits}f}", signed(part.bias, digits)]  # fmt: skip
        body.append(cells)
    heads = ["Area"]
    for name in ("TTI", "TPI"):
        heads += [f"{name} true", "bias", "MAE", "RMSE", "bias, observed part"]
    return "<h3>Errors of indices, quarter-hours</h3>" + table(heads, body, total=True)


def network(judgement: Judgement) -> str:
    """Return the section of the network."""
    city = judgement.city
    hour = np.array([local(judgement, int(ms)).hour for ms in city.minute_ms])
    on_road, produced = city.on_road_veh.to_numpy(dtype=float), city.vkt_veh_km.to_numpy(dtype=float) * 60
    groups = [
        (f"{name}, {begin} to {end} h", on_road[mask], produced[mask], ink)
        for name, begin, end, ink in _PARTS_OF_DAY
        if (mask := (hour >= begin) & (hour < end)).any()
    ]
    minutes = minutes_of(judgement, city.minute_ms.to_numpy())
    ticks, ticks_text = time_axis(judgement, 7)
    waiting = city.waiting_veh.to_numpy(dtype=float)
    diagram = charts.scatter(
        groups, label="Accumulation against production", x_label="vehicles on the road", y_label="veh km/h"
    )
    vehicles = charts.line_chart(
        [
            Line("on the road", minutes, on_road, "published"),
            Line("waiting to enter it", minutes, waiting, "worse", True),
        ],
        label="Vehicles over time", x_label="local time", y_label="vehicles", y_from=0.0, x_ticks=ticks,
        x_text=ticks_text, size=(620, 420),
    )  # fmt: skip
    return (
        f'<p>{prose.NETWORK}</p><div class="two"><div><h3>Accumulation and production</h3>{diagram}</div>'
        f"<div><h3>Vehicles</h3>{vehicles}</div></div>"
    )
