"""The reference: the log of readings in, what every (segment, pane) must be and what must be refused out.

Written from the definitions (docs/architecture.md, docs/feeds.md, GB/T 33171, PeMS), one reading after the other, in
whole numbers of Python; it shares no code with the stages. It is slow, and it is meant to be read.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from citybrain.network import Network
from citybrain.settings import CitySettings
from tests.torture.log import Logged, by_partition

NAN = math.nan
HOUR_MS = 3_600_000
FLOATS = ("count_veh", "flow_vph", "speed_kmh", "occupancy", "travel_time_s")
CODES = ("speed_kind", "quality_flow", "quality_speed", "quality_occupancy", "quality_travel_time")
TYPES = {"detector": pa.int32(), "observed_from_ms": pa.int64(), "observed_to_ms": pa.int64()}
TYPES |= dict.fromkeys(FLOATS, pa.float64()) | dict.fromkeys(CODES, pa.uint8())
OK, NO_VEHICLE, MISSING, IMPUTED, DERIVED = 0, 1, 2, 5, 6
USABLE = (OK, IMPUTED, DERIVED)
APART_MS = 15 * 60_000
"""Who is further behind the others than this holds nothing back."""
LONGEST_TRAVEL_S = 86_400.0

Place = tuple[int, int]
Reading = tuple[str, int, int, int]
"""Source, detector, from, to."""
Letter = tuple[int, int, str]
"""Partition and offset in ``readings``, and the reason."""


@dataclass(slots=True)
class Sums:
    """What is added up of one segment in one pane: whole numbers, units of `citybrain.units`."""

    observed: int = 0
    flow: int = 0
    vehicles: int = 0
    vehicles_with_speed: int = 0
    pace_of_vehicles: int = 0
    speed: int = 0
    pace_of_time: int = 0
    occupied: int = 0
    occupancy: int = 0
    quality: int = 0


@dataclass(slots=True)
class Expected:
    """What must be true at the end.

    Attributes
    ----------
    sums
        By (segment, pane start): what was counted.
    panes
        By partition: first and last pane that is told, ms.
    letters
        What is refused, and how many readings of it.
    counted
        Readings that count, with the places where they do.
    """

    sums: dict[Place, Sums] = field(default_factory=lambda: defaultdict(Sums))
    panes: dict[int, tuple[int, int]] = field(default_factory=dict)
    letters: Counter[Letter] = field(default_factory=Counter)
    counted: dict[Reading, list[Place]] = field(default_factory=dict)


@dataclass(slots=True)
class Row:
    """One reading as it was sent."""

    detector: int
    observed_from_ms: int
    observed_to_ms: int
    count_veh: float
    flow_vph: float
    speed_kmh: float
    occupancy: float
    travel_time_s: float
    speed_kind: int
    quality_flow: int
    quality_speed: int
    quality_occupancy: int
    quality_travel_time: int

    @property
    def length_ms(self) -> int:
        return self.observed_to_ms - self.observed_from_ms


@dataclass(slots=True)
class Batch:
    """One message."""

    source: str
    watermark_ms: int
    rows: list[Row]


class Refused(Exception):
    """The message cannot be used, for this reason."""


def expected(log: list[Logged], network: Network, city: CitySettings) -> Expected:
    """Return what the log of ``readings`` must come to."""
    found = Expected()
    for partition, messages in sorted(by_partition(log).items()):
        one = _Partition(network, city, partition, found)
        for message in messages:
            one.take(message)
        one.end()
    return found


def read_batch(value: bytes, network: str) -> Batch:
    """Return the batch; raise `Refused` if it is none, or of another network."""
    try:
        with pa.ipc.open_stream(value) as stream:
            table = stream.read_next_batch()
    except (pa.ArrowInvalid, OSError, StopIteration) as error:
        raise Refused("malformed") from error
    told = {key.decode(): text.decode() for key, text in (table.schema.metadata or {}).items()}
    if (told.get("record"), told.get("record_version")) != ("readings", "1"):
        raise Refused("malformed")
    if not {"network", "source", "received_ms", "watermark_ms"} <= told.keys():
        raise Refused("malformed")
    columns: dict[str, list[float]] = {}
    for name, kind in TYPES.items():
        if name not in table.schema.names:
            # A metric that nobody has may be left out.
            if name not in FLOATS:
                raise Refused("malformed")
            columns[name] = [NAN] * table.num_rows
        else:
            column = table.column(name)
            if column.type != kind or column.null_count:
                raise Refused("malformed")
            columns[name] = column.to_pylist()
    if told["network"] != network:
        raise Refused("network_version")
    rows = [Row(*values) for values in zip(*(columns[name] for name in TYPES), strict=True)]
    return Batch(told["source"], int(told["watermark_ms"]), rows)


@dataclass(slots=True)
class _Source:
    """A feed in one partition: its clock, when it spoke last, what of each detector was counted already."""

    clock_ms: int = 0
    spoke_ms: int = 0
    counted: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))


class _Partition:
    """The rules of one partition, message by message."""

    def __init__(self, network: Network, city: CitySettings, partition: int, found: Expected) -> None:
        self.network, self.city, self.partition, self.found = network, city, partition, found
        time = city.time
        self.pane_ms, self.skew_ms = time.pane_ms, int(time.skew.total_seconds() * 1000)
        self.reorder_ms = int(time.reorder.total_seconds() * 1000)
        self.keep_ms = self.reorder_ms + int(time.lateness.total_seconds() * 1000)
        self.idle_ms = int(time.source_idle.total_seconds() * 1000)
        self.sources: dict[str, _Source] = {}
        self.watermark_ms = 0
        self.final_ms = -1
        """Before this instant everything is final; -1 before the first message."""
        self.first_ms: int | None = None

    def take(self, message: Logged) -> None:
        """Count one message, then let the time that it tells pass."""
        place = message.partition, message.offset
        try:
            batch = read_batch(message.value, self.network.version)
        except Refused as refused:
            self.found.letters[*place, str(refused)] += 1
            return
        good = []
        for row in batch.rows:
            reason = self._impossible(row, message.record_ms)
            if reason:
                self.found.letters[*place, reason] += 1
            else:
                good.append(row)
        source = self._heard(batch, good, message.record_ms)
        if self.final_ms < 0 and (good or source.clock_ms > 0):
            self._begin(good, source)
        # Two readings of one detector in one batch: the earlier first.
        for row in sorted(good, key=lambda row: (row.detector, row.observed_from_ms)):
            self._count(row, batch.source, source, place)
        if self.final_ms >= 0:
            self._pass_time()

    def end(self) -> None:
        """Note which panes were told: from the first on, all that are closed."""
        if self.first_ms is not None:
            last_ms = (self.watermark_ms - self.reorder_ms) // self.pane_ms * self.pane_ms - self.pane_ms
            if last_ms >= self.first_ms:
                self.found.panes[self.partition] = self.first_ms, last_ms

    def _impossible(self, row: Row, record_ms: int) -> str:
        """Return why the row is refused whatever the time, empty where it is not; NaN is never out of range."""
        if not 0 <= row.detector < len(self.network.detectors):
            return "unknown_detector"
        segment = int(self.network.detectors.segment[row.detector])
        if int(self.network.segments.partition[segment]) != self.partition:
            return "unknown_detector"
        limits = self.city.limits
        lanes = int(self.network.detectors.lanes[row.detector])
        hours = row.length_ms / HOUR_MS
        most = limits.flow_vph_per_lane * lanes * hours + lanes
        fastest_s = float(self.network.segments.length_km[segment]) / limits.speed_kmh * 3600
        out = (
            not 0 <= row.observed_from_ms <= 2**60,
            not 1 <= row.length_ms <= limits.interval.total_seconds() * 1000,
            row.speed_kmh < 0 or row.speed_kmh > limits.speed_kmh,
            row.occupancy < 0 or row.occupancy > 1,
            row.travel_time_s < 0 or row.travel_time_s > LONGEST_TRAVEL_S,
            row.count_veh < 0 or row.count_veh > most,
            row.flow_vph < 0 or row.flow_vph * hours > most,
            0 < row.travel_time_s < fastest_s,
        )
        if any(out):
            return "out_of_range"
        return "future" if row.observed_to_ms > record_ms + self.skew_ms else ""

    def _heard(self, batch: Batch, good: list[Row], record_ms: int) -> _Source:
        source = self.sources.setdefault(batch.source, _Source())
        clock_ms = batch.watermark_ms
        if clock_ms > record_ms + self.skew_ms:
            # Its clock is wrong: believe the readings that were accepted.
            clock_ms = max((row.observed_to_ms for row in good), default=0)
        source.clock_ms = max(source.clock_ms, min(clock_ms, record_ms))
        source.spoke_ms = max(source.spoke_ms, record_ms)
        return source

    def _begin(self, good: list[Row], source: _Source) -> None:
        newest_ms = max(source.clock_ms, max((row.observed_to_ms for row in good), default=0))
        oldest_ms = min((row.observed_from_ms for row in good), default=newest_ms)
        pane_ms = max(min(oldest_ms, newest_ms), newest_ms - 7 * 24 * HOUR_MS) // self.pane_ms * self.pane_ms
        self.first_ms = pane_ms
        self.final_ms = (pane_ms - self.keep_ms) // self.pane_ms * self.pane_ms
        self.watermark_ms = self.final_ms + self.keep_ms

    def _count(self, row: Row, name: str, source: _Source, place: tuple[int, int]) -> None:
        from_ms, to_ms = row.observed_from_ms, row.observed_to_ms
        if to_ms > self.final_ms + APART_MS:
            raise ValueError(f"offset {place}: {to_ms - self.final_ms} ms ahead seen, the feed stays within {APART_MS}")
        if from_ms < self.final_ms:
            self.found.letters[*place, "late"] += 1
            return
        if any(a < to_ms and from_ms < b for a, b in source.counted[row.detector]):
            self.found.letters[*place, "duplicate"] += 1
            return
        # What is final already is never asked for again.
        source.counted[row.detector] = [(a, b) for a, b in source.counted[row.detector] if b > self.final_ms] + [
            (from_ms, to_ms)
        ]
        counts_in = []
        for pane_ms, overlap_ms in overlaps(from_ms, to_ms, self.pane_ms):
            segment = int(self.network.detectors.segment[row.detector])
            self._add(self.found.sums[segment, pane_ms], row, overlap_ms)
            counts_in.append((segment, pane_ms))
        self.found.counted[name, row.detector, from_ms, to_ms] = counts_in
        assert self.first_ms is not None
        self.first_ms = min(self.first_ms, counts_in[0][1])

    def _add(self, sums: Sums, row: Row, overlap_ms: int) -> None:
        """Add the reading's share of one pane: each product is rounded once, to a whole number."""
        vehicles, speed, occupancy, quality = self._usable(row)
        lane_ms = int(self.network.detectors.lanes[row.detector]) * overlap_ms
        lane_s = lane_ms / 1000
        part = vehicles if overlap_ms == row.length_ms else vehicles * (overlap_ms / row.length_ms)
        counted, moving, occupied = (not math.isnan(value) for value in (vehicles, speed, occupancy))
        sums.observed += lane_ms if counted or moving or occupied else 0
        if counted:
            sums.flow += lane_ms
            sums.vehicles += round(part * 10**9)
        if moving:
            sums.speed += lane_ms
            sums.pace_of_time += round(lane_s * 10**9 / speed)
        if counted and moving:
            sums.vehicles_with_speed += round(part * 10**9)
            sums.pace_of_vehicles += round(part * 10**11 / speed)
        if occupied:
            sums.occupied += lane_ms
            sums.occupancy += round(lane_s * occupancy * 10**9)
        sums.quality = max(sums.quality, quality)

    def _usable(self, row: Row) -> tuple[float, float, float, int]:
        """Return vehicles, speed, occupancy (NaN where its source does not vouch for it) and the worst quality told."""
        vehicles = row.count_veh
        if math.isnan(vehicles):
            vehicles = row.flow_vph * (row.length_ms / HOUR_MS)
        if row.quality_flow == NO_VEHICLE:
            vehicles = 0.0
        elif row.quality_flow not in USABLE:
            vehicles = NAN
        speed = row.speed_kmh if row.quality_speed in USABLE else NAN
        occupancy = row.occupancy if row.quality_occupancy in (*USABLE, NO_VEHICLE) else NAN
        travel_s = row.travel_time_s if row.quality_travel_time in USABLE else NAN
        told = (
            (row.quality_flow, vehicles),
            (row.quality_speed, speed),
            (row.quality_occupancy, occupancy),
            (row.quality_travel_time, travel_s),
        )
        quality = max((code for code, value in told if code in (IMPUTED, DERIVED) and not math.isnan(value)), default=0)
        segment = int(self.network.detectors.segment[row.detector])
        if math.isnan(speed) and travel_s > 0:
            speed = float(self.network.segments.length_km[segment]) / travel_s * 3600
        floor = self.city.thresholds.speed_floor_kmh
        if speed < floor:
            stands = speed > 0 or vehicles > 0 or (math.isnan(vehicles) and occupancy > 0)
            speed = floor if stands else NAN
        return vehicles, speed, occupancy, quality

    def _pass_time(self) -> None:
        """The least clock of the sources that still speak is the time; it never goes back."""
        now_ms = max(source.spoke_ms for source in self.sources.values())
        clocks = [
            source.clock_ms
            for source in self.sources.values()
            if now_ms - source.spoke_ms <= self.idle_ms and source.clock_ms > 0
        ]
        if clocks:
            self.watermark_ms = max(self.watermark_ms, min(clocks), max(clocks) - APART_MS)
        self.final_ms = max(self.final_ms, (self.watermark_ms - self.keep_ms) // self.pane_ms * self.pane_ms)


def overlaps(from_ms: int, to_ms: int, pane_ms: int) -> Iterator[tuple[int, int]]:
    """Yield the start of each pane that an interval touches, and for how many ms.

    >>> list(overlaps(50_000, 140_000, 60_000))
    [(0, 10000), (60000, 60000), (120000, 20000)]
    """
    start = from_ms // pane_ms * pane_ms
    while start < to_ms:
        yield start, min(to_ms, start + pane_ms) - max(from_ms, start)
        start += pane_ms
