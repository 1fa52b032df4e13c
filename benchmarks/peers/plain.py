"""The plain loop of confluent-kafka and numpy: ``python -m benchmarks.peers.plain KIND CITY BROKERS RUN``.

KIND is ``columns`` or ``json``. It reads the same messages as City Brain and does the same sums, and gives no
guarantee: no snapshot, no repeat recognised, no bad reading refused, offsets committed by the clock.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, Message, Producer

from benchmarks.peers.summing import Panes
from benchmarks.rig.telling import Teller, tell
from citybrain.cityfile import load_city, load_network
from citybrain.network import Network
from citybrain.topics import topic_address
from infra.kafka.client import Brokers

AT_ONCE = 10_000
RESULTS = topic_address("segment-states", "peer")
_SETTINGS = {
    "auto.offset.reset": "earliest",
    "enable.auto.commit": True,
    "auto.commit.interval.ms": 1000,
    "session.timeout.ms": 2000,
    "heartbeat.interval.ms": 500,
}


class Reading(msgspec.Struct, gc=False):
    """What the loop takes of a JSON reading."""

    detector: str
    observed_to: int
    flow_vph: float
    speed_kmh: float
    occupancy: float


class Columns:
    """Takes messages of columns."""

    topic = "readings"

    def __init__(self, network: Network, producer: Producer) -> None:
        self._panes = [Panes(network, producer, RESULTS) for _ in range(network.partitions)]

    def take(self, messages: list[Message]) -> int:
        """Sum them; return how many readings there were."""
        count = 0
        for message in messages:
            batch = pa.ipc.open_stream(pa.py_buffer(message.value())).read_next_batch()
            names = ("detector", "observed_to_ms", "count_veh", "speed_kmh", "occupancy")
            detector, to_ms, flow, speed, occupancy = (batch.column(name).to_numpy() for name in names)
            panes = self._panes[message.partition() or 0]
            panes.add(detector, to_ms, flow, speed, occupancy)
            panes.close(int(to_ms[-1]))
            count += len(detector)
        return count


class Json:
    """Takes one JSON reading a message, many at once."""

    topic = "readings-json"

    def __init__(self, network: Network, producer: Producer) -> None:
        self._panes = Panes(network, producer, RESULTS)
        self._index = {str(name): at for at, name in enumerate(network.detectors.id)}
        self._decoder = msgspec.json.Decoder(list[Reading])

    def take(self, messages: list[Message]) -> int:
        """Sum them; return how many readings there were."""
        rows = self._decoder.decode(b"[" + b",".join([message.value() or b"" for message in messages]) + b"]")
        n, index = len(rows), self._index
        detector = np.fromiter((index[row.detector] for row in rows), np.int32, n)
        to_ms = np.fromiter((row.observed_to for row in rows), np.int64, n)
        metrics = ("flow_vph", "speed_kmh", "occupancy")
        flow, speed, occupancy = (np.fromiter((getattr(row, name) for row in rows), np.float64, n) for name in metrics)
        self._panes.add(detector, to_ms, flow, speed, occupancy)
        # Partitions are read in turns: far behind the newest, so that few panes are sent twice.
        self._panes.close(int(to_ms.max()) - 600_000)
        return n


def main(kind: str, folder: Path, brokers: Brokers, run: str) -> None:
    """Read until a signal comes."""
    network = load_network(load_city(folder))
    producer = Producer(brokers.librdkafka() | {"linger.ms": 5})
    taking: Columns | Json = Columns(network, producer) if kind == "columns" else Json(network, producer)
    consumer = Consumer(_SETTINGS | brokers.librdkafka() | {"group.id": f"plain.{kind}.{run}"})
    loop(consumer, topic_address(taking.topic, run), taking.take)  # type: ignore[arg-type]
    producer.flush(10)


def loop(consumer: Consumer, topic: str, take: Callable[[list[Message]], int]) -> None:
    """Read the topic until a signal comes, telling how far it is."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    readings, waits = 0.0, False

    def assigned(consumer: Any, partitions: Any) -> None:
        nonlocal waits
        waits = True
        tell(event="assigned", partitions=len(partitions))

    consumer.subscribe([topic], on_assign=assigned)
    tell(event="ready", readings=0)
    Teller(lambda: {"readings": readings})
    while not stopped:
        messages = [message for message in consumer.consume(AT_ONCE, 0.1) if message.error() is None]
        if messages:
            readings += take(messages)
            if waits:
                waits = False
                tell(event="applied")
    consumer.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Brokers(sys.argv[3]), sys.argv[4])
