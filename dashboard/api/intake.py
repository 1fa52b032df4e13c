"""Readings and events that come by HTTP: a body in, checked JSON messages for the log out, and what was refused.

It checks what a sender can get wrong in form; ranges and time are judged by the stages, whose verdict is in the log.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Literal

import msgspec

from citybrain.messages import Event, JsonReading

MOST_BYTES = 8_000_000
MOST_READINGS = 50_000
REFUSED_SHOWN = 100

RefusedReason = Literal["malformed", "unknown_detector"]


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """One reading that was refused; ``index`` counts readings of the request from 0."""

    index: int
    reason: RefusedReason
    detail: str


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request's readings: how many were sent on; the first 100 refused; how many were refused."""

    accepted: int
    refused: tuple[Refused, ...]
    refused_count: int


class NotJson(Exception):
    """The body is no JSON reading, no list of them, and no lines of them."""


def split(body: bytes) -> list[bytes]:
    """Return the JSON texts of the readings in a body: one object, a list, or one object a line.

    Raises
    ------
    NotJson
        If the body is empty, or a list that cannot be read.
    """
    text = body.strip()
    if text.startswith(b"["):
        try:
            return [bytes(raw) for raw in msgspec.json.decode(text, type=list[msgspec.Raw])]
        except msgspec.DecodeError as error:
            raise NotJson(f"the list cannot be read: {error}") from error
    if not text:
        raise NotJson("an empty body seen, a JSON reading, a list of them, or one a line allowed")
    lines = [line for line in text.splitlines() if line.strip()]
    # One object may be written over several lines; lines of objects each end theirs.
    return [text] if len(lines) > 1 and not lines[0].rstrip().endswith(b"}") else lines


def check_readings(texts: list[bytes], detectors: Collection[str]) -> tuple[list[bytes], list[Refused]]:
    """Return the texts that are readings of known detectors, and the refused ones."""
    decoder = msgspec.json.Decoder(JsonReading)
    accepted, refused = [], []
    for index, text in enumerate(texts):
        try:
            reading = decoder.decode(text)
            _check_interval(reading)
        except (msgspec.DecodeError, ValueError) as error:
            refused.append(Refused(index=index, reason="malformed", detail=str(error)))
            continue
        if reading.detector not in detectors:
            detail = f"detector {reading.detector[:80]!r} is not in the network"
            refused.append(Refused(index=index, reason="unknown_detector", detail=detail))
            continue
        accepted.append(text)
    return accepted, refused


def check_event(body: bytes, segments: Collection[str]) -> Event:
    """Return the event of a body.

    Raises
    ------
    ValueError
        If it is none, names an unknown segment, or has no place.
    """
    event = msgspec.json.decode(body, type=Event)
    if event.segment and event.segment not in segments:
        raise ValueError(f"segment {event.segment[:80]!r} is not in the network")
    if not event.segment and (event.longitude is None or event.latitude is None):
        raise ValueError("neither segment nor longitude and latitude seen, one of them needed")
    if event.ended_ms is not None and event.ended_ms < event.started_ms:
        raise ValueError(f"ended_ms {event.ended_ms} lies before started_ms {event.started_ms}")
    return event


def instant_ms(value: str | int) -> int:
    """Return an instant given as ms since 1970 UTC, or RFC 3339 with a zone.

    Examples
    --------
    >>> instant_ms("1970-01-01T01:00:01+01:00"), instant_ms("1500"), instant_ms(1500)
    (1000, 1500, 1500)
    """
    if isinstance(value, int) or value.lstrip("-").isdigit():
        return int(value)
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError(f"time {value!r} seen, a zone such as Z is needed")
    return round(moment.timestamp() * 1000)


def _check_interval(reading: JsonReading) -> None:
    start, end = instant_ms(reading.observed_from), instant_ms(reading.observed_to)
    if not start < end:
        raise ValueError(
            f"observed_from {reading.observed_from} seen, before observed_to {reading.observed_to} allowed"
        )
