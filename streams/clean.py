"""Clean: readings as received in, columns that can be counted and dead letters out. Pure, and whole columns at a time.

A reading that is physically impossible is refused and counted under its reason; a metric that its source marks as bad
is missing. "No vehicle" is not standstill: without vehicles there is no speed; with vehicles a speed of 0 becomes the
floor (3 mph, PeMS). It does not judge whether a plausible value is true: that is the detectors' health, elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from citybrain.clock import utc
from citybrain.errors import Reason
from citybrain.messages import DeadLetter
from citybrain.network import Network
from citybrain.records import ByteArray, FloatArray, IntArray, LongArray, Quality, Readings
from citybrain.settings import Limits, TimeSettings
from citybrain.units import MS_PER_H, S_PER_H
from citybrain.wire import Message

BoolArray = npt.NDArray[np.bool_]
IndexArray = npt.NDArray[np.intp]
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
    """What readings of one partition are held against; arrays have shape (detectors of the network,).

    Attributes
    ----------
    network
        Version of the network.
    ids
        The operator's names, for dead letters.
    mine
        Position of the detector among those of the partition; -1 for those of other partitions.
    lanes
        Lanes that the detector covers.
    length_km
        Length of its segment.
    flow_vph
        Highest flow over its lanes.
    speed_kmh, floor_kmh, interval_ms, skew_ms
        Highest speed; speed taken for standing vehicles; longest interval; how far ahead a stamp may be.
    """

    network: str
    ids: npt.NDArray[np.str_]
    mine: IndexArray
    lanes: IntArray
    length_km: FloatArray
    flow_vph: FloatArray
    speed_kmh: float
    floor_kmh: float
    interval_ms: int
    skew_ms: int

    @classmethod
    def of(cls, network: Network, partition: int, limits: Limits, time: TimeSettings, floor_kmh: float) -> Rules:
        """Return the rules of one partition."""
        owned = network.detector_partition == partition
        lanes = network.detectors.lanes
        return cls(
            network.version,
            network.detectors.id,
            np.where(owned, np.cumsum(owned) - 1, -1),
            lanes,
            network.segments.length_km[network.detectors.segment],
            (limits.flow_vph_per_lane * lanes).astype(np.float64),
            limits.speed_kmh,
            floor_kmh,
            int(limits.interval.total_seconds() * 1000),
            int(time.skew.total_seconds() * 1000),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Clean:
    """Readings that can be counted; arrays have shape (n,), missing is NaN.

    ``row`` is the row in the batch; ``quality`` the worst `Quality` that the source gave to a metric that is there.
    """

    row: IndexArray
    detector: IntArray
    from_ms: LongArray
    to_ms: LongArray
    count_veh: FloatArray
    speed_kmh: FloatArray
    occupancy: FloatArray
    quality: ByteArray

    def where(self, kept: BoolArray) -> Clean:
        """Return the rows that are kept."""
        return self if kept.all() else Clean(*(getattr(self, f.name)[kept] for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Fault:
    """Rows of a batch that break one rule; of those the first is told."""

    reason: Reason
    bad: BoolArray
    name: str
    values: Numbers
    allowed: str


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
    kept = np.ones(len(readings), dtype=np.bool_)
    refused: dict[Reason, DeadLetter] = {}
    for fault in _faults(readings, rules, message.record_ms):
        bad = fault.bad & kept
        if bad.any():
            kept &= ~bad
            letter = dead_letter(readings, rules, message, fault, bad)
            before = refused.get(fault.reason)
            refused[fault.reason] = letter if before is None else _more(before, letter.count)
    good = readings if not refused else _rows(readings, kept)
    return _countable(good, np.flatnonzero(kept), rules), list(refused.values())


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


def _faults(readings: Readings, rules: Rules, record_ms: int) -> Iterator[Fault]:
    """Find the rows that break a rule; most batches break none, so a column is first looked at as a whole."""
    if not len(readings):
        return
    detector, known = readings.detector, f"0..{len(rules.mine) - 1}"
    bad = _outside(detector, 0, len(rules.mine) - 1)
    if bad is not None:
        yield Fault("unknown_detector", bad, "detector", detector, known)
        detector = np.where(bad, 0, detector).astype(np.int32)
    foreign = rules.mine[detector] < 0
    if foreign.any():
        yield Fault("unknown_detector", foreign, "detector", readings.detector, "detectors of this partition")

    bad = _outside(readings.observed_from_ms, 0, 2**60)
    if bad is not None:
        yield Fault("out_of_range", bad, "observed_from_ms", readings.observed_from_ms, "from 1970")
    length = readings.observed_to_ms - readings.observed_from_ms
    ranges: tuple[tuple[str, Numbers, float, float], ...] = (
        ("interval_ms", length, 1, rules.interval_ms),
        ("speed_kmh", readings.speed_kmh, 0.0, rules.speed_kmh),
        ("occupancy", readings.occupancy, 0.0, 1.0),
        ("travel_time_s", readings.travel_time_s, 0.0, LONGEST_TRAVEL_TIME_S),
        ("count_veh", readings.count_veh, 0.0, np.inf),
        ("flow_vph", readings.flow_vph, 0.0, np.inf),
    )
    for name, values, low, high in ranges:
        bad = _outside(values, low, high)
        if bad is not None:
            yield Fault("out_of_range", bad, name, values, f"{low:g}..{high:g}")
    yield from _too_much(readings, rules, detector, length)

    bad = _outside(readings.observed_to_ms, 0, record_ms + rules.skew_ms)
    if bad is not None:
        allowed = f"until {utc(record_ms).isoformat()} + {rules.skew_ms / 1000:g} s"
        yield Fault("future", bad, "observed_to_ms", readings.observed_to_ms, allowed)


def _too_much(readings: Readings, rules: Rules, detector: IntArray, length_ms: LongArray) -> Iterator[Fault]:
    """Find flows above the limit, with one whole vehicle a lane to spare in short intervals; and journeys too fast."""
    hours = length_ms / MS_PER_H
    most = rules.flow_vph[detector] * hours + rules.lanes[detector]
    with np.errstate(invalid="ignore", over="ignore"):  # rows that were refused already may hold anything
        by_flow = readings.flow_vph * hours
    for name, values, vehicles in (
        ("count_veh", readings.count_veh, readings.count_veh),
        ("flow_vph", readings.flow_vph, by_flow),
    ):
        bad = vehicles > most
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            limit = most[first] if name == "count_veh" else rules.flow_vph[detector[first]]
            yield Fault("out_of_range", bad, name, values, f"0..{limit:g} over {rules.lanes[detector[first]]} lanes")
    driven = readings.travel_time_s > 0
    if driven.any():
        least = rules.length_km[detector] / rules.speed_kmh * S_PER_H
        bad = driven & (readings.travel_time_s < least)
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            yield Fault("out_of_range", bad, "travel_time_s", readings.travel_time_s, f"from {least[first]:g}")


def _outside(values: Numbers, low: float, high: float) -> BoolArray | None:
    """Return which values lie outside the range, None where none does; NaN lies inside."""
    if not (np.fmin.reduce(values) < low or (high != np.inf and np.fmax.reduce(values) > high)):
        return None
    return (values < low) | (values > high)


def _countable(readings: Readings, row: IndexArray, rules: Rules) -> Clean:
    """Drop metrics of bad quality, let count and flow complete each other, and tell no vehicle from standstill."""
    length_ms = readings.observed_to_ms - readings.observed_from_ms
    vehicles, speed, occupancy = readings.count_veh, readings.speed_kmh, readings.occupancy
    if np.isnan(vehicles).any():
        vehicles = np.where(np.isnan(vehicles), readings.flow_vph * (length_ms / MS_PER_H), vehicles)
    travelled = readings.travel_time_s
    quality = np.zeros(len(readings), dtype=np.uint8)
    told = (readings.quality_flow, readings.quality_speed, readings.quality_occupancy, readings.quality_travel_time)
    if any(code.any() for code in told):
        # A source that says "no vehicle" of the flow has counted none.
        vehicles = np.where(told[0] == Quality.NO_VEHICLE, 0.0, np.where(_USABLE[told[0]], vehicles, np.nan))
        speed = np.where(_USABLE[told[1]], speed, np.nan)
        occupancy = np.where(_USABLE[told[2]] | (told[2] == Quality.NO_VEHICLE), occupancy, np.nan)
        travelled = np.where(_USABLE[told[3]], travelled, np.nan)
        for code, values in zip(told, (vehicles, speed, occupancy, travelled), strict=True):
            quality = np.maximum(quality, np.where(np.isnan(values), 0, _SAID[code]).astype(np.uint8))
    driven = travelled > 0
    if driven.any():
        implied = rules.length_km[readings.detector] / np.where(driven, travelled, np.nan) * S_PER_H
        speed = np.where(np.isnan(speed), implied, speed)
    slow = speed < rules.floor_kmh
    if slow.any():
        standing = (speed > 0) | (vehicles > 0) | (np.isnan(vehicles) & (occupancy > 0))
        speed = np.where(slow, np.where(standing, rules.floor_kmh, np.nan), speed)
    stamps = readings.observed_from_ms, readings.observed_to_ms
    return Clean(row, readings.detector, *stamps, vehicles, speed, occupancy, quality)


def _rows(readings: Readings, kept: BoolArray) -> Readings:
    values: dict[str, Any] = {f.name: getattr(readings, f.name) for f in fields(readings)}
    chosen: dict[str, Any] = {name: v[kept] if isinstance(v, np.ndarray) else v for name, v in values.items()}
    return Readings(**chosen)


def _more(letter: DeadLetter, count: int) -> DeadLetter:
    return msgspec.structs.replace(letter, count=letter.count + count)


def _excerpt(readings: Readings, row: int, rules: Rules) -> str:
    """Return one reading as text, missing metrics left out."""
    detector = int(readings.detector[row])
    name = rules.ids[detector] if 0 <= detector < len(rules.ids) else f"#{detector}"
    metrics = ("count_veh", "flow_vph", "speed_kmh", "occupancy", "travel_time_s")
    values = ((metric, float(getattr(readings, metric)[row])) for metric in metrics)
    told = " ".join(f"{metric}={value:g}" for metric, value in values if not np.isnan(value))
    return f"{name} [{readings.observed_from_ms[row]}, {readings.observed_to_ms[row]}) {told}".strip()
