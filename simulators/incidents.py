"""Incidents that close lanes: a city and a day in, when and where and how long out.

Their number is Poisson, their place follows the roads' use, their hour the traffic's, their duration a published
distribution. Scripted ones are added to the drawn ones. Incidents at a rate per vehicle-km are
`simulators.incidentrates`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import time
from typing import Literal

import numpy as np

from citybrain.errors import ConfigError
from citybrain.network import ROAD_CLASSES, Network, RoadClass
from citybrain.settings import SimulatedFeed
from simulators.calendar import Day, local_hours
from simulators.roads import FloatArray, Roads

REMAINING_CAPACITY: dict[tuple[int, int], float] = {
    # (lanes, blocked) -> share; HCM 2010 exhibit 10-17, as printed in FHWA-HOP-13-042, appendix C, table 40.
    (2, 1): 0.35,
    (3, 1): 0.49,
    (3, 2): 0.17,
    (4, 1): 0.58,
    (4, 2): 0.25,
    (4, 3): 0.13,
    (5, 1): 0.65,
    (5, 2): 0.40,
    (5, 3): 0.20,
}
SINGLE_LANE_SHARE = 0.30
"""Of a road with one lane: traffic squeezes past in turns with the other direction [judgement, HCM has no entry]."""
ALL_BLOCKED_SHARE = 0.05
"""Where every lane is blocked police lets a few past; a full closure is `Engine.restrict` with 0 [judgement]."""

MEAN_MIN, SD_MIN = 34.6, 13.8
TWO_LANES_MEAN_MIN, TWO_LANES_SD_MIN = 53.6, 13.9
"""Duration with one and with two or more lanes closed, min: defaults of HCM (6th edition) chapter 11, after SHRP 2
L08. The form is lognormal: Golob, Recker and Leonard (1987), Accident Analysis and Prevention 19(5); Giuliano (1989),
Transportation Research A 23(5)."""
TWO_LANES_SHARE = 0.2
"""Share of incidents on roads of three and more lanes that block two [judgement]."""

RELATIVE_RATE: dict[RoadClass, float] = {"motorway": 1.0, "trunk": 1.2, "link": 0.8}
"""Incidents per vehicle-km against a motorway's; other roads 1.5 [judgement: more conflicts at grade]."""
OTHER_ROADS_RATE = 1.5
_NOT_YET_JAMMED, _SOON_KM = 0.9, 0.3

IncidentKind = Literal["incident", "rubbernecking", "works", "closure"]
NOT_DRAWN = float("nan")


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident.

    Attributes
    ----------
    segment
        Index of the segment.
    onset_ms, end_ms
        Half-open, ms UTC.
    lanes_blocked
        Lanes that are closed.
    capacity_share, lanes_share
        What is left of the segment's capacity and lanes, 0..1.
    kind
        ``incident``, or ``rubbernecking``: nothing is closed, drivers look at what happened on the other carriageway;
        ``works`` and ``closure`` are a scenario's, in the truth only.
    response_s
        Seconds from the onset until help is there; clearance is the rest. NaN where it was not drawn.
    """

    segment: int
    onset_ms: int
    end_ms: int
    lanes_blocked: int
    capacity_share: float
    lanes_share: float
    kind: IncidentKind = "incident"
    response_s: float = NOT_DRAWN


@dataclass(frozen=True, slots=True)
class Scripted:
    """An incident that happens every day at the same place and time.

    Attributes
    ----------
    segment
        Index of the segment.
    at
        Local time of its onset.
    duration_s
        How long it lasts, s.
    lanes_blocked
        Lanes that are closed.
    """

    segment: int
    at: time
    duration_s: float
    lanes_blocked: int = 1


def scripted_of(network: Network, feed: SimulatedFeed) -> tuple[Scripted, ...]:
    """Return the incidents that a feed's settings script.

    Raises
    ------
    ConfigError
        If a segment is none of the network's or a time no time of day: every error, one a line.
    """
    row = {str(name): index for index, name in enumerate(network.segments.id)}
    found, errors = [], []
    for script in feed.scripted:
        try:
            at = time.fromisoformat(script.at)
            found.append(Scripted(row[script.segment], at, script.duration.total_seconds(), script.lanes))
        except KeyError:
            errors.append(f"scripted incident: segment {script.segment!r} seen, an id of the network allowed")
        except ValueError:
            errors.append(f"scripted incident: at {script.at!r} seen, a time of day such as 07:04 allowed")
    if errors:
        raise ConfigError("\n".join(errors))
    return tuple(found)


def remaining_capacity(lanes: int, blocked: int) -> float:
    """Return the share of the capacity that is left, 0..1; less than the lanes' share.

    Examples
    --------
    >>> remaining_capacity(2, 1), remaining_capacity(3, 1), remaining_capacity(1, 1)
    (0.35, 0.49, 0.3)
    """
    if blocked <= 0:
        return 1.0
    if lanes == 1:
        return SINGLE_LANE_SHARE
    if blocked >= lanes:
        return ALL_BLOCKED_SHARE
    known = REMAINING_CAPACITY.get((lanes, blocked))
    return known if known is not None else round(((lanes - blocked) / lanes) ** 1.5, 2)


def incident_at(roads: Roads, segment: int, onset_ms: int, duration_s: float, lanes_blocked: int) -> Incident:
    """Return an incident with what it leaves of the road.

    Raises
    ------
    ValueError
        If there is no such segment, or the duration is not above 0.
    """
    if not 0 <= segment < len(roads):
        raise ValueError(f"incident: segment {segment} seen, 0 to {len(roads) - 1} allowed")
    if not duration_s > 0:
        raise ValueError(f"incident on segment {segment}: duration {duration_s} s seen, above 0 allowed")
    lanes = int(roads.lanes[segment])
    blocked = min(lanes_blocked, lanes)
    left = max(lanes - blocked, 0.5 if lanes == 1 else 1) / lanes
    end_ms = onset_ms + round(duration_s * 1000)
    return Incident(segment, onset_ms, end_ms, blocked, remaining_capacity(lanes, blocked), left)


def incidents_of(
    network: Network,
    roads: Roads,
    day: Day,
    *,
    per_day: float,
    scripted: tuple[Scripted, ...],
    rng: np.random.Generator,
) -> tuple[Incident, ...]:
    """Draw a day's incidents, in the order of their onset.

    Parameters
    ----------
    network, roads, day
        The city and the day.
    per_day
        Mean number of incidents on an ordinary weekday.
    scripted
        Those that happen anyway.
    rng
        The day's generator.
    """
    kind, hour = local_hours(day)
    by_minute = busy(hour) * np.where(kind == 0, 1.0, 0.7) / busy(np.arange(0, 24, 1 / 60)).sum()
    number = rng.poisson(per_day * by_minute.sum())
    minutes = np.sort(rng.choice(len(by_minute), number, p=by_minute / by_minute.sum()) + rng.random(number))
    segments = rng.choice(len(roads), number, p=_exposure(network, roads))
    two = (rng.random(number) < TWO_LANES_SHARE) & (roads.lanes[segments] >= 3)
    durations = np.where(
        two,
        rng.lognormal(*lognormal(TWO_LANES_MEAN_MIN, TWO_LANES_SD_MIN), number),
        rng.lognormal(*lognormal(MEAN_MIN, SD_MIN), number),
    )
    drawn = [
        incident_at(roads, int(segment), day.fill_ms + int(minute * 60) * 1000, float(duration) * 60, 1 + int(both))
        for segment, minute, duration, both in zip(segments, minutes, durations, two, strict=True)
    ]
    drawn += [
        incident_at(roads, script.segment, _instant(day, script.at), script.duration_s, script.lanes_blocked)
        for script in scripted
    ]
    return tuple(sorted(drawn, key=lambda incident: (incident.onset_ms, incident.segment)))


def busy_main_road(network: Network, roads: Roads, expected_vps: FloatArray) -> int:
    """Return the segment for a shown incident: the main road with a detector where one closed lane jams most.

    It is not yet jammed without the incident, or nobody could see a difference, and the queue soon reaches a detector:
    one segment leads there, a short one that is watched, too.

    Parameters
    ----------
    network, roads
        The city; where it has no such road, the busiest segment of all is taken.
    expected_vps
        Expected flow on each segment, veh/s, shape (segments,).
    """
    segments = network.segments
    main = np.isin(segments.road_class, [ROAD_CLASSES.index(name) for name in ("motorway", "trunk", "primary")])
    watched = np.isin(np.arange(len(roads)), network.detectors.segment)
    fit = main & watched & (segments.lanes >= 2) & (segments.length_km >= 0.15)
    fit &= expected_vps < _NOT_YET_JAMMED * roads.discharge_vps
    soon = watched & (segments.length_km <= _SOON_KM)
    ways_in = np.bincount(segments.to_node, minlength=roads.nodes)
    soon_in = np.bincount(segments.to_node, weights=soon, minlength=roads.nodes)
    fit &= ((ways_in == 1) & (soon_in == 1))[segments.from_node]
    left = np.array([remaining_capacity(int(lanes), 1) for lanes in segments.lanes]) * roads.discharge_vps
    load = expected_vps / left
    return int(np.argmax(np.where(fit, load, -1.0) if fit.any() else load))


def _instant(day: Day, at: time) -> int:
    _, hours = local_hours(day)
    wanted = at.hour + at.minute / 60
    counted = np.arange(len(hours)) * 60_000 >= day.start_ms - day.fill_ms
    minute = int(np.argmin(np.abs(hours - wanted) + np.where(counted, 0.0, 24.0)))
    return day.fill_ms + minute * 60_000 + at.second * 1000


def busy(hour: FloatArray) -> FloatArray:
    """Return how much traffic there is by civil hour, in no unit: a broad day with two peaks."""
    day = 1 / (1 + np.exp(-(hour - 6.5) * 2)) / (1 + np.exp((hour - 20.5) * 1.2))
    peaks = 0.6 * np.exp(-0.5 * ((hour - 8.2) / 1.0) ** 2) + 0.6 * np.exp(-0.5 * ((hour - 18.0) / 1.3) ** 2)
    return np.asarray(0.05 + day + peaks)


def _exposure(network: Network, roads: Roads) -> FloatArray:
    """Return each segment's share of the incidents: capacity times length stands for vehicle-km."""
    rate = np.array([RELATIVE_RATE.get(name, OTHER_ROADS_RATE) for name in ROAD_CLASSES])[network.segments.road_class]
    weight = rate * roads.discharge_vps * roads.length_m
    return np.asarray(weight / weight.sum())


def lognormal(mean: float, spread: float) -> tuple[float, float]:
    """Return the parameters of the lognormal distribution with a mean and a standard deviation."""
    variance = np.log1p((spread / mean) ** 2)
    return float(np.log(mean) - variance / 2), float(np.sqrt(variance))
