"""Clean: readings as received in, columns that can be counted and dead letters out. Pure, and whole columns at a time.

A reading that is physically impossible is refused and counted under its reason; a metric that its source marks as bad
is missing. "No vehicle" is not standstill: without vehicles there is no speed; with vehicles a speed of 0 becomes the
floor (3 mph, PeMS). A loop that is covered and tells no speed has vehicles standing on it: their density follows from
occupancy (docs/decisions/0011-queues-that-stand.md). It does not judge whether a plausible value is true: that is
`streams.health`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import msgspec
import numpy as np

from citybrain.arrow import is_absent
from citybrain.clock import utc
from citybrain.errors import Reason
from citybrain.messages import DeadLetter
from citybrain.network import Network
from citybrain.records import ByteArray, FloatArray, IntArray, LongArray, Quality, Readings
from citybrain.settings import Limits, Thresholds, TimeSettings
from citybrain.units import M_PER_KM, MS_PER_H, S_PER_H
from citybrain.wire import Message
from streams.roster import BoolArray, IndexArray, Posts, Roster, Rosters

Numbers = FloatArray | LongArray | IntArray

STAGE = "aggregate"
EXCERPT = 300
LONGEST_TRAVEL_TIME_S = 86_400.0

_USABLE = np.zeros(256, dtype=np.bool_)
_USABLE[[Quality.OK, Quality.IMPUTED_BY_SOURCE, Quality.DERIVED]] = True
_SAID = np.zeros(256, dtype=np.uint8)
_SAID[[Quality.IMPUTED_BY_SOURCE, Quality.DERIVED]] = Quality.IMPUTED_BY_SOURCE, Quality.DERIVED


@dataclass(frozen=True, slots=True)
class Rules:
    """What readings of one partition are held against.

    Attributes
    ----------
    network
        Version of the network.
    rosters
        What is known of the partition's detectors.
    speed_kmh, floor_kmh, interval_ms, skew_ms
        Highest speed; speed taken for standing vehicles; longest interval; how far ahead a stamp may be.
    standing_occupancy, vehicle_km
        Occupancy from which vehicles stand where no speed is told; effective length of one, km.
    """

    network: str
    rosters: Rosters
    speed_kmh: float
    floor_kmh: float
    interval_ms: int
    skew_ms: int
    standing_occupancy: float
    vehicle_km: float

    @classmethod
    def of(cls, network: Network, limits: Limits, time: TimeSettings, thresholds: Thresholds) -> list[Rules]:
        """Return the rules of each partition."""
        posts = Posts.of(network, limits)
        interval_ms, skew_ms = (int(span.total_seconds() * 1000) for span in (limits.interval, time.skew))
        return [
            cls(
                network.version,
                Rosters(posts, part),
                limits.speed_kmh,
                thresholds.speed_floor_kmh,
                interval_ms,
                skew_ms,
                thresholds.standing_occupancy,
                thresholds.effective_length_m / M_PER_KM,
            )
            for part in range(network.partitions)
        ]


@dataclass(frozen=True, slots=True, eq=False)
class Clean:
    """Readings that can be counted; arrays have shape (n,), missing is NaN.

    ``row`` is the row in the batch; ``roster`` says whose rows they are; ``quality`` is the worst `Quality` that the
    source gave to a metric that is there, or that was derived here. ``standing_veh_km`` is the density a lane that
    those who passed do not account for: vehicles that stood; None where none did in all rows. ``span_ms`` is the
    interval where it is the same in all rows, else None. ``believed`` is False where a detector is left out, whose row
    counts for nothing, or None where all are believed.
    """

    row: IndexArray
    roster: Roster
    from_ms: LongArray
    to_ms: LongArray
    count_veh: FloatArray
    speed_kmh: FloatArray
    occupancy: FloatArray
    quality: ByteArray
    standing_veh_km: FloatArray | None
    span_ms: tuple[int, int] | None
    believed: BoolArray | None = None

    def where(self, kept: BoolArray, rosters: Rosters) -> Clean:
        """Return the rows that are kept."""
        if kept.all():
            return self
        columns: dict[str, Any] = {name: getattr(self, name)[kept] for name in _COLUMNS}
        for name in _SOMETIMES:
            values = getattr(self, name)
            columns[name] = None if values is None else values[kept]
        return Clean(roster=rosters.part(self.roster, kept), span_ms=self.span_ms, **columns)

    def without(self, doubted: BoolArray) -> Clean:
        """Return the rows with nothing observed in those that are not believed: their detectors keep their places."""
        count_veh, speed_kmh, occupancy = (
            values if is_absent(values) else np.where(doubted, blank, values)
            for values, blank in ((self.count_veh, 0.0), (self.speed_kmh, 1.0), (self.occupancy, 0.0))
        )
        quality = np.where(doubted, np.uint8(Quality.OK), self.quality)
        return replace(
            self, count_veh=count_veh, speed_kmh=speed_kmh, occupancy=occupancy, quality=quality, believed=~doubted
        )  # fmt: skip

    @property
    def begin_ms(self) -> int:
        """Start of the earliest interval; there must be a row."""
        return self.span_ms[0] if self.span_ms else int(self.from_ms.min())

    @property
    def end_ms(self) -> int:
        """End of the latest interval; there must be a row."""
        return self.span_ms[1] if self.span_ms else int(self.to_ms.max())


_SOMETIMES = "standing_veh_km", "believed"
_COLUMNS = tuple(f.name for f in fields(Clean) if f.name not in ("roster", "span_ms", *_SOMETIMES))


@dataclass(frozen=True, slots=True)
class Fault:
    """Rows of a batch that break one rule; of those the first is told."""

    reason: Reason
    bad: BoolArray
    name: str
    values: Numbers
    allowed: str


class Bounds(NamedTuple):
    """Least and greatest of the values that are there, NaN where none is; whether any is missing."""

    low: float
    high: float
    missing: bool

    @classmethod
    def of(cls, values: Numbers) -> Bounds:
        """Look through a column with at least one row."""
        if is_absent(values):
            return NOTHING
        low = np.minimum.reduce(values)
        if low == low:
            return cls(low, np.maximum.reduce(values), False)
        return cls(np.fmin.reduce(values), np.fmax.reduce(values), True)

    def outside(self, low: float, high: float) -> bool:
        """Return whether a value lies outside the range; NaN lies inside."""
        return bool(self.low < low or self.high > high)


NOTHING = Bounds(np.nan, np.nan, True)


class Batch:
    """Readings, at least one, with what is asked of their columns more than once."""

    __slots__ = ("bounds", "hours", "length_ms", "readings", "roster", "span_ms")

    def __init__(self, readings: Readings, roster: Roster) -> None:
        self.readings, self.roster = readings, roster
        begin_ms, end_ms = readings.observed_from_ms, readings.observed_to_ms
        self.span_ms = (int(begin_ms[0]), int(end_ms[0])) if _alike(begin_ms) and _alike(end_ms) else None
        self.length_ms: LongArray | np.int64 = end_ms[0] - begin_ms[0] if self.span_ms else end_ms - begin_ms
        self.hours: FloatArray | float = self.length_ms / MS_PER_H
        self.bounds = {name: Bounds.of(getattr(readings, name)) for name in METRICS}


METRICS = ("speed_kmh", "occupancy", "travel_time_s", "count_veh", "flow_vph")


def clean(readings: Readings, rules: Rules, message: Message) -> tuple[Clean, list[DeadLetter]]:
    """Return the rows of a batch that can be counted, and a dead letter for each reason to refuse others.

    Parameters
    ----------
    readings
        The batch; its network is the one of the rules (checked before).
    rules
        Limits of the partition.
    message
        Where the batch was read; its record time decides what lies in the future.
    """
    roster = rules.rosters.of(readings.detector)
    if not len(readings):
        return _nothing(readings, roster), []
    batch = Batch(readings, roster)
    kept: BoolArray | None = None
    refused: dict[Reason, DeadLetter] = {}
    for fault in _faults(batch, rules, message.record_ms):
        bad = fault.bad if kept is None else fault.bad & kept
        if bad.any():
            kept = ~bad if kept is None else kept & ~bad
            letter = dead_letter(readings, rules, message, fault, bad)
            before = refused.get(fault.reason)
            refused[fault.reason] = letter if before is None else _more(before, letter.count)
    if kept is None:
        return _countable(batch, np.arange(len(readings)), rules), []
    row, good, some = np.flatnonzero(kept), readings.take(kept), rules.rosters.part(roster, kept)
    left = _countable(Batch(good, some), row, rules) if len(row) else _nothing(good, some)
    return left, list(refused.values())


def dead_letter(readings: Readings, rules: Rules, message: Message, fault: Fault, bad: BoolArray) -> DeadLetter:
    """Return the dead letter for the rows of a batch that were refused for one reason."""
    first = int(np.flatnonzero(bad)[0])
    return DeadLetter(
        reason=fault.reason,
        detail=f"{fault.name}: {fault.values[first].item()!r} seen, {fault.allowed} allowed",
        stage=STAGE,
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        source=readings.source,
        record_ms=message.record_ms,
        count=int(bad.sum()),
        excerpt=_excerpt(readings, first, rules)[:EXCERPT],
    )


def _faults(batch: Batch, rules: Rules, record_ms: int) -> Iterator[Fault]:
    """Find the rows that break a rule; most batches break none, so a column is first looked at as a whole."""
    readings, roster = batch.readings, batch.roster
    if roster.outside is not None:
        known = f"0..{len(rules.rosters.posts.ids) - 1}"
        yield Fault("unknown_detector", roster.outside, "detector", readings.detector, known)
    if roster.foreign is not None:
        yield Fault("unknown_detector", roster.foreign, "detector", readings.detector, "detectors of this partition")

    begin_ms, end_ms = readings.observed_from_ms, readings.observed_to_ms
    begins = Bounds(batch.span_ms[0], batch.span_ms[0], False) if batch.span_ms else Bounds.of(begin_ms)
    if begins.outside(0, 2**60):
        yield Fault("out_of_range", _outside(begin_ms, 0, 2**60), "observed_from_ms", begin_ms, "from 1970")
    if batch.span_ms:
        length_ms = batch.span_ms[1] - batch.span_ms[0]
        lengths = Bounds(length_ms, length_ms, False)
    else:
        lengths = Bounds.of(end_ms - begin_ms)
    if lengths.outside(1, rules.interval_ms):
        values = end_ms - begin_ms
        allowed = f"{1:g}..{rules.interval_ms:g}"
        yield Fault("out_of_range", _outside(values, 1, rules.interval_ms), "interval_ms", values, allowed)
    for name, high in (
        ("speed_kmh", rules.speed_kmh),
        ("occupancy", 1.0),
        ("travel_time_s", LONGEST_TRAVEL_TIME_S),
        ("count_veh", np.inf),
        ("flow_vph", np.inf),
    ):
        if batch.bounds[name].outside(0.0, high):
            values = getattr(readings, name)
            yield Fault("out_of_range", _outside(values, 0.0, high), name, values, f"{0.0:g}..{high:g}")
    yield from _too_much(batch)
    yield from _too_fast(batch, rules)

    latest_ms = record_ms + rules.skew_ms
    ends = Bounds(batch.span_ms[1], batch.span_ms[1], False) if batch.span_ms else Bounds.of(end_ms)
    if ends.outside(0, latest_ms):
        allowed = f"until {utc(record_ms).isoformat()} + {rules.skew_ms / 1000:g} s"
        yield Fault("future", _outside(end_ms, 0, latest_ms), "observed_to_ms", end_ms, allowed)


def _too_much(batch: Batch) -> Iterator[Fault]:
    """Find flows above the limit, with one whole vehicle a lane to spare in short intervals."""
    readings, roster, hours = batch.readings, batch.roster, batch.hours
    counts_only = batch.span_ms is not None and hours > 0 and batch.bounds["flow_vph"] is NOTHING
    if counts_only and not batch.bounds["count_veh"].high > roster.least_vph * hours + roster.least_lanes:
        return  # what the narrowest road may carry, every other may
    most = roster.flow_vph * hours + roster.lanes
    with np.errstate(invalid="ignore", over="ignore"):  # rows that were refused already may hold anything
        by_flow = readings.flow_vph * hours
    for name, values, vehicles in (
        ("count_veh", readings.count_veh, readings.count_veh),
        ("flow_vph", readings.flow_vph, by_flow),
    ):
        bad = vehicles > most
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            limit = most[first] if name == "count_veh" else roster.flow_vph[first]
            yield Fault("out_of_range", bad, name, values, f"0..{limit:g} over {roster.lanes[first]} lanes")


def _too_fast(batch: Batch, rules: Rules) -> Iterator[Fault]:
    """Find journeys that are faster than the highest speed."""
    if not batch.bounds["travel_time_s"].high > 0:
        return
    travelled = batch.readings.travel_time_s
    least = batch.roster.length_km / rules.speed_kmh * S_PER_H
    bad = (travelled > 0) & (travelled < least)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        yield Fault("out_of_range", bad, "travel_time_s", travelled, f"from {least[first]:g}")


def _outside(values: Numbers, low: float, high: float) -> BoolArray:
    return (values < low) | (values > high)


def _alike(stamps: LongArray) -> bool:
    """Return whether all are the same, as the intervals of a feed that reports in step."""
    bits = stamps.tobytes()
    return bits[8:] == bits[:-8]


def _nothing(readings: Readings, roster: Roster) -> Clean:
    return Clean(
        row=np.empty(0, dtype=np.intp),
        roster=roster,
        from_ms=readings.observed_from_ms,
        to_ms=readings.observed_to_ms,
        count_veh=readings.count_veh,
        speed_kmh=readings.speed_kmh,
        occupancy=readings.occupancy,
        quality=readings.quality_flow,
        standing_veh_km=None,
        span_ms=None,
    )


def _countable(batch: Batch, row: IndexArray, rules: Rules) -> Clean:
    """Drop metrics of bad quality, let count and flow complete each other, and tell no vehicle from standstill."""
    readings, bounds = batch.readings, batch.bounds
    vehicles, speed, occupancy = readings.count_veh, readings.speed_kmh, readings.occupancy
    if bounds["count_veh"].missing and bounds["flow_vph"] is not NOTHING:
        vehicles = np.where(np.isnan(vehicles), readings.flow_vph * batch.hours, vehicles)
    travelled = readings.travel_time_s
    quality = np.zeros(len(readings), dtype=np.uint8)
    slowest, furthest = bounds["speed_kmh"].low, bounds["travel_time_s"].high
    told = (readings.quality_flow, readings.quality_speed, readings.quality_occupancy, readings.quality_travel_time)
    if any(np.count_nonzero(code) for code in told):
        # A source that says "no vehicle" of the flow has counted none.
        vehicles = np.where(told[0] == Quality.NO_VEHICLE, 0.0, np.where(_USABLE[told[0]], vehicles, np.nan))
        speed = np.where(_USABLE[told[1]], speed, np.nan)
        occupancy = np.where(_USABLE[told[2]] | (told[2] == Quality.NO_VEHICLE), occupancy, np.nan)
        travelled = np.where(_USABLE[told[3]], travelled, np.nan)
        for code, values in zip(told, (vehicles, speed, occupancy, travelled), strict=True):
            quality = np.maximum(quality, np.where(np.isnan(values), 0, _SAID[code]).astype(np.uint8))
    if furthest > 0:
        implied = batch.roster.length_km / np.where(travelled > 0, travelled, np.nan) * S_PER_H
        speed = np.where(np.isnan(speed), implied, speed)
        slowest = np.fmin.reduce(speed)
    if slowest < rules.floor_kmh:
        slow = speed < rules.floor_kmh
        present = (speed > 0) | (vehicles > 0) | (np.isnan(vehicles) & (occupancy > 0))
        speed = np.where(slow, np.where(present, rules.floor_kmh, np.nan), speed)
    standing: FloatArray | None = None
    if bounds["occupancy"].high >= rules.standing_occupancy:
        # Where vehicles pass faster than the floor their speed counts, whatever the occupancy.
        covered = ~(speed > rules.floor_kmh) & (occupancy >= rules.standing_occupancy) & ~np.isnan(vehicles)
        covered &= batch.roster.advance
        if np.count_nonzero(covered):
            speed, standing = _standing(vehicles, speed, occupancy, covered, batch, rules)
            quality = np.where(covered, np.uint8(Quality.DERIVED), quality)
    stamps = readings.observed_from_ms, readings.observed_to_ms
    return Clean(row, batch.roster, *stamps, vehicles, speed, occupancy, quality, standing, batch.span_ms)


def _standing(
    vehicles: FloatArray, speed: FloatArray, occupancy: FloatArray, covered: BoolArray, batch: Batch, rules: Rules
) -> tuple[FloatArray, FloatArray]:
    """Return speeds, and the density a lane that those who passed do not account for; 0 where nothing is covered.

    Vehicles that passed without a speed had on the mean the speed of the density that the occupancy tells.
    """
    density = np.where(covered, occupancy / rules.vehicle_km, 0.0)
    passed = covered & (vehicles > 0)
    lane_hours = batch.roster.lanes * batch.hours
    crept = vehicles / np.where(passed, density * lane_hours, np.nan)
    speed = np.where(passed & np.isnan(speed), np.maximum(crept, rules.floor_kmh), speed)
    moving = np.where(passed, vehicles / np.where(passed, speed * lane_hours, np.nan), 0.0)
    return speed, np.where(covered, np.maximum(density - moving, 0.0), 0.0)


def _more(letter: DeadLetter, count: int) -> DeadLetter:
    return msgspec.structs.replace(letter, count=letter.count + count)


def _excerpt(readings: Readings, row: int, rules: Rules) -> str:
    """Return one reading as text, missing metrics left out."""
    detector, ids = int(readings.detector[row]), rules.rosters.posts.ids
    name = ids[detector] if 0 <= detector < len(ids) else f"#{detector}"
    metrics = ("count_veh", "flow_vph", "speed_kmh", "occupancy", "travel_time_s")
    values = ((metric, float(getattr(readings, metric)[row])) for metric in metrics)
    told = " ".join(f"{metric}={value:g}" for metric, value in values if not np.isnan(value))
    return f"{name} [{readings.observed_from_ms[row]}, {readings.observed_to_ms[row]}) {told}".strip()
