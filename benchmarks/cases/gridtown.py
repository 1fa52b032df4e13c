"""Gridtown of any size: its folder, and its loops' readings as columns or as JSON. The same every time.

Three lane loops on each segment report every 30 s; values are random to the last bit, and those of free traffic: with
speeds drawn from standstill to free flow half of the city would be one jam of random pieces, which no city is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from citybrain.network import Detectors, Network
from citybrain.records import FloatArray, Readings, encode
from citybrain.wire import Output
from tests.fakes import grid_network

LANES = 3
INTERVAL_MS = 30_000
DELAY_MS = 1000
START_MS = 1_789_999_980_000
"""A whole minute, in 2026."""
VEHICLE_M = 6.0
ROWS = 2000
"""Readings of a message at most."""


@dataclass(frozen=True, slots=True)
class Town:
    """A city folder on disk, and its network."""

    folder: Path
    network: Network

    @property
    def name(self) -> str:
        """Its size in words."""
        return f"{len(self.network.segments):,} segments"


def town(folder: Path, segments: int, *, partitions: int = 16, lanes: int = LANES, toml: str = "") -> Town:
    """Write a city of about so many segments, with so many loops on each; ``toml`` goes into its ``city.toml``."""
    side = math.ceil(math.sqrt(segments / 4) + 0.5)
    grid = grid_network(side, side - 1, partitions=partitions)
    n = len(grid.segments)
    loops = Detectors(
        id=np.array([f"d{at}" for at in range(n * lanes)]),
        segment=np.repeat(np.arange(n, dtype=np.int32), lanes),
        position_m=np.full(n * lanes, 250.0),
        lanes=np.ones(n * lanes, dtype=np.int32),
        kind=np.full(n * lanes, "loop"),
    )
    table = replace(grid.segments, lanes=np.full(n, lanes, dtype=np.int32))
    network = replace(grid, segments=table, detectors=loops)
    folder.mkdir(parents=True)
    network.save(folder / "network.arrow")
    (folder / "city.toml").write_text(f'name = "Gridtown"\ntimezone = "Europe/Lisbon"\n{toml}', "utf-8")
    return Town(folder, network)


def columns(network: Network, count: int, *, start_ms: int = START_MS, rows: int = ROWS) -> Iterator[Output]:
    """Yield ``count`` intervals of all loops, each cut by partition and into messages of ``rows`` at most."""
    made = [list(_parts(network, partition, start_ms, rows)) for partition in range(network.partitions)]
    for nth in range(count):
        for partition, parts in enumerate(made):
            for at, part in enumerate(parts):
                # What another message of the interval still brings must not be late.
                clock_ms = part.watermark_ms + nth * INTERVAL_MS - (INTERVAL_MS if at < len(parts) - 1 else 0)
                batch = replace(
                    part,
                    received_ms=part.received_ms + nth * INTERVAL_MS,
                    watermark_ms=clock_ms,
                    observed_from_ms=part.observed_from_ms + nth * INTERVAL_MS,
                    observed_to_ms=part.observed_to_ms + nth * INTERVAL_MS,
                    count_veh=np.roll(part.count_veh, nth),
                    speed_kmh=np.roll(part.speed_kmh, nth),
                    occupancy=np.roll(part.occupancy, nth),
                )
                yield Output("readings", partition, b"loops", encode(batch), batch.received_ms)


def _parts(network: Network, partition: int, start_ms: int, rows: int) -> Iterator[Readings]:
    rng = np.random.default_rng([1, partition])
    mine = np.flatnonzero(network.detector_partition == partition).astype(np.int32)
    for at in range(0, len(mine), rows):
        detector = mine[at : at + rows]
        n = len(detector)
        none, well = np.full(n, np.nan), np.zeros(n, dtype=np.uint8)
        end_ms = start_ms + INTERVAL_MS
        counts, speeds = rng.poisson(8, n).astype(np.float64), rng.normal(44, 3, n).clip(8)
        yield Readings(
            network.version, "loops", end_ms + DELAY_MS, end_ms, detector, np.full(n, start_ms), np.full(n, end_ms),
            counts, none, speeds, _covered(counts, speeds), none, *([well] * 5),
        )  # fmt: skip


def _covered(counts: FloatArray, speeds_kmh: FloatArray) -> FloatArray:
    """Return the occupancy by vehicles of `VEHICLE_M`: detectors with much shorter ones are not believed."""
    return counts * VEHICLE_M / (speeds_kmh / 3.6) / (INTERVAL_MS / 1000)


def json_readings(network: Network, count: int, *, start_ms: int = START_MS) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield key, JSON of 140 bytes and record time of ``count`` intervals of all loops, one loop after another."""
    detectors = [str(name) for name in network.detectors.id]
    rng = np.random.default_rng(2)
    for nth in range(count):
        begin_ms = start_ms + nth * INTERVAL_MS
        end_ms = begin_ms + INTERVAL_MS
        counts, speeds = rng.poisson(8, len(detectors)), rng.normal(44, 3, len(detectors)).clip(8).round(2)
        covered = _covered(counts.astype(np.float64), speeds).round(2)
        for detector, count_veh, speed, occupancy in zip(
            detectors, counts.tolist(), speeds.tolist(), covered.tolist(), strict=True
        ):
            value = (
                f'{{"detector":"{detector}","observed_from":{begin_ms},"observed_to":{end_ms},'
                f'"flow_vph":{120 * count_veh}.5,"speed_kmh":{speed},"occupancy":{occupancy}}}'
            )
            yield detector.encode(), value.encode(), end_ms + DELAY_MS
