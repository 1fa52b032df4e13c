"""Demand that meets counts: a city and what its detectors counted in, factors of zones, purposes and hours out.

The city's day is run and every vehicle is followed over the counted segments, so it is known exactly who was counted
where: each vehicle's zones, purpose and hour of departure. A count is then the sum of its vehicles' weights, a weight
the product of the factors of both ends (`simulators.demand.Factors`) and of the hour. The factors that bring these
sums nearest to the counts, in GEH and without leaving 1 for nothing, are found by L-BFGS-B within bounds; then the day
is run with them, for other roads are full now, and all begins again. It is Bell's generalised least squares with the
structure of the demand for a prior: it moves homes, work places, gates and hours, not single pairs of zones, which
counts cannot tell.

References
----------
Bell (1991), Transportation Research B 25(1) (generalised least squares). Cascetta and Nguyen (1988), Transportation
Research B 22(6) (assignment shares). Byrd, Lu, Nocedal and Zhu (1995), SIAM Journal on Scientific Computing 16(5).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import structlog
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from simulators.calendar import Day, local_hours, on
from simulators.city import SimulatedCity
from simulators.counts import MET, Counts, geh
from simulators.demand import ENDS, Demand, Factors
from simulators.engine import Engine, Trips
from simulators.roads import FloatArray, IntArray
from simulators.routes import EVERY_S

log = structlog.get_logger(__name__)

ROUNDS = 4
FACTOR_BOUNDS = (0.2, 5.0)
"""No factor leaves these."""
_STEP = np.log(1.6)
"""Nor changes by more in a round: roads that fill up make the shares of the last run wrong."""
_GEH_SPREAD = 3.0
"""A model that is right has a GEH of this size [judgement]."""
_ZONE_SPREAD, _HOUR_SPREAD = 0.5, 0.25
"""How far the logarithms of factors are from 0 before anything was counted [judgement]."""
_DRAW = 7


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a run meets the counts.

    Attributes
    ----------
    counts
        What was counted.
    model_vph
        What passed in the run, shape (counts,).
    """

    counts: Counts
    model_vph: FloatArray

    @property
    def geh(self) -> FloatArray:
        """GEH of each count."""
        return geh(self.model_vph, self.counts.vph)

    @property
    def met(self) -> float:
        """Share of the counts with a GEH below 5."""
        return float((self.geh < MET).mean())

    def of_hour(self, hour: int) -> Fit:
        """Return the part of one hour."""
        kept = self.counts.hour == hour
        return Fit(self.counts.of_hours([hour]), self.model_vph[kept])


@dataclass(frozen=True, slots=True)
class Calibration:
    """What came out.

    Attributes
    ----------
    factors
        Of the best run.
    before, after
        Fit without them and with them.
    rounds
        Fit of every run, the first without factors.
    """

    factors: Factors
    before: Fit
    after: Fit
    rounds: tuple[Fit, ...]


@dataclass(frozen=True, slots=True)
class _Followed:
    """Who was counted: ``share[count, vehicle]`` and ``ends[vehicle, factor]``, both 0 or 1."""

    share: csr_matrix
    ends: csr_matrix
    vph: FloatArray


def calibrate(
    city: SimulatedCity,
    day: date,
    counts: Counts,
    *,
    rounds: int = ROUNDS,
    told: Callable[[int, Fit], object] = lambda number, fit: None,
) -> Calibration:
    """Find the factors that bring a city's day nearest to counts; the same input gives the same factors.

    Parameters
    ----------
    city
        The city with its own demand; it is left as it is.
    day
        The day to run: a weekday for counts of weekdays.
    counts
        What was counted.
    rounds
        Times the day is run beside the first.
    told
        Hears the number of each run and its fit.
    """
    zones = len(city.zones)
    theta = np.zeros(4 * zones + 24)
    found: list[tuple[Fit, Factors]] = []
    for number in range(rounds + 1):
        factors = _factors(theta, zones)
        followed = _follow(city, city.demand.times(factors), on(day, city.timezone), counts)
        fit = Fit(counts, followed.vph)
        found.append((fit, factors))
        told(number, fit)
        log.info("calibration_round", number=number, met=round(fit.met, 3), geh=round(float(fit.geh.mean()), 2))
        if number < rounds:
            theta = theta + _step(followed, counts.vph, theta, zones)
    best = max(found, key=lambda one: (one[0].met, -float(one[0].geh.mean())))
    return Calibration(best[1], found[0][0], best[0], tuple(fit for fit, _ in found))


def _factors(theta: FloatArray, zones: int) -> Factors:
    return Factors(np.exp(theta[: 4 * zones]).reshape(4, zones), np.exp(theta[4 * zones :]))


def _follow(city: SimulatedCity, demand: Demand, day: Day, counts: Counts) -> _Followed:
    """Run the day up to its last counted hour and note who passes the counted segments."""
    seed = [city.feed.seed, _DRAW, day.date.toordinal()]
    trips, purpose = demand.with_purposes(day, np.random.default_rng(seed))
    engine = Engine(city.roads, trips)
    routes = city.routes()
    engine.watched = np.zeros(len(city.roads), bool)
    engine.watched[counts.segment] = True
    _, hours = local_hours(day)
    start_s = (day.start_ms - day.fill_ms) / 1000
    number = np.full(len(city.roads) * 24, -1, np.int64)
    number[counts.segment.astype(np.int64) * 24 + counts.hour] = np.arange(len(counts))
    rows, vehicles = [], []
    last_s = _last_second(hours, counts.hour, start_s)
    while engine.now_s < last_s:
        engine.step(routes.next_link)
        if round(engine.now_s) % EVERY_S == 0:
            routes.update(engine)
            for link, vehicle, instant in engine.seen:
                civil = hours[np.minimum((instant // 60).astype(np.int64), len(hours) - 1)].astype(np.int64)
                row = np.where(instant >= start_s, number[link.astype(np.int64) * 24 + civil], -1)
                rows.append(row[row >= 0])
                vehicles.append(vehicle[row >= 0])
            engine.seen.clear()
    row = np.concatenate(rows)
    seen, column = np.unique(np.concatenate(vehicles), return_inverse=True)
    share = csr_matrix((np.ones(len(row)), (row, column)), shape=(len(counts), len(seen)))
    ends = _ends(city, trips, purpose, hours)[seen]
    return _Followed(share, ends, np.bincount(row, minlength=len(counts)).astype(np.float64))


def _last_second(hours: FloatArray, counted: IntArray, start_s: float) -> float:
    """Return where the last counted hour ends."""
    inside = np.isin(hours.astype(np.int64), counted) & (np.arange(len(hours)) * 60 >= start_s)
    return float((np.flatnonzero(inside)[-1] + 1) * 60)


def _ends(city: SimulatedCity, trips: Trips, purpose: npt.NDArray[np.int64], hours: FloatArray) -> csr_matrix:
    """Return which factors each trip's weight is the product of."""
    zones, number = len(city.zones), np.arange(len(trips))
    begins, leads = np.array([start for start, _ in ENDS])[purpose], np.array([end for _, end in ENDS])[purpose]
    start = begins * zones + city.zones.of_node[trips.origin]
    end = leads * zones + trips.zone
    clock = 4 * zones + hours[(trips.depart_s // 60).astype(np.int64)].astype(np.int64)
    columns = np.concatenate([start, end, clock])
    shape = (len(trips), 4 * zones + 24)
    return csr_matrix((np.ones(len(columns)), (np.tile(number, 3), columns)), shape=shape)


def _step(followed: _Followed, counted: FloatArray, theta: FloatArray, zones: int) -> FloatArray:
    """Return the change of the logarithms that brings the followed vehicles' sums nearest to the counts."""
    weight = 2.0 / (followed.vph + counted + 1.0) / _GEH_SPREAD**2
    prior = np.concatenate([np.full(4 * zones, _ZONE_SPREAD), np.full(24, _HOUR_SPREAD)]) ** -2
    share, ends = followed.share, followed.ends

    def cost(change: FloatArray) -> tuple[float, FloatArray]:
        weights = np.exp(ends @ change)
        miss = share @ weights - counted
        slope = ends.T @ (weights * (share.T @ (2.0 * weight * miss)))
        whole = theta + change
        return float((weight * miss**2).sum() + (prior * whole**2).sum()), slope + 2.0 * prior * whole

    low, high = np.log(FACTOR_BOUNDS[0]) - theta, np.log(FACTOR_BOUNDS[1]) - theta
    bounds = np.stack([np.maximum(low, -_STEP), np.minimum(high, _STEP)], axis=1)
    found = minimize(cost, np.zeros(len(theta)), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60})
    return np.asarray(found.x)
