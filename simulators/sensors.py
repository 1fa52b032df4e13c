"""Loops and radars: the engine's counts in, one batch of readings of the whole network an interval out.

Detectors over one lane share what passes with those beside them; single loops (kind ``single``) measure no speed,
radars miss vehicles that others hide. Cameras, probes and buses are elsewhere (`JOURNEY_KINDS`).

What passes a point x of a link follows from the counts at its two ends (Newell's three-detector rule): the vehicles
that could have come that far at free flow, or those for which the queue below has left room, whichever are fewer.
Count, speed and occupancy follow from that and the fundamental diagram; vehicles need not be followed.

References
----------
Newell (1993), Transportation Research B 27(4), 281-313. Daganzo (1997), Fundamentals of Transportation, 4.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from citybrain.network import JOURNEY_KINDS, Network
from citybrain.records import Quality, Readings, SpeedKind
from citybrain.units import S_PER_H
from simulators.engine import Engine
from simulators.faults import FaultPlan
from simulators.roads import KMH_PER_MS, FloatArray, IntArray, Roads
from simulators.vehicles import CAR, KINDS

LongArray = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

LOOP_M = 1.5
"""Length of road over which a loop feels a vehicle, m; a full queue of cars covers it for 86 %."""
EFFECTIVE_LENGTH_M = KINDS[CAR].length_m + LOOP_M
"""A car plus the detection zone, m (Hall and Persaud 1989, TRR 1232: 6 to 7 m)."""
RADAR_MISSED = 0.03
"""Share of the vehicles that a radar beside the road misses, hidden by others [judgement: a few per cent]."""
SPEED_NOISE = 0.07
"""Relative standard deviation of one vehicle's speed; a mean of n has it over the root of n."""
TIME_MEAN = 1.0 + SPEED_NOISE**2
"""A mean over those who pass is above the mean over those on the road: by their variance (Wardrop 1952)."""
OCCUPANCY_NOISE = 0.04
DELIVERY_MS = 2_000
"""What a reading is under way to the city, ms."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What truly passed the detectors in an interval; arrays have shape (detectors,).

    Attributes
    ----------
    count
        Vehicles, all lanes of the link.
    density_veh_m
        Mean density at the place, veh/m, all lanes.
    queued
        Share of the looks in which the place was in a queue.
    vehicle_m
        Mean length of the vehicles on the link, m.
    """

    count: LongArray
    density_veh_m: FloatArray
    queued: FloatArray
    vehicle_m: FloatArray


class Loops:
    """Loops (and all other detectors that count) at their positions.

    Call `look` at the middle and the end of an interval, then `sample`.

    Parameters
    ----------
    network, roads
        The city.
    there
        Which detectors of the network are there at all, shape (detectors,); all where not given
        (`simulators.sensorplan.kept`).
    """

    def __init__(self, network: Network, roads: Roads, *, there: Flags | None = None) -> None:
        detectors = network.detectors
        self.there = there
        counting = ~np.isin(detectors.kind, JOURNEY_KINDS)
        self.detector = np.flatnonzero(counting if there is None else counting & there).astype(np.int32)
        self.link = detectors.segment[self.detector].astype(np.int64)
        self.lanes = np.minimum(detectors.lanes[self.detector], roads.lanes[self.link])
        self.lane_share = self.lanes / roads.lanes[self.link]
        self.speedless = detectors.kind[self.detector] == "single"
        self.missed = np.where(detectors.kind[self.detector] == "radar", RADAR_MISSED, 0.0)
        self.beside = _beside(self.link, detectors.position_m[self.detector])
        length = roads.length_m[self.link]
        self.place = np.clip(detectors.position_m[self.detector] / length, 0.0, 1.0)
        self.roads = roads
        self.speed_ms = roads.speed_ms[self.link]
        self.jam_veh_m = roads.jam_veh_m[self.link]
        self.wave_ms = length / roads.wave_s[self.link]
        self.passed = np.zeros(len(self.link), np.int64)
        self._before = np.zeros(len(self.link), np.int64)
        self._looks = np.zeros(1)
        self._queued = np.zeros(len(self.link))
        self._room = np.zeros(len(self.link))
        self._metres = np.zeros((2, len(self.link)))
        self._metres_before = np.zeros((2, len(self.link)))

    def look(self, engine: Engine) -> None:
        """Note how many have passed each detector by now, and whether it stands in a queue."""
        room_veh = engine.room_veh(self.link)
        passed, queued = passed_at(engine, self.link, self.place, room_veh)
        np.maximum(self.passed, passed, out=self.passed)
        self._queued += queued
        self._looks += 1
        self._room = room_veh / engine.storage[self.link]
        # Weather slows free flow.
        self.speed_ms = self.roads.speed_ms[self.link] * self.roads.free_s[self.link] / engine.free_s[self.link]
        self._metres[0] = sum(metres[self.link] for metres in engine.metres())
        self._metres[1] = engine.entered[self.link] + engine.left[self.link]

    def sample(self, interval_s: float) -> Sample:
        """Return what passed since the last sample."""
        count = self.passed - self._before
        queued = self._queued / max(float(self._looks[0]), 1.0)
        metres, vehicles = self._metres - self._metres_before
        vehicle_m = np.where(vehicles > 0, metres / np.maximum(vehicles, 1.0), KINDS[CAR].length_m)
        self._before[:] = self.passed
        self._metres_before[:] = self._metres
        self._looks[:], self._queued[:] = 0, 0.0
        flow = count / interval_s
        # Trucks take more room, so fewer vehicles fill the road; the wave is no slower for them.
        in_queue = np.maximum(self._room * self.jam_veh_m - flow / self.wave_ms, flow / self.speed_ms)
        return Sample(count, (1.0 - queued) * flow / self.speed_ms + queued * in_queue, queued, vehicle_m)

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything that changes, as arrays by name."""
        return {name: getattr(self, name) for name in _STATE}

    def load(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take up what `dump` returned for the same network."""
        for name, values in state.items():
            getattr(self, name)[...] = values


_STATE = ("passed", "_before", "_looks", "_queued", "_room", "_metres", "_metres_before")


def _beside(link: LongArray, position_m: FloatArray) -> IntArray:
    """Return for each detector the one before it at the same place, -1 for the first of them."""
    order = np.lexsort((np.arange(len(link)), position_m, link))
    same = (np.diff(link[order]) == 0) & (np.diff(position_m[order]) == 0)
    found = np.full(len(link), -1, np.int32)
    found[order[1:][same]] = order[:-1][same]
    return found


def passed_at(
    engine: Engine, link: IntArray | LongArray, place: FloatArray, room_veh: FloatArray | None = None
) -> tuple[LongArray, npt.NDArray[np.bool_]]:
    """Return how many vehicles have passed a place of each link by now, and where the queue decides.

    Parameters
    ----------
    engine
        The traffic.
    link
        Links, shape (n,).
    place
        Share of the link's length from its start, 0..1, shape (n,).
    room_veh
        What would fill each link, shape (n,); asked of the engine where not given.
    """
    roads, now = engine.roads, engine.now_s
    if room_veh is None:
        room_veh = engine.room_veh(link)
    free = now - place * engine.free_s[link]
    arrived = engine.entered[link] - _newer(engine, engine.entry_s, engine.entered, link, free)
    rest = 1.0 - place
    room = np.round(room_veh * rest).astype(np.int64)
    released = engine.left[link] + room
    # Only where the link holds enough for a queue to reach so far do the departures have to be counted.
    near = np.flatnonzero(released - roads.capacity_vps[link] * roads.wave_s[link] * rest - 1 < arrived)
    since = now - rest[near] * roads.wave_s[link[near]]
    released[near] -= _newer(engine, engine.exit_s, engine.left, link[near], since)
    return np.minimum(arrived, released), released < arrived


def _newer(
    engine: Engine, times: FloatArray, counts: LongArray, link: IntArray | LongArray, since: FloatArray
) -> LongArray:
    """Return how many of each link's latest events are later than ``since``: few, so they are counted backwards."""
    found = np.zeros(len(link), np.int64)
    start, size = engine.slots(link)
    number = counts[link] - 1
    # A ring holds no more than its size.
    oldest = np.maximum(number - size, -1)
    slot, going = start + number % size, np.arange(len(link))
    while True:
        later = ((times[slot] > since) & (number > oldest)).nonzero()[0]
        if not len(later):
            return found
        going = going[later]
        found[going] += 1
        start, size, since, oldest = start[later], size[later], since[later], oldest[later]
        slot, number = slot[later] - 1, number[later] - 1
        slot = np.where(slot < start, slot + size, slot)


def readings_of(
    loops: Loops,
    sample: Sample,
    faults: FaultPlan,
    *,
    network: str,
    source: str,
    observed_ms: tuple[int, int],
    rng: np.random.Generator,
) -> Readings:
    """Return what the loops report of an interval: noise of measurement, faults and quality added.

    Parameters
    ----------
    loops, sample, faults
        The loops, what passed them, and what is wrong with them; wrong clocks and lines are `simulators.delivery`.
    network, source
        Version of the network; name of the feed.
    observed_ms
        The interval, ms UTC, half-open.
    rng
        Draws the noise.
    """
    interval_s = (observed_ms[1] - observed_ms[0]) / 1000
    count = lane_counts(loops, sample.count, rng)
    if loops.missed.any():
        count = rng.binomial(count, 1.0 - loops.missed)
    density = sample.density_veh_m * loops.lane_share
    draws = rng.standard_normal((2, len(count)))
    with np.errstate(divide="ignore", invalid="ignore"):
        speed = sample.count / interval_s / sample.density_veh_m * KMH_PER_MS * TIME_MEAN
        speed = speed * np.exp(draws[0] * SPEED_NOISE / np.sqrt(np.maximum(count, 1)))
    speed = np.where((count > 0) & ~loops.speedless, np.maximum(speed, 1.0), np.nan)
    occupancy = density * (sample.vehicle_m + LOOP_M) / loops.lanes * np.exp(draws[1] * OCCUPANCY_NOISE)
    occupancy = np.where((count == 0) & (sample.queued == 0), 0.0, np.clip(occupancy, 0.0, 1.0))
    values = {"count": count.astype(np.float64), "speed": speed, "occupancy": occupancy}
    present = faults.distort(values, observed_ms[1], rng)
    kept = np.flatnonzero(present)
    counted, speed, occupancy = (values[name][kept] for name in ("count", "speed", "occupancy"))
    # A chattering loop counts what has no speed.
    speedless = np.where(counted == 0, Quality.NO_VEHICLE, np.where(np.isnan(speed), Quality.MISSING, Quality.OK))
    ok = np.zeros(len(kept), np.uint8)
    return Readings(
        network=network,
        source=source,
        received_ms=observed_ms[1] + DELIVERY_MS,
        watermark_ms=observed_ms[1],
        detector=loops.detector[kept],
        observed_from_ms=np.full(len(kept), observed_ms[0]),
        observed_to_ms=np.full(len(kept), observed_ms[1]),
        count_veh=counted,
        flow_vph=counted * (S_PER_H / interval_s),
        speed_kmh=speed,
        occupancy=occupancy,
        travel_time_s=np.full(len(kept), np.nan),
        speed_kind=np.full(len(kept), SpeedKind.TIME_MEAN, np.uint8),
        quality_flow=ok,
        quality_speed=speedless.astype(np.uint8),
        quality_occupancy=ok.copy(),
        quality_travel_time=np.full(len(kept), Quality.MISSING, np.uint8),
    )


def lane_counts(loops: Loops, count: LongArray, rng: np.random.Generator) -> LongArray:
    """Return how many of those who pass each place a detector's lanes carry, shape (detectors,).

    Everyone takes any lane alike; detectors at the same place share without remainder where they cover all lanes.
    """
    whole = loops.lane_share >= 1.0
    found = np.where(whole, count, rng.binomial(count, np.where(whole, 1.0, loops.lane_share)))
    rest, lanes = count.copy(), loops.roads.lanes[loops.link].astype(np.float64)
    row = np.flatnonzero((loops.beside >= 0) & ~whole)
    first = np.isin(loops.beside[row], row, invert=True)
    while len(row):
        now, before = row[first], loops.beside[row[first]]
        rest[now] = rest[before] - found[before]
        lanes[now] = lanes[before] - loops.lanes[before]
        share = np.where(lanes[now] > 0, loops.lanes[now] / np.maximum(lanes[now], 1.0), 0.0)
        found[now] = rng.binomial(np.maximum(rest[now], 0), np.minimum(share, 1.0))
        row = row[~first]
        first = np.isin(loops.beside[row], row, invert=True)
    return np.asarray(found)
