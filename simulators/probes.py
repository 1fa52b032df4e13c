"""Probe vehicles: who left which link when in, readings of segments as a floating-car provider delivers them out.

A share of the vehicles tells its position every 10 to 30 s, with the error of a satellite receiver, which is larger and
lasts longer in narrow streets. The platform takes no positions: it has no map matching of its own. So what is modelled
here goes on to what a provider makes of them: it knows each vehicle's way, interpolates between positions when the
vehicle passed each end of a segment, and sends, once an interval, the mean travel time of those whose journey over a
segment it came to know in it (`DERIVED`, no counts; a vehicle is known one position later). Ways are matched without
mistake; between two ends of a link a vehicle is taken to move evenly.

How a run takes it up: detectors of kind ``probe`` (`simulators.sensorplan.with_plan`) name the segments; after each
interval ``seen = taken(engine)`` goes to the cameras and to `Probes.readings`; the batch is one of a source of its own.

References
----------
van Diggelen and Enge (2015), The world's first GPS MOOC and worldwide laboratory using smartphones, ION GNSS+ (4.9 m
under an open sky). Herrera et al. (2010), Transportation Research C 18(4) (a few per cent of the vehicles are enough).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from citybrain.errors import ConfigError
from citybrain.network import ROAD_CLASSES, Network
from citybrain.records import Quality, Readings, SpeedKind
from simulators.cameras import Seen, watch
from simulators.engine import Engine
from simulators.roads import KMH_PER_MS, FloatArray, IntArray, Roads
from simulators.sensors import DELIVERY_MS
from simulators.zones import node_positions_km

LongArray = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

CANYON_RADIUS_KM, CANYON_NODES = 0.15, 8
"""A street with so many junctions so near is taken for a narrow one [judgement: the network knows no houses]."""
TOP_SHARE = 2.0
"""A provider drops journeys above so many times free-flow speed: positions were wrong."""
_SLOW_S = 60.0
_AFAR_M = 1e7
_START = -1


@dataclass(frozen=True, slots=True)
class ProbeRules:
    """Which vehicles are probes, and how well they know where they are.

    Attributes
    ----------
    share
        Share of the vehicles, 0..1.
    every_s
        Least and greatest time between two positions; each vehicle keeps to its own.
    error_m
        Standard deviation along the road under an open sky, m.
    canyon_error_m
        The same in narrow streets, m [judgement: reflected signals are off by tens of metres].
    """

    share: float = 0.05
    every_s: tuple[float, float] = (10.0, 30.0)
    error_m: float = 4.0
    canyon_error_m: float = 18.0

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not 0.0 <= self.share <= 1.0:
            raise ConfigError(f"probes: share {self.share} seen, 0 to 1 allowed")
        if not 1.0 <= self.every_s[0] <= self.every_s[1]:
            raise ConfigError(f"probes: every {self.every_s} s seen, from 1 s on, the lower first, allowed")
        if min(self.error_m, self.canyon_error_m) < 0:
            raise ConfigError(f"probes: errors {self.error_m}, {self.canyon_error_m} m seen, 0 or above allowed")


@dataclass(frozen=True, slots=True)
class Fixes:
    """Positions as sent, in order of vehicle and time; arrays have shape (n,).

    Attributes
    ----------
    vehicle
        Vehicle.
    instant_s
        When, second of the day.
    driven_m, error_m
        Metres driven since it entered the road, in truth; by how much the position is ahead.
    canyon
        Whether the street is narrow.
    """

    vehicle: LongArray
    instant_s: FloatArray
    driven_m: FloatArray
    error_m: FloatArray
    canyon: Flags


class Probes:
    """The probe vehicles of one day, and what a provider knows of them.

    Parameters
    ----------
    network, roads, engine
        The city and its traffic; the engine is set to note who leaves every link.
    rules
        Which vehicles are probes.
    seed
        Names the draws, with the day.

    Attributes
    ----------
    is_probe
        Which vehicles are probes, shape (trips,).
    fixes
        The positions that the last readings were made of; one that lies at an interval's end may come again.
    """

    def __init__(
        self, network: Network, roads: Roads, engine: Engine, *, rules: ProbeRules, seed: tuple[int, ...]
    ) -> None:
        rng = np.random.default_rng(seed)
        trips = len(engine.trips)
        self.roads = roads
        self.rules = rules
        self.is_probe = rng.random(trips) < rules.share
        self._every_s = rng.uniform(*rules.every_s, trips)
        self._phase_s = rng.random(trips) * self._every_s
        self._salt = int(rng.integers(0, 2**63))
        self._canyon = canyons_of(network, roads)
        self._detector = np.full(len(roads), -1, np.int32)
        probe = np.flatnonzero(network.detectors.kind == "probe").astype(np.int32)
        self._detector[network.detectors.segment[probe]] = probe
        self._on_road = np.zeros(trips, bool)
        self._vehicle, self._link = np.zeros(0, np.int64), np.zeros(0, np.int64)
        # By row: when the end of the link was passed, how far that is on the vehicle's way, when a provider thinks so.
        self._passed_s, self._driven_m, self._thought_s = np.zeros(0), np.zeros(0), np.zeros(0)
        self.fixes = Fixes(self._vehicle, self._passed_s, self._passed_s, self._passed_s, np.zeros(0, bool))
        watch(engine, np.arange(len(roads), dtype=np.int32))

    def readings(
        self, engine: Engine, seen: Seen, *, network: str, source: str, observed_ms: tuple[int, int]
    ) -> Readings:
        """Return what the provider sends of an interval; without rows where it came to know nothing.

        Parameters
        ----------
        engine
            The traffic.
        seen
            Who left the links in the interval (`simulators.cameras.taken`).
        network, source
            Version of the network; name of the feed.
        observed_ms
            The interval, ms UTC, half-open.
        """
        link, seconds = self.journeys(engine, seen)
        known = self._detector[link] >= 0
        return journey_readings(
            self._detector,
            link[known],
            seconds[known],
            self.roads.length_m,
            network=network,
            source=source,
            observed_ms=observed_ms,
        )

    def journeys(self, engine: Engine, seen: Seen) -> tuple[LongArray, FloatArray]:
        """Return the journeys over links that became known: link, travel time in s."""
        self._note(engine, seen)
        if not len(self._vehicle):
            return np.zeros(0, np.int64), np.zeros(0)
        first = np.flatnonzero(np.diff(self._vehicle, prepend=-1))
        rank = np.cumsum(np.diff(self._vehicle, prepend=-1) != 0) - 1
        self._measure(first, rank)
        at, of = self._positions(first, rank)
        fresh = self._think(rank, at, of)
        before = np.maximum(np.arange(len(rank)) - 1, 0)
        seconds = self._thought_s - self._thought_s[before]
        with np.errstate(invalid="ignore"):
            whole = fresh & (rank == rank[before]) & (seconds * TOP_SHARE >= self.roads.free_s[self._link])
        whole[0] = False
        found = self._link[whole], seconds[whole]
        self._forget(engine, first, rank, at, of)
        return found

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything that changes, as arrays by name."""
        return {name: getattr(self, name) for name in _STATE}

    def load(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take up what `dump` returned for the same network and trips."""
        for name in _STATE:
            setattr(self, name, state[name].copy())

    def _note(self, engine: Engine, seen: Seen) -> None:
        """Add the links that probes left, in order of vehicle and time; a vehicle's first row is its entry."""
        mine = np.flatnonzero(self.is_probe[seen[1]])
        link, vehicle, passed_s = seen[0][mine], seen[1][mine].astype(np.int64), seen[2][mine]
        new = np.unique(vehicle[~self._on_road[vehicle]])
        self._on_road[new] = True
        vehicle = np.concatenate([self._vehicle, new, vehicle])
        passed_s = np.concatenate([self._passed_s, engine.road_entry_s[new], passed_s])
        order = np.lexsort((passed_s, vehicle))
        unknown = np.full(len(new) + len(mine), np.nan)
        self._vehicle, self._passed_s = vehicle[order], passed_s[order]
        self._link = np.concatenate([self._link, np.full(len(new), _START), link])[order]
        driven_m = np.concatenate([self._driven_m, np.zeros(len(new)), np.zeros(len(mine))])
        self._driven_m = driven_m[order]
        self._thought_s = np.concatenate([self._thought_s, unknown])[order]

    def _measure(self, first: LongArray, rank: LongArray) -> None:
        """Set how far each row is on its vehicle's way."""
        step_m = np.where(self._link == _START, 0.0, self.roads.length_m[self._link])
        along_m = np.cumsum(step_m)
        self._driven_m = self._driven_m[first][rank] + along_m - along_m[first][rank]

    def _positions(self, first: LongArray, rank: LongArray) -> tuple[Fixes, LongArray]:
        """Return the positions between each vehicle's rows, and the rank of their vehicle."""
        vehicle = self._vehicle[first]
        last = np.append(first[1:], len(rank)) - 1
        every_s, phase_s = self._every_s[vehicle], self._phase_s[vehicle]
        begin = np.ceil((self._passed_s[first] - phase_s) / every_s).astype(np.int64)
        count = np.maximum(np.floor((self._passed_s[last] - phase_s) / every_s).astype(np.int64) - begin + 1, 0)
        of = np.repeat(np.arange(len(first)), count)
        number = np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count) + begin[of]
        instant_s = phase_s[of] + number * every_s[of]
        where, when = _keys(rank, self._passed_s), _keys(of, instant_s)
        driven_m = np.interp(when, where, self._driven_m)
        on_link = self._link[np.minimum(np.searchsorted(where, when), len(rank) - 1)]
        canyon = self._canyon[on_link] & (on_link != _START)
        error_m = np.where(canyon, self.rules.canyon_error_m, self.rules.error_m)
        error_m = error_m * self._noise(vehicle[of], number, instant_s)
        self.fixes = Fixes(vehicle[of], instant_s, driven_m, error_m, canyon)
        return self.fixes, of

    def _noise(self, vehicle: LongArray, number: LongArray, instant_s: FloatArray) -> FloatArray:
        """Return normal errors, the same whenever they are asked for; half of their variance lasts for a minute."""
        quick = steady_normal(self._salt, vehicle, number)
        minute, share = np.divmod(instant_s / _SLOW_S, 1.0)
        knots = [steady_normal(self._salt + 1, vehicle, minute.astype(np.int64) + later) for later in (0, 1)]
        slow = ((1 - share) * knots[0] + share * knots[1]) / np.hypot(1 - share, share)
        return np.asarray((quick + slow) / np.sqrt(2.0))

    def _think(self, rank: LongArray, at: Fixes, of: LongArray) -> Flags:
        """Set when a provider thinks that rows were passed; returns those it did not know before."""
        # A vehicle does not drive backwards: a position behind an earlier one is taken for that.
        along = np.maximum.accumulate(_keys(of, at.driven_m + at.error_m)) if len(of) else np.zeros(0)
        rows = _keys(rank, self._driven_m)
        groups = int(rank[-1]) + 1
        count = np.bincount(of, minlength=groups)
        end = np.cumsum(count)
        some = count >= 2
        low, high = np.full(groups, np.inf), np.full(groups, -np.inf)
        low[some], high[some] = along[(end - count)[some]], along[end[some] - 1]
        fresh: Flags = np.isnan(self._thought_s) & (rows >= low[rank]) & (rows < high[rank])
        self._thought_s[fresh] = np.interp(rows[fresh], along, at.instant_s)
        return fresh

    def _forget(self, engine: Engine, first: LongArray, rank: LongArray, at: Fixes, of: LongArray) -> None:
        """Drop the rows that no later position needs, and vehicles that have arrived."""
        row, groups = np.arange(len(rank)), len(first)
        count = np.bincount(of, minlength=groups)
        last_s = np.full(groups, -np.inf)
        some = count > 0
        last_s[some] = at.instant_s[np.cumsum(count)[some] - 1]
        behind = np.maximum.reduceat(np.where(self._passed_s <= last_s[rank], row, first[rank]), first)
        known = np.maximum.reduceat(np.where(np.isnan(self._thought_s), -1, row), first)
        # Ends that are passed may still wait for a position beyond them; a few rows are enough for that.
        start = np.where(known >= 0, np.minimum(behind, known), np.maximum(behind - _WAITING, first))
        arrived = np.isfinite(engine.arrival_s[self._vehicle])
        kept = (row >= start[rank]) & ~arrived
        for name in _ROWS:
            setattr(self, name, getattr(self, name)[kept])


_WAITING = 3
_ROWS = ("_vehicle", "_link", "_passed_s", "_driven_m", "_thought_s")
_STATE = (*_ROWS, "_on_road")


def journey_readings(
    detector_of_link: IntArray,
    link: LongArray,
    seconds: FloatArray,
    length_m: FloatArray,
    *,
    network: str,
    source: str,
    observed_ms: tuple[int, int],
) -> Readings:
    """Return mean travel times of links as readings: a space-mean speed and a travel time, no count.

    Parameters
    ----------
    detector_of_link
        Detector of each link.
    link, seconds
        Journeys: link, travel time in s, shape (n,).
    length_m
        Length of each link.
    network, source, observed_ms
        As in `Readings`; the interval is half-open.
    """
    count = np.bincount(link, minlength=len(length_m))
    some = np.flatnonzero(count)
    some = some[np.argsort(detector_of_link[some], kind="stable")]
    mean_s = np.bincount(link, weights=seconds, minlength=len(length_m))[some] / count[some]
    rows = len(some)
    missing, bad = np.full(rows, np.nan), np.full(rows, Quality.MISSING, np.uint8)
    derived = np.full(rows, Quality.DERIVED, np.uint8)
    return Readings(
        network=network,
        source=source,
        received_ms=observed_ms[1] + DELIVERY_MS,
        watermark_ms=observed_ms[1],
        detector=detector_of_link[some],
        observed_from_ms=np.full(rows, observed_ms[0]),
        observed_to_ms=np.full(rows, observed_ms[1]),
        count_veh=missing,
        flow_vph=missing.copy(),
        speed_kmh=length_m[some] / mean_s * KMH_PER_MS,
        occupancy=missing.copy(),
        travel_time_s=mean_s,
        speed_kind=np.full(rows, SpeedKind.SPACE_MEAN, np.uint8),
        quality_flow=bad,
        quality_speed=derived,
        quality_occupancy=bad.copy(),
        quality_travel_time=derived.copy(),
    )


def canyons_of(network: Network, roads: Roads) -> Flags:
    """Return which segments are narrow streets: no main roads, many junctions near; none where there is no map."""
    segments = network.segments
    if not len(network.lon_lat) or not np.isfinite(network.lon_lat).all():
        return np.zeros(len(segments), bool)
    position = node_positions_km(network, roads)
    middle = (position[segments.from_node] + position[segments.to_node]) / 2
    near = cKDTree(position).query_ball_point(middle, CANYON_RADIUS_KM, return_length=True)
    main = np.isin(segments.road_class, [ROAD_CLASSES.index("motorway"), ROAD_CLASSES.index("trunk")])
    return np.asarray((np.asarray(near) >= CANYON_NODES) & ~main)


def _keys(group: LongArray, value: FloatArray) -> FloatArray:
    """Return one rising number for a group and a value in it, so that groups can be searched at once."""
    return np.asarray(group * _AFAR_M + value)


def steady_normal(salt: int, one: LongArray, other: LongArray) -> FloatArray:
    """Return a standard normal number for each pair of whole numbers, always the same one."""
    mixed = _mixed(one.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + other.astype(np.uint64) + np.uint64(salt))
    again = _mixed(mixed + np.uint64(0x9E3779B97F4A7C15))
    first, second = ((bits >> np.uint64(11)).astype(np.float64) / 2.0**53 for bits in (mixed, again))
    return np.asarray(np.sqrt(-2.0 * np.log1p(-first)) * np.cos(2.0 * np.pi * second))


def _mixed(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return well-mixed bits (SplitMix64: Steele, Lea and Flood 2014, OOPSLA)."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
