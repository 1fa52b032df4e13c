"""How much traffic a city carries: a city and a day in, its travel time index by the quarter hour out.

And the other way round: the number of trips at which its peak is as slow as wanted. Nothing but the traffic is run: no
sensor, no drawn incident. The index of the whole network is time spent over the time that the same kilometres take at
free flow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import structlog

from citybrain.errors import ConfigError
from citybrain.network import Network
from citybrain.settings import SimulatedFeed
from citybrain.units import S_PER_H
from simulators.calendar import local_hours, on
from simulators.city import SimulatedCity
from simulators.day import DayRun
from simulators.edie import Measure
from simulators.roads import FloatArray

log = structlog.get_logger(__name__)

QUARTER_S = 900
PEAK_QUARTERS = 2
"""A peak is the slowest half hour."""
TARGETS = (1.05, 3.0)
"""Indices that can be asked for: below, nothing is slow; above, the city locks up and trips mean nothing."""
_POWER = 4.0
"""Delay grows about with this power of the trips (BPR 1964, Traffic Assignment Manual): only a first guess."""
_WIDEST_STEP = 1.35


@dataclass(frozen=True, slots=True)
class DayLevel:
    """A day by the quarter hour; arrays have shape (quarters,).

    Attributes
    ----------
    hour
        Civil hour at its middle.
    tti
        Travel time index of the whole network; 1 where nobody drove.
    on_road
        Vehicles on the road at its end.
    waiting
        Trips that wait to enter the road at its end.
    locked
        Segments that are locked at its end.
    """

    hour: FloatArray
    tti: FloatArray
    on_road: FloatArray
    waiting: FloatArray
    locked: FloatArray

    def peak(self, from_hour: float, to_hour: float) -> float:
        """Return the mean index of the slowest half hour that begins within some hours; NaN where none was run."""
        inside = (self.hour > from_hour) & (self.hour < to_hour)
        if inside.sum() < PEAK_QUARTERS:
            return float("nan")
        halves = np.convolve(self.tti[inside], np.full(PEAK_QUARTERS, 1 / PEAK_QUARTERS), "valid")
        return float(halves.max())

    @property
    def morning(self) -> float:
        """The peak before noon."""
        return self.peak(4, 12)

    @property
    def evening(self) -> float:
        """The peak after 15:00."""
        return self.peak(15, 22)

    def mean(self, from_hour: float, to_hour: float) -> float:
        """Return the mean index within some hours."""
        return float(self.tti[(self.hour > from_hour) & (self.hour < to_hour)].mean())


def level_of(city: SimulatedCity, day: date, until_hour: float = 28.0) -> DayLevel:
    """Run a day from its start to an hour, counted on past midnight, and return its level."""
    run = city.run_of(on(day, city.timezone))
    _, hours = local_hours(run.day)
    rows = list(_quarters(run, hours, until_hour))
    return DayLevel(*(np.array(column) for column in zip(*rows, strict=True)))


def _quarters(run: DayRun, hours: FloatArray, until_hour: float) -> Iterator[tuple[float, ...]]:
    engine = run.engine
    measure = Measure(engine)
    start_s = (run.day.start_ms - run.day.fill_ms) // 1000
    last_s = min(run.day.seconds, start_s + int((until_hour - 4) * S_PER_H))
    while round(engine.now_s) < last_s:
        run.step()
        second = round(engine.now_s)
        if second % QUARTER_S:
            continue
        minute = measure.since(engine)
        if second <= start_s:
            continue
        free_s = float((minute.distance_m / engine.roads.speed_ms).sum())
        tti = float(minute.time_s.sum()) / free_s if free_s else 1.0
        middle = float(hours[(second - QUARTER_S // 2) // 60])
        waiting = float(engine.waiting_at_origin().sum())
        yield middle, max(tti, 1.0), float(engine.on_road), waiting, float(len(engine.stalled(QUARTER_S)))


def trips_for(
    index_at: Callable[[int], float], target: float, first: int, *, tolerance: float = 0.05, tries: int = 10
) -> tuple[int, float]:
    """Return the number of trips at which a peak has an index, and the index it then has.

    The same input gives the same trips: each try follows from the ones before.

    Parameters
    ----------
    index_at
        Peak index of a day with so many trips; it grows with them, though not smoothly.
    target
        Index wanted.
    first
        Trips to begin with.
    tolerance
        Largest difference from the target.
    tries
        Most days that are run.

    Raises
    ------
    ConfigError
        If the target cannot be asked for, or no number of trips gives it: then the nearest is named.
    """
    if not TARGETS[0] <= target <= TARGETS[1]:
        raise ConfigError(f"peak index: {target:g} seen, {TARGETS[0]:g} to {TARGETS[1]:g} allowed")
    tried: dict[int, float] = {}
    trips = first
    for _ in range(tries):
        tried[trips] = index_at(trips)
        log.info("level_tried", trips=trips, peak=round(tried[trips], 3), target=target)
        if abs(tried[trips] - target) <= tolerance:
            return trips, tried[trips]
        trips = _next(tried, target)
        if trips in tried:
            break
    best = min(tried, key=lambda at: abs(tried[at] - target))
    raise ConfigError(
        f"peak index: {target:g} not met by any number of trips tried; {best:,} trips give {tried[best]:.2f}, "
        "ask for that or for a wider tolerance"
    )


def _next(tried: dict[int, float], target: float) -> int:
    """Return the trips to try next: between the nearest on both sides, or a step beyond all."""
    below = [at for at, index in tried.items() if index < target]
    above = [at for at, index in tried.items() if index >= target]
    if below and above and max(below) < min(above):
        low, high = max(below), min(above)
        share = (target - tried[low]) / (tried[high] - tried[low])
        return _rounded(low + min(max(share, 0.2), 0.8) * (high - low))
    last = max(below) if below and not above else min(above or below)
    step = ((target - 1) / max(tried[last] - 1, 1e-3)) ** (1 / _POWER)
    return _rounded(last * min(max(step, 1 / _WIDEST_STEP), _WIDEST_STEP))


def _rounded(trips: float) -> int:
    """Return a number of trips to three digits, so that a setting can be read."""
    digits = int(10 ** max(len(str(int(trips))) - 3, 0))
    return max(round(trips / digits) * digits, 1)


def city_with(network: Network, feed: SimulatedFeed, timezone: str, trips: int) -> SimulatedCity:
    """Return the city with other trips and nothing that disturbs them."""
    return SimulatedCity(network, replace(feed, trips=trips, incidents_per_day=0.0, faulty_share=0.0), timezone)
