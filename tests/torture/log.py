"""The log: a broker's address in, every message of a topic out as the broker holds it; groups' lag; a sender.

It speaks to Kafka by librdkafka alone and shares nothing with the stages under test.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, ConsumerGroupState, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

PREFIX = "citybrain"


@dataclass(frozen=True, slots=True)
class Logged:
    """One message as the broker holds it."""

    topic: str
    partition: int
    offset: int
    record_ms: int
    key: bytes
    value: bytes


def read_topic(address: str, topic: str) -> list[Logged]:
    """Return all messages of a topic, partition by partition, in order of their offsets."""
    consumer = _consumer(address, "citybrain-torture-reader")
    try:
        name = f"{PREFIX}.{topic}"
        partitions = sorted(consumer.list_topics(name, timeout=20).topics[name].partitions)
        found: list[Logged] = []
        for partition in partitions:
            place = TopicPartition(name, partition)
            low, high = consumer.get_watermark_offsets(place, timeout=20)
            if high > low:
                found += _read(consumer, topic, TopicPartition(name, partition, low), high)
        return found
    finally:
        consumer.close()


def _read(consumer: Consumer, topic: str, start: TopicPartition, end: int) -> list[Logged]:
    consumer.assign([start])
    found: list[Logged] = []
    deadline = time.monotonic() + 60
    at = start.offset
    while at < end:
        # It waits for as many as it is asked for.
        for raw in consumer.consume(min(2000, end - at), 1.0):
            if raw.error() is None:
                place = int(raw.partition() or 0), int(raw.offset() or 0)
                found.append(Logged(topic, *place, raw.timestamp()[1], raw.key() or b"", raw.value() or b""))
        at = consumer.position([start])[0].offset
        if time.monotonic() > deadline:
            raise TimeoutError(f"{start}: only {len(found)} messages read within a minute")
    return found


def lags(address: str, wanted: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return by consumer group how many messages of its topics it has not acknowledged; -1 where nobody tells."""
    found = {}
    for group, topics in wanted.items():
        consumer = _consumer(address, group)
        try:
            found[group] = sum(_lag(consumer, f"{PREFIX}.{topic}") for topic in topics)
        except KafkaException:
            found[group] = -1
        finally:
            consumer.close()
    return found


def _lag(consumer: Consumer, name: str) -> int:
    left = 0
    for partition, offset in _acknowledged(consumer, name).items():
        low, high = consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=5)
        left += high - (low if offset is None else offset)
    return left


def acknowledged(address: str, group: str, topic: str) -> dict[int, int]:
    """Return by partition the first offset of a topic that a group has not acknowledged; 0 where it has none."""
    consumer = _consumer(address, group)
    try:
        return {at: offset or 0 for at, offset in _acknowledged(consumer, f"{PREFIX}.{topic}").items()}
    finally:
        consumer.close()


def _acknowledged(consumer: Consumer, name: str) -> dict[int, int | None]:
    known = consumer.list_topics(name, timeout=5).topics[name].partitions
    places = consumer.committed([TopicPartition(name, partition) for partition in known], timeout=5)
    return {place.partition: place.offset if place.offset >= 0 else None for place in places}


def settled(address: str, wanted: Mapping[str, int]) -> bool:
    """Return whether each group has as many members as wanted, and all of them have their partitions."""
    client = AdminClient({"bootstrap.servers": address, "log_level": 0})
    try:
        described = client.describe_consumer_groups(list(wanted), request_timeout=5)
        found = {group: future.result() for group, future in described.items()}
    except KafkaException:
        return False
    return all(
        seen.state == ConsumerGroupState.STABLE and len(seen.members) == wanted[group] for group, seen in found.items()
    )


def _consumer(address: str, group: str) -> Consumer:
    settings: dict[str, Any] = {
        "bootstrap.servers": address,
        "group.id": group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "fetch.message.max.bytes": 16 * 2**20,
        "log_level": 0,
    }
    return Consumer(settings)


class Link:
    """Sends messages so that each is in the log at least once and in order, whatever happens to the broker."""

    def __init__(self, address: str) -> None:
        settings: dict[str, Any] = {
            "bootstrap.servers": address,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 2,
            "message.timeout.ms": 900_000,
            "reconnect.backoff.max.ms": 500,
            "partitioner": "murmur2_random",
            "log_level": 0,
        }
        self._producer = Producer(settings)
        self.failed: list[str] = []

    def send(self, topic: str, partition: int, key: bytes, value: bytes, record_ms: int) -> None:
        """Queue one message; ``partition`` -1 lets the key decide."""
        place: dict[str, Any] = {} if partition < 0 else {"partition": partition}
        while True:
            try:
                self._producer.produce(
                    f"{PREFIX}.{topic}", value, key, timestamp=record_ms, on_delivery=self._note, **place
                )
                self._producer.poll(0)
                return
            except BufferError:
                self._producer.poll(0.1)

    def flush(self, timeout_s: float) -> int:
        """Wait until all is in the log; return how many messages are not."""
        return int(self._producer.flush(timeout_s))

    def _note(self, error: Any, message: Any) -> None:
        if error is not None:
            self.failed.append(str(error))


def by_partition(log: Iterable[Logged]) -> dict[int, list[Logged]]:
    """Return the messages by partition, each in order of offsets."""
    found: dict[int, list[Logged]] = {}
    for message in log:
        found.setdefault(message.partition, []).append(message)
    for messages in found.values():
        messages.sort(key=lambda message: message.offset)
    return found
