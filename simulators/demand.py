"""Who travels when, from where to where: zones and a day in, that day's trips out.

Four purposes, each with its profile over the day and its matrix of zones: to work, back home, everything else, and
through the gates. Matrices are doubly constrained gravity models on free-flow times (Wilson 1967; balanced by
Furness). The number of trips is Poisson; every day can be drawn alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from citybrain.errors import ConfigError
from citybrain.units import S_PER_H
from simulators.calendar import Day, local_hours
from simulators.engine import Trips
from simulators.roads import FloatArray, Roads
from simulators.routes import Routes
from simulators.supply import carried, loads, together, ways_of
from simulators.zones import Zones

DECAY_PER_MIN = 0.13
"""How the willingness to travel falls with free-flow minutes: trips of 7 to 8 min in a city of 10 km [judgement]."""

PURPOSES = ("to_work", "to_home", "other", "gates")
_BUMPS: dict[str, tuple[tuple[tuple[float, float, float], ...], ...]] = {
    # (share, middle as local hour, standard deviation in hours), for weekday, Saturday, Sunday; shares of all trips
    # of an ordinary weekday. Peaks at 8:15 and 18:00 as in the mobility survey of the metropolitan area of Porto
    # (INE 2017, Inquerito a mobilidade); the widths are judgement.
    "to_work": (((0.172, 7.65, 0.76), (0.03, 14.0, 1.0)), ((0.04, 9.0, 1.2),), ((0.02, 9.5, 1.5),)),
    "to_home": (((0.04, 13.0, 1.0), (0.150, 17.4, 1.0)), ((0.04, 13.3, 1.5), (0.04, 19.0, 1.5)), ((0.04, 18.5, 1.8),)),
    "other": (
        ((0.13, 10.4, 2.0), (0.15, 13.7, 2.2), (0.13, 17.0, 2.0), (0.045, 21.3, 1.7), (0.010, 1.0, 1.8)),
        ((0.20, 11.5, 2.1), (0.25, 16.8, 2.5), (0.06, 21.8, 1.9), (0.015, 1.0, 1.9)),
        ((0.14, 12.0, 2.0), (0.20, 17.2, 2.3), (0.04, 21.5, 1.8), (0.015, 1.0, 2.0)),
    ),
    "gates": (
        ((0.035, 7.6, 0.9), (0.055, 13.0, 3.0), (0.045, 17.9, 1.3), (0.005, 3.0, 3.0)),
        ((0.06, 12.0, 3.0), (0.05, 18.0, 2.5), (0.004, 3.0, 3.0)),
        ((0.03, 12.0, 3.0), (0.06, 18.5, 2.2), (0.004, 3.0, 3.0)),
    ),
}


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
    """

    zones: Zones
    trips: int
    cumulated: tuple[FloatArray, ...]
    morning_vps: FloatArray

    def of_day(self, day: Day, rng: np.random.Generator) -> Trips:
        """Draw a day's trips, from the day's first fill to its end."""
        minutes = np.arange(day.minutes)
        kind, hour = local_hours(day)
        times, pairs = [], []
        for number, purpose in enumerate(PURPOSES):
            rate = self.trips * _profile(purpose, kind, hour) / 60.0
            count = rng.poisson(rate)
            minute = np.repeat(minutes, count)
            times.append((minute + rng.random(len(minute))) * 60.0)
            pairs.append(np.searchsorted(self.cumulated[number], rng.random(len(minute)), side="right"))
        depart = np.concatenate(times)
        origin_zone, zone = np.divmod(np.concatenate(pairs), len(self.zones))
        origin = self._nodes(origin_zone, rng)
        order = np.lexsort((depart, origin))
        return Trips(depart[order], origin[order], zone[order].astype(np.int16))

    def _nodes(self, zone: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int32]:
        """Draw a node of each zone by the nodes' shares."""
        by_zone = np.argsort(self.zones.of_node, kind="stable")
        ladder = np.cumsum(self.zones.origin_share[by_zone])
        whole = np.bincount(self.zones.of_node, weights=self.zones.origin_share, minlength=len(self.zones))
        before = np.cumsum(whole) - whole
        at = np.searchsorted(ladder, before[zone] + rng.random(len(zone)) * (1 - 1e-9), side="right")
        return by_zone[np.minimum(at, len(by_zone) - 1)].astype(np.int32)


def demand_of(roads: Roads, zones: Zones, routes: Routes, trips: int) -> Demand:
    """Build the matrices.

    Parameters
    ----------
    roads, zones, routes
        The city, with its ways at free flow.
    trips
        Trips of an ordinary weekday.
    """
    minutes = zone_minutes(zones, routes.minutes)
    will = np.exp(-DECAY_PER_MIN * minutes)
    np.fill_diagonal(will, 0.0)
    mixed = 0.5 * (zones.home + zones.work)
    commute = gravity(zones.home, zones.work, will)
    gates = _gate_matrix(zones, (will > 0).astype(np.float64), mixed)
    matrices = [commute, gravity(zones.work, zones.home, will), gravity(mixed, mixed, will), gates]
    hour = np.arange(0, 24, 0.25)
    rates = [trips * _profile(purpose, np.zeros(96, np.int64), hour) / S_PER_H for purpose in PURPOSES]
    total = np.sum(rates, axis=0)
    peaks = [int(np.argmax(np.where(part, total, 0.0))) for part in (hour < 12, hour >= 12)]
    ways = ways_of(roads, routes.next_link, np.isfinite(routes.minutes))
    at_peaks = [[float(rate[at]) for rate in rates] for at in peaks]
    kept = carried(matrices, at_peaks, roads, zones, ways)
    morning = loads(ways, zones, together(at_peaks[0], kept), len(roads))
    return Demand(zones, trips, tuple(_cumulated(matrix) for matrix in kept), morning)


def zone_minutes(zones: Zones, minutes: FloatArray) -> FloatArray:
    """Return free-flow minutes from each zone to each zone, from those of nodes to zones; infinite without a way."""
    known = np.where(np.isfinite(minutes), minutes, 1e9) * zones.origin_share
    mean = np.stack([np.bincount(zones.of_node, weights=row, minlength=len(zones)) for row in known], axis=1)
    nowhere = np.bincount(zones.of_node, weights=zones.origin_share, minlength=len(zones)) == 0
    return np.where((mean > 1e5) | nowhere[:, None], np.inf, mean)


def gravity(out: FloatArray, into: FloatArray, will: FloatArray, rounds: int = 30) -> FloatArray:
    """Return the doubly constrained matrix: rows sum to ``out``, columns to ``into``, pairs fall with ``will``.

    References
    ----------
    Wilson (1967), Transportation Research 1(3). Furness (1965), Traffic Engineering and Control 7.
    """
    matrix = will * np.outer(out, into)
    for _ in range(rounds):
        matrix *= (out / np.maximum(matrix.sum(axis=1), 1e-300))[:, None]
        matrix *= (into / np.maximum(matrix.sum(axis=0), 1e-300))[None, :]
    return np.asarray(matrix)


def _gate_matrix(zones: Zones, way: FloatArray, mixed: FloatArray) -> FloatArray:
    """Return trips that come in, go out and pass through: 35, 35 and 30 % of those at the gates [judgement]."""
    if np.count_nonzero(zones.gate_vps) < 2:
        return np.asarray(way * np.outer(mixed, mixed))
    share = zones.gate_vps / zones.gate_vps.sum()
    matrix = np.zeros(way.shape)
    for weight, out, into in ((0.35, share, mixed), (0.35, mixed, share), (0.30, share, share)):
        part = way * np.outer(out, into)
        np.fill_diagonal(part, 0.0)
        matrix += weight * part / max(part.sum(), 1e-300)
    return matrix


def _cumulated(matrix: FloatArray) -> FloatArray:
    ladder = np.cumsum(matrix.reshape(-1))
    if not ladder[-1] > 0:
        raise ConfigError("demand: no two zones with a way between them seen, at least one pair needed")
    return np.asarray(ladder / ladder[-1])


def _profile(purpose: str, kind: npt.NDArray[np.int64], hour: FloatArray) -> FloatArray:
    """Return trips per hour as a share of an ordinary weekday's trips, for each minute of a day."""
    rate = np.zeros(len(hour))
    for day_type, bumps in enumerate(_BUMPS[purpose]):
        inside = kind == day_type
        for share, middle, spread in bumps:
            gap = (hour[inside] - middle + 12.0) % 24.0 - 12.0
            rate[inside] += share * np.exp(-0.5 * (gap / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
    return rate
