"""Who travels when, from where to where: zones and a day in, that day's trips out.

Four purposes, each with its profile over the day (`simulators.profiles`) and its matrix of zones: to work, back home,
everything else, and through the city from gate to gate. Those who live or work outside come and go by the gates, too,
in the morning the one way, in the evening the other. Matrices are doubly constrained gravity models on free-flow times
(Wilson 1967; balanced by Furness 1965). The number of trips is Poisson; every day can be drawn alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date

import numpy as np
import numpy.typing as npt
import structlog

from citybrain.errors import ConfigError
from citybrain.units import S_PER_H
from simulators.calendar import ORDINARY_WEEK, Day, day_types
from simulators.engine import Trips
from simulators.profiles import DAY_TYPES, PURPOSES, DayType, trips_per_hour
from simulators.roads import FloatArray, Roads
from simulators.routes import Routes
from simulators.supply import carried, loads, together, ways_of
from simulators.vehicles import VehicleRules, kinds_of
from simulators.zones import Zones

log = structlog.get_logger(__name__)

DECAY_PER_MIN = 0.13
"""How the willingness to travel falls with free-flow minutes, the exponential deterrence of Wilson (1967): trips of 7
to 8 min in a city of 10 km [judgement; counts cannot tell it, for they do not know how far people go]."""
TOLERANCE = 1e-6
"""Balanced when no margin is off by a larger share."""
_ROUNDS, _ENOUGH = 1000, 30
_DAYS_PER_YEAR = 365.25
HOME, WORK, OTHER, THROUGH = range(4)
ENDS = ((HOME, WORK), (WORK, HOME), (OTHER, OTHER), (THROUGH, THROUGH))
"""What the zones at both ends of each purpose's trips are to the traveller."""
PURPOSE_ENDS = ("home", "work", "other", "through")


@dataclass(frozen=True, slots=True)
class DemandRules:
    """How much is driven, and on which days; the defaults are ordinary weeks.

    Attributes
    ----------
    trips
        Trips of an ordinary weekday; 0 leaves it to the city.
    factor
        Times the trips of every day.
    through
        Share of a weekday's trips that pass from gate to gate, 0..1 [judgement]; in a city with fewer than two gates
        they go from anywhere to anywhere, however far.
    live_outside, work_outside
        Share of the trips between home and work whose home, and whose work, is beyond the gates, 0..1 [judgement].
    week
        Type of day of Monday to Sunday.
    holidays
        Dates that are driven like a Sunday.
    growth_per_year
        Share by which trips grow in a year; below 0 they fall.
    grows_from
        Date from which they do.
    vehicles
        Which share of the trips trucks make.
    """

    trips: int = 0
    factor: float = 1.0
    through: float = 0.05
    live_outside: float = 0.20
    work_outside: float = 0.08
    week: tuple[DayType, ...] = ORDINARY_WEEK
    holidays: tuple[date, ...] = ()
    growth_per_year: float = 0.0
    grows_from: date = date(2026, 1, 1)
    vehicles: VehicleRules = field(default_factory=VehicleRules)

    def __post_init__(self) -> None:
        """Refuse what cannot be driven, all at once."""
        shares = {name: getattr(self, name) for name in ("through", "live_outside", "work_outside")}
        wrong = [f"{name}: {value} seen, 0 to 1 allowed" for name, value in shares.items() if not 0 <= value <= 1]
        if self.live_outside + self.work_outside > 1:
            together = self.live_outside + self.work_outside
            wrong.append(f"live_outside and work_outside: {together:g} together seen, at most 1 allowed")
        if self.trips < 0 or not self.factor >= 0:
            wrong.append(f"trips {self.trips} and factor {self.factor} seen, 0 or more allowed")
        if not self.growth_per_year > -1:
            wrong.append(f"growth_per_year: {self.growth_per_year} seen, above -1 allowed")
        if len(self.week) != 7 or any(name not in DAY_TYPES for name in self.week):
            wrong.append(f"week: {', '.join(self.week)} seen, seven of {', '.join(DAY_TYPES)} allowed")
        if wrong:
            raise ConfigError("\n".join(wrong))

    def level(self, day: date) -> float:
        """Return the trips of a day against those of an ordinary one of its type.

        Examples
        --------
        >>> round(DemandRules(growth_per_year=0.02).level(date(2028, 1, 1)), 3)
        1.04
        """
        years = (day - self.grows_from).days / _DAYS_PER_YEAR
        return float(self.factor * (1.0 + self.growth_per_year) ** years)


@dataclass(frozen=True, slots=True)
class Factors:
    """What a calibration multiplies the demand with.

    Attributes
    ----------
    ends
        For a zone as a home, a place of work, anything else, and a gate of through traffic, shape (4, zones); a trip
        counts times the factors of both its ends (`ENDS`).
    hours
        For each civil hour of departure, shape (24,).
    """

    ends: FloatArray
    hours: FloatArray

    @classmethod
    def ones(cls, zones: int) -> Factors:
        """Return those that change nothing."""
        return cls(np.ones((4, zones)), np.ones(24))


@dataclass(frozen=True, slots=True)
class Demand:
    """What all days of a city share.

    Attributes
    ----------
    zones
        Where trips begin and end.
    trips
        Trips of an ordinary weekday.
    cumulated
        For each purpose the cumulated matrix of zones, shape (zones * zones,).
    morning_vps
        Flow on each link in the morning peak if everyone took the way of free flow, veh/s, shape (links,).
    rules
        Days and their level.
    purpose_level
        Trips of each purpose against what its profile says.
    hours
        The same for each civil hour, shape (24,).
    """

    zones: Zones
    trips: int
    cumulated: tuple[FloatArray, ...]
    morning_vps: FloatArray
    rules: DemandRules = field(default_factory=DemandRules)
    purpose_level: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    hours: FloatArray = field(default_factory=lambda: np.ones(24))

    def of_day(self, day: Day, rng: np.random.Generator) -> Trips:
        """Draw a day's trips, from the day's first fill to its end."""
        return self.with_purposes(day, rng)[0]

    def with_purposes(self, day: Day, rng: np.random.Generator) -> tuple[Trips, npt.NDArray[np.int64]]:
        """Return a day's trips and, for each, the row of its purpose in `PURPOSES`."""
        minutes = np.arange(day.minutes)
        kind, hour = day_types(day, self.rules.week, self.rules.holidays)
        level = self.rules.level(day.date) * self.hours[hour.astype(np.int64)]
        times, pairs, purposes = [], [], []
        for number, purpose in enumerate(PURPOSES):
            rate = self.trips * trips_per_hour(purpose, kind, hour, self.rules.through) / 60.0
            count = rng.poisson(rate * level * self.purpose_level[number])
            minute = np.repeat(minutes, count)
            times.append((minute + rng.random(len(minute))) * 60.0)
            pairs.append(np.searchsorted(self.cumulated[number], rng.random(len(minute)), side="right"))
            purposes.append(np.full(len(minute), number))
        depart = np.concatenate(times)
        origin_zone, zone = np.divmod(np.concatenate(pairs), len(self.zones))
        origin = nodes_of(self.zones, origin_zone, rng)
        order = np.lexsort((depart, origin))
        kinds = kinds_of(len(depart), self.rules.vehicles, rng)
        trips = Trips(depart[order], origin[order], zone[order].astype(np.int16), kinds)
        return trips, np.concatenate(purposes)[order]

    def times(self, factors: Factors) -> Demand:
        """Return the demand multiplied by what a calibration found."""
        count = len(self.zones)
        cumulated, levels = [], []
        for (start, end), ladder, level in zip(ENDS, self.cumulated, self.purpose_level, strict=True):
            matrix = np.diff(ladder, prepend=0.0).reshape(count, count)
            changed = matrix * np.outer(factors.ends[start], factors.ends[end])
            cumulated.append(_cumulated(changed))
            levels.append(level * float(changed.sum()))
        hours = self.hours * factors.hours
        return replace(self, cumulated=tuple(cumulated), purpose_level=tuple(levels), hours=hours)


def demand_of(roads: Roads, zones: Zones, routes: Routes, trips: int, rules: DemandRules | None = None) -> Demand:
    """Build the matrices.

    Parameters
    ----------
    roads, zones, routes
        The city, with its ways at free flow.
    trips
        Trips of an ordinary weekday, where the rules leave it to the city.
    rules
        What the demand is to be; ordinary weeks where not given.
    """
    rules = rules or DemandRules()
    trips = rules.trips or trips
    gates = zones.gate_vps > 0
    gated = np.count_nonzero(gates) >= 2
    if not gated:
        rules = replace(rules, live_outside=0.0, work_outside=0.0)
    minutes = zone_minutes(zones, routes.minutes)
    will = np.exp(-DECAY_PER_MIN * minutes)
    np.fill_diagonal(will, 0.0)
    will[np.ix_(gates, gates)] = 0.0
    share = zones.gate_vps / max(zones.gate_vps.sum(), 1e-300)
    home = (1 - rules.live_outside) * zones.home + rules.live_outside * share
    work = (1 - rules.work_outside) * zones.work + rules.work_outside * share
    mixed = 0.5 * (home + work)
    to_work, other = gravity(home, work, will), gravity(mixed, mixed, will)
    across = _through(share, minutes, gates) if gated else np.outer(mixed, mixed) * (will > 0)
    matrices = [to_work, gravity(work, home, will), other, across]
    hour = np.arange(0, 24, 0.25)
    weekday = np.zeros(96, np.int64)
    rates = [trips * trips_per_hour(purpose, weekday, hour, rules.through) / S_PER_H for purpose in PURPOSES]
    total = np.sum(rates, axis=0)
    peaks = [int(np.argmax(np.where(part, total, 0.0))) for part in (hour < 12, hour >= 12)]
    ways = ways_of(roads, routes.next_link, np.isfinite(routes.minutes))
    at_peaks = [[float(rate[at]) for rate in rates] for at in peaks]
    kept = carried(matrices, at_peaks, roads, zones, ways)
    morning = loads(ways, zones, together(at_peaks[0], kept), len(roads))
    return Demand(zones, trips, tuple(_cumulated(matrix) for matrix in kept), morning, rules)


def zone_minutes(zones: Zones, minutes: FloatArray) -> FloatArray:
    """Return free-flow minutes from each zone to each zone, from those of nodes to zones; infinite without a way."""
    known = np.where(np.isfinite(minutes), minutes, 1e9) * zones.origin_share
    mean = np.stack([np.bincount(zones.of_node, weights=row, minlength=len(zones)) for row in known], axis=1)
    nowhere = np.bincount(zones.of_node, weights=zones.origin_share, minlength=len(zones)) == 0
    return np.where((mean > 1e5) | nowhere[:, None], np.inf, mean)


def gravity(out: FloatArray, into: FloatArray, will: FloatArray, tolerance: float = TOLERANCE) -> FloatArray:
    """Return the doubly constrained matrix: rows sum to ``out``, columns to ``into``, pairs fall with ``will``.

    Rows and columns are scaled in turn until no margin is off by more than a share of ``tolerance``. A zone that
    nothing leads from, or to, has no trips that way; what is left of both margins is brought to the same sum.

    Parameters
    ----------
    out, into
        Trips that begin and end in each zone, shape (n,).
    will
        Deterrence of each pair, shape (n, n); 0 where there is no way.
    tolerance
        Largest error of a margin, as a share of it. Margins that no matrix with these zeros can meet are met as
        nearly as a few rounds bring them, columns exactly, and logged.

    References
    ----------
    Wilson (1967), Transportation Research 1(3). Furness (1965), Traffic Engineering and Control 7. Ortuzar and
    Willumsen (2011), Modelling Transport, 4th edition, section 5.4.
    """
    leads, led = (will @ (into > 0)) > 0, ((out > 0) @ will) > 0
    out, into = np.where(leads, out, 0.0), np.where(led, into, 0.0)
    into = into * (out.sum() / max(into.sum(), 1e-300))
    b, error = np.ones(len(into)), 0.0
    for number in range(_ROUNDS):
        a = out / np.maximum(will @ b, 1e-300)
        reached = a @ will
        error = float(np.max(np.abs(reached * b - into) / np.maximum(into, 1e-300), initial=0.0, where=into > 0))
        b = into / np.maximum(reached, 1e-300)
        if number <= _ENOUGH:
            early = a, b
        if error <= tolerance:
            break
    else:
        # Left to go on, it would move all trips to the few pairs that keep the margins together.
        a, b = early
        log.warning("gravity_unbalanced", worst=round(error, 6), allowed=tolerance)
    return np.asarray(a[:, None] * will * b[None, :])


def nodes_of(zones: Zones, zone: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int32]:
    """Draw a node of each zone by the nodes' shares."""
    by_zone = np.argsort(zones.of_node, kind="stable")
    ladder = np.cumsum(zones.origin_share[by_zone])
    whole = np.bincount(zones.of_node, weights=zones.origin_share, minlength=len(zones))
    before = np.cumsum(whole) - whole
    at = np.searchsorted(ladder, before[zone] + rng.random(len(zone)) * (1 - 1e-9), side="right")
    return by_zone[np.minimum(at, len(by_zone) - 1)].astype(np.int32)


def _through(share: FloatArray, minutes: FloatArray, gates: npt.NDArray[np.bool_]) -> FloatArray:
    """Return the matrix from gate to gate; whoever passes through a city goes far, so nearness counts for nothing."""
    way = (np.isfinite(minutes) & np.outer(gates, gates)).astype(np.float64)
    np.fill_diagonal(way, 0.0)
    # A gate with more than half of all cannot send as much to the others as it takes from them.
    margin = np.minimum(share, 0.45 * share.sum())
    return gravity(margin, margin, way)


def _cumulated(matrix: FloatArray) -> FloatArray:
    ladder = np.cumsum(matrix.reshape(-1))
    if not ladder[-1] > 0:
        raise ConfigError("demand: no two zones with a way between them seen, at least one pair needed")
    return np.asarray(ladder / ladder[-1])
