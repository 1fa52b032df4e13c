"""Ceilings: what one core could do at most with each thing that the job cannot do without, each alone.

Decoding, one pass of numpy, fetching without looking, decoding JSON. The worker's figure stands beside these.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer

from benchmarks.cases.gridtown import columns, json_readings
from benchmarks.columns import fill
from benchmarks.figure import Figure, repeated
from benchmarks.peers.plain import Reading
from benchmarks.rig.broker import broker
from citybrain.records import Readings, decode
from citybrain.topics import topic_address
from infra.kafka.admin import apply_topics
from infra.kafka.client import Brokers
from infra.kafka.producer import JsonProducer
from tests.fakes import grid_network

TIMES = 5
ROUNDS = 200
ROWS = 1000
SEGMENTS, PANES = 10_000, 5
INTERVALS = 150


def rates(work: Callable[[], object], readings: int, rounds: int = ROUNDS) -> list[float]:
    """Return million readings a second of processor time, of each repetition."""
    work()
    found = []
    for _ in range(TIMES):
        began = time.process_time()
        for _ in range(rounds):
            work()
        found.append(rounds * readings / (time.process_time() - began) / 1e6)
    return found


def _fetched(brokers: Brokers, topic: str, messages: int, readings: int) -> list[float]:
    found = []
    for nth in range(TIMES):
        settings = {"group.id": f"fetch{nth}", "auto.offset.reset": "earliest", "enable.auto.commit": False}
        consumer = Consumer(settings | brokers.librdkafka())
        consumer.subscribe([topic])
        seen = 0
        while not seen:
            seen = len(consumer.consume(1, 0.1))
        began, first = time.process_time(), seen
        while seen < messages:
            seen += len(consumer.consume(10_000, 0.1))
        used_s = time.process_time() - began
        found.append((messages - first) * (readings / messages) / used_s / 1e6)
        consumer.close()
    return found


def run() -> list[Figure]:
    """Measure each in processor time of this process."""
    network = grid_network(38, 37, partitions=4)
    message = next(iter(columns(network, 1, rows=ROWS))).value
    rng = np.random.default_rng(1)
    cells, weights = rng.integers(0, SEGMENTS * PANES, ROWS), rng.uniform(0, 1, ROWS)
    few = cells % ROWS
    texts = [value for _, value, _ in json_readings(network, 1)]
    joined, decoder = b"[" + b",".join(texts) + b"]", msgspec.json.Decoder(list[Reading])
    unit = "million readings/s per core"
    figures = [
        repeated(
            "ceiling: reading an Arrow stream, 1,000 rows",
            rates(lambda: pa.ipc.open_stream(message).read_next_batch(), ROWS), unit,
        ),
        repeated(
            "ceiling: the same to a record of numpy columns", rates(lambda: decode(Readings, message), ROWS), unit
        ),
        repeated(
            "ceiling: one numpy.bincount over (pane, segment), 1,000 rows into 50,000 cells",
            rates(lambda: np.bincount(cells, weights, SEGMENTS * PANES), ROWS), unit,
            note="most of it is clearing the cells",
        ),
        repeated(
            "ceiling: one numpy.bincount with weights, 1,000 rows into 1,000 cells",
            rates(lambda: np.bincount(few, weights, ROWS), ROWS), unit,
        ),
        repeated(
            "ceiling: msgspec, JSON readings to structs", rates(lambda: decoder.decode(joined), len(texts), 20), unit
        ),
    ]  # fmt: skip
    with broker() as brokers:
        readings = fill(brokers, network, "columns", INTERVALS)
        sent = sum(1 for _ in columns(network, 1)) * INTERVALS
        figures.append(
            repeated(
                f"ceiling: librdkafka fetching, {readings / sent:,.0f} readings a message",
                _fetched(brokers, topic_address("readings", "columns"), sent, readings), unit,
            )
        )  # fmt: skip
        apply_topics(brokers, network.partitions, run="json")
        producer = JsonProducer(brokers, "json", timeout_s=60)
        intervals = 60
        producer.send("readings-json", json_readings(network, intervals))
        producer.flush()
        producer.close()
        count = intervals * len(network.detectors)
        figures.append(
            repeated(
                "ceiling: librdkafka fetching, one JSON reading a message",
                _fetched(brokers, topic_address("readings-json", "json"), count, count), unit,
            )
        )  # fmt: skip
    return figures
