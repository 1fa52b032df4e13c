"""A load on its way: its batches to Kafka at the pace of a clock, to files, or nowhere, and how it went."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from citybrain.clock import Clock, ManualClock
from citybrain.records import Readings, encode
from citybrain.settings import CitySettings
from ingest.feed import play
from ingest.publish import ROWS_PER_MESSAGE, Publisher
from simulators.hourfiles import HourFiles
from simulators.load import Load

TELL_EVERY_S = 10.0
HEARTBEAT_REAL_MS, HEARTBEAT_MOST_MS = 5000, 30_000


@dataclass(frozen=True, slots=True)
class Period:
    """Ends of intervals: from the first on, ``step_ms`` apart, none after ``until_ms``; without that they never end."""

    first_end_ms: int
    step_ms: int
    until_ms: int | None

    def ends(self) -> Iterator[int]:
        """Yield the end of each interval, ms UTC."""
        ends = itertools.count(self.first_end_ms, self.step_ms)
        last = self.until_ms
        return ends if last is None else itertools.takewhile(lambda end_ms: end_ms <= last, ends)


@dataclass(slots=True)
class Tally:
    """What was delivered, at what cost and how late; processor and wall time count from the first batch."""

    tell: Callable[[str], None] = lambda line: None
    rows: int = 0
    lags_s: list[float] = field(default_factory=list)
    _wall_s: float = field(default_factory=time.perf_counter)
    _cpu_s: float = field(default_factory=time.process_time)
    _told: tuple[float, float, int, int] = (0.0, 0.0, 0, 0)

    def begin(self) -> None:
        """Count from now on."""
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    def took(self, rows: int, lag_s: float | None = None) -> None:
        """Count rows that are where they belong; tell of it now and then."""
        self.rows += rows
        if lag_s is not None:
            self.lags_s.append(lag_s)
        wall_s, cpu_s = self.spent_s
        before = self._told
        if wall_s - before[0] >= TELL_EVERY_S:
            self.tell(_line(self.rows - before[2], wall_s - before[0], cpu_s - before[1], self.lags_s[before[3] :]))
            self._told = (wall_s, cpu_s, self.rows, len(self.lags_s))

    @property
    def spent_s(self) -> tuple[float, float]:
        """Wall and processor seconds so far."""
        return time.perf_counter() - self._wall_s, time.process_time() - self._cpu_s

    def summary(self) -> str:
        """Return the whole of it in one line."""
        return f"{self.rows:,} readings: {_line(self.rows, *self.spent_s, self.lags_s)}"


def _line(rows: int, wall_s: float, cpu_s: float, lags_s: list[float]) -> str:
    """Return a rate, its cost and its lag in words.

    Examples
    --------
    >>> _line(1_000_000, 30.0, 3.0, [0.02, 0.5])
    '33,333 readings/s, 10 % of a core, durable 0.50 s after they were due at the latest'
    """
    text = f"{rows / max(wall_s, 1e-9):,.0f} readings/s, {cpu_s / max(wall_s, 1e-9):.0%} of a core".replace("%", " %")
    return text + (f", durable {max(lags_s):.2f} s after they were due at the latest" if lags_s else "")


def to_kafka(
    load: Load, publisher: Publisher, period: Period, clock: Clock, stop: threading.Event, *, speed: float,
    spread_ms: int, tally: Tally,
) -> None:  # fmt: skip
    """Publish the intervals of a period like any feed, each when it is due by the clock."""
    tally.begin()
    timed = not isinstance(clock, ManualClock)

    def published(batch: Readings) -> None:
        tally.took(len(batch), (clock.now_ms() - batch.received_ms) / 1000 / speed if timed else None)

    batches = (part for end_ms in period.ends() for part in load.parts(end_ms, spread_ms))
    play(batches, publisher, clock, stop, on_published=published)


def heartbeat_ms(speed: float) -> int:
    """Return how much feed time may pass without a word, for a clock so many times as fast as the wall's."""
    return min(round(HEARTBEAT_REAL_MS * max(speed, 1.0)), HEARTBEAT_MOST_MS)


def to_files(load: Load, settings: CitySettings, period: Period, folder: Path, tally: Tally) -> None:
    """Write the intervals of a period as Parquet, an hour a file, and what was run as ``run.json``."""
    tally.begin()
    with HourFiles(folder) as files:
        for batch in itertools.islice(load.batches(period.first_end_ms), sum(1 for _ in period.ends())):
            files.write(batch)
            tally.took(len(batch))
    about = {
        "kind": "load", "city": settings.name, "network": load.network.version, "detectors": len(load),
        "interval_s": period.step_ms // 1000, "seed": load.seed, "from_ms": period.first_end_ms - period.step_ms,
        "until_ms": period.until_ms, "rows": {"readings": files.rows},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")


def to_nowhere(load: Load, period: Period, tally: Tally) -> None:
    """Make the messages of a period, as large as a feed's, and drop them."""
    tally.begin()
    for end_ms in period.ends():
        for part in load.parts(end_ms):
            for at in range(0, len(part), ROWS_PER_MESSAGE):
                encode(part.take(slice(at, at + ROWS_PER_MESSAGE)))
            tally.took(len(part))
