"""Clocks: where the time comes from. Nothing else in the program asks the machine for the time of day."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Milliseconds since 1970, UTC."""

    def now_ms(self) -> int:
        """Return the present instant, ms since the epoch."""
        ...

    def sleep_until_ms(self, instant_ms: int) -> None:
        """Block until this clock shows ``instant_ms``."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Return the machine's time, ms since the epoch."""
        return time.time_ns() // 1_000_000

    def sleep_until_ms(self, instant_ms: int) -> None:
        """Sleep until the machine's clock shows ``instant_ms``."""
        while (left := instant_ms - self.now_ms()) > 0:
            time.sleep(left / 1000)


@dataclass(slots=True)
class ScaledClock:
    """A clock that started at ``start_ms`` and runs ``speed`` times as fast, but never ahead of the machine's.

    A record more than an hour ahead of the broker's clock is refused, hence the cap: having caught up with the
    present, this clock goes on at its pace.
    """

    start_ms: int
    speed: float
    machine: Callable[[], int] = SystemClock().now_ms
    sleep: Callable[[float], None] = time.sleep
    _began_ms: int | None = None

    def now_ms(self) -> int:
        """Return the scaled time, ms since the epoch."""
        now = self.machine()
        if self._began_ms is None:
            self._began_ms = now
        return min(now, self.start_ms + int((now - self._began_ms) * self.speed))

    def sleep_until_ms(self, instant_ms: int) -> None:
        """Sleep until the scaled clock shows ``instant_ms``."""
        while (left := instant_ms - self.now_ms()) > 0:
            self.sleep(max(left / 1000 / max(self.speed, 1.0), 0.001))


@dataclass(slots=True)
class ManualClock:
    """A clock that is moved by hand: for tests and for work over archives."""

    at_ms: int = 0

    def now_ms(self) -> int:
        """Return the instant it was set to, ms since the epoch."""
        return self.at_ms

    def sleep_until_ms(self, instant_ms: int) -> None:
        """Jump to ``instant_ms`` if it lies ahead."""
        self.at_ms = max(self.at_ms, instant_ms)


def utc(instant_ms: int) -> datetime:
    """Return ``instant_ms`` as an aware UTC datetime.

    Examples
    --------
    >>> utc(0).isoformat()
    '1970-01-01T00:00:00+00:00'
    """
    return datetime.fromtimestamp(instant_ms / 1000, UTC)


def epoch_ms(moment: datetime) -> int:
    """Return an aware datetime as whole ms since the epoch.

    Raises
    ------
    ValueError
        If ``moment`` has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"a time needs a time zone: seen {moment.isoformat()}")
    return int(moment.timestamp() * 1000 + (0.5 if moment.microsecond else 0))
