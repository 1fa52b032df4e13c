"""Rows of the screen's lists: the worst stretches now, alerts, and what is about to happen. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from citybrain.messages import AlertKind, AlertState, Severity, Signal
from citybrain.network import Network
from dashboard.live.layers import Layers
from dashboard.live.places import Places
from dashboard.live.vitals import known
from infra.database.protocol import Alert

RANKING_ROWS = 20
COMING_ROWS = 8
RANKED_LEVEL, CONGESTED_LEVEL = 2, 3
RESOLVED_SHOWN_MS = 3_600_000


class RankingRow(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch and what it costs; None is not known.

    Attributes
    ----------
    segment, segments
        The segment with most delay; all of the stretch.
    road, direction, place, district
        See `dashboard.live.places.Place`.
    delay_veh_h_per_h
        Vehicle-hours lost an hour.
    speed_kmh, tti
        VKT / VHT; VHT / VHT at free flow, at least 1.
    level
        Worst level of its segments.
    since_ms
        Start of the pane since which a segment of it has been congested without a break; None where none is.
    """

    segment: int
    segments: tuple[int, ...]
    road: str
    direction: str
    place: str
    district: str
    delay_veh_h_per_h: float
    speed_kmh: float | None
    tti: float | None
    level: int
    since_ms: int | None


class AlertRow(msgspec.Struct, frozen=True, kw_only=True):
    """An alert as the screen shows it: `citybrain.messages.AlertEvent` with its place and what was done about it."""

    alert_id: str
    kind: AlertKind
    state: AlertState
    severity: Severity
    version: int
    sequence: int
    segments: tuple[int, ...]
    road: str
    direction: str
    place: str
    district: str
    probability: float
    speed_kmh: float | None
    expected_kmh: float | None
    delay_veh_h: float
    queue_km: float
    horizon_min: int
    started_ms: int
    detected_ms: int
    updated_ms: int
    resolved_ms: int | None
    reason: tuple[str, ...]
    follows: str
    acknowledged_by: str
    acknowledged_ms: int | None
    x: float
    y: float


class ComingRow(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch that is expected to be congested soon; ``segment`` is the likeliest of ``segments``."""

    segment: int
    segments: tuple[int, ...]
    road: str
    direction: str
    place: str
    district: str
    probability: float
    horizon_min: int
    speed_kmh: float | None
    expected_kmh: float | None
    reason: tuple[str, ...]


def ranking(layers: Layers, places: Places, limit: int = RANKING_ROWS) -> list[RankingRow]:
    """Return the stretches with most delay: congested neighbours of one road and direction are one row."""
    level, delay = layers.closed_level, layers.delay_veh_h_per_h
    stretches = places.stretches((level >= CONGESTED_LEVEL) & (delay > 0))
    single = np.flatnonzero((level >= RANKED_LEVEL) & (level < CONGESTED_LEVEL) & (delay > 0))
    stretches += [single[i : i + 1] for i in np.argsort(-delay[single], kind="stable")[:limit]]
    stretches.sort(key=lambda stretch: -float(delay[stretch].sum()))
    return [
        _ranking_row(layers, places, stretch[np.argsort(-delay[stretch], kind="stable")])
        for stretch in stretches[:limit]
    ]


def alert_row(alert: Alert, places: Places, network: Network) -> AlertRow | None:
    """Return an alert as a row; None where its segments are those of another network."""
    event = alert.event
    if event.network != network.version or not event.segments:
        return None
    where = places.of(event.segments)
    return AlertRow(
        alert_id=event.alert_id, kind=event.kind, state=alert.state, severity=event.severity, version=alert.version,
        sequence=event.sequence, segments=event.segments, road=where.road, direction=where.direction,
        place=where.place, district=where.district, probability=event.probability, speed_kmh=known(event.speed_kmh),
        expected_kmh=known(event.expected_kmh), delay_veh_h=event.delay_veh_h, queue_km=event.queue_km,
        horizon_min=event.horizon_min, started_ms=event.started_ms, detected_ms=event.detected_ms,
        updated_ms=event.updated_ms, resolved_ms=event.resolved_ms, reason=event.reason, follows=event.follows,
        acknowledged_by=alert.acknowledged_by, acknowledged_ms=alert.acknowledged_ms,
        x=round(where.x, 1), y=round(where.y, 1),
    )  # fmt: skip


def shown_alerts(alerts: Iterable[Alert], network: Network, places: Places, now_ms: int) -> list[AlertRow]:
    """Return alerts that stand, and those resolved in the last hour; alerts of another network are left out."""
    recent = [alert for alert in alerts if alert.state != "resolved" or _ended_ms(alert) > now_ms - RESOLVED_SHOWN_MS]
    rows = (alert_row(alert, places, network) for alert in recent)
    return [row for row in rows if row is not None]


def coming(signals: Sequence[Signal], places: Places, segments: int, limit: int = COMING_ROWS) -> list[ComingRow]:
    """Return where congestion is expected, neighbours of one road and direction as one row, likeliest first."""
    likeliest: dict[int, Signal] = {}
    for signal in signals:
        old = likeliest.get(signal.segment)
        expected = signal.kind == "congestion_expected" and 0 <= signal.segment < segments
        if expected and (old is None or signal.probability > old.probability):
            likeliest[signal.segment] = signal
    chosen = np.zeros(segments, dtype=bool)
    chosen[list(likeliest)] = True
    stretches = places.stretches(chosen) if likeliest else []
    ordered = (sorted(stretch.tolist(), key=lambda i: -likeliest[i].probability) for stretch in stretches)
    rows = [_coming_row(likeliest[stretch[0]], stretch, places) for stretch in ordered]
    return sorted(rows, key=lambda row: (-row.probability, row.segment))[:limit]


def _ranking_row(layers: Layers, places: Places, stretch: np.ndarray[tuple[int], np.dtype[np.int64]]) -> RankingRow:
    where = places.of(stretch.tolist())
    vkt, vht = float(layers.vkt_veh_km[stretch].sum()), float(layers.vht_veh_h[stretch].sum())
    free = float(layers.vht_free_flow_veh_h[stretch].sum())
    since = layers.congested_since_ms[stretch]
    return RankingRow(
        segment=int(stretch[0]), segments=tuple(stretch.tolist()), road=where.road, direction=where.direction,
        place=where.place, district=where.district,
        delay_veh_h_per_h=round(float(layers.delay_veh_h_per_h[stretch].sum()), 1),
        speed_kmh=round(vkt / vht, 1) if vht > 0 else None, tti=round(max(1.0, vht / free), 2) if free > 0 else None,
        level=int(layers.closed_level[stretch].max()),
        since_ms=int(since[since > 0].min()) if (since > 0).any() else None,
    )  # fmt: skip


def _coming_row(signal: Signal, stretch: list[int], places: Places) -> ComingRow:
    where = places.of(stretch)
    return ComingRow(
        segment=signal.segment, segments=tuple(stretch), road=where.road, direction=where.direction,
        place=where.place, district=where.district, probability=round(signal.probability, 3),
        horizon_min=signal.horizon_min, speed_kmh=known(signal.speed_kmh, 1),
        expected_kmh=known(signal.expected_kmh, 1), reason=signal.reason,
    )  # fmt: skip


def _ended_ms(alert: Alert) -> int:
    return alert.event.updated_ms if alert.event.resolved_ms is None else alert.event.resolved_ms
