"""A load without vehicles: a network in, what its detectors would report out, for up to a million of them.

No trip is made and nothing is simulated. Each segment has a *pressure* that follows the hour: what its traffic asks for
as a share of its capacity. Up to 1 the segment is free; beyond, a queue stands on it, the longer the greater the
pressure. Flow, speed and density are always a point of the segment's triangular diagram, so that they agree with each
other; loops add the noise of counting. Queues do not move, and what leaves one segment does not arrive on the next.

Every draw names the seed, the partition and the interval: the same bytes, wherever one begins.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property, lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from citybrain.clock import utc
from citybrain.errors import ConfigError
from citybrain.network import FloatArray, IntArray, Network
from citybrain.records import Quality, Readings, SpeedKind
from citybrain.units import S_PER_H
from simulators.roads import KMH_PER_MS, Roads, roads_of
from simulators.sensors import DELIVERY_MS, EFFECTIVE_LENGTH_M, OCCUPANCY_NOISE, SPEED_NOISE

MOST_DETECTORS = 1_000_000
SOURCE = "load"

_PLACES, _NOISE = 0, 1
"""What a draw is for."""
_MIDDLE, _SPREAD = 0.84, 0.26
"""Median of the segments' greatest pressure, and the standard deviation of its logarithm over the city [judgement]."""
_MOST_PRESSURE = 1.6
_WAVES, _PATCH_M = 12, 2500.0
"""Pressure differs smoothly over the map, by so many waves of about this length, so that queues are whole stretches."""
_BREATH, _BREATH_S = 0.06, 1380.0
"""Pressure also swells and ebbs by this share in this time, each segment with a phase of its own."""
_NIGHT = 0.03
_M_PER_DEGREE = 111_195.0


@dataclass(frozen=True, slots=True)
class Point:
    """States of segments, each a point of its diagram, a lane; arrays have shape (segments,).

    Attributes
    ----------
    flow_vps
        Flow a lane, veh/s.
    speed_ms
        Space-mean speed, m/s.
    pressure
        What the traffic asks for as a share of the capacity; above 1 a queue stands on the segment.
    """

    flow_vps: FloatArray
    speed_ms: FloatArray
    pressure: FloatArray


@dataclass(frozen=True, slots=True)
class _Part:
    """Detectors of one partition, and the segments that they stand on."""

    detector: IntArray
    segments: IntArray
    place: npt.NDArray[np.int64]
    lanes: FloatArray
    most: FloatArray


def check_interval(interval: timedelta) -> None:
    """Raise `ConfigError` unless an interval is whole seconds that divide an hour."""
    seconds = interval.total_seconds()
    if seconds < 1 or seconds % 1 or S_PER_H % seconds:
        raise ConfigError(f"interval: {seconds:g} s seen, whole seconds that divide an hour allowed")


class Load:
    """What the detectors of a network report, interval by interval.

    Parameters
    ----------
    network
        Its detectors report, but for cameras.
    interval
        Length of observation, whole seconds that divide an hour.
    timezone
        IANA zone of the city: the hour makes the traffic.
    seed
        Other places for the queues, and other noise.
    source
        Name of the feed.

    Raises
    ------
    ConfigError
        If no detector reports, or the interval is none.
    """

    def __init__(
        self, network: Network, *, interval: timedelta, timezone: str, seed: int = 1, source: str = SOURCE
    ) -> None:
        check_interval(interval)
        if not (network.detectors.kind != "camera").any():
            raise ConfigError("load: a network without detectors seen, at least one that is no camera allowed")
        self.network = network
        self.interval_ms = round(interval.total_seconds() * 1000)
        self.seed = seed
        self._source = source
        self._zone = ZoneInfo(timezone)
        self._roads = roads_of(network)
        self._places = _Places(network, self._roads, np.random.default_rng([seed, _PLACES]))

    def __len__(self) -> int:
        """Return the number of detectors that report."""
        return sum(len(part.detector) for part in self._parts)

    @cached_property
    def _parts(self) -> list[_Part]:
        detectors, owner = self.network.detectors, self.network.detector_partition
        reports = detectors.kind != "camera"
        return [
            self._part(np.flatnonzero(reports & (owner == number)).astype(np.int32))
            for number in range(self.network.partitions)
        ]

    def _part(self, detector: IntArray) -> _Part:
        segments, place = np.unique(self.network.detectors.segment[detector], return_inverse=True)
        lanes = np.minimum(self.network.detectors.lanes, self._roads.lanes[self.network.detectors.segment])[detector]
        # One a second and lane: more than that the platform takes for a fault.
        return _Part(detector, segments, place, lanes.astype(np.float64), lanes * (self.interval_ms / 1000))

    def point(self, end_ms: int, segments: IntArray | None = None) -> Point:
        """Return the states of segments, all by default, in the interval that ends at an instant, ms UTC."""
        places, roads = self._places, self._roads
        chosen = slice(None) if segments is None else segments
        all_day, morning, evening = _hour(utc(end_ms - self.interval_ms // 2).astimezone(self._zone).timetuple()[:7])
        breath = np.sin((2 * np.pi / _BREATH_S) * (end_ms / 1000 % _BREATH_S) + places.phase[chosen])
        pressure = places.inbound[chosen] * (morning - evening) + (all_day + evening)
        pressure *= places.greatest[chosen] * (1.0 + _BREATH * breath)
        np.minimum(pressure, _MOST_PRESSURE, out=pressure)
        flow = roads.capacity_vps[chosen] * (1.0 - np.abs(pressure - 1.0))
        queued = np.maximum(roads.jam_veh_m[chosen] - flow * (roads.wave_s[chosen] / roads.length_m[chosen]), 1e-9)
        speed = np.where(pressure > 1.0, np.minimum(flow / queued, roads.speed_ms[chosen]), roads.speed_ms[chosen])
        return Point(flow / roads.lanes[chosen], speed, pressure)

    def parts(self, end_ms: int, spread_ms: int = 0) -> Iterator[Readings]:
        """Yield the readings of an interval, one batch a partition that has detectors.

        Parameters
        ----------
        end_ms
            End of the interval, ms UTC. All but the last batch tell the watermark of the interval before, for rows of
            other partitions are still to come.
        spread_ms
            The batches are received one after another, evenly over so long; 0: all at once.
        """
        parts = [(number, part) for number, part in enumerate(self._parts) if len(part.detector)]
        for at, (number, part) in enumerate(parts):
            watermark_ms = end_ms if at == len(parts) - 1 else end_ms - self.interval_ms
            received_ms = end_ms + DELIVERY_MS + spread_ms * at // len(parts)
            yield self._readings(number, part, end_ms, (received_ms, watermark_ms))

    def batches(self, first_end_ms: int) -> Iterator[Readings]:
        """Yield whole intervals, one batch each, from the one that ends at an instant on; they never end."""
        for end_ms in itertools.count(first_end_ms, self.interval_ms):
            yield replace(Readings.joined(list(self.parts(end_ms))), watermark_ms=end_ms)

    def first_end_ms(self, from_ms: int) -> int:
        """Return the end of the first interval that begins at or after an instant, ms UTC."""
        return -(-from_ms // self.interval_ms) * self.interval_ms + self.interval_ms

    def _readings(self, number: int, part: _Part, end_ms: int, told_ms: tuple[int, int]) -> Readings:
        n, interval_s = len(part.detector), self.interval_ms / 1000
        point = self.point(end_ms, part.segments)
        rng = np.random.Generator(np.random.SFC64([self.seed, _NOISE, number, end_ms // self.interval_ms]))
        bell = rng.standard_normal((3, n), np.float32)
        count = _counts(part, point, interval_s, bell[0], rng.random(n, np.float32))
        passing = np.maximum(count, 1.0)
        speed = point.speed_ms[part.place] * (1.0 + bell[1] * (SPEED_NOISE / np.sqrt(passing)))
        occupancy = (EFFECTIVE_LENGTH_M / interval_s) * count / (part.lanes * speed) * (1.0 + OCCUPANCY_NOISE * bell[2])
        speed *= KMH_PER_MS
        empty = count == 0
        speed[empty] = np.nan
        flow_quality, missing, speed_kind = _constant(n)
        return Readings(
            network=self.network.version,
            source=self._source,
            received_ms=told_ms[0],
            watermark_ms=told_ms[1],
            detector=part.detector,
            observed_from_ms=np.full(n, end_ms - self.interval_ms),
            observed_to_ms=np.full(n, end_ms),
            count_veh=count,
            flow_vph=count * (S_PER_H / interval_s),
            speed_kmh=speed,
            occupancy=np.clip(occupancy, 0.0, 1.0),
            travel_time_s=_absent(n),
            speed_kind=speed_kind,
            quality_flow=flow_quality,
            quality_speed=empty.astype(np.uint8),  # no vehicle is 1
            quality_occupancy=flow_quality,
            quality_travel_time=missing,
        )


class _Places:
    """What tells the segments of a network apart; arrays have shape (segments,)."""

    def __init__(self, network: Network, roads: Roads, rng: np.random.Generator) -> None:
        start, end = _ends_m(network, roads)
        middle = (start + end) / 2
        way = rng.normal(0.0, 1.0 / _PATCH_M, (2, _WAVES)) * 2 * np.pi
        field = np.cos(middle @ way + rng.uniform(0, 2 * np.pi, _WAVES)).sum(axis=1) * np.sqrt(2 / _WAVES)
        self.greatest = _MIDDLE * np.exp(_SPREAD * field)
        self.phase = rng.uniform(0, 2 * np.pi, len(network.segments))
        inwards = -np.einsum("ij,ij->i", end - start, middle - middle.mean(axis=0))
        size = np.linalg.norm(end - start, axis=1) * np.linalg.norm(middle - middle.mean(axis=0), axis=1)
        # Into town in the morning, out of it in the evening; along it, as much of both.
        self.inbound = 0.5 + 0.3 * inwards / np.maximum(size, 1.0)


def _ends_m(network: Network, roads: Roads) -> tuple[FloatArray, FloatArray]:
    """Return where segments begin and end, metres, shape (n, 2); one after the other where there is no map."""
    at = network.segments.geometry_start
    lon_lat = network.lon_lat.astype(np.float64)
    start, end = lon_lat[at[:-1]], lon_lat[at[1:] - 1]
    unknown = np.isnan((start + end) @ np.ones(2))
    middle = 0.0 if unknown.all() else float(np.nanmean(lon_lat[:, 1]))
    scale = _M_PER_DEGREE * np.array([np.cos(np.radians(middle)), 1.0])
    along = np.cumsum(roads.length_m)
    line = [np.stack([place, np.zeros(len(along))], axis=1) for place in (along - roads.length_m, along)]
    lost = np.reshape(unknown, (-1, 1))
    return np.where(lost, line[0], start * scale), np.where(lost, line[1], end * scale)


def _hour(local: tuple[int, ...]) -> tuple[float, float, float]:
    """Return the shares of all day, of the morning and of the evening; the greatest sum is 1."""
    hour, weekday = local[3] + local[4] / 60 + local[5] / 3600, local[6]
    day = 1 / (1 + np.exp((6.6 - hour) * 2.2)) - 1 / (1 + np.exp((20.8 - hour) * 1.3))
    if weekday >= 5:
        level = 0.42 if weekday == 5 else 0.34
        return _NIGHT + level * day + 0.3 * _bump(hour, 16.5, 3.0), 0.0, 0.0
    return _NIGHT + 0.40 * day, 0.85 * _bump(hour, 8.25, 0.8), 0.80 * _bump(hour, 17.9, 1.0)


def _bump(hour: float, middle: float, width: float) -> float:
    return float(np.exp(-0.5 * ((hour - middle) / width) ** 2))


def _counts(
    part: _Part, point: Point, interval_s: float, bell: npt.NDArray[np.float32], rest: npt.NDArray[np.float32]
) -> FloatArray:
    """Return whole numbers of vehicles whose mean is the flow; they scatter less where headways are short."""
    mean = point.flow_vps * interval_s
    scatter = np.minimum(np.sqrt(mean * (1.0 - 0.8 * np.minimum(point.pressure, 1.0))), mean / 2)
    # Over several lanes the mean grows by their number, the scatter by its root.
    counts: FloatArray = mean[part.place] * part.lanes + scatter[part.place] * np.sqrt(part.lanes) * bell
    counts += rest
    np.floor(counts, out=counts)
    np.clip(counts, 0.0, part.most, out=counts)
    return counts


@lru_cache(maxsize=256)
def _constant(n: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    made = tuple(np.full(n, value, np.uint8) for value in (Quality.OK, Quality.MISSING, SpeedKind.TIME_MEAN))
    for array in made:
        array.flags.writeable = False
    return made[0], made[1], made[2]


@lru_cache(maxsize=256)
def _absent(n: int) -> FloatArray:
    missing = np.full(n, np.nan)
    missing.flags.writeable = False
    return missing
