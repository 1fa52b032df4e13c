"""What an endpoint is told of an alert: an alert event and the network in, the body of a Standard Webhook out.

Everything is in it, so that a receiver needs no second call. ``docs/schemas/webhook.json`` is made of these classes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from citybrain.clock import utc
from citybrain.messages import AlertEvent, AlertEventType, AlertKind, AlertState, Severity
from citybrain.network import Network

LARGEST_BODY_BYTES = 20_000
"""Standard Webhooks: receivers need not take more than 20 KB."""
MOST_SEGMENTS = 100
_COORDINATE_DIGITS = 5
Position = tuple[float, float]
"""Longitude, latitude, degrees WGS 84."""


class Point(msgspec.Struct, frozen=True):
    """GeoJSON point."""

    coordinates: Position
    type: Literal["Point"] = "Point"


class Line(msgspec.Struct, frozen=True):
    """GeoJSON lines, one a segment, in driving direction."""

    coordinates: tuple[tuple[Position, ...], ...]
    type: Literal["MultiLineString"] = "MultiLineString"


class District(msgspec.Struct, frozen=True):
    """District of the first segment; ``id`` as in ``districts`` of the endpoint's settings."""

    id: str
    name: str


class Location(msgspec.Struct, frozen=True, kw_only=True):
    """Where it is; ``segment_ids`` has the head of the queue first.

    ``trimmed`` says that the line, or the list of segments (100 at most), was shortened to keep the body under 20 KB.
    Point and line are null where the network has no coordinates.
    """

    crs: Literal["WGS84"] = "WGS84"
    point: Point | None
    line: Line | None
    segment_ids: tuple[str, ...]
    segments: int
    trimmed: bool
    road: str
    district: District


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Why it is believed. Speeds are null where not known; ``delay_veh_h`` is what has been lost since it began."""

    speed_kmh: float | None
    expected_kmh: float | None
    delay_veh_h: float
    queue_km: float
    horizon_min: int
    reason: tuple[str, ...]


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Event times, RFC 3339, UTC: first signal, opened, this step, acknowledged, end."""

    started: str
    detected: str
    updated: str
    acknowledged: str | None
    resolved: str | None


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """The alert as it stands.

    ``dedup_key`` is the same for all messages of the alert. ``sequence`` counts its steps; an ``alert.acknowledged``
    has that of the step that was acknowledged. ``follows`` names the alert that this one came out of or went into.
    ``simulated`` is true where the data come from a simulated city.
    """

    alert_id: str
    dedup_key: str
    sequence: int
    state: AlertState
    severity: Severity
    kind: AlertKind
    confidence: float
    city: str
    simulated: bool
    location: Location
    evidence: Evidence
    times: Times
    acknowledged_by: str
    follows: str
    links: dict[str, str]


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """One message to an endpoint; ``timestamp`` is the event time, RFC 3339."""

    type: AlertEventType
    timestamp: str
    data: Data


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose alerts these are: the city's name, whether it is simulated, the address of the screen (empty: no links)."""

    city: str
    simulated: bool = False
    base_url: str = ""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Who saw the alert, and when, ms UTC."""

    by: str
    at_ms: int


def body_of(
    event: AlertEvent, network: Network, sender: Sender, *, seen: Acknowledgement | None = None, of_seen: bool = False
) -> str:
    """Return the JSON of the message, under 20 KB.

    Parameters
    ----------
    event
        Newest step of the alert.
    network
        Names and places.
    sender
        Whose alerts these are.
    seen
        Who acknowledged the alert, if somebody did.
    of_seen
        True for ``alert.acknowledged``, False for a step of the alert itself.
    """
    resolved = event.type == "alert.resolved"
    base = sender.base_url.rstrip("/")
    links = {
        "dashboard": f"{base}/?alert={event.alert_id}",
        "acknowledge": f"{base}/api/v1/alerts/{event.alert_id}/acknowledge",
    }
    body = Body(
        type="alert.acknowledged" if of_seen else event.type,
        timestamp=_rfc3339(seen.at_ms if of_seen and seen else event.updated_ms),
        data=Data(
            alert_id=event.alert_id,
            dedup_key=f"citybrain/{sender.city}/{event.alert_id}",
            sequence=event.sequence,
            state="resolved" if resolved else "acknowledged" if seen else "open",
            severity=event.severity,
            kind=event.kind,
            confidence=event.probability,
            city=sender.city,
            simulated=sender.simulated,
            location=_location(event, network),
            evidence=Evidence(
                speed_kmh=event.speed_kmh,
                expected_kmh=event.expected_kmh,
                delay_veh_h=event.delay_veh_h,
                queue_km=event.queue_km,
                horizon_min=event.horizon_min,
                reason=event.reason,
            ),
            times=Times(
                started=_rfc3339(event.started_ms),
                detected=_rfc3339(event.detected_ms),
                updated=_rfc3339(event.updated_ms),
                acknowledged=_rfc3339(seen.at_ms) if seen else None,
                resolved=None if event.resolved_ms is None else _rfc3339(event.resolved_ms),
            ),
            acknowledged_by=seen.by if seen else "",
            follows=event.follows,
            links=links if base else {},
        ),
    )
    return _fitting(body)


def districts_of(event: AlertEvent, network: Network) -> frozenset[str]:
    """Return the ids of the districts in which the alert's segments lie."""
    rows = network.segments.district[list(event.segments)]
    return frozenset(str(area) for area in network.areas.id[np.unique(rows[rows >= 0])])


def schema_text() -> str:
    """Return the JSON Schema of the body, as in ``docs/schemas/webhook.json``."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "City Brain webhook"}
    return json.dumps(schema | msgspec.json.schema(Body), indent=2) + "\n"


def _location(event: AlertEvent, network: Network) -> Location:
    segments = network.segments
    head = event.segments[0]
    lines = tuple(_points(network, segment) for segment in event.segments[:MOST_SEGMENTS])
    drawn = tuple(line for line in lines if line)
    district = int(segments.district[head])
    return Location(
        point=Point(lines[0][len(lines[0]) // 2]) if lines[0] else None,
        line=Line(drawn) if drawn else None,
        segment_ids=tuple(str(segments.id[segment]) for segment in event.segments[:MOST_SEGMENTS]),
        segments=len(event.segments),
        trimmed=len(event.segments) > MOST_SEGMENTS,
        road=str(segments.road[head]),
        district=District(
            str(network.areas.id[district]) if district >= 0 else "",
            str(network.areas.name[district]) if district >= 0 else "",
        ),
    )


def _points(network: Network, segment: int) -> tuple[Position, ...]:
    first, last = network.segments.geometry_start[segment : segment + 2]
    points = network.lon_lat[first:last].astype(np.float64).round(_COORDINATE_DIGITS)
    return () if np.isnan(points).any() else tuple((float(lon), float(lat)) for lon, lat in points)


def _fitting(body: Body) -> str:
    """Shorten the line until the body fits: inner points first, then segments from the tail of the queue."""
    text = msgspec.json.encode(body)
    location = body.data.location
    lines = tuple((line[0], line[-1]) for line in location.line.coordinates) if location.line else ()
    while len(text) > LARGEST_BODY_BYTES and lines:
        shorter = msgspec.structs.replace(location, line=Line(lines), trimmed=True)
        text = msgspec.json.encode(
            msgspec.structs.replace(body, data=msgspec.structs.replace(body.data, location=shorter))
        )
        lines = lines[: len(lines) // 2]
    return text.decode()


def _rfc3339(instant_ms: int) -> str:
    return utc(instant_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
