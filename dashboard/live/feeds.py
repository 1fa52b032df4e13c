"""How the feeds are: readings and results in, state of each feed, age of the data and the city's clock out.

Ages are real seconds, whatever the speed of the feed's clock; instants are the city's, ms UTC. What is shown on the map
comes from results, so the age of the data follows results, not readings: a dead worker is seen, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from citybrain.records import Readings, SegmentStates

INTERVALS_MISSED = 3
"""A feed that misses so many of its intervals is silent; data that miss so many are old."""
LEAST_WAIT_MS = 10_000
"""Nothing is called old or silent before so many ms of real time: a fast simulation's intervals are shorter."""
LATE_MS = 120_000
"""A feed whose newest data is further behind what it sends with it (feed time) is late, if by 3 intervals, too."""

OUTDATED_MS = 15 * 60_000
"""Data that reach the map later than this after they were measured are old, even if more keep coming."""
CAUGHT_UP_MS = 120_000
"""A feed's clock that is so near the wall clock runs with it."""

FeedState = Literal["ok", "late", "silent"]


@dataclass(frozen=True, slots=True)
class Demo:
    """Whose clock the city follows.

    Attributes
    ----------
    simulated
        True where data is simulated.
    speed
        How many times faster than the wall clock the feed's clock runs; 0 is as fast as it goes.
    label
        Name of the feed for the screen.
    feed_clock
        True where the feed lives at another time than the present: a demo, an archive played in.
    """

    simulated: bool = False
    speed: float = 1.0
    label: str = ""
    feed_clock: bool = False


class Feed(msgspec.Struct, frozen=True):
    """State of one feed, for the screen."""

    name: str
    state: FeedState
    age_s: float


@dataclass(frozen=True, slots=True)
class Trust:
    """How far the map can be trusted at an instant: see the methods of `Feeds`."""

    data_ms: int
    city_ms: int
    age_s: float | None
    stale: bool
    feeds: tuple[Feed, ...]


@dataclass(slots=True)
class _Source:
    watermark_ms: int
    received_ms: int
    advanced_at_ms: int
    """Wall time at which its watermark last moved."""
    interval_ms: int = 0


class Feeds:
    """Keeps when what arrived. Wall instants are passed in. Not thread-safe: `dashboard.live.city` holds the lock."""

    def __init__(self, demo: Demo, pane_ms: int) -> None:
        self.demo, self._pane_ms = demo, pane_ms
        self._sources: dict[str, _Source] = {}
        self._received_ms, self._received_at_ms = 0, 0
        self._provisional_seen = False
        self.data_ms = 0
        """End of the newest data that the map shows, the city's time; 0 before the first."""
        self._data_at_ms: int | None = None
        self._data_lag_ms = 0.0

    def take_readings(self, readings: Readings, wall_ms: int) -> None:
        """Take a batch or a heartbeat."""
        new = _Source(readings.watermark_ms, readings.received_ms, wall_ms)
        source = self._sources.setdefault(readings.source, new)
        if readings.watermark_ms > source.watermark_ms:
            source.watermark_ms, source.advanced_at_ms = readings.watermark_ms, wall_ms
        if len(readings):
            source.interval_ms = int(np.median(readings.observed_to_ms - readings.observed_from_ms))
        source.received_ms = max(source.received_ms, readings.received_ms)
        if readings.received_ms > self._received_ms:
            self._received_ms, self._received_at_ms = readings.received_ms, wall_ms

    def take_states(self, states: SegmentStates, wall_ms: int) -> None:
        """Take a pane: data reach its end, or as far as the feeds have come in an open one."""
        end_ms = states.pane_start_ms + states.pane_ms
        if states.status == "provisional":
            self._provisional_seen = True
            newest = max((source.watermark_ms for source in self._sources.values()), default=0)
            end_ms = min(end_ms, max(states.pane_start_ms, newest))
        if end_ms > self.data_ms or self._data_at_ms is None:
            self.data_ms, self._data_at_ms = end_ms, wall_ms
            self._data_lag_ms = max(0.0, (self.city_ms(wall_ms) - self.data_ms) / (self._rate or 1.0))

    def restore(self, data_ms: int, wall_ms: int) -> None:
        """Start from what the store holds, unless results came already.

        On a feed's own clock its age is not known until something arrives.
        """
        if self.data_ms:
            return
        self.data_ms = data_ms
        self._data_at_ms = None if self.demo.feed_clock else min(data_ms, wall_ms)

    def city_ms(self, wall_ms: int) -> int:
        """Return the city's time: the wall clock, or the feed's clock, which stands still when the feed does.

        Never ahead of the wall clock; 0 before a feed with a clock of its own has spoken.
        """
        if not self.demo.feed_clock:
            return wall_ms
        if not self._received_ms:
            return self.data_ms
        elapsed = min(wall_ms - self._received_at_ms, self.patience_ms())
        return min(wall_ms, self._received_ms + int(elapsed * self._rate))

    def age_s(self, wall_ms: int) -> float | None:
        """Return the age of the newest data on the map, s of real time; None where not known."""
        if self._data_at_ms is None:
            return None
        return (self._data_lag_ms + max(0, wall_ms - self._data_at_ms)) / 1000

    def stale(self, wall_ms: int) -> bool:
        """Return True where nothing newer came for three intervals, where what comes is old, or nothing ever came."""
        if self._data_at_ms is None:
            return True
        return wall_ms - self._data_at_ms > self.patience_ms() or self._data_lag_ms > OUTDATED_MS

    def patience_ms(self) -> float:
        """Return how long new data may take, ms of real time."""
        intervals = [source.interval_ms for source in self._sources.values() if source.interval_ms]
        expected = min(intervals) if intervals and self._provisional_seen else self._pane_ms
        return self._wait_ms(expected)

    def trust(self, wall_ms: int) -> Trust:
        """Return all of it."""
        feeds = tuple(self.states(wall_ms))
        return Trust(self.data_ms, self.city_ms(wall_ms), self.age_s(wall_ms), self.stale(wall_ms), feeds)

    def states(self, wall_ms: int) -> list[Feed]:
        """Return every feed by name."""
        return [self._feed(name, source, wall_ms) for name, source in sorted(self._sources.items())]

    def _feed(self, name: str, source: _Source, wall_ms: int) -> Feed:
        lag_ms = max(0, source.received_ms - source.watermark_ms)
        waited_ms = max(0, wall_ms - source.advanced_at_ms)
        interval_ms = source.interval_ms or self._pane_ms
        state: FeedState = "ok"
        if waited_ms > self._wait_ms(interval_ms):
            state = "silent"
        elif lag_ms > max(LATE_MS, INTERVALS_MISSED * interval_ms):
            state = "late"
        return Feed(name, state, round((lag_ms / (self._rate or 1.0) + waited_ms) / 1000, 1))

    def _wait_ms(self, interval_ms: float) -> float:
        return max(LEAST_WAIT_MS, INTERVALS_MISSED * interval_ms / (self._rate or 1.0))

    @property
    def _rate(self) -> float:
        """Feed time a real second: 1 once a fast clock has caught up with the present; 0 where it has no pace."""
        if not self.demo.feed_clock or 0 <= self._received_at_ms - self._received_ms < CAUGHT_UP_MS:
            return 1.0
        return self.demo.speed
