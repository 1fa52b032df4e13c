"""The JSON edge: readings/s of one core, decoding alone and through the batcher on Kafka, beside a plain loop."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import msgspec
import numpy as np
from confluent_kafka import Consumer

from benchmarks.figure import Figure
from citybrain.messages import JsonReading
from citybrain.metrics import Metrics
from citybrain.network import Network
from citybrain.records import encode
from infra.kafka.admin import apply_topics
from infra.kafka.broker import EmbeddedBroker
from infra.kafka.jars import cache_folder
from infra.kafka.producer import BatchProducer, JsonProducer
from ingest.batcher import Batcher
from ingest.jsonedge import JsonEdge
from tests.fakes import grid_network

BATCH = 10_000
MESSAGES = 300_000
PARTITIONS = 4
AT_MS = 1_700_000_000_000
START_S = 60.0


@contextmanager
def embedded_broker() -> Iterator[str]:
    """Run a broker in a folder of its own and yield its address."""
    with tempfile.TemporaryDirectory() as folder:
        jars = cache_folder(os.environ) / "kafka"
        with EmbeddedBroker(Path(folder), jars_folder=jars) as broker:
            apply_topics(broker.address, PARTITIONS)
            yield broker.address


def messages(network: Network, count: int) -> list[bytes]:
    """Return readings of 140 bytes, in turn of all detectors, a round every 30 s."""
    detectors = len(network.detectors)
    readings = []
    for at in range(count):
        begin_ms = AT_MS + 30_000 * (at // detectors)
        readings.append(
            b'{"detector":"d%d","observed_from":%d,"observed_to":%d,"flow_vph":%d.5,"speed_kmh":43.25,"occupancy":0.07}'
            % (at % detectors, begin_ms, begin_ms + 30_000, at % 2000)
        )
    return readings


def _decode_rate(network: Network) -> float:
    edge, values = JsonEdge(network), messages(network, BATCH)
    record_ms = np.full(BATCH, AT_MS, dtype=np.int64)
    best_s = float("inf")
    for _ in range(7):
        began = time.process_time()
        decoded = edge.decode(values, record_ms)
        best_s = min(best_s, time.process_time() - began)
    # Arrow loads parts of itself at the first use: not the batcher's cost.
    assert encode(decoded.readings[0])
    return BATCH / best_s


def _batcher_rate(address: str, network: Network) -> float:
    metrics, stop = Metrics(), Event()
    batcher = Batcher(address, network, BatchProducer(address), metrics=metrics)
    worker = Thread(target=batcher.run, args=(stop,))
    began = time.process_time()
    worker.start()
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and worker.is_alive():
        time.sleep(0.05)
        if metrics.registry.get_sample_value("citybrain_messages_total", {"stage": "batcher"}) == MESSAGES:
            break
    else:
        raise RuntimeError("the batcher did not finish")
    used_s = time.process_time() - began
    stop.set()
    worker.join()
    return MESSAGES / used_s


def _plain_rate(address: str) -> float:
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "plain",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    decoder = msgspec.json.Decoder(JsonReading)
    began = time.process_time()
    consumer.subscribe(["citybrain.readings-json"])
    seen = 0
    while seen < MESSAGES:
        rows = [decoder.decode(raw.value() or b"") for raw in consumer.consume(BATCH, 0.1)]
        np.array([(row.flow_vph, row.speed_kmh, row.occupancy) for row in rows], dtype=np.float64)
        seen += len(rows)
    used_s = time.process_time() - began
    consumer.close()
    return MESSAGES / used_s


def run() -> list[Figure]:
    """Measure in CPU seconds of this process, so that other work on the machine does not count."""
    network = grid_network(40, 32, partitions=PARTITIONS)
    decoding = _decode_rate(network)
    with embedded_broker() as address:
        producer = JsonProducer(address)
        producer.send("readings-json", ((value[:20], value, AT_MS) for value in messages(network, MESSAGES)))
        producer.flush()
        producer.close()
        plain, whole = _plain_rate(address), _batcher_rate(address, network)
    peer = f"plain confluent-kafka and msgspec loop: {plain:,.0f}"
    return [
        Figure("JSON edge, decoding to columns", decoding, "readings/s per core", "200,000"),
        Figure("JSON edge, batcher from Kafka to Kafka", whole, "readings/s per core", "200,000", peer),
    ]
