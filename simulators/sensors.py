"""Loop detectors: the engine's counts in, one batch of readings of the whole network an interval out.

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

from citybrain.network import Network
from citybrain.records import Quality, Readings, SpeedKind
from citybrain.units import S_PER_H
from simulators.engine import Engine
from simulators.faults import FaultPlan
from simulators.roads import KMH_PER_MS, FloatArray, IntArray, Roads

LongArray = npt.NDArray[np.int64]

EFFECTIVE_LENGTH_M = 6.0
"""Vehicle plus detection zone, m (Hall and Persaud 1989, TRR 1232: 6 to 7 m); a full queue covers a loop for 86 %."""
SPEED_NOISE = 0.07
"""Relative standard deviation of one vehicle's speed; a mean of n has it over the root of n."""
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
    """

    count: LongArray
    density_veh_m: FloatArray
    queued: FloatArray


class Loops:
    """Loops (and all other detectors that are no cameras) at their positions.

    Call `look` at the middle and the end of an interval, then `sample`.
    """

    def __init__(self, network: Network, roads: Roads) -> None:
        detectors = network.detectors
        self.detector = np.flatnonzero(detectors.kind != "camera").astype(np.int32)
        self.link = detectors.segment[self.detector]
        self.lanes = np.minimum(detectors.lanes[self.detector], roads.lanes[self.link])
        self.lane_share = self.lanes / roads.lanes[self.link]
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

    def look(self, engine: Engine) -> None:
        """Note how many have passed each detector by now, and whether it stands in a queue."""
        passed, queued = passed_at(engine, self.link, self.place)
        np.maximum(self.passed, passed, out=self.passed)
        self._queued += queued
        self._looks += 1

    def sample(self, interval_s: float) -> Sample:
        """Return what passed since the last sample."""
        count = self.passed - self._before
        queued = self._queued / max(float(self._looks[0]), 1.0)
        self._before[:] = self.passed
        self._looks[:], self._queued[:] = 0, 0.0
        flow = count / interval_s
        in_queue = np.maximum(self.jam_veh_m - flow / self.wave_ms, flow / self.speed_ms)
        return Sample(count, (1.0 - queued) * flow / self.speed_ms + queued * in_queue, queued)

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything that changes, as arrays by name."""
        return {name: getattr(self, name) for name in ("passed", "_before", "_looks", "_queued")}

    def load(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take up what `dump` returned for the same network."""
        for name, values in state.items():
            getattr(self, name)[...] = values


def passed_at(engine: Engine, link: IntArray, place: FloatArray) -> tuple[LongArray, npt.NDArray[np.bool_]]:
    """Return how many vehicles have passed a place of each link by now, and where the queue decides.

    Parameters
    ----------
    engine
        The traffic.
    link
        Links, shape (n,).
    place
        Share of the link's length from its start, 0..1, shape (n,).
    """
    roads, now = engine.roads, engine.now_s
    free = now - place * roads.free_s[link]
    arrived = engine.entered[link] - _newer(engine, engine.entry_s, engine.entered, link, free)
    rest = 1.0 - place
    room = np.round(engine.storage[link] * rest).astype(np.int64)
    released = engine.left[link] + room
    # Only where the link holds enough for a queue to reach so far do the departures have to be counted.
    near = np.flatnonzero(released - roads.capacity_vps[link] * roads.wave_s[link] * rest - 1 < arrived)
    since = now - rest[near] * roads.wave_s[link[near]]
    released[near] -= _newer(engine, engine.exit_s, engine.left, link[near], since)
    return np.minimum(arrived, released), released < arrived


def _newer(engine: Engine, times: FloatArray, counts: LongArray, link: IntArray, since: FloatArray) -> LongArray:
    """Return how many of each link's latest events are later than ``since``: few, so they are counted backwards."""
    found = np.zeros(len(link), np.int64)
    going = np.arange(len(link))
    start, size = engine.slots(link)
    last = counts[link]
    while len(going):
        number = last[going] - found[going] - 1
        later = times[start[going] + number % size[going]] > since[going]
        later &= (number >= 0) & (found[going] < size[going])
        going = going[later]
        found[going] += 1
    return found


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
    """Return what the loops report of an interval: noise of measurement, faults, quality and delivery added.

    Parameters
    ----------
    loops, sample, faults
        The loops, what passed them, and what is wrong with them.
    network, source
        Version of the network; name of the feed.
    observed_ms
        The interval, ms UTC, half-open.
    rng
        Draws the noise.
    """
    interval_s = (observed_ms[1] - observed_ms[0]) / 1000
    whole = loops.lane_share >= 1.0
    count = np.where(whole, sample.count, rng.binomial(sample.count, np.where(whole, 1.0, loops.lane_share)))
    density = sample.density_veh_m * loops.lane_share
    draws = rng.standard_normal((2, len(count)))
    with np.errstate(divide="ignore", invalid="ignore"):
        speed = sample.count / interval_s / sample.density_veh_m * KMH_PER_MS
        speed = speed * np.exp(draws[0] * SPEED_NOISE / np.sqrt(np.maximum(count, 1)))
    speed = np.where(count > 0, np.maximum(speed, 1.0), np.nan)
    occupancy = density * EFFECTIVE_LENGTH_M / loops.lanes * np.exp(draws[1] * OCCUPANCY_NOISE)
    occupancy = np.where((count == 0) & (sample.queued == 0), 0.0, np.clip(occupancy, 0.0, 1.0))
    values = {"count": count.astype(np.float64), "speed": speed, "occupancy": occupancy}
    present = faults.distort(values, observed_ms[1], rng)
    kept = np.flatnonzero(present)
    count, speed, occupancy = (values[name][kept] for name in ("count", "speed", "occupancy"))
    # A chattering loop counts what has no speed.
    speedless = np.where(count == 0, Quality.NO_VEHICLE, np.where(np.isnan(speed), Quality.MISSING, Quality.OK))
    ok = np.zeros(len(kept), np.uint8)
    return Readings(
        network=network,
        source=source,
        received_ms=observed_ms[1] + DELIVERY_MS,
        watermark_ms=observed_ms[1],
        detector=loops.detector[kept],
        observed_from_ms=np.full(len(kept), observed_ms[0]),
        observed_to_ms=np.full(len(kept), observed_ms[1]),
        count_veh=count,
        flow_vph=count * (S_PER_H / interval_s),
        speed_kmh=speed,
        occupancy=occupancy,
        travel_time_s=np.full(len(kept), np.nan),
        speed_kind=np.full(len(kept), SpeedKind.TIME_MEAN, np.uint8),
        quality_flow=ok,
        quality_speed=speedless.astype(np.uint8),
        quality_occupancy=ok.copy(),
        quality_travel_time=np.full(len(kept), Quality.MISSING, np.uint8),
    )
