"""Health: clean readings in, which detectors to believe out. A verdict holds until the same test says otherwise.

Three tests of a detector against itself, each with a few numbers as memory; the one that failed is its verdict. Its
readings are not counted then: a segment without another detector is not known, rather than wrong. Each detector is
looked at once in two minutes, which costs a quarter of looking at every reading of 30 s. What it does not do: compare
with neighbours, the day or the typical week.

References
----------
Chen, Kwon, Rice, Skabardonis and Varaiya (2003), Transportation Research Record 1855: detectors are judged by the
series of their samples, not each sample. Jacobson, Nihan and Bender (1990), TRR 1287: the ratio of volume to occupancy.
NTCIP 1202, 2.3.2.9 and 2.3.2.10: presence that lasts, erratic counts. FHWA (2007), Travel time data quality checks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from citybrain.arrow import is_absent
from citybrain.records import ByteArray, FloatArray, LongArray, Verdict
from citybrain.units import MS_PER_H
from streams.clean import Clean
from streams.roster import BoolArray, IndexArray

Small = npt.NDArray[np.float32]
Stamps = LongArray | int

LOOK_MS = 2 * 60_000
"""Of readings that are shorter, one in so long is looked at: the one in which it begins."""
STUCK_MS, STUCK_INTERVALS = 20 * 60_000, 10
"""The same two values or more, none of them 0, for so long and so many looks: no traffic repeats itself so."""
LOCKED_MS = 60 * 60_000
"""The same occupancy and no vehicle for so long [judgement: most incidents are cleared before; PeMS waits 4 h]."""
JUDGED_VEH = 30.0
"""Vehicles whose mean length is judged at once: with 30 % between them it is known to 5 %."""
OCCUPANCY_STEP = 0.005
"""Feeds cut occupancy to whole percents: what is lost on the mean is put back before a vehicle is called too short."""
SILENT_MS, SILENT_INTERVALS = 3 * 60_000, 3
NEVER = np.int64(-(2**62))
_MIX = np.array([-7046029254386353131, -4417276706812531889, 1609587929392839161], dtype=np.int64)


@dataclass(slots=True)
class Health:
    """What is remembered of the detectors of a partition; arrays have shape (detectors of it,).

    Attributes
    ----------
    value, from_ms, until_ms
        A number made of the values of the newest reading looked at; since when they have been the same; the end of
        that reading, `NEVER` before the first.
    vehicles, metres
        Vehicles counted since their length was judged, and the road that they covered, m.
    verdict, since_ms
        `citybrain.records.Verdict` but silence, and since when.
    told
        What was told last, silence too.
    begun_ms
        From when on silence counts; -1 before.
    """

    value: LongArray
    from_ms: LongArray
    until_ms: LongArray
    vehicles: Small
    metres: Small
    verdict: ByteArray
    since_ms: LongArray
    told: ByteArray
    begun_ms: int = -1

    @classmethod
    def none(cls, detectors: int) -> Health:
        """Return the memory of detectors that were never heard."""
        value, from_ms, since_ms = (np.zeros(detectors, dtype=np.int64) for _ in range(3))
        vehicles, metres = (np.zeros(detectors, dtype=np.float32) for _ in range(2))
        verdict, told = (np.zeros(detectors, dtype=np.uint8) for _ in range(2))
        return cls(value, from_ms, np.full(detectors, NEVER), vehicles, metres, verdict, since_ms, told)

    def take(self, rows: Clean, shortest_m: float) -> ByteArray | None:
        """Judge the detectors by their readings; return the verdict on each row's, None where all are well."""
        if not len(rows.row):
            return None
        if rows.roster.once:
            if rows.span_ms is None or _due(*rows.span_ms):
                self._look(_Part.of(rows), shortest_m)
            return self.verdict.take(rows.roster.position) if np.count_nonzero(self.verdict) else None
        found = np.zeros(len(rows.row), dtype=np.uint8)
        whole = _Part.of(rows)
        for group in _one_each(whole):
            part = whole.where(group)
            self._look(part, shortest_m)
            found[group] = self.verdict.take(part.at)
        return found

    def news(
        self, watermark_ms: int, pane_ms: int, speaking: BoolArray, heard: Sequence[LongArray]
    ) -> tuple[ByteArray, LongArray] | None:
        """Return the verdicts and since when they hold, if any has changed since they were told.

        Parameters
        ----------
        watermark_ms, pane_ms
            Event time; length of a pane.
        speaking
            Those who report in step: only their silence means something.
        heard
            Of each source, the end of the newest reading of every detector.
        """
        if self.begun_ms < 0:
            self.begun_ms = watermark_ms
        heard_ms = reduce(np.maximum, heard, np.full(len(self.verdict), self.begun_ms))
        silent = speaking & (watermark_ms - heard_ms > max(SILENT_MS, SILENT_INTERVALS * pane_ms))
        now = np.where(silent, np.uint8(Verdict.SILENT), self.verdict)
        if np.array_equal(now, self.told):
            return None
        self.told = now
        return now, np.where(silent, heard_ms, self.since_ms)

    def _look(self, part: _Part, shortest_m: float) -> None:
        """Judge those readings of distinct detectors that are to be looked at."""
        due = _due(part.from_ms, part.to_ms)
        if np.count_nonzero(due):
            self._judge(part if np.ndim(due) == 0 else part.where(due), shortest_m)

    def _judge(self, part: _Part, shortest_m: float) -> None:
        """Take readings of distinct detectors; one older than the detector's newest is not judged."""
        gap_ms = part.from_ms - self.until_ms.take(part.at)
        if gap_ms.min() < 0:
            newer = gap_ms >= 0
            if not np.count_nonzero(newer):
                return
            part, gap_ms = part.where(newer), gap_ms[newer]
        at, value = part.at, part.value
        # A look that was lost breaks no repetition, a longer gap does.
        once_lost_ms = 2 * np.maximum(LOOK_MS, part.length_ms) - part.length_ms
        same = (self.value.take(at) == value) & (gap_ms <= once_lost_ms)
        from_ms = np.where(same, self.from_ms.take(at), part.from_ms)
        self.value[at], self.from_ms[at], self.until_ms[at] = value, from_ms, part.to_ms
        self._repeats(part, np.flatnonzero(same & (part.to_ms - from_ms >= STUCK_MS)), from_ms)
        if not is_absent(part.occupancy):
            self._lengths(part, shortest_m)

    def _repeats(self, part: _Part, lasting: IndexArray, from_ms: LongArray) -> None:
        """Find those who repeat themselves; those who no longer do are well again."""
        before = self.verdict.take(part.at) if np.count_nonzero(self.verdict) else None
        if not len(lasting) and before is None:
            return
        verdict = np.zeros(len(part.at), dtype=np.uint8)
        if before is not None:
            verdict[before == Verdict.OVERCOUNTING] = Verdict.OVERCOUNTING
        if len(lasting):
            values = np.stack([column[lasting] for column in (part.vehicles, part.speed, part.occupancy)])
            long = part.where(lasting)
            lasted_ms = long.to_ms - from_ms[lasting]
            moving = ((values > 0).sum(axis=0) >= 2) & ~(values == 0).any(axis=0)
            locked = (values[0] == 0) & (values[2] > 0) & (lasted_ms >= LOCKED_MS)
            stuck = moving & (lasted_ms >= STUCK_INTERVALS * long.length_ms)
            verdict[lasting[locked]], verdict[lasting[stuck]] = Verdict.LOCKED, Verdict.STUCK
        self._find(part, verdict)

    def _lengths(self, part: _Part, shortest_m: float) -> None:
        """Find those whose vehicles are too short, each time so many have passed: more are counted than were there.

        Where no speed is told they are held to drive at free flow, which makes them no shorter than they are.
        """
        speed = np.where(np.isnan(part.speed), part.free_kmh, part.speed)
        covered_m = (part.occupancy + OCCUPANCY_STEP) * speed * part.lane_m * (part.length_ms / MS_PER_H)
        counts = (covered_m == covered_m) & (part.vehicles > 0)
        vehicles = self.vehicles.take(part.at) + np.where(counts, part.vehicles, 0.0).astype(np.float32)
        metres = self.metres.take(part.at) + np.where(counts, covered_m, 0.0).astype(np.float32)
        full = vehicles >= JUDGED_VEH
        if np.count_nonzero(full):
            rows = np.flatnonzero(full)
            before = self.verdict.take(part.at[rows])
            short = metres[rows] < shortest_m * vehicles[rows]
            found = np.where(short, np.uint8(Verdict.OVERCOUNTING), np.uint8(Verdict.WELL))
            repeats = (before == Verdict.STUCK) | (before == Verdict.LOCKED)
            self._find(part.where(rows), np.where(repeats, before, found))
            vehicles[rows], metres[rows] = 0.0, 0.0
        self.vehicles[part.at], self.metres[part.at] = vehicles, metres

    def _find(self, part: _Part, verdict: ByteArray) -> None:
        changed = np.flatnonzero(self.verdict.take(part.at) != verdict)
        if len(changed):
            rows = part.where(changed)
            self.since_ms[rows.at], self.verdict[rows.at] = rows.to_ms, verdict[changed]


@dataclass(frozen=True, slots=True)
class _Part:
    """Columns of some rows; stamps are one number where they are the same in all."""

    at: IndexArray
    from_ms: Stamps
    to_ms: Stamps
    vehicles: FloatArray
    speed: FloatArray
    occupancy: FloatArray
    free_kmh: FloatArray
    lane_m: FloatArray

    @classmethod
    def of(cls, rows: Clean) -> _Part:
        roster = rows.roster
        stamps: tuple[Stamps, Stamps] = rows.span_ms or (rows.from_ms, rows.to_ms)
        columns = rows.count_veh, rows.speed_kmh, rows.occupancy
        return cls(roster.position, *stamps, *columns, roster.free_kmh, roster.lane_m)

    @property
    def value(self) -> LongArray:
        """A number made of what was measured."""
        bits = [column.view(np.int64) for column in (self.vehicles, self.speed, self.occupancy)]
        return np.asarray(bits[0] * _MIX[0] ^ bits[1] * _MIX[1] ^ bits[2] * _MIX[2])

    @property
    def length_ms(self) -> Any:
        return self.to_ms - self.from_ms

    def where(self, rows: IndexArray | BoolArray) -> _Part:
        def some(values: Any) -> Any:
            return values if isinstance(values, int) else values[rows]

        return _Part(*(some(getattr(self, name)) for name in _Part.__slots__))


def _due(from_ms: Stamps, to_ms: Stamps) -> Any:
    """Return whether intervals are looked at."""
    return from_ms % LOOK_MS < to_ms - from_ms


def _one_each(part: _Part) -> list[IndexArray]:
    """Return row numbers in groups, by time, so that no group has a detector twice."""
    begins = part.from_ms if not isinstance(part.from_ms, int) else np.full(len(part.at), part.from_ms)
    order = np.lexsort((begins, part.at))
    at = part.at[order]
    first = np.flatnonzero(np.concatenate([[True], at[1:] != at[:-1]]))
    nth = np.arange(len(at)) - np.repeat(first, np.diff(np.append(first, len(at))))
    return [order[nth == n] for n in range(int(nth.max()) + 1)]


def left_out(verdict: ByteArray) -> Counter[str]:
    """Return how many rows are not believed, by verdict."""
    found = np.bincount(verdict, minlength=len(Verdict))
    return Counter({one.name.lower(): int(found[one]) for one in Verdict if one != Verdict.WELL and found[one]})
