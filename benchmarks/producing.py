"""Producing batches: what publishing costs, beside kafka-python's producer on the same messages."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable

from benchmarks.figure import Figure
from benchmarks.json_edge import PARTITIONS, embedded_broker
from citybrain.records import Readings
from citybrain.wire import Output
from infra.kafka.client import Brokers
from infra.kafka.producer import BatchProducer
from ingest.publish import Publisher, messages
from tests.fakes import grid_network
from tests.ingest.build import START_MS, readings

INTERVALS = 40
ROWS = 10_000
REPEATS = 60


def _cpu_s(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _kafka_python_s(brokers: Brokers, outputs: list[Output]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from kafka import KafkaProducer
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    producer = KafkaProducer(**brokers.kafka_python(), acks="all", max_request_size=16 * 2**20)

    def send() -> None:
        for output in outputs * REPEATS:
            producer.send(f"citybrain.{output.topic}", output.value, output.key, None, output.partition, START_MS)
        producer.flush(60)

    used_s = _cpu_s(send)
    producer.close(1)
    return used_s


def run() -> list[Figure]:
    """Measure in CPU seconds of this process."""
    network = grid_network(40, 32, partitions=PARTITIONS)
    detectors = [at % len(network.detectors) for at in range(ROWS)]
    batch: Readings = readings(network, detectors)
    with embedded_broker() as brokers:
        producer = BatchProducer(brokers, timeout_s=60)
        publisher = Publisher(network, producer)
        publisher.publish(batch)
        publisher.flush()

        def publish() -> None:
            for _ in range(INTERVALS):
                publisher.publish(batch)
            publisher.flush()

        published_s = _cpu_s(publish)
        outputs = list(messages(network, batch))

        def send() -> None:
            for _ in range(REPEATS):
                producer.send(outputs, START_MS)
            producer.flush()

        sent_s, peer_s = _cpu_s(send), _kafka_python_s(brokers, outputs)
        producer.close()
    count = REPEATS * len(outputs)
    size = sum(len(output.value) for output in outputs) / len(outputs) / 1000
    return [
        Figure("publishing, cut, encoded and sent", INTERVALS * ROWS / published_s, "readings/s per core"),
        Figure(
            f"sending a batch of {size:.0f} kB",
            sent_s / count * 1e6,
            "us CPU",
            peer=f"kafka-python {peer_s / count * 1e6:.0f}",
        ),
    ]
