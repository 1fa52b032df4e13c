"""What one run is: how many kills, which seed, how long, how fast the feed's clock runs, which store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

MIN_MS = 60_000
H_MS = 60 * MIN_MS
MOST_SPAN_MS = 12 * H_MS
QUIET_S = 6.0
"""Before the first fault, and after the last one, s of the wall clock."""

StoreKind = Literal["duckdb", "influxdb"]


@dataclass(frozen=True, slots=True)
class Plan:
    """One run.

    Attributes
    ----------
    kills
        Faults that kill a process with signal 9.
    seed
        Of every draw: the city, the feed, the faults and their times.
    store
        Which store `serve` writes.
    gap_s
        Mean wall time between two faults.
    minutes
        How long the feed lasts by the wall clock; None lets the faults decide.
    speed
        How many times faster than the wall clock the feed's clock runs.
    workers
        Workers at the start.
    production
        True gives the workers ``--brokers``, and with it the patient sessions of production.
    mutant
        Name of the behaviour that is patched (`tests.torture.mutants`); empty runs the programs as shipped.
    gentle
        Whether faults that kill nothing (rolling restart, zombie, full disk ...) happen too.
    away_s
        How long the store is away.
    only
        Kinds of kills to draw from; empty is all.
    checkpoint_s
        How often the stages save their state.
    columns, rows, partitions
        Of the grid of roads.
    """

    kills: int
    seed: int
    store: StoreKind = "duckdb"
    gap_s: float = 7.0
    minutes: float | None = None
    speed: float = 60.0
    workers: int = 2
    production: bool = True
    mutant: str = ""
    gentle: bool = True
    away_s: float = 20.0
    only: tuple[str, ...] = ()
    checkpoint_s: float = 1.0
    columns: int = 8
    rows: int = 6
    partitions: int = 8

    @property
    def feed_s(self) -> float:
        """How long the feed lasts by the wall clock."""
        if self.minutes is not None:
            return 60 * self.minutes
        faults = self.kills + (max(6, self.kills // 5) if self.gentle else 0)
        away_s = self.away_s if self.store == "influxdb" and self.gentle else 0.0
        return 2 * QUIET_S + self.gap_s * faults + away_s

    def within_a_day(self) -> Plan:
        """Return the plan with a clock slow enough that no midnight passes, when a city learns its typical week."""
        return replace(self, speed=min(self.speed, MOST_SPAN_MS / 1000 / self.feed_s))

    @property
    def span_ms(self) -> int:
        """How long the feed lasts by its own clock, whole minutes."""
        return max(1, round(self.feed_s * self.speed / 60)) * MIN_MS
