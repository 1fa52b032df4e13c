"""What is wrong with detectors: faults drawn or planned, and readings distorted as such faults do.

A fault says its detector, kind, onset and end; the truth has a row of each. Some change what is measured (`distort`),
some what becomes of the message on its way: its stamps, when it arrives, how often (`deliver`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from citybrain.errors import ConfigError
from citybrain.network import Network
from citybrain.units import MS_PER_H, MS_PER_S
from simulators.calendar import on
from simulators.roads import FloatArray, IntArray

FaultKind = Literal[
    "silent",
    "stuck",
    "chattering",
    "biased",
    "swapped",
    "drifting",
    "wrong_zone",
    "late_burst",
    "duplicates",
    "out_of_order",
]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
MEASURING: tuple[FaultKind, ...] = ("silent", "stuck", "chattering", "biased", "swapped")
"""Kinds that change what is measured; the others change stamps or delivery."""
CAMERA_KINDS: tuple[FaultKind, ...] = ("silent", "drifting", "wrong_zone", "duplicates")
"""Kinds that a camera can have."""

ORDINARY: Mapping[FaultKind, float] = {"silent": 0.4, "stuck": 0.2, "chattering": 0.2, "biased": 0.2}
"""How often each kind is drawn by default [judgement: a silent detector is the commonest by far]."""
ALL_KINDS: Mapping[FaultKind, float] = dict.fromkeys(FAULT_KINDS, 1.0)
"""Every kind as often as any other: for a sensor catastrophe."""


@dataclass(frozen=True, slots=True)
class FaultRules:
    """Which faults are drawn.

    Attributes
    ----------
    weights
        How often each kind is, in any unit; a kind that is not named is not drawn.
    before
        Share of the faults that were there when the week began, 0..1.
    mean_h
        Mean duration, hours, exponential; 0 lasts to the end of the week.
    """

    weights: Mapping[FaultKind, float] = field(default_factory=lambda: dict(ORDINARY))
    before: float = 0.5
    mean_h: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no rule."""
        if unknown := sorted(set(self.weights) - set(FAULT_KINDS)):
            raise ConfigError(f"fault kind: {unknown[0]!r} seen, one of {', '.join(FAULT_KINDS)} allowed")
        if min(self.weights.values(), default=0.0) < 0 or not sum(self.weights.values()) > 0:
            raise ConfigError(f"fault weights: {dict(self.weights)} seen, 0 or above with one above 0 allowed")
        if not 0.0 <= self.before <= 1.0 or self.mean_h < 0:
            raise ConfigError(f"faults: before {self.before}, mean_h {self.mean_h} seen, 0 to 1 and from 0 allowed")

    def shares(self) -> FloatArray:
        """Return the probability of each of `FAULT_KINDS`."""
        weights = np.array([self.weights.get(kind, 0.0) for kind in FAULT_KINDS])
        return np.asarray(weights / weights.sum())


@dataclass(frozen=True, slots=True)
class Fault:
    """One detector's fault.

    Attributes
    ----------
    detector
        Index of the detector.
    kind
        ``silent`` (sends nothing), ``stuck`` (repeats one reading), ``chattering`` (counts each vehicle several
        times), ``biased`` (speeds off by a factor), ``swapped`` (tells what ``other`` measures), ``drifting`` (its
        clock gains or loses), ``wrong_zone`` (its clock is off by hours), ``late_burst`` (its line is down and sends
        all at once when it is up again), ``duplicates`` (sends readings twice, the second time an interval later),
        ``out_of_order`` (readings overtake one another).
    onset_ms, end_ms
        Half-open, ms UTC.
    factor
        How strong. ``stuck``, ``chattering``, ``biased``: times the counts or the speeds. ``drifting``: seconds gained
        an hour. ``wrong_zone``: hours ahead. ``late_burst``: minutes for which the line is down, again and again; 0 is
        until the end. ``duplicates``: share of the readings. ``out_of_order``: most intervals by which one is late.
    other
        The detector whose values a swapped one tells; -1 for other kinds.
    """

    detector: int
    kind: FaultKind
    onset_ms: int
    end_ms: int
    factor: float
    other: int = -1


class FaultPlan:
    """The faults of one week over the detectors that report, in their order.

    Attributes
    ----------
    kind, onset_ms, end_ms, factor, detector, row, other
        Columns of the faults; ``row`` and ``other`` are places among those detectors, -1 where it is none of them (a
        camera, say).
    """

    def __init__(self, detectors: IntArray, faults: tuple[Fault, ...]) -> None:
        self.faults = faults
        row = {int(detector): at for at, detector in enumerate(detectors)}
        self.kind = np.array([FAULT_KINDS.index(fault.kind) for fault in faults], dtype=np.int64)
        self.onset_ms = np.array([fault.onset_ms for fault in faults], dtype=np.int64)
        self.end_ms = np.array([fault.end_ms for fault in faults], dtype=np.int64)
        self.factor = np.array([fault.factor for fault in faults], dtype=np.float64)
        self.detector = np.array([fault.detector for fault in faults], dtype=np.int64)
        self.row = np.array([row.get(fault.detector, -1) for fault in faults], dtype=np.int64)
        self.other = np.array([row.get(fault.other, -1) for fault in faults], dtype=np.int64)

    def going(self, kind: FaultKind, now_ms: int) -> npt.NDArray[np.int64]:
        """Return which faults of a kind are there at an instant, as places in the columns."""
        there = (self.kind == FAULT_KINDS.index(kind)) & (self.onset_ms <= now_ms) & (now_ms < self.end_ms)
        return np.flatnonzero(there)

    def shift_ms(self, at: npt.NDArray[np.int64], kind: FaultKind, now_ms: int) -> npt.NDArray[np.int64]:
        """Return by how much the clocks of faults of a kind are ahead, ms."""
        if kind == "wrong_zone":
            return np.rint(self.factor[at] * MS_PER_H).astype(np.int64)
        return np.rint(self.factor[at] * MS_PER_S * (now_ms - self.onset_ms[at]) / MS_PER_H).astype(np.int64)

    def distort(self, values: dict[str, FloatArray], now_ms: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
        """Change the values of detectors with a fault at an instant, in place; returns which report at all."""
        present = np.ones(len(values["count"]), bool)
        if not len(self.row):
            return present
        swapped = self._measured("swapped", now_ms)
        swapped = swapped[self.other[swapped] >= 0]
        for column in values.values():
            column[self.row[swapped]] = column[self.other[swapped]]
        present[self.row[self._measured("silent", now_ms)]] = False
        stuck = self._measured("stuck", now_ms)
        for name, value in (("count", np.round(3 * self.factor)), ("speed", np.round(20 * self.factor))):
            values[name][self.row[stuck]] = value[stuck]
        values["occupancy"][self.row[stuck]] = np.minimum(0.05 * self.factor[stuck], 1.0)
        chattering = self._measured("chattering", now_ms)
        times = np.round(self.factor[chattering] + 1)
        counted = values["count"][self.row[chattering]] * times + rng.integers(0, 4, len(chattering))
        values["count"][self.row[chattering]] = counted
        biased = self._measured("biased", now_ms)
        values["speed"][self.row[biased]] *= self.factor[biased]
        return present

    def _measured(self, kind: FaultKind, now_ms: int) -> npt.NDArray[np.int64]:
        """Return those of `going` that are at the detectors that report."""
        at = self.going(kind, now_ms)
        return at[self.row[at] >= 0]


def faults_of_week(
    day: date,
    timezone: str,
    detectors: IntArray,
    share: float,
    rng: np.random.Generator,
    *,
    rules: FaultRules | None = None,
    partners: IntArray | None = None,
) -> tuple[Fault, ...]:
    """Draw the faults of the week (Monday to Sunday) that a day lies in.

    Parameters
    ----------
    day, timezone
        A civil date of the week; zone of the city.
    detectors
        Indices of the detectors that may have one.
    share
        Share of them that has one, 0..1. Two swapped detectors have a fault each.
    rng
        The week's generator.
    rules
        Which kinds; by default those that change what is measured.
    partners
        The detector with which each detector of the network may be swapped (`partners_of`); -1 where none. By
        default the next in order.
    """
    rules = rules or FaultRules()
    monday = day - timedelta(days=day.weekday())
    start, end = on(monday, timezone).start_ms, on(monday + timedelta(days=7), timezone).start_ms
    chosen = np.sort(rng.choice(detectors, round(share * len(detectors)), replace=False))
    kinds = rng.choice(len(FAULT_KINDS), len(chosen), p=rules.shares())
    onset = np.where(rng.random(len(chosen)) < rules.before, 0.0, rng.random(len(chosen)))
    factors = _factors(len(chosen), rng)
    last = np.full(len(chosen), np.inf) if rules.mean_h == 0 else rng.exponential(rules.mean_h, len(chosen)) * MS_PER_H
    found: list[Fault] = []
    for i, (detector, at) in enumerate(zip(chosen.tolist(), onset, strict=True)):
        kind = FAULT_KINDS[kinds[i]]
        onset_ms = start + int(at * (end - start)) // 1000 * 1000
        end_ms = int(min(end, onset_ms + max(last[i], MS_PER_S)))
        other = _partner(detector, detectors, partners) if kind == "swapped" else -1
        if kind == "swapped" and other < 0:
            kind = "silent"  # nothing stands near it with which it could be swapped
        found += _faults(kind, detector, other, onset_ms, end_ms, float(factors[kind][i]))
    return tuple(found)


def planned_fault(
    network: Network, detector: str, kind: str, onset_ms: int, end_ms: int, factor: float
) -> tuple[Fault, ...]:
    """Return the fault that a detector is to have; two where it is swapped with its partner.

    Raises
    ------
    ConfigError
        If there is no such detector or kind, it ends before it begins, or a share is above 1.
    """
    at = np.flatnonzero(network.detectors.id == detector)
    if not len(at):
        raise ConfigError(f"fault: detector {detector!r} seen, an id of the network allowed")
    if kind not in FAULT_KINDS:
        raise ConfigError(f"fault of {detector}: kind {kind!r} seen, one of {', '.join(FAULT_KINDS)} allowed")
    if end_ms <= onset_ms:
        raise ConfigError(f"fault of {detector}: end {end_ms} seen, after its onset {onset_ms} allowed")
    if kind == "duplicates" and not 0 <= factor <= 1:
        raise ConfigError(f"fault of {detector}: factor {factor} seen, a share from 0 to 1 allowed for duplicates")
    chosen: FaultKind = FAULT_KINDS[FAULT_KINDS.index(kind)]
    other = int(partners_of(network)[at[0]]) if chosen == "swapped" else -1
    if chosen == "swapped" and other < 0:
        raise ConfigError(f"fault of {detector}: swapped seen, a detector with another beside it allowed")
    return tuple(_faults(chosen, int(at[0]), other, onset_ms, end_ms, factor))


def partners_of(network: Network) -> IntArray:
    """Return the detector that each might be swapped with by mistake, -1 where there is none, shape (detectors,).

    One at the same segment (another lane), else one of the same kind at the segment that leads the other way between
    the same nodes.
    """
    detectors, segments = network.detectors, network.segments
    first: dict[tuple[int, int, str], list[int]] = {}
    for index, (segment, kind) in enumerate(zip(detectors.segment.tolist(), detectors.kind.tolist(), strict=True)):
        key = (int(segments.from_node[segment]), int(segments.to_node[segment]), kind)
        first.setdefault(key, []).append(index)
    found = np.full(len(detectors), -1, np.int32)
    for (start, end, kind), here in first.items():
        for place, index in enumerate(here):
            beside = here[place ^ 1 : (place ^ 1) + 1] or first.get((end, start, kind), [])
            found[index] = beside[0] if beside else -1
    mutual = (found >= 0) & (found[found] == np.arange(len(found)))
    return np.where(mutual, found, -1).astype(np.int32)


def _faults(kind: FaultKind, detector: int, other: int, onset_ms: int, end_ms: int, factor: float) -> list[Fault]:
    pairs = [(detector, other)] if other < 0 else [(detector, other), (other, detector)]
    return [Fault(one, kind, onset_ms, end_ms, factor, beside) for one, beside in pairs]


def _partner(detector: int, detectors: IntArray, partners: IntArray | None) -> int:
    if partners is not None:
        other = int(partners[detector])
        return other if other in detectors else -1
    at = int(np.searchsorted(detectors, detector))
    beside = at + 1 if at + 1 < len(detectors) else at - 1
    return int(detectors[beside]) if len(detectors) > 1 else -1


def _factors(count: int, rng: np.random.Generator) -> dict[FaultKind, FloatArray]:
    """Draw how strong each fault would be, for every kind [judgement]."""
    low, high = rng.uniform(0.55, 0.75, count), rng.uniform(1.3, 1.7, count)
    biased = np.where(rng.random(count) < 0.5, low, high)
    strong = rng.uniform(1.0, 4.0, count)
    side = np.where(rng.random(count) < 0.5, -1.0, 1.0)
    ones: FloatArray = np.ones(count)
    return {
        "silent": strong,
        "stuck": strong,
        "chattering": strong,
        "biased": biased,
        "swapped": ones,
        "drifting": side * rng.uniform(2.0, 20.0, count),
        "wrong_zone": side * rng.integers(1, 3, count),
        "late_burst": rng.uniform(3.0, 30.0, count),
        "duplicates": rng.uniform(0.2, 1.0, count),
        "out_of_order": rng.integers(1, 5, count).astype(np.float64),
    }
