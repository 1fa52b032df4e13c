"""The table: a judgement in, one row a figure out, with its group, so that two runs can be compared by a program."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from citybrain.network import ROAD_CLASSES
from citybrain.records import HORIZONS_MIN
from simulators.judgement.areas import index_error
from simulators.judgement.errors import COVERAGES, STATES, Errors, Score
from simulators.judgement.forecasts import GROUPS, WAYS
from simulators.judgement.judge import LONG_MS, Judgement
from simulators.judgement.panes import METRICS

INDEX_BOUNDS = {"tti": 0.1, "tpi": 0.5}
"""An index within these counts as right: half of what separates one TPI number from the next [judgement]."""
FIGURES = ("n", "truth", "bias", "mae", "rmse", "mape", "within")
COLUMNS = ("what", "metric", "interval_min", "group", "value", "figure", *FIGURES)
"""``figure`` is what is no error of a measured value: a count, a share, a score."""
Row = dict[str, object]


def table_of(judgement: Judgement) -> pd.DataFrame:
    """Return every figure: what it is of, the metric, the interval, the group and its value, and `FIGURES`."""
    rows = [
        *_segments(judgement.panes, judgement.pane_ms // 60_000),
        *_segments(judgement.quarters, LONG_MS // 60_000),
        *_areas(judgement),
        *_forecasts(judgement),
        *_reliability(judgement),
        *_events(judgement),
        *_detectors(judgement),
        *_delay(judgement),
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def groups(errors: Errors) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield the groups that are told: name, value, and what `Errors.score` needs to hear."""
    yield "all", "all", {}
    for name, values in (
        ("road_class", ROAD_CLASSES),
        ("state", STATES),
        ("coverage", COVERAGES),
        ("health", tuple(errors.health)),
    ):
        for value in values:
            yield name, value, {name: value}
    for road_class in ROAD_CLASSES:
        for state in STATES:
            yield "road_class, state", f"{road_class}, {state}", {"road_class": road_class, "state": state}


def _segments(errors: Errors, minutes: int) -> Iterator[Row]:
    for metric in METRICS:
        for name, value, group in groups(errors):
            score = errors.score(metric, **group)
            if score.n:
                yield _row("segments", metric, minutes, name, value, score)


def _row(what: str, metric: str, minutes: int, group: str, value: str, score: Score) -> Row:
    figures = {name: getattr(score, name) for name in FIGURES}
    return {"what": what, "metric": metric, "interval_min": minutes, "group": group, "value": value, **figures}


def _areas(judgement: Judgement) -> Iterator[Row]:
    if judgement.area_published is None:
        return
    names = judgement.network.areas.name[judgement.area_rows]
    for interval_ms in (judgement.pane_ms, LONG_MS):
        published, true, seen = (
            series.over(interval_ms) for series in (judgement.area_published, judgement.area_true, judgement.area_seen)
        )
        kept = np.isin(true.start_ms, published.start_ms)
        wanted = np.isin(published.start_ms, true.start_ms)
        for metric, bound in INDEX_BOUNDS.items():
            told = getattr(published, metric)[wanted]
            for what, series in (("areas", true), ("areas, observed part", seen)):
                truth = getattr(series, metric)[kept]
                for at, name in enumerate(names):
                    score = index_error(truth[:, at], told[:, at], bound)
                    group = "city" if judgement.area_rows[at] == 0 else "district"
                    yield _row(what, metric, interval_ms // 60_000, group, str(name), score)


def _forecasts(judgement: Judgement) -> Iterator[Row]:
    errors = judgement.forecasts
    if errors is None:
        return
    for group in GROUPS:
        for way in WAYS:
            bias, mae, rmse = errors.bias(way, group), errors.mae(way, group), errors.rmse(way, group)
            count = errors.n[WAYS.index(way), :, GROUPS.index(group)]
            covered = errors.covered(group)
            for at, horizon in enumerate(HORIZONS_MIN):
                if count[at]:
                    figures = {"n": int(count[at]), "bias": bias[at], "mae": mae[at], "rmse": rmse[at]}
                    within = {"within": covered[at]} if way == "forecast" else {}
                    place = {"group": f"{way}, {group}", "value": f"{horizon} min"}
                    yield {"what": "forecasts", "metric": "speed_kmh", "interval_min": 1, **place, **figures, **within}


def _reliability(judgement: Judgement) -> Iterator[Row]:
    for value, one in judgement.reliability.items():
        figures = {"brier": one.brier, "brier_skill": one.skill, "calibration_error": one.calibration_error}
        for metric, figure in figures.items():
            place = {"what": "p_congested", "metric": metric, "group": "horizon", "value": value}
            yield {**place, "n": one.count, "truth": one.rate, "figure": figure}


def _events(judgement: Judgement) -> Iterator[Row]:
    events = judgement.events
    if events is None:
        return
    for value, of in (("all", list(events.found)), ("felt", events.felt())):
        minutes = [one.minutes for one in of if one.alarm]
        yield {"what": "incidents", "metric": "found", "group": "queue", "value": value, "n": len(of), "truth": len(of),
               "figure": len(minutes)}  # fmt: skip
        if minutes:
            median = float(np.median(minutes))
            yield {"what": "incidents", "metric": "minutes_to_find", "group": "queue", "value": value,
                   "n": len(minutes), "figure": median}  # fmt: skip
    for value, alarms in (("incident", events.false_incidents), ("congestion", events.false_congestion)):
        yield {"what": "alerts", "metric": "false_per_day", "group": "kind", "value": value, "n": len(alarms),
               "figure": len(alarms) / events.days}  # fmt: skip


def _detectors(judgement: Judgement) -> Iterator[Row]:
    for at, kind in enumerate(judgement.health[1:], 1):
        panes, used = int(judgement.faulty_panes[at]), int(judgement.used_panes[at])
        yield {"what": "detectors", "metric": "left_out", "interval_min": judgement.pane_ms // 60_000, "group": "fault",
               "value": kind, "n": panes, "figure": 1 - used / panes if panes else float("nan")}  # fmt: skip
    if judgement.faults is None:
        return
    for one in judgement.faults.kinds:
        place = {"what": "detectors", "group": "fault", "value": one.kind, "truth": one.faults}
        yield {**place, "metric": "found", "n": one.faults, "figure": len(one.minutes)}
        if one.minutes:
            yield {**place, "metric": "minutes_to_find", "n": len(one.minutes), "figure": float(np.median(one.minutes))}
    wrongly = judgement.faults.wrongly_doubted
    yield {"what": "detectors", "metric": "wrongly_doubted", "group": "all", "value": "all",
           "n": judgement.faults.well, "figure": wrongly}  # fmt: skip


def _delay(judgement: Judgement) -> Iterator[Row]:
    late = judgement.close_after_s
    if late is None or not len(late):
        return
    for percentile in (50, 90, 99):
        yield {"what": "delay", "metric": "pane_closed_after_s", "interval_min": judgement.pane_ms // 60_000,
               "group": "percentile", "value": str(percentile), "n": len(late),
               "figure": float(np.percentile(late, percentile))}  # fmt: skip
