"""Health of the detectors: readings, and verdicts of the stage `aggregate` in; who reports, is silent or doubtful out.

Time is the feed's: its watermark, and its record time where it has gone quiet: a feed that fails as a whole is silent
here, though no pane closes. What a detector's own series says of it is judged by `streams.health` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from citybrain.network import Network
from citybrain.records import DetectorHealth, Quality, Readings, Verdict

SILENT_MS = 180_000
INTERVALS_MISSED = 3
DOUBTFUL = (Quality.SOURCE_ERROR, Quality.IMPLAUSIBLE, Quality.STALE)

DetectorState = Literal["ok", "silent", "doubtful", "unknown"]
DoubtReason = Literal["stuck", "locked", "overcounting", "source"]
"""Why a detector is doubtful: its verdict (`citybrain.records.Verdict`), or its source says so."""
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Health:
    """How many detectors do what; ``reporting`` is a share 0..1, None until a feed has been heard long enough."""

    total: int
    silent: int
    doubtful: int
    reporting: float | None


@dataclass(slots=True)
class _Source:
    heard_from_ms: int
    watermark_ms: int
    received_ms: int
    advanced_ms: int
    interval_ms: int = 0


def _now(source: _Source) -> int:
    """Return the feed's watermark, moved on by the record time that has passed since it last moved."""
    return source.watermark_ms + source.received_ms - source.advanced_ms


def _patience(source: _Source) -> int:
    return max(SILENT_MS, INTERVALS_MISSED * source.interval_ms)


def _heard_from(source: _Source) -> int:
    return source.heard_from_ms


class Sensors:
    """What was last heard of every detector. Not thread-safe: `dashboard.live.city` holds the lock."""

    def __init__(self, network: Network) -> None:
        n = len(network.detectors)
        self._n = n
        self.last_seen_ms = np.zeros(n, dtype=np.int64)
        """End of the newest interval that a detector reported, ms UTC; 0 where it never did."""
        self._doubtful = np.zeros(n, dtype=bool)
        self._verdict = np.zeros(n, dtype=np.uint8)
        self._since_ms = np.zeros(n, dtype=np.int64)
        self._partition = network.detector_partition
        self._sources: dict[str, _Source] = {}
        self._source_of = np.zeros(n, dtype=np.int32)

    def take(self, readings: Readings) -> None:
        """Take a batch or a heartbeat."""
        source = self._source(readings)
        if not len(readings):
            return
        source.interval_ms = int(np.median(readings.observed_to_ms - readings.observed_from_ms))
        number = list(self._sources).index(readings.source)
        for row in _one_each(readings, self._n):
            self._take_rows(readings, row, number)

    def judged(self, health: DetectorHealth) -> None:
        """Take what is told of the detectors of a partition; it replaces what was told before."""
        self._verdict[self._partition == health.partition] = Verdict.WELL
        known = (health.detector >= 0) & (health.detector < self._n) & (health.verdict != Verdict.SILENT)
        at = health.detector[known]
        self._verdict[at], self._since_ms[at] = health.verdict[known], health.since_ms[known]

    def silent(self) -> BoolArray:
        """Return which detectors their feed has not spoken of for 3 min and 3 intervals, shape (detectors,)."""
        if not self._sources:
            return np.zeros(self._n, dtype=bool)
        sources = list(self._sources.values())
        now, patience, heard = (
            np.array([value(source) for source in sources])[self._source_of] for value in (_now, _patience, _heard_from)
        )
        return cast(BoolArray, now - np.maximum(self.last_seen_ms, heard) > patience)

    def doubtful(self) -> BoolArray:
        """Return which detectors speak but cannot be believed, shape (detectors,)."""
        return cast(BoolArray, (self._doubtful | (self._verdict != Verdict.WELL)) & ~self.silent())

    def doubt(self, detector: int) -> tuple[DoubtReason | None, int | None]:
        """Return why a detector is doubtful, and since when, ms UTC, as far as it is known."""
        if self.state(detector) != "doubtful":
            return None, None
        if verdict := Verdict(self._verdict[detector]):
            return cast(DoubtReason, verdict.name.lower()), int(self._since_ms[detector])
        return "source", None

    def state(self, detector: int) -> DetectorState:
        """Return the state of one detector; ``unknown`` until it or its silence has been heard."""
        if self.silent()[detector]:
            return "silent"
        if self.doubtful()[detector]:
            return "doubtful"
        return "ok" if self.last_seen_ms[detector] else "unknown"

    def health(self) -> Health:
        """Return the counts; a share of reporting detectors once every feed had time for two intervals."""
        silent, doubtful = int(self.silent().sum()), int(self.doubtful().sum())
        heard = bool(self._sources) and all(
            source.interval_ms and _now(source) - source.heard_from_ms >= 2 * source.interval_ms
            for source in self._sources.values()
        )
        if not heard or not self._n:
            return Health(self._n, silent, doubtful, None)
        speaking = int(((self.last_seen_ms > 0) & ~self.silent()).sum())
        return Health(self._n, silent, doubtful, speaking / self._n)

    def _source(self, readings: Readings) -> _Source:
        mark, received = readings.watermark_ms, readings.received_ms
        source = self._sources.setdefault(readings.source, _Source(mark, mark, received, received))
        source.received_ms = max(source.received_ms, received)
        if mark > source.watermark_ms:
            source.watermark_ms, source.advanced_ms = mark, source.received_ms
        return source

    def _take_rows(self, readings: Readings, rows: npt.NDArray[np.int64], source: int) -> None:
        newer = readings.observed_to_ms[rows] > self.last_seen_ms[readings.detector[rows]]
        rows = rows[newer]
        at = readings.detector[rows]
        self.last_seen_ms[at] = readings.observed_to_ms[rows]
        self._source_of[at] = source
        qualities = np.stack([readings.quality_flow, readings.quality_speed, readings.quality_occupancy])[:, rows]
        self._doubtful[at] = np.isin(qualities, DOUBTFUL).any(axis=0)


def _one_each(readings: Readings, detectors: int) -> list[npt.NDArray[np.int64]]:
    """Return row numbers in groups, by time, so that no group has a detector twice; strangers are left out."""
    known = np.flatnonzero((readings.detector >= 0) & (readings.detector < detectors))
    order = known[np.lexsort((readings.observed_to_ms[known], readings.detector[known]))]
    if not len(order):
        return []
    first = np.flatnonzero(np.diff(readings.detector[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
    return [order[rank == k] for k in range(int(rank.max()) + 1)]
