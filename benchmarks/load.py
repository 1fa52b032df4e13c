"""A load without vehicles: into Arrow batches on one core, and a million detectors every 30 s into Kafka.

Both are one process, the broker another. Processor time is that of the process that makes the load. The lag of a batch
is what passes from when it is due until the broker has confirmed it.
"""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import numpy as np

from benchmarks.figure import Figure, repeated
from benchmarks.rig.broker import broker
from citybrain.clock import SystemClock
from citybrain.network import Network
from citybrain.records import encode
from cli.loadcity import TIMEZONE, grid_town
from cli.loading import Period, Tally, to_kafka
from infra.kafka.admin import apply_topics
from infra.kafka.producer import BatchProducer
from ingest.publish import ROWS_PER_MESSAGE, Publisher
from simulators.load import Load

DETECTORS = 1_000_000
INTERVAL = timedelta(seconds=30)
INTERVALS = 4
TIMES, BATCHES = 5, 10
MORNING_MS = 1_773_129_600_000
"""08:00 of a Tuesday in 2026."""


def _load(network: Network) -> Load:
    return Load(network, interval=INTERVAL, timezone=TIMEZONE)


def _rate(load: Load, first_end_ms: int) -> float:
    """Return readings per processor second, cut and encoded as messages."""
    rows, began = 0, time.process_time()
    for nth in range(BATCHES):
        for part in load.parts(first_end_ms + nth * load.interval_ms):
            for at in range(0, len(part), ROWS_PER_MESSAGE):
                encode(part.take(slice(at, at + ROWS_PER_MESSAGE)))
            rows += len(part)
    return rows / (time.process_time() - began)


def _sustained(network: Network, load: Load, spread_ms: int) -> tuple[float, float, float]:
    """Return median and longest lag, s, and the share of a core, over some intervals at real time."""
    with broker() as brokers:
        apply_topics(brokers, network.partitions, retention="size")
        producer = BatchProducer(brokers, timeout_s=60)
        first_ms = load.first_end_ms(SystemClock().now_ms() - load.interval_ms)
        period = Period(first_ms, load.interval_ms, first_ms + (INTERVALS - 1) * load.interval_ms)
        tally, publisher = Tally(), Publisher(network, producer)
        # Waiting for the first interval is no work: measured from when it is due.
        time.sleep(max(0.0, (first_ms - SystemClock().now_ms()) / 1000))
        to_kafka(load, publisher, period, SystemClock(), threading.Event(), speed=1.0, spread_ms=spread_ms, tally=tally)
        wall_s, cpu_s = tally.spent_s
        producer.close()
    if tally.rows != INTERVALS * len(load):
        raise RuntimeError(f"{tally.rows} readings confirmed, {INTERVALS * len(load)} expected")
    return float(np.median(tally.lags_s)), max(tally.lags_s), cpu_s / wall_s


def run() -> list[Figure]:
    """Measure encoding first, then real time: an interval spread over its length, and all of it at once."""
    network = grid_town(DETECTORS)
    load = _load(network)
    _rate(load, MORNING_MS)
    rates = [_rate(load, MORNING_MS + nth * BATCHES * load.interval_ms) for nth in range(TIMES)]
    figures = [repeated("load of 1,000,000 detectors into Arrow batches", rates, "readings/s per core", at_least=2e6)]
    for words, spread_ms in (("spread over the interval", load.interval_ms), ("all at once", 0)):
        median_s, longest_s, share = _sustained(network, load, spread_ms)
        name = f"1,000,000 detectors every 30 s into Kafka from one process, {words}"
        figures += [
            Figure(
                f"{name}: lag at the longest", longest_s, "s", at_most=30,
                note=f"median {median_s:.2f} s, over {INTERVALS} intervals",
            ),
            Figure(f"{name}: share of a core", share, ""),
        ]  # fmt: skip
    return figures
