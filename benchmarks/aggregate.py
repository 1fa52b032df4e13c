"""Columns through clean, aggregate, roll-up, snapshots on Kafka: CPU seconds a million readings, and where they go.

The city is a grid in 16 partitions with one or two lane loops on each segment, which report every 30 s; panes of a
minute. A worker is a process of its own: consumer, stages, producer, open panes and snapshots every second, over topics
filled beforehand; measured is the CPU time of the whole process between its first and its last message. The broker is
another process. The rate on the wall clock depends on what else the machine does, so it is not told.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figure import Figure
from benchmarks.json_edge import embedded_broker
from citybrain.network import Detectors, Network
from citybrain.records import Readings, encode
from citybrain.settings import CitySettings
from citybrain.wire import Message, Output
from infra.kafka.admin import apply_topics, delete_run_topics
from infra.kafka.client import Brokers
from infra.kafka.producer import BatchProducer
from streams.aggregate import Aggregate
from streams.offline import run as run_offline
from streams.rollup import Rollup
from streams.stage import Stage
from tests.fakes import city_settings, grid_network

PARTITIONS = 16
START_MS = 1_789_999_980_000
INTERVAL_MS = 30_000
WORKED = 3_000_000
"""Readings of a measurement: several snapshots of each partition."""
STEPS = 500_000
REPEATS = 3
TIMEOUT_S = 180.0
SEGMENTS, GRID = 10_000, (51, 50)


@dataclass(frozen=True, slots=True)
class Load:
    """A city and how it reports: ``rows`` is the most readings a message."""

    loops: int = 2
    rows: int = 2000
    partitions: int = PARTITIONS

    def network(self) -> Network:
        """Return the city."""
        return city(*GRID, self.loops, self.partitions)

    def intervals(self, readings: int) -> int:
        """Return how many intervals have about so many readings, at least four panes."""
        return max(8, round(readings / SEGMENTS / self.loops))

    def a_message(self, network: Network) -> float:
        """Return the mean number of readings a message."""
        mine = -(-len(network.detectors) // self.partitions)
        return mine / -(-mine // self.rows)


SIZES = (Load(rows=500), Load(loops=1), Load(loops=3))


def city(columns: int, rows: int, loops: int, partitions: int) -> Network:
    """Return a grid of roads with a loop in each of some lanes."""
    network = grid_network(columns, rows, partitions=partitions)
    n = len(network.segments)
    detectors = Detectors(
        np.array([f"d{at}" for at in range(n * loops)]),
        np.repeat(np.arange(n, dtype=np.int32), loops),
        np.full(n * loops, 250.0),
        np.ones(n * loops, dtype=np.int32),
        np.full(n * loops, "loop"),
    )
    segments = replace(network.segments, lanes=np.full(n, loops, dtype=np.int32))
    return replace(network, segments=segments, detectors=detectors)


def intervals(network: Network, count: int, rows: int) -> Iterator[Output]:
    """Yield batches of at most ``rows`` readings, interval by interval, each of one partition."""
    rng = np.random.default_rng(1)
    parts = range(network.partitions)
    detectors = [np.flatnonzero(network.detector_partition == part).astype(np.int32) for part in parts]
    for nth in range(count):
        begin = START_MS + nth * INTERVAL_MS
        for number, mine in enumerate(detectors):
            for at in range(0, len(mine), rows):
                detector = mine[at : at + rows]
                last = at + rows >= len(mine)
                yield _output(network, number, detector, begin, begin + INTERVAL_MS * last, rng)


def _output(
    network: Network, partition: int, detector: np.ndarray, begin_ms: int, watermark_ms: int, rng: np.random.Generator
) -> Output:
    n = len(detector)
    none, well = np.full(n, np.nan), np.zeros(n, dtype=np.uint8)
    end_ms = begin_ms + INTERVAL_MS
    count, speed_kmh = rng.poisson(8, n).astype(np.float64), rng.uniform(10, 60, n)
    # Vehicles of 6 m and their scatter: detectors with much shorter ones are not believed.
    occupancy = np.minimum(0.6, count * 6.0 / (speed_kmh / 3.6) / (INTERVAL_MS / 1000) * rng.uniform(0.9, 1.1, n))
    batch = Readings(
        network.version,
        "loops",
        end_ms + 1000,
        watermark_ms,
        detector,
        np.full(n, begin_ms),
        np.full(n, end_ms),
        count,
        none,
        speed_kmh,
        occupancy,
        none,
        *([well] * 5),
    )
    return Output("readings", partition, b"loops", encode(batch), batch.received_ms)


def steps_s(network: Network, settings: CitySettings, load: Load) -> float:
    """Return the CPU time of the steps alone, s a million readings: best of some runs."""
    count = load.intervals(STEPS)
    outputs = intervals(network, count, load.rows)
    log = [Message(o.topic, o.partition, at, o.record_ms or 0, o.key, o.value) for at, o in enumerate(outputs)]
    best = float("inf")
    for _ in range(REPEATS):
        stages: list[Stage[Any]] = [Aggregate.of(network, settings), Rollup.of(network, settings)]
        began = time.process_time()
        run_offline(stages, log, lambda message: None)
        best = min(best, time.process_time() - began)
    return best / count / len(network.detectors) * 1e6


@dataclass(frozen=True, slots=True)
class Worked:
    """What one worker did: CPU time, readings, and shares of its CPU time by part."""

    cpu_s: float
    readings: int
    shares: dict[str, float]

    @property
    def per_million_s(self) -> float:
        """CPU time a million readings."""
        return self.cpu_s / self.readings * 1e6


def worked(brokers: Brokers, load: Load) -> Worked:
    """Fill topics, let one worker read them, and return what it did."""
    network, run = load.network(), f"l{load.loops}r{load.rows}"
    apply_topics(brokers, load.partitions, run=run)
    try:
        producer = BatchProducer(brokers, run, timeout_s=TIMEOUT_S)
        for output in intervals(network, load.intervals(WORKED), load.rows):
            producer.send([output], START_MS)
        producer.flush()
        producer.close()
        task = json.dumps({"address": brokers.address, "run": run, "load": asdict(load)})
        command = [sys.executable, "-m", "benchmarks.cases.worker", task]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=True)
        return Worked(**json.loads(done.stdout))
    finally:
        delete_run_topics(brokers, run)


def run() -> list[Figure]:
    """Measure the steps alone, one worker with messages of several sizes, and where its time goes."""
    usual, dense = Load(), Load(loops=1)
    with tempfile.TemporaryDirectory() as folder:
        settings = city_settings(Path(folder))
    figures = [_steps(load, settings) for load in (usual, dense)]
    with embedded_broker() as brokers:
        one = worked(brokers, usual)
        figures += [_worker(usual, one, "0.5"), *(_worker(load, worked(brokers, load)) for load in SIZES)]
        figures += [_share(part, share) for part, share in one.shares.items()]
    return figures


def _steps(load: Load, settings: CitySettings) -> Figure:
    network = load.network()
    return Figure(f"steps alone, {_size(load, network)}", steps_s(network, settings, load), "CPU s/million")


def _worker(load: Load, one: Worked, reach: str = "") -> Figure:
    return Figure(f"one worker on Kafka, {_size(load, load.network())}", one.per_million_s, "CPU s/million", reach)


def _size(load: Load, network: Network) -> str:
    return f"{load.a_message(network):,.0f} readings a message"


def _share(part: str, share: float) -> Figure:
    return Figure(f"of one worker: {part}", 100 * share, "%")
