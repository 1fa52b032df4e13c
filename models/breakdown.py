"""Breakdowns, lasting congestion and incidents: the speeds and flows of one pane in, what has just changed out.

Speeds are shares of free flow. A breakdown is a fall from free to congested within minutes that lasts; congestion goes
on until speeds are back above level 3; an incident is a breakdown unlike the typical day, with free road downstream
and less flow than before: the comparison of California #7 (upstream against downstream, confirmed by a second pane,
continuing while the difference lasts) with speeds and flows in place of occupancies, which a city's feeds often lack.

References
----------
Payne and Tignor (1978), Transportation Research Record 682 (California algorithms); Persaud and Hall (1989) on the
fall of flow that tells an incident from a bottleneck (McMaster).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import cast

import numpy as np
import numpy.typing as npt

Small = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

FAST_MIN, SLOW_MIN, FLOW_MIN, BEFORE_MIN = 2.0, 12.0, 3.0, 20.0
"""Time constants: speed now, speed lately, flow now, flow before a breakdown."""
FREE = 0.6
"""Share of free flow above which a segment counted as free before it broke down."""
FALL_MIN = 10.0
"""A fall from free to congested within so long is a breakdown; a slower one is building up."""
FORGET_MIN = 10.0
"""Without an observation for so long nothing is known of a segment."""
STANDING = 0.3
"""Occupancy at which a segment without a speed is held to be blocked, not empty."""
SUSTAIN = 2
"""Panes that a change must last: TMC practice, and the least that California #7 confirms with."""
FRESH_MIN = 10.0
"""A breakdown is news for so long; then it is congestion."""
USUAL_MARGIN, USUAL_SD = 0.12, 1.5
"""A segment is as usual if it is not slower than the typical day by more than this share of free flow, or by more
than so many standard deviations between days: some places are jammed on two days of five."""
INCIDENT = (-5.0, 1.5, 1.5, 3.0, 0.5)
"""Intercept and weights of the evidence: judgement, checked on simulated incidents (docs/models.md). Less flow weighs
most: a bottleneck discharges what passed before it broke down, an incident does not."""
LIKELY = 0.6
"""What is less likely is not called an incident."""
SURE_DROP = 3.0
"""A fall of flow counts in full from so many standard deviations of the count (Poisson)."""


@dataclass(slots=True)
class RoadMemory:
    """What is remembered of m segments, shape (m,) each.

    Attributes
    ----------
    fast, slow
        Smoothed speeds; NaN where not known.
    age_min
        Minutes since the last observation.
    flow_vph
        Smoothed flow.
    before_vph
        Smoothed flow while not congested: what passed before a breakdown.
    since_free_min
        Minutes since the segment was last free.
    run
        Panes in a row at or below the limit of congestion.
    lasting_min
        Minutes of congestion, 0 where there is none.
    broken_min
        Minutes since it broke down, NaN where it did not.
    incident_run
        Panes in a row that look like an incident.
    """

    fast: Small
    slow: Small
    age_min: Small
    flow_vph: Small
    before_vph: Small
    since_free_min: Small
    run: Small
    lasting_min: Small
    broken_min: Small
    incident_run: Small

    @classmethod
    def of(cls, m: int) -> RoadMemory:
        """Return the memory before the first pane."""
        unknown, zero = np.full(m, np.nan, dtype=np.float32), np.zeros(m, dtype=np.float32)
        start = dict.fromkeys(("fast", "slow", "flow_vph", "before_vph", "broken_min"), unknown)
        start |= {"age_min": zero + 1e6, "since_free_min": zero + 1e6}
        return cls(**{f.name: start.get(f.name, zero).copy() for f in fields(cls)})


@dataclass(frozen=True, slots=True)
class Pane:
    """What one pane says of m segments: speeds as shares of free flow, flow in veh/h, occupancy 0..1; NaN unknown.

    ``usual`` is the least typical speed around this time of day, so that a peak that comes a little early is usual;
    ``usual_sd`` the largest standard deviation between days around it.
    """

    speed: Small
    usual: Small
    usual_sd: Small
    flow_vph: Small
    occupancy: Small
    minutes: float


@dataclass(frozen=True, slots=True)
class Found:
    """What holds now, shape (m,) each: masks, and the probability that it is an incident."""

    congested: Mask
    breakdown: Mask
    incident: Mask
    as_usual: Mask
    incident_probability: Small


@dataclass(frozen=True, slots=True)
class Limits:
    """Shares of free flow: ``congested`` (level 3 and worse), ``jammed`` (level 4 and worse)."""

    congested: float
    jammed: float


def follow(memory: RoadMemory, pane: Pane, limits: Limits) -> None:
    """Bring the memory up to the pane: smoothed speeds, runs, breakdowns and lasting congestion."""
    known, minutes = ~np.isnan(pane.speed), np.float32(pane.minutes)
    memory.age_min = np.where(known, np.float32(0), memory.age_min + minutes)
    memory.fast = _smoothed(memory.fast, pane.speed, pane.minutes / FAST_MIN)
    memory.slow = _smoothed(memory.slow, pane.speed, pane.minutes / SLOW_MIN)
    memory.flow_vph = _smoothed(memory.flow_vph, pane.flow_vph, pane.minutes / FLOW_MIN)
    # Nobody passed and nobody stands there: empty, so the queue that was seen last is gone.
    empty = ~known & (pane.flow_vph == 0) & ~(pane.occupancy >= STANDING)
    forgotten = (memory.age_min > FORGET_MIN) | empty
    memory.fast[forgotten] = np.nan
    memory.slow[forgotten] = np.nan
    below = (pane.speed <= limits.congested) | (~known & (memory.run > 0) & ~forgotten)
    memory.run = np.where(below, memory.run + known, np.float32(0))
    moving = ~below & (memory.fast > limits.congested)
    memory.before_vph = np.where(
        moving, _smoothed(memory.before_vph, pane.flow_vph, pane.minutes / BEFORE_MIN), memory.before_vph
    )
    free = moving & (pane.speed >= FREE)
    memory.since_free_min = np.where(free, np.float32(0), memory.since_free_min + minutes)
    sustained = memory.run >= SUSTAIN
    starts = (memory.lasting_min == 0) & sustained & (memory.fast <= limits.jammed)
    goes_on = (memory.lasting_min > 0) & (memory.fast <= limits.congested)
    memory.lasting_min = np.where(starts | goes_on, memory.lasting_min + minutes, np.float32(0))
    fell = sustained & np.isnan(memory.broken_min) & (memory.since_free_min <= FALL_MIN)
    still = memory.fast <= limits.congested
    memory.broken_min = np.where(
        fell, np.float32(0), np.where(still, memory.broken_min + minutes, np.float32(np.nan))
    ).astype(np.float32)


def judge(memory: RoadMemory, pane: Pane, downstream: Small) -> Found:
    """Return what holds at the end of the pane that `follow` took.

    Parameters
    ----------
    memory
        Brought up to the pane; counts the panes that look like an incident.
    pane
        The pane.
    downstream
        Least speed among the observed segments downstream, share of free flow, shape (m,); NaN where not known.
    """
    congested = memory.lasting_min > 0
    breakdown = memory.broken_min < FRESH_MIN
    margin = np.fmax(np.float32(USUAL_MARGIN), np.float32(USUAL_SD) * pane.usual_sd)
    as_usual = memory.fast >= pane.usual - margin
    probability = _incident_probability(memory, pane, downstream)
    # A queue that goes on downstream has its cause there.
    head = ~(downstream < FREE)
    # Where days differ so much that it is not free on most of them, a bad day looks like an incident.
    free_then = ~(pane.usual - np.float32(USUAL_SD) * np.nan_to_num(pane.usual_sd) < FREE)
    looks_so = (congested | breakdown) & ~as_usual & head & free_then & (probability >= LIKELY)
    memory.incident_run = np.where(looks_so, memory.incident_run + 1, np.float32(0)).astype(np.float32)
    return Found(congested, breakdown, memory.incident_run >= SUSTAIN, as_usual, probability)


def _incident_probability(memory: RoadMemory, pane: Pane, downstream: Small) -> Small:
    before = np.where(np.isnan(pane.usual), memory.slow, pane.usual).astype(np.float32)
    evidence = (
        _scaled(downstream - memory.fast, 0.3, low=-1.0),
        _scaled(before - memory.fast, 0.3, low=0.0),
        _flow_lost(memory),
        np.nan_to_num(memory.broken_min < 60, nan=0.0).astype(np.float32),
    )
    score = INCIDENT[0] + sum(weight * value for weight, value in zip(INCIDENT[1:], evidence, strict=True))
    return (1 / (1 + np.exp(-score))).astype(np.float32)


def _flow_lost(memory: RoadMemory) -> Small:
    """The share of flow that is missing, in quarters; as far as the count is large enough to tell."""
    before = np.maximum(memory.before_vph, 1)
    lost = _scaled((1 - memory.flow_vph / before).astype(np.float32), 0.25, low=-1.0)
    # An exponential mean over FLOW_MIN has seen about twice as long.
    counted = before * (2 * FLOW_MIN / 60)
    certainty = np.clip((1 - memory.flow_vph / before) * np.sqrt(counted) / SURE_DROP, 0, 1)
    return np.where(lost > 0, lost * np.nan_to_num(certainty), lost).astype(np.float32)


def _scaled(value: Small, unit: float, *, low: float) -> Small:
    """Evidence in units, clipped; what is not known says nothing."""
    return cast(Small, np.nan_to_num(np.clip(value / np.float32(unit), low, 1.5), nan=0.0).astype(np.float32))


def _smoothed(old: Small, new: Small, steps: float) -> Small:
    weight = np.float32(1 - np.exp(-steps))
    mixed = np.where(np.isnan(old), new, old + weight * (new - old))
    return np.where(np.isnan(new), old, mixed).astype(np.float32)
