"""What the API answers: a context in, records for JSON out. Times are ms UTC, None is not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import numpy as np

from citybrain import __version__
from citybrain.errors import Reason
from citybrain.messages import DeadLetter
from citybrain.network import AREA_LEVELS, ROAD_CLASSES, AreaLevel, RoadClass
from citybrain.units import MS_PER_H
from dashboard.context import Context
from dashboard.live.push import Live
from dashboard.live.rows import AlertRow
from dashboard.live.sensors import DetectorState, DoubtReason
from dashboard.live.vitals import known
from dashboard.queries import columns, typical_speed

SERIES = ["speed_kmh", "flow_vph", "occupancy", "density_veh_km", "tti", "delay_veh_h", "level", "coverage", "quality"]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """``ok``: all parts are well; ``degraded``: the process lives, ``parts`` says what is wrong."""

    status: Literal["ok", "degraded"]
    version: str
    parts: Mapping[str, str]


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """The data on the map is fresh."""

    ready: bool
    data_age_s: float | None
    data_time_ms: int | None


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Every segment now, as columns in the order of the network.

    Attributes
    ----------
    network
        Version of the network that the order belongs to.
    data_time_ms
        End of the newest data.
    speed_kmh, level
        Speed (None not known); level 1 (free) to 5 (severe), 0 not known.
    against_typical
        1 much slower than usual (below -40 %), 2 slower (-20 %), 3 a bit slower (-10 %), 4 as usual, 5 faster
        (above +10 %), 0 not known.
    """

    network: str
    data_time_ms: int | None
    speed_kmh: list[float]
    level: list[int]
    against_typical: list[int]


class AreaState(msgspec.Struct, frozen=True, kw_only=True):
    """Indices of one area in one pane; ratios are those of sums."""

    id: str
    name: str
    level: AreaLevel
    parent: str | None
    speed_kmh: float | None
    tti: float | None
    dtp: float | None
    tpi: float | None
    delay_veh_h_per_h: float | None
    vkt_veh_km: float | None
    vht_veh_h: float | None
    vehicles: float | None
    coverage: float | None
    length_km: float | None
    congested_km: float | None


class AreaStates(msgspec.Struct, frozen=True, kw_only=True):
    """The newest closed pane of all areas; no areas before the first."""

    time_start_ms: int | None
    pane_ms: int | None
    areas: list[AreaState]


class DetectorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A detector; ``last_seen_ms`` is the end of the newest interval that it reported.

    ``reason`` is why it is doubtful: ``stuck``, ``locked``, ``overcounting`` (its readings are left out since
    ``since_ms``), or ``source`` (its source marks them as bad).
    """

    id: str
    kind: str
    position_m: float | None
    last_seen_ms: int | None
    state: DetectorState
    reason: DoubtReason | None
    since_ms: int | None


class DetectorsNotWell(msgspec.Struct, frozen=True, kw_only=True):
    """All detectors that are silent or doubtful, in the order of the network, each with its segment."""

    total: int
    segment: list[int]
    detectors: list[DetectorInfo]


class SegmentInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One segment: what it is, how it is now, who measures it, what is wrong there."""

    segment: int
    id: str
    road: str
    direction: str
    place: str
    district: str
    road_class: RoadClass
    length_km: float
    lanes: int
    limit_kmh: float | None
    free_flow_kmh: float
    data_time_ms: int | None
    speed_kmh: float | None
    typical_kmh: float | None
    level: int
    detectors: list[DetectorInfo]
    alerts: list[AlertRow]


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One segment over time, as columns; every list has one value a pane."""

    segment: int
    time_start_ms: list[int]
    columns: dict[str, list[Any]]


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """The newest forecast of one segment, as columns; quantiles in km/h, probability of level 3 or worse."""

    segment: int
    time_ms: list[int]
    horizon_min: list[int]
    columns: dict[str, list[Any]]


class TypicalDay(msgspec.Struct, frozen=True, kw_only=True):
    """A segment's typical day by quarter of an hour; ``made_of`` is ``simulated`` or ``observed``, None without one."""

    segment: int
    date: str
    made_of: str | None
    time_ms: list[int]
    columns: dict[str, list[Any]]


class Runs(msgspec.Struct, frozen=True, kw_only=True):
    """Replay runs that the store holds."""

    runs: list[str]


class DeadLetters(msgspec.Struct, frozen=True, kw_only=True):
    """Readings refused since the start, by reason, and the newest letters, newest first."""

    counts: dict[Reason, int]
    newest: tuple[DeadLetter, ...]


class AlertList(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts, newest detection first."""

    alerts: list[AlertRow]


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who has seen an alert; ``version`` is the one that was looked at, None takes any."""

    by: str
    version: int | None = None


class EventAccepted(msgspec.Struct, frozen=True, kw_only=True):
    """The event was sent on."""

    id: str
    version: int


def health(context: Context) -> Health:
    """Return how the process's parts are."""
    parts = {"log": context.live.status().broker, **context.parts()}
    well = all(state == "ok" for state in parts.values())
    return Health(status="ok" if well else "degraded", version=__version__, parts=parts)


def not_ready(live: Live) -> str:
    """Return why the data on the map is not fresh; empty where it is."""
    status = live.status()
    if status.data_time_ms is None:
        return "No data yet."
    if status.broker == "lost":
        return "The message log cannot be read."
    if status.stale and status.data_age_s is None:
        return "No new data since the start."
    return f"The newest data is {status.data_age_s:.0f} s old." if status.stale else ""


def state(live: Live) -> State:
    """Return every segment now."""
    now = live.city.now()
    return State(
        network=live.network.version, data_time_ms=now.data_ms or None, speed_kmh=np.round(now.speed_kmh, 1).tolist(),
        level=now.level.tolist(), against_typical=now.against_typical.tolist(),
    )  # fmt: skip


def areas(live: Live) -> AreaStates:
    """Return the newest pane of all areas."""
    indices, table = live.city.areas(), live.network.areas
    if indices is None:
        return AreaStates(time_start_ms=None, pane_ms=None, areas=[])
    per_h = MS_PER_H / indices.pane_ms
    rows = []
    for row, area in enumerate(indices.area.tolist()):
        parent = int(table.parent[area])
        plain = ("speed_kmh", "tti", "dtp", "tpi", "vkt_veh_km", "vht_veh_h", "vehicles", "coverage")
        lengths = ("length_km", "congested_km")
        values = {name: known(float(getattr(indices, name)[row])) for name in (*plain, *lengths)}
        row_of = AreaState(
            id=str(table.id[area]), name=str(table.name[area]), level=AREA_LEVELS[table.level[area]],
            parent=str(table.id[parent]) if parent >= 0 else None,
            delay_veh_h_per_h=known(float(indices.delay_veh_h[row]) * per_h), **values,
        )  # fmt: skip
        rows.append(row_of)
    return AreaStates(time_start_ms=indices.pane_start_ms, pane_ms=indices.pane_ms, areas=rows)


def segment(live: Live, index: int) -> SegmentInfo:
    """Return one segment."""
    table, now = live.network.segments, live.city.now()
    where = live.city.places.of([index])
    timezone = live.settings.timezone
    usual = typical_speed(live.city.typical, index, now.data_ms or live.city_ms(), timezone)
    return SegmentInfo(
        segment=index, id=str(table.id[index]), road=where.road, direction=where.direction, place=where.place,
        district=where.district, road_class=ROAD_CLASSES[table.road_class[index]],
        length_km=float(table.length_km[index]), lanes=int(table.lanes[index]),
        limit_kmh=known(float(table.limit_kmh[index])), free_flow_kmh=float(table.free_flow_kmh[index]),
        data_time_ms=now.data_ms or None, speed_kmh=known(float(now.speed_kmh[index]), 1),
        typical_kmh=known(usual, 1), level=int(now.level[index]), detectors=_detectors(live, index),
        alerts=[alert for alert in live.alerts if index in alert.segments],
    )  # fmt: skip


def series(index: int, frame: Any) -> Series:
    """Return one segment's frame as columns."""
    return Series(segment=index, time_start_ms=frame["time_start_ms"].tolist(), columns=columns(frame, SERIES))


def forecast(index: int, frame: Any) -> Forecast:
    """Return one segment's forecast as columns."""
    names = ["mean_kmh", "q10_kmh", "q50_kmh", "q90_kmh", "p_congested"]
    return Forecast(
        segment=index, time_ms=frame["time_ms"].tolist(), horizon_min=frame["horizon_min"].tolist(),
        columns=columns(frame, names),
    )  # fmt: skip


def typical_day(context: Context, index: int, date: str, frame: Any) -> TypicalDay:
    """Return one segment's typical day as columns."""
    made_of = None if context.typical is None else context.typical.made_of
    names = ["speed_kmh", "low_kmh", "high_kmh", "flow_vph"]
    times = frame["time_ms"].astype(int).tolist()
    return TypicalDay(segment=index, date=date, made_of=made_of, time_ms=times, columns=columns(frame, names, 2))


def _detectors(live: Live, index: int) -> list[DetectorInfo]:
    at = np.flatnonzero(live.network.detectors.segment == index).tolist()
    return [_detector(live, detector) for detector in at]


def _detector(live: Live, detector: int) -> DetectorInfo:
    table = live.network.detectors
    (seen, condition), (reason, since) = live.city.detector(detector), live.city.doubt(detector)
    position = known(float(table.position_m[detector]), 1)
    name, kind = str(table.id[detector]), str(table.kind[detector])
    return DetectorInfo(
        id=name, kind=kind, position_m=position, last_seen_ms=seen, state=condition, reason=reason, since_ms=since
    )


def detectors(live: Live) -> DetectorsNotWell:
    """Return all detectors that are not well."""
    table, found = live.network.detectors, live.city.not_well().tolist()
    rows = [_detector(live, detector) for detector in found]
    return DetectorsNotWell(total=len(table), segment=table.segment[found].tolist(), detectors=rows)
