"""Columns through clean, aggregate and roll-up: the steps alone, and in one Faust worker on the embedded Kafka.

5,000 segments in four partitions, three lane loops on each, 30 s intervals, panes of a minute. Figures are readings a
second of one core: CPU time of this process, in which the worker (consumer, stages, producer, snapshots every second)
is all that runs; the broker is a process of its own. The rate on the wall clock depends on what else the machine does.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figure import Figure
from benchmarks.json_edge import embedded_broker
from citybrain.metrics import Metrics
from citybrain.network import Detectors, Network
from citybrain.records import Readings, encode
from citybrain.settings import CitySettings
from citybrain.wire import Message, Output
from infra.kafka.admin import apply_topics
from infra.kafka.producer import BatchProducer
from streams.aggregate import Aggregate
from streams.harness import make_app, running
from streams.offline import run as run_offline
from streams.rollup import Rollup
from streams.stage import Stage
from tests.fakes import city_settings, grid_network

PARTITIONS = 4
LANES = 3
ROWS = 2000
START_MS = 1_789_999_980_000
INTERVAL_MS = 30_000
RUN = "bench"
STEPS_FOR, WORKER_FOR = 60, 240
"""Intervals."""


def intervals(network: Network, count: int, rows: int) -> Iterator[Output]:
    """Yield batches of at most ``rows`` readings, interval by interval, each of one partition."""
    rng = np.random.default_rng(1)
    parts = [np.flatnonzero(network.detector_partition == part).astype(np.int32) for part in range(PARTITIONS)]
    for nth in range(count):
        begin = START_MS + nth * INTERVAL_MS
        for number, mine in enumerate(parts):
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
    batch = Readings(
        network.version,
        "loops",
        end_ms + 1000,
        watermark_ms,
        detector,
        np.full(n, begin_ms),
        np.full(n, end_ms),
        rng.poisson(8, n).astype(np.float64),
        none,
        rng.uniform(10, 60, n),
        rng.uniform(0, 0.3, n),
        none,
        *([well] * 5),
    )
    return Output("readings", partition, b"loops", encode(batch), batch.received_ms)


def _steps(network: Network, settings: CitySettings, rows: int) -> float:
    outputs = list(intervals(network, STEPS_FOR, rows))
    log = [Message(o.topic, o.partition, at, o.record_ms or 0, o.key, o.value) for at, o in enumerate(outputs)]
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        run_offline([Aggregate.of(network, settings), Rollup.of(network, settings)], log, lambda message: None)
        best = min(best, time.process_time() - began)
    return STEPS_FOR * len(network.detectors) / best


def _worker(network: Network, settings: CitySettings, rows: int, count: int) -> tuple[float, float]:
    """Return readings a second of CPU time and of wall time, over a topic filled beforehand."""
    with embedded_broker() as address:
        apply_topics(address, PARTITIONS, run=RUN)
        producer = BatchProducer(address, RUN, timeout_s=60)
        producer.send(intervals(network, count, rows), START_MS)
        producer.flush()
        producer.close()
        return asyncio.run(_work(network, settings, address, count))


async def _work(network: Network, settings: CitySettings, address: str, count: int) -> tuple[float, float]:
    stages: list[Stage[Any]] = [Aggregate.of(network, settings), Rollup.of(network, settings)]
    metrics = Metrics()
    app = make_app(stages, address, run=RUN, role="worker", settings=settings, metrics=metrics)

    def counted() -> float:
        return metrics.registry.get_sample_value("citybrain_readings_total", {"source": "loops"}) or 0.0

    async with running(app):
        while not counted():
            await asyncio.sleep(0.005)
        began, cpu_began, first = time.monotonic(), time.process_time(), counted()
        while counted() < count * len(network.detectors):
            await asyncio.sleep(0.02)
        done = counted() - first
        return done / (time.process_time() - cpu_began), done / (time.monotonic() - began)


def city() -> Network:
    """Return a grid of roads with a loop in each of three lanes."""
    network = grid_network(36, 36, partitions=PARTITIONS)
    n = len(network.segments)
    segment = np.repeat(np.arange(n, dtype=np.int32), LANES)
    loops = Detectors(
        np.array([f"d{at}" for at in range(n * LANES)]),
        segment,
        np.full(n * LANES, 250.0),
        np.ones(n * LANES, dtype=np.int32),
        np.full(n * LANES, "loop"),
    )
    return replace(
        network, segments=replace(network.segments, lanes=np.full(n, LANES, dtype=np.int32)), detectors=loops
    )


def run() -> list[Figure]:
    """Measure the steps alone and the worker."""
    network = city()
    with tempfile.TemporaryDirectory() as folder:
        settings = city_settings(Path(folder))
        alone = _steps(network, settings, ROWS)
        cpu, wall = _worker(network, settings, ROWS, WORKER_FOR)
    what = f"{len(network.segments):,} segments"
    return [
        Figure(f"clean + aggregate + roll-up, {what}", alone / 1e6, "M readings/s", "", "CPU time"),
        Figure(f"one Faust worker on Kafka, {what}", cpu / 1e6, "M readings/s", "1.5 a core", "CPU time, snapshots"),
        Figure(f"one Faust worker on Kafka, {what}, wall", wall / 1e6, "M readings/s", "", "with the broker beside it"),
    ]
