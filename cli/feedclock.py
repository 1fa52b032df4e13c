"""When a feed begins and how fast its clock runs: settings and what was sent before in, a clock out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Protocol, TypeVar
from zoneinfo import ZoneInfo

from citybrain.clock import Clock, ScaledClock, SystemClock, epoch_ms
from citybrain.errors import ConfigError
from citybrain.settings import CitySettings, SimulatedFeed

LEAD_MS = 6 * 60_000
"""What is sent at once before the clock starts, so that the first map is coloured and has a past."""
TUESDAY = 1


class Timed(Protocol):
    """Something that was received at an instant."""

    @property
    def received_ms(self) -> int:
        """Return when, ms UTC."""
        ...


B = TypeVar("B", bound=Timed)


def last_tuesday_ms(now_ms: int, clock_time: str, timezone: str) -> int:
    """Return the last Tuesday's ``clock_time`` (HH:MM) in the zone, at least a day before now, ms UTC.

    Examples
    --------
    >>> from citybrain.clock import utc
    >>> utc(last_tuesday_ms(1_790_000_000_000, "07:00", "Europe/Lisbon")).isoformat()
    '2026-09-15T06:00:00+00:00'
    """
    zone = ZoneInfo(timezone)
    try:
        at = time.fromisoformat(clock_time)
    except ValueError as error:
        raise ConfigError(f"start {clock_time!r} seen, a time of day such as 07:00 allowed") from error
    today = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(zone).date()
    # A day's distance, so that the demo has a whole day before it catches up with the present.
    back = (today.weekday() - TUESDAY) % 7 or 7
    return epoch_ms(datetime.combine(today - timedelta(days=back), at, zone))


def feed_clock(city: CitySettings, feed: SimulatedFeed, sent_ms: int | None) -> tuple[Clock, int]:
    """Return the feed's clock and from when on it sends, ms UTC.

    A demo goes on where it was stopped; at real time what was missed stays a gap, as with real detectors.
    """
    now = SystemClock().now_ms()
    if not feed.start and feed.speed == 1.0:
        return SystemClock(), max(now - LEAD_MS, sent_ms or 0)
    start = sent_ms if sent_ms is not None else last_tuesday_ms(now, feed.start or "00:00", city.timezone)
    return ScaledClock(start, feed.speed), (start if sent_ms is not None else start - LEAD_MS)


def sent_before(folder: Path, name: str) -> int | None:
    """Return how far the feed had come when it was stopped, ms UTC; None where it never ran."""
    try:
        return int(json.loads((folder / f"{name}.json").read_text())["received_ms"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remembering(batches: Iterator[B], folder: Path, name: str, *, every_ms: int = 30_000) -> Iterator[B]:
    """Pass the batches on, and note in the folder how far was sent: whoever asks for the next has sent the last."""
    folder.mkdir(parents=True, exist_ok=True)
    noted = 0
    sent = 0
    try:
        for batch in batches:
            if sent - noted >= every_ms:
                _note(folder / f"{name}.json", sent)
                noted = sent
            yield batch
            sent = batch.received_ms
    finally:
        if sent:
            _note(folder / f"{name}.json", sent)


def _note(path: Path, received_ms: int) -> None:
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps({"received_ms": received_ms}))
    scratch.replace(path)
