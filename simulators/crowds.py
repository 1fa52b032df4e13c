"""Trips that are no ordinary day's: a crowd or an order to leave in, trips out, to be laid over the usual ones.

A crowd comes to a place before something begins and leaves it when it is over; an evacuation empties zones through the
gates. Whoever leaves does so along an S-curve: slowly at first, then all at once, then the last ones.

References
----------
Radwan, Hobeika and Sivasailam (1985), ITE Journal 55(9), and Pel, Bliemer and Hoogendoorn (2012), Transportation
39(1): the logistic curve of those who leave. FHWA (2003), Managing Travel for Planned Special Events: before a game
most come within the last hour and a half, after it most leave within the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from citybrain.errors import ConfigError
from citybrain.units import S_PER_H
from simulators.demand import nodes_of
from simulators.engine import Trips
from simulators.roads import FloatArray, IntArray
from simulators.zones import Zones

NINE_IN_TEN = 0.9
COMES_WITHIN_S = 1.5 * S_PER_H
"""Nine in ten have come so long before the begin, the most of them in its middle."""
PARKING_KM = 0.6
"""Cars of a crowd stand on the streets and car parks so far around the place [judgement]."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """Visitors of an event.

    Attributes
    ----------
    place_km
        Where it is, in the coordinates of `zones.node_positions_km`.
    cars
        Cars that come and go.
    begins_s, ends_s
        When it begins and ends, seconds of the day's engine.
    emptied_s
        Nine in ten have set off so long after the end.
    radius_km
        How far around the place they park.
    """

    place_km: tuple[float, float]
    cars: int
    begins_s: float
    ends_s: float
    emptied_s: float = 50 * 60.0
    radius_km: float = PARKING_KM

    def __post_init__(self) -> None:
        """Refuse what cannot happen."""
        if self.cars < 0 or not self.ends_s > self.begins_s or not self.emptied_s > 0:
            raise ConfigError(
                f"crowd: {self.cars} cars from {self.begins_s:g} to {self.ends_s:g} s, emptied in {self.emptied_s:g} s "
                "seen, 0 or more cars, an end after the begin and a time above 0 allowed"
            )


@dataclass(frozen=True, slots=True)
class Flight:
    """An order to leave.

    Attributes
    ----------
    cars
        Cars that leave each zone, shape (zones,).
    ordered_s
        Second of the day's engine.
    left_in_s
        Nine in ten have set off so long after it.
    """

    cars: npt.NDArray[np.int64]
    ordered_s: float
    left_in_s: float


def crowd_trips(crowd: Crowd, zones: Zones, positions_km: FloatArray, rng: np.random.Generator) -> Trips:
    """Return the trips of a crowd: from homes and gates to the place, and back.

    Parameters
    ----------
    crowd
        The visitors.
    zones, positions_km
        The city; positions of its nodes, km, shape (nodes, 2).
    rng
        Draws who comes from where and when.
    """
    around = _around(crowd, zones, positions_km)
    share = zones.home + 0.25 * zones.gate_vps / max(zones.gate_vps.sum(), 1e-300)
    started = np.bincount(zones.of_node, weights=zones.origin_share, minlength=len(zones)) > 0
    share = np.where(started, share, 0.0)
    at = np.unique(zones.of_node[around])
    share[at] = 0.0
    home = rng.choice(len(zones), crowd.cars, p=share / share.sum())
    place = around[rng.choice(len(around), crowd.cars, p=_shares(zones, around))]
    come = crowd.begins_s - COMES_WITHIN_S + COMES_WITHIN_S * _logistic(crowd.cars, rng)
    leave = crowd.ends_s + crowd.emptied_s * _logistic(crowd.cars, rng)
    there = Trips(come, nodes_of(zones, home, rng), zones.of_node[place].astype(np.int16))
    return joined(there, Trips(leave, place.astype(np.int32), home.astype(np.int16)))


def flight_trips(flight: Flight, zones: Zones, minutes: FloatArray, rng: np.random.Generator) -> Trips:
    """Return the trips of an evacuation: from zones to gates, the more to those that are near and wide.

    Parameters
    ----------
    flight
        Who leaves when.
    zones
        The city.
    minutes
        Free-flow minutes from zone to zone, shape (zones, zones).
    rng
        Draws when each leaves and by which gate.

    Raises
    ------
    ConfigError
        If the city has no gate.
    """
    gates = np.flatnonzero(zones.gate_vps > 0)
    if not len(gates):
        raise ConfigError("evacuation: a city without gates seen, at least one motorway that leads out allowed")
    started = np.bincount(zones.of_node, weights=zones.origin_share, minlength=len(zones)) > 0
    cars = np.where(started, flight.cars, 0)
    cars[gates] = 0
    origin = np.repeat(np.arange(len(zones)), cars)
    want = zones.gate_vps[gates] * np.exp(-0.1 * np.where(np.isfinite(minutes), minutes, 1e3)[:, gates])
    ladder = np.cumsum(want / np.maximum(want.sum(axis=1, keepdims=True), 1e-300), axis=1)
    drawn = (rng.random(len(origin))[:, None] > ladder[origin]).sum(axis=1)
    gate = gates[np.minimum(drawn, len(gates) - 1)]
    depart = flight.ordered_s + flight.left_in_s * _logistic(len(origin), rng)
    return joined(Trips(depart, nodes_of(zones, origin, rng), gate.astype(np.int16)))


def joined(*parts: Trips) -> Trips:
    """Return trips together, in the order that the engine wants them; those before its start begin with it."""
    depart = np.maximum(np.concatenate([part.depart_s for part in parts]), 0.0)
    origin = np.concatenate([part.origin for part in parts])
    order = np.lexsort((depart, origin))
    kind = None
    if any(part.kind is not None for part in parts):
        kinds = [np.zeros(len(part), np.int8) if part.kind is None else part.kind for part in parts]
        kind = np.concatenate(kinds)[order]
    return Trips(depart[order], origin[order], np.concatenate([part.zone for part in parts])[order], kind)


def _logistic(count: int, rng: np.random.Generator) -> FloatArray:
    """Draw when each sets off, as a share of the time in which nine in ten have; never before the begin."""
    drawn = rng.random(count)
    # The curve begins at a hundredth and reaches nine tenths at 1.
    first, last = np.log(0.01 / 0.99), np.log(NINE_IN_TEN / (1 - NINE_IN_TEN))
    logit = np.log(np.maximum(drawn, 1e-9) / np.maximum(1 - drawn, 1e-4))
    return np.asarray(np.maximum((logit - first) / (last - first), 0.0))


def _around(crowd: Crowd, zones: Zones, positions_km: FloatArray) -> IntArray:
    """Return the nodes around the place from which one can start: those within the radius, or else the nearest."""
    far = np.hypot(*(positions_km - np.array(crowd.place_km)).T)
    usable = zones.origin_share > 0
    near = np.flatnonzero(usable & (far <= crowd.radius_km))
    if len(near):
        return near.astype(np.int32)
    return np.array([int(np.argmin(np.where(usable, far, np.inf)))], np.int32)


def _shares(zones: Zones, nodes: IntArray) -> FloatArray:
    weight = zones.origin_share[nodes]
    return np.asarray(weight / weight.sum())
