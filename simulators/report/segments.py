"""Segments: errors of speed, flow, travel time and delay in; their section of the report out."""

from __future__ import annotations

from collections.abc import Sequence

from citybrain.network import ROAD_CLASSES
from simulators.judgement.errors import COVERAGES, STATES, Errors, Score
from simulators.judgement.judge import LONG_MS, SOURCES, SPEED_STEP_KMH, Judgement
from simulators.judgement.panes import METRICS
from simulators.report import charts, prose
from simulators.report.wording import count, percent, signed, table

NAMES = {"speed_kmh": "Speed", "flow_vph": "Flow", "travel_time_s": "Travel time", "delay_veh_h": "Delay"}
UNITS = {"speed_kmh": "km/h", "flow_vph": "veh/h", "travel_time_s": "s", "delay_veh_h": "veh h"}
SOURCE_NAMES = {
    "own": "own detectors, all the time",
    "part": "own detectors, part of the time",
    "filled": "filled by the platform",
    "typical": "nothing published, typical week known",
    "nothing": "nothing published, nothing known",
}
STATE_NAMES = {"free": "free (above 70 % of free flow)", "dense": "dense (50 to 70 %)", "jam": "jam (50 % and below)"}


def segments(judgement: Judgement) -> str:
    """Return the section."""
    minutes = judgement.pane_ms // 60_000
    rows = _bar_rows(judgement.panes)
    joint = charts.heat(
        judgement.joint, SPEED_STEP_KMH, label="Published against true speed", x_label="true, km/h",
        y_label="published, km/h",
    )  # fmt: skip
    tables = [
        f"<h3>{NAMES[metric]}, {minutes}-minute panes</h3>{_error_table(judgement.panes, metric)}" for metric in METRICS
    ]
    return "".join(
        (
            f"<p>{prose.SEGMENTS}</p>{_overview(judgement)}<h3>Speed by kind of road and traffic</h3>",
            charts.bars(rows, label="Errors of speed by road class and state", unit="km/h"),
            f'<div class="two"><div><h3>Published against true speed</h3>{joint}',
            f'<p class="note">{prose.JOINT}</p></div>',
            f"<div><h3>Where published values come from</h3>{_vkm(judgement)}</div></div>",
            *tables,
        )
    )


def _overview(judgement: Judgement) -> str:
    rows = []
    for metric in METRICS:
        for errors, minutes in (
            (judgement.panes, judgement.pane_ms // 60_000),
            (judgement.quarters, LONG_MS // 60_000),
        ):
            score = errors.score(metric)
            if score.n:
                rows.append((f"{NAMES[metric]}, {minutes} min", score, metric))
    return _scores("Everything published", rows, with_unit=True)


def _bar_rows(errors: Errors) -> list[tuple[str, float, float, str]]:
    rows = []
    for road_class in ROAD_CLASSES:
        for state in STATES:
            score = errors.score("speed_kmh", road_class=road_class, state=state)
            if score.n >= 100:
                rows.append(
                    (
                        f"{road_class}, {state}",
                        score.mae,
                        score.bias,
                        f"{score.mae:.1f}; bias {signed(score.bias)}; n {count(score.n)}",
                    )
                )
    return rows


def _error_table(errors: Errors, metric: str) -> str:
    rows: list[tuple[str, Score, str]] = [("everything published", errors.score(metric), metric)]
    rows += [(name, errors.score(metric, road_class=name), metric) for name in ROAD_CLASSES]
    rows += [(STATE_NAMES[name], errors.score(metric, state=name), metric) for name in STATES]
    rows += [(SOURCE_NAMES[name], errors.score(metric, coverage=name), metric) for name in COVERAGES]
    rows += [
        (f"detector {name.replace('_', ' ')}", errors.score(metric, health=name), metric) for name in errors.health
    ]
    return _scores("Group", [row for row in rows if row[1].n])


def _scores(first: str, rows: Sequence[tuple[str, Score, str]], *, with_unit: bool = False) -> str:
    digits = {"speed_kmh": 2, "flow_vph": 1, "travel_time_s": 2, "delay_veh_h": 5}
    body = []
    for name, score, metric in rows:
        d = digits[metric]
        unit = [UNITS[metric]] if with_unit else []
        cells = [
            count(score.n), f"{score.truth:.{d}f}", signed(score.bias, d), f"{score.mae:.{d}f}", f"{score.rmse:.{d}f}",
            percent(score.mape), percent(score.within),
        ]  # fmt: skip
        body.append([name, *unit, *cells])
    heads = [
        first,
        *(["unit"] if with_unit else []),
        "compared",
        "mean truth",
        "bias",
        "MAE",
        "RMSE",
        "MAPE",
        "within bounds",
    ]
    return table(heads, body)


def _vkm(judgement: Judgement) -> str:
    total = sum(judgement.vkm.values()) or 1.0
    rows = [
        [SOURCE_NAMES[name], f"{judgement.vkm[name]:,.0f}", percent(judgement.vkm[name] / total)]
        for name in SOURCES
        if judgement.vkm[name]
    ]
    return table(["Source", "true veh km", "share"], rows)
