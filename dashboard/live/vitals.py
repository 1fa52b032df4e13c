"""The city's vital signs: indices, typical values, sensors and alerts in; items for the screen out. Pure.

Rates, speed and vehicles are those of the newest closed pane; kilometres congested are those the map shows now.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import pandas as pd

from citybrain.records import AreaIndices
from citybrain.typical import AREA_METRICS, Typical
from citybrain.units import MS_PER_H
from dashboard.live.sensors import Health

CITY = 0
"""Row of the city in `citybrain.network.Areas`."""
SPARK_PANES = 60
CHANGE_MS = 30 * 60_000
ABNORMAL_SD = 1.5
LEAST_COVERAGE = 0.5
"""Where less of the length is observed, the city's sums are not those of the typical week, and nothing is judged."""
LEAST_SENSORS = 90.0
"""Fewer reporting sensors than this, %, is abnormal."""

UNITS = {
    "tpi": "/10",
    "delay_veh_h_per_h": "veh.h/h",
    "speed_kmh": "km/h",
    "vehicles": "veh",
    "congested_km": "km",
    "alerts": "",
    "sensors": "%",
    "data_age": "s",
}
IN_PERCENT = ("delay_veh_h_per_h", "vehicles")
"""Items whose change against typical is shown in %."""
LEAST_CHANGE = {"tpi": 0.5, "speed_kmh": 2.0, "congested_km": 2.0}
LEAST_CHANGE_SHARE = 0.1
"""A difference to typical that is smaller than `LEAST_CHANGE` or than this share of it is never abnormal."""
DIGITS = {"tpi": 2, "delay_veh_h_per_h": 0, "speed_kmh": 1, "vehicles": 0, "congested_km": 1}


class Vital(msgspec.Struct, frozen=True, kw_only=True):
    """One vital sign; None is not known.

    Attributes
    ----------
    key, unit
        Which, and in what (codes of the text catalogue).
    value
        Now.
    typical, sd
        Usual for this weekday and minute, and its standard deviation between days.
    change, change_unit
        Difference to typical in the item's own unit, or in ``%``.
    abnormal
        1 worse than usual, -1 better, 0 as usual or nothing to compare with.
    spark
        The newest 60 panes, oldest first.
    detail
        Numbers that belong to it; of ``congested_km`` also ``change_30min``, the change over 30 min, km.
    """

    key: str
    unit: str
    value: float | None
    typical: float | None = None
    sd: float | None = None
    change: float | None = None
    change_unit: str = ""
    abnormal: int = 0
    spark: tuple[float | None, ...] = ()
    detail: dict[str, float | None] = {}


class Vitals(msgspec.Struct, frozen=True, kw_only=True):
    """All vital signs; ``time_ms`` is the end of the pane, 0 before the first."""

    time_ms: int
    provisional: bool
    items: tuple[Vital, ...]


@dataclass(frozen=True, slots=True)
class CityPane:
    """The city's indices in one pane, by the names of `AREA_METRICS`; NaN is missing."""

    start_ms: int
    pane_ms: int
    version: int
    values: tuple[float, ...]
    length_km: float
    coverage: float
    alerts: float = math.nan
    sensors: float = math.nan

    def value(self, metric: str) -> float:
        """Return one of `AREA_METRICS`."""
        return self.values[AREA_METRICS.index(metric)]


def city_pane(areas: AreaIndices, *, alerts: float = math.nan, sensors: float = math.nan) -> CityPane:
    """Return the city's row of area indices, with the number of alerts and the share of sensors (%) at that time."""
    row = int(np.flatnonzero(areas.area == CITY)[0])
    per_h = MS_PER_H / areas.pane_ms
    named = {
        "tpi": areas.tpi[row],
        "delay_veh_h_per_h": areas.delay_veh_h[row] * per_h,
        "speed_kmh": areas.speed_kmh[row],
        "vehicles": areas.vehicles[row],
        "congested_km": areas.congested_km[row],
    }
    values = tuple(float(named[metric]) for metric in AREA_METRICS)
    length, coverage = float(areas.length_km[row]), float(areas.coverage[row])
    start, pane = areas.pane_start_ms, areas.pane_ms
    return CityPane(start, pane, areas.version, values, length, coverage, alerts, sensors)


def city_panes(frame: pd.DataFrame, pane_ms: int) -> list[CityPane]:
    """Return the city's rows of a store's frame of area indices; any newer result takes their place."""
    per_h = MS_PER_H / pane_ms
    named = frame.assign(delay_veh_h_per_h=frame["delay_veh_h"] * per_h)[[*AREA_METRICS, "length_km", "coverage"]]
    rows = zip(frame["time_start_ms"].astype(int), named.astype(float).itertuples(index=False), strict=True)
    return [
        CityPane(start, pane_ms, -1, tuple(row[: len(AREA_METRICS)]), *row[len(AREA_METRICS) :]) for start, row in rows
    ]


class CityHistory:
    """The newest panes of the city in order of time; a newer version takes the place of an older.

    Its list is replaced, never changed, so that another thread may read it.
    """

    def __init__(self) -> None:
        self._panes: list[CityPane] = []

    def __len__(self) -> int:
        """Return the number of panes kept."""
        return len(self._panes)

    @property
    def newest(self) -> CityPane | None:
        """The newest pane."""
        return self._panes[-1] if self._panes else None

    def add(self, pane: CityPane) -> None:
        """Take a pane, in any order."""
        old = next((each for each in self._panes if each.start_ms == pane.start_ms), None)
        if old is not None and old.version > pane.version:
            return
        panes = [each for each in self._panes if each is not old]
        limit = max(SPARK_PANES, CHANGE_MS // pane.pane_ms + 1)
        self._panes = sorted([*panes, pane], key=lambda each: each.start_ms)[-limit:]

    def rewind(self, start_ms: int) -> None:
        """Forget panes that began at ``start_ms`` or later: a feed's clock went back."""
        self._panes = [pane for pane in self._panes if pane.start_ms < start_ms]

    def spark(self, metric: str) -> tuple[float | None, ...]:
        """Return the newest 60 values of one of `AREA_METRICS`, ``alerts`` or ``sensors``."""
        panes = self._panes[-SPARK_PANES:]
        own = metric in ("alerts", "sensors")
        return tuple(known(getattr(pane, metric) if own else pane.value(metric), 2) for pane in panes)

    def before(self, metric: str, ms: int) -> float | None:
        """Return the value of the pane that began ``ms`` before the newest; None where it is not there."""
        at = self._panes[-1].start_ms - ms if self._panes else 0
        return next((known(pane.value(metric)) for pane in self._panes if pane.start_ms == at), None)


@dataclass(frozen=True, slots=True)
class Desk:
    """Alerts not resolved; of them critical and not acknowledged; when the oldest was detected, ms UTC."""

    count: int = 0
    critical: int = 0
    oldest_ms: int | None = None


def vitals(
    history: CityHistory, typical: Typical | None, timezone: str, *, health: Health, desk: Desk, now_ms: int,
    congested_km: float | None, age_s: float | None, stale: bool,
) -> Vitals:  # fmt: skip
    """Return the vital signs.

    Parameters
    ----------
    history
        The city's newest panes.
    typical, timezone
        The typical week, None where there is none, and the zone its days follow.
    health, desk
        Detectors; alerts.
    now_ms
        The city's time, ms UTC.
    congested_km
        Length at level 3 or worse that the map shows now, km; None takes the newest pane's.
    age_s, stale
        Age of the data, s; whether that is old.
    """
    pane = history.newest
    items = (
        []
        if pane is None
        else [_index(metric, history, pane, typical, timezone, congested_km) for metric in AREA_METRICS]
    )
    items = items or [Vital(key=metric, unit=UNITS[metric], value=None) for metric in AREA_METRICS]
    oldest = None if desk.oldest_ms is None else max(0.0, float((now_ms - desk.oldest_ms) // 60_000))
    alerts = Vital(
        key="alerts", unit=UNITS["alerts"], value=float(desk.count), abnormal=int(desk.critical > 0),
        spark=history.spark("alerts"), detail={"oldest_min": oldest, "critical": float(desk.critical)},
    )  # fmt: skip
    age = Vital(key="data_age", unit=UNITS["data_age"], value=known(age_s, 1), abnormal=int(stale))
    time_ms = 0 if pane is None else pane.start_ms + pane.pane_ms
    return Vitals(time_ms=time_ms, provisional=False, items=(*items, alerts, _sensors(history, health), age))


def known(value: float | None, digits: int = 6) -> float | None:
    """Return a number for JSON: rounded, None where it is missing.

    Examples
    --------
    >>> known(1.23456, 2), known(math.nan)
    (1.23, None)
    """
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), digits)


def judged(metric: str, value: float, mean: float, sd: float) -> int:
    """Return 1 where an index is worse than usual by 1.5 standard deviations and more than a trifle, -1 better, else 0.

    Examples
    --------
    >>> judged("tpi", 5.0, 4.0, 0.4), judged("speed_kmh", 40.0, 30.0, 2.0), judged("tpi", 4.3, 4.0, 0.1)
    (1, -1, 0)
    """
    difference = value - mean
    least = max(LEAST_CHANGE.get(metric, 0.0), LEAST_CHANGE_SHARE * abs(mean))
    if not abs(difference) > max(least, ABNORMAL_SD * sd):
        return 0
    worse = difference < 0 if metric == "speed_kmh" else difference > 0
    return 1 if worse else -1


def _index(
    metric: str,
    history: CityHistory,
    pane: CityPane,
    typical: Typical | None,
    timezone: str,
    congested_km: float | None,
) -> Vital:
    value = pane.value(metric)
    mean = sd = math.nan
    if typical is not None:
        mean, sd = typical.area_at(metric, CITY, pane.start_ms + pane.pane_ms // 2, timezone)
    detail: dict[str, float | None] = {"coverage": known(pane.coverage, 4)}
    change, unit = value - mean, UNITS[metric]
    if metric in IN_PERCENT:
        change, unit = (100 * change / mean if mean > 0 else math.nan), "%"
    if metric == "congested_km":
        value = value if congested_km is None else congested_km
        before = history.before(metric, CHANGE_MS)
        change = value - mean
        detail["change_30min"] = None if before is None else known(value - before, 1)
        detail["length_km"] = known(pane.length_km, 1)
    digits = DIGITS[metric]
    abnormal = judged(metric, value, mean, sd) if pane.coverage >= LEAST_COVERAGE else 0
    return Vital(
        key=metric, unit=UNITS[metric], value=known(value, digits), typical=known(mean, digits), sd=known(sd, 2),
        change=known(change, max(digits, 1)), change_unit=unit, abnormal=abnormal,
        spark=history.spark(metric), detail=detail,
    )  # fmt: skip


def _sensors(history: CityHistory, health: Health) -> Vital:
    share = None if health.reporting is None else round(100 * health.reporting, 1)
    detail: dict[str, float | None] = {
        "total": float(health.total),
        "silent": float(health.silent),
        "doubtful": float(health.doubtful),
    }
    return Vital(
        key="sensors", unit=UNITS["sensors"], value=share, spark=history.spark("sensors"), detail=detail,
        abnormal=int(share is not None and share < LEAST_SENSORS),
    )  # fmt: skip


def desk_of(alerts: Sequence[tuple[str, str, int]]) -> Desk:
    """Summarise alerts given as (state, severity, detected_ms)."""
    standing = [alert for alert in alerts if alert[0] != "resolved"]
    critical = sum(1 for state, severity, _ in standing if severity == "critical" and state == "open")
    return Desk(len(standing), critical, min((detected for _, _, detected in standing), default=None))
