"""Wire records that are JSON: signals, alerts, dead letters, readings of the JSON edge. Dataclasses in, bytes out."""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec

from citybrain.errors import BadRecord, Reason

SignalKind = Literal["congestion_expected", "breakdown", "congestion", "incident"]
AlertKind = Literal["congestion_expected", "congestion", "incident"]
AlertState = Literal["open", "acknowledged", "resolved"]
AlertEventType = Literal["alert.opened", "alert.updated", "alert.acknowledged", "alert.resolved"]
Severity = Literal["critical", "major", "minor"]
EventKind = Literal["incident", "works", "closure", "report"]
REPORTS = -1
"""The partition that `Signals` of reported events name: they belong to no partition of the city."""


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """What a warning model says of one segment in one pane.

    Attributes
    ----------
    segment
        Segment index.
    kind
        ``congestion_expected`` (level 3 or worse within ``horizon_min``), ``breakdown`` (it has just broken down and
        stays so), ``congestion`` (it stays at level 4 or worse; ends above level 3), ``incident`` (it looks like an
        incident: slow here, free downstream, unlike the typical day; or somebody reported it).
    probability
        0..1.
    speed_kmh, expected_kmh
        Speed now and what is typical for now, km/h; None where not known.
    horizon_min
        Minutes until it is expected; 0 where it is so already.
    reason
        Codes for the text catalogue, strongest first, such as ``below_typical`` or ``queue_downstream``.
    delay_veh_h
        Vehicle-hours lost on the segment in the pane; 0 where not known.
    as_usual
        True where the typical day is as congested at this time, so that nobody needs to act.
    event, ended_ms
        Of a reported event: its id, and when it ended, ms UTC (None while it lasts). The newest word on an event
        counts, until it ends.
    """

    segment: int
    kind: SignalKind
    probability: float
    speed_kmh: float | None = None
    expected_kmh: float | None = None
    horizon_min: int = 0
    reason: tuple[str, ...] = ()
    delay_veh_h: float = 0.0
    as_usual: bool = False
    event: str = ""
    ended_ms: int | None = None


class Signals(msgspec.Struct, frozen=True, kw_only=True):
    """All signals of one partition in one pane; empty ones are sent too, so that time passes in the log.

    ``version`` is the offset in ``segment-states`` that caused it. Reported events come as partition `REPORTS`, with
    the event's offset as version, and do not move time.
    """

    network: str
    partition: int
    pane_start_ms: int
    pane_ms: int
    version: int
    model: str
    signals: tuple[Signal, ...] = ()


class AlertEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One step in the life of an alert: one alert per cause and place.

    Attributes
    ----------
    alert_id
        Deterministic: the same in every replay of the same log.
    sequence
        1 for opened, then counting.
    type
        ``alert.opened``, ``alert.updated``, ``alert.resolved``; acknowledging is the operator's (database).
    kind, severity
        Cause; how bad.
    segments
        Segment indices, the head of the queue (the cause) first.
    probability
        Confidence, 0..1.
    speed_kmh, expected_kmh
        Mean speed over the segments, what is typical; None where not known.
    delay_veh_h
        Vehicle-hours lost since it began, as far as observed.
    queue_km
        Length of its segments, km.
    horizon_min
        For expected congestion: minutes until then.
    started_ms, detected_ms, updated_ms, resolved_ms
        Event times, ms UTC: first signal; opened; this step; end (None while open).
    reason
        Codes as in `Signal`, strongest first; of a resolved alert why it ended: ``cleared``, ``came_true``,
        ``passed``, ``merged``.
    follows
        The alert that this one came out of (expected congestion that came true) or went into (merged); empty if none.
    """

    network: str
    alert_id: str
    sequence: int
    type: AlertEventType
    kind: AlertKind
    severity: Severity
    segments: tuple[int, ...]
    probability: float
    speed_kmh: float | None
    expected_kmh: float | None
    delay_veh_h: float
    queue_km: float
    horizon_min: int
    started_ms: int
    detected_ms: int
    updated_ms: int
    resolved_ms: int | None = None
    reason: tuple[str, ...] = ()
    follows: str = ""


class Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something on the road that somebody reported; a newer version replaces the older.

    Attributes
    ----------
    id, version
        The source's name of the event; counts its changes.
    kind
        ``incident``, ``works``, ``closure`` or ``report`` (by a citizen, not confirmed).
    segment
        The operator's segment id; empty where only the position is known.
    longitude, latitude
        Position, degrees WGS 84; None where only the segment is known.
    started_ms, ended_ms
        Event times, ms UTC; the end is None while it lasts.
    lanes_closed
        Number of lanes closed.
    severity
        As the source sees it.
    source
        Name of the sender.
    code
        What happened, as a code of the text catalogue such as ``accident``; empty where not told.
    """

    id: str
    kind: EventKind
    started_ms: int
    version: int = 1
    segment: str = ""
    longitude: float | None = None
    latitude: float | None = None
    ended_ms: int | None = None
    lanes_closed: int = 0
    severity: Severity = "minor"
    source: str = ""
    code: str = ""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A record, or the bad rows of one batch for one reason, with where they came from.

    Attributes
    ----------
    reason, detail
        See `citybrain.errors.Reason`; value seen and value allowed of the first.
    stage
        Who refused it.
    topic, partition, offset
        Where it was read; -1 where it came by another way than Kafka.
    source
        Feed name, empty where not known.
    record_ms
        Kafka record time of the message.
    count
        Number of readings refused.
    excerpt
        The beginning of the record as text, at most 300 characters.
    """

    reason: Reason
    detail: str
    stage: str
    topic: str
    partition: int
    offset: int
    source: str
    record_ms: int
    count: int
    excerpt: str


class JsonReading(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One reading of the JSON edge (`POST /api/v1/readings` and ``citybrain.readings-json``).

    Attributes
    ----------
    detector
        The operator's detector id, as in the network.
    observed_from, observed_to
        Half-open interval, RFC 3339 with zone, or ms since 1970 UTC.
    count_veh, flow_vph, speed_kmh, occupancy, travel_time_s
        As in `citybrain.records.Readings`; left out or null is missing.
    source
        Name of the sender; defaults to ``json``.
    """

    detector: str
    observed_from: str | int
    observed_to: str | int
    count_veh: float | None = None
    flow_vph: float | None = None
    speed_kmh: float | None = None
    occupancy: float | None = None
    travel_time_s: float | None = None
    source: str = "json"


M = TypeVar("M", bound=msgspec.Struct)


def encode_json(message: msgspec.Struct) -> bytes:
    """Return the message as JSON."""
    return msgspec.json.encode(message)


def decode_json(kind: type[M], value: bytes) -> M:
    """Read one message.

    Raises
    ------
    BadRecord
        ``malformed`` if it is no such message.
    """
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.DecodeError as error:
        raise BadRecord("malformed", f"no {kind.__name__}: {error}") from error
