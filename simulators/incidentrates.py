"""Incidents at a rate per vehicle-km: a city's expected traffic and a day in, who stands where and for how long out.

The rate follows the class of the road, the hour and the weather; candidates at the day's highest rate are thinned
(Lewis and Shedler 1979). Each closes lanes, waits for help, is cleared, and may slow those who look at it from the
other carriageway.

How a run takes it up: ``incidents_by_rate(network, roads, day, exposure_of(roads, demand.morning_vps, day), ...)``
instead of `simulators.incidents.incidents_of`; both return the same records.

References
----------
Transportation Research Board (2016), Highway Capacity Manual, 6th edition: exhibit 11-22 (lanes and duration), exhibit
11-23 (capacity that is left), equations 25-78 and 25-79 (rate), chapter 10 (work zones). Golob, Recker and Leonard
(1987), Accident Analysis and Prevention 19(5); Giuliano (1989), Transportation Research A 23(5) (lognormal durations).
Lewis and Shedler (1979), Naval Research Logistics Quarterly 26(3). Masinick and Teng (2004), An analysis on the impact
of rubbernecking on urban freeway traffic, University of Virginia.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from citybrain.errors import ConfigError
from citybrain.network import ROAD_CLASSES, Network
from citybrain.units import M_PER_KM, S_PER_H
from simulators.beside import opposite_of
from simulators.calendar import Day, local_hours
from simulators.incidents import OTHER_ROADS_RATE, RELATIVE_RATE, Incident, busy, incident_at, lognormal
from simulators.roads import FloatArray, Roads

CRASHES_PER_MILLION_VEH_MILES = 1.54
"""Of an urban freeway with 12-foot lanes and little traffic (HERS model, HCM equation 25-79)."""
INCIDENTS_PER_CRASH = 4.9
"""National default (HCM equation 25-78)."""
SEVERITY = (0.196, 0.031, 0.019)
"""Share of all incidents that close one, two and three lanes; the others, 0.754, stand on the shoulder."""
DURATION_MIN = ((34.6, 13.8), (53.6, 13.9), (67.9, 21.9))
"""Mean and standard deviation of the duration with so many lanes closed, min."""
LANE_CLOSING_PER_MILLION_KM = round(CRASHES_PER_MILLION_VEH_MILES * INCIDENTS_PER_CRASH * sum(SEVERITY) / 1.609344, 2)
"""Incidents that close a lane per million vehicle-km of a motorway."""
RUBBERNECKING_CAPACITY = 0.873
"""What is left on the other side: 12.7 % are lost (Masinick and Teng 2004)."""
WORK_ZONE_BASE_VPH, WORK_ZONE_SEVERITY_VPH, WORK_ZONE_SOFT_VPH = 2093.0, 154.0, 194.0
WORK_ZONE_DROP = 0.134
"""Queue discharge of a lane in works, what the severity of the closure and drums for barriers take from it, and by how
much it is below the capacity before the breakdown (HCM chapter 10)."""


@dataclass(frozen=True, slots=True)
class IncidentRules:
    """How many incidents there are, and what they are like.

    Attributes
    ----------
    per_million_km
        Incidents that close a lane per million vehicle-km of a motorway by day and in dry weather.
    night
        Times as many per vehicle-km between 22:00 and 05:00 [judgement: crash rates at night are above those by day].
    rubbernecking
        Share of the incidents that slow the other carriageway, 0..1 [judgement: half; on most roads with little
        traffic nobody notices].
    response_min, response_sd_min
        Mean and standard deviation of the time until help is there, min [judgement: a city with patrols].
    """

    per_million_km: float = LANE_CLOSING_PER_MILLION_KM
    night: float = 1.5
    rubbernecking: float = 0.5
    response_min: float = 10.0
    response_sd_min: float = 5.0

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not self.per_million_km >= 0 or not self.night > 0:
            raise ConfigError(
                f"incidents: {self.per_million_km} per million km, night {self.night} seen, above 0 allowed"
            )
        if not 0.0 <= self.rubbernecking <= 1.0:
            raise ConfigError(f"incidents: rubbernecking {self.rubbernecking} seen, 0 to 1 allowed")
        mean, spread = DURATION_MIN[0]
        if not 0 < self.response_min < mean or not 0 < self.response_sd_min < spread:
            seen = f"response {self.response_min} min, standard deviation {self.response_sd_min} min"
            raise ConfigError(f"incidents: {seen} seen, above 0 and below {mean} and {spread} allowed")


@dataclass(frozen=True, slots=True)
class Exposure:
    """The traffic that is expected.

    Attributes
    ----------
    km_per_h
        Vehicle-km an hour on each segment at its busiest, shape (segments,).
    by_minute
        Share of it in each minute of the day from the fill on, shape (minutes,).
    """

    km_per_h: FloatArray
    by_minute: FloatArray

    @property
    def million_km(self) -> float:
        """Million vehicle-km of the day."""
        return float(self.km_per_h.sum() * self.by_minute.sum() / 60.0 / 1e6)


def exposure_of(roads: Roads, morning_vps: FloatArray, day: Day) -> Exposure:
    """Return the traffic to expect of a day from the flows of the morning peak; at weekends there is less.

    Parameters
    ----------
    roads, day
        The city and the day.
    morning_vps
        Flow of each segment in the morning peak of a weekday, veh/s (`Demand.morning_vps`); at most what it discharges
        is counted.
    """
    kind, hour = local_hours(day)
    peak = busy(np.arange(0, 24, 1 / 60)).max()
    flow = np.minimum(morning_vps, roads.discharge_vps)
    return Exposure(flow * S_PER_H * roads.length_m / M_PER_KM, busy(hour) / peak * np.where(kind == 0, 1.0, 0.7))


def rate_per_h(
    network: Network, day: Day, exposure: Exposure, rules: IncidentRules, weather: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Return the incidents to expect an hour: of each segment at its busiest, and the share of it by minute.

    The first has shape (segments,). The second has shape (minutes,) and is above 1 where night or weather make it so.
    """
    relative = np.array([RELATIVE_RATE.get(name, OTHER_ROADS_RATE) for name in ROAD_CLASSES])
    place = exposure.km_per_h * relative[network.segments.road_class] * rules.per_million_km / 1e6
    _, hour = local_hours(day)
    share = exposure.by_minute * np.where((hour >= 22) | (hour < 5), rules.night, 1.0)
    return place, share if weather is None else share * weather


def incidents_by_rate(
    network: Network,
    roads: Roads,
    day: Day,
    exposure: Exposure,
    *,
    rules: IncidentRules,
    rng: np.random.Generator,
    weather: FloatArray | None = None,
) -> tuple[Incident, ...]:
    """Draw a day's incidents, and what they do to the other carriageway, in the order of their onset.

    Parameters
    ----------
    network, roads, day
        The city and the day.
    exposure
        Its traffic.
    rules
        The rate and what follows from it.
    rng
        The day's generator.
    weather
        Times as many incidents in each minute from the fill on (`Weather.incidents`), shape (minutes,).
    """
    place, share = rate_per_h(network, day, exposure, rules, weather)
    most = float(place.sum() * share.max())
    minute = np.sort(rng.random(rng.poisson(most * len(share) / 60.0)) * len(share))
    minute = minute[rng.random(len(minute)) * share.max() < share[minute.astype(np.int64)]]
    if not len(minute):
        return ()
    segment = rng.choice(len(roads), len(minute), p=place / place.sum())
    closed = _lanes(roads.lanes[segment], rng)
    response_min, clearance_min = _durations(closed, rules, rng)
    seen = rng.random(len(minute)) < rules.rubbernecking
    found: list[Incident] = []
    for row, at in enumerate(segment.tolist()):
        onset_ms = day.fill_ms + int(minute[row] * 60) * 1000
        duration_s = float(response_min[row] + clearance_min[row]) * 60
        one = incident_at(roads, at, onset_ms, duration_s, int(closed[row]))
        found.append(replace(one, response_s=float(response_min[row]) * 60))
        if seen[row]:
            found += rubbernecking(network, found[-1])
    return tuple(sorted(found, key=lambda incident: (incident.onset_ms, incident.segment)))


def rubbernecking(network: Network, incident: Incident) -> list[Incident]:
    """Return what an incident does to the segments that lead the other way beside its own, if there are any."""
    return [
        replace(
            incident,
            segment=other,
            lanes_blocked=0,
            capacity_share=RUBBERNECKING_CAPACITY,
            lanes_share=1.0,
            kind="rubbernecking",
        )
        for other in opposite_of(network, incident.segment)
    ]


def work_zone_share(lanes: int, closed: int, *, lane_vph: float = 2300.0, soft: bool = True) -> float:
    """Return the share of the capacity that planned works leave, 0..1.

    Planned works leave more than an incident that closes as many lanes: 0.60 against 0.49 with two of three lanes open.

    Parameters
    ----------
    lanes, closed
        Lanes of the road, and those closed.
    lane_vph
        Capacity of a lane without works, veh/h.
    soft
        True for drums or cones instead of a wall.

    Examples
    --------
    >>> round(work_zone_share(3, 1), 2), round(work_zone_share(2, 1), 2), work_zone_share(2, 0), work_zone_share(2, 2)
    (0.6, 0.4, 1.0, 0.0)
    """
    if closed <= 0:
        return 1.0
    left = lanes - closed
    if left <= 0:
        return 0.0
    severity = 1.0 / (left / lanes * left)
    discharge = WORK_ZONE_BASE_VPH - WORK_ZONE_SEVERITY_VPH * severity - WORK_ZONE_SOFT_VPH * soft
    return min(left * discharge / (1.0 - WORK_ZONE_DROP) / (lanes * lane_vph), left / lanes)


def _lanes(lanes: npt.NDArray[np.int32], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw how many lanes are closed; as in HCM one stays open, where there is more than one."""
    share = np.array(SEVERITY) / sum(SEVERITY)
    closed = 1 + rng.choice(len(SEVERITY), len(lanes), p=share)
    return np.minimum(closed, np.maximum(lanes - 1, 1)).astype(np.int64)


def _durations(
    closed: npt.NDArray[np.int64], rules: IncidentRules, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Draw response and clearance, min, both lognormal; together they have the mean and the spread of HCM."""
    response = rng.lognormal(*lognormal(rules.response_min, rules.response_sd_min), len(closed))
    clearance = np.zeros(len(closed))
    for number, (mean, spread) in enumerate(DURATION_MIN, start=1):
        row = np.flatnonzero(closed == number)
        rest = float(np.sqrt(spread**2 - rules.response_sd_min**2))
        clearance[row] = rng.lognormal(*lognormal(mean - rules.response_min, rest), len(row))
    return response, clearance
