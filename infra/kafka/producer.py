"""Producers: messages in, durable on the broker when `flush` returns. Batches of columns, and single JSON readings.

Both are librdkafka: after a broker's death and return kafka-python 3.0.12 took 15 s to send again, and never sent
again once a batch had expired (measured; docs/decisions/0002-librdkafka-for-producers.md).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from threading import Event
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from citybrain.errors import BrokerUnavailable, ConfigError
from citybrain.topics import TopicName, topic_address
from citybrain.wire import Output
from infra.kafka.client import Brokers, answers, no_answer
from infra.kafka.refusal import Refusal

TIMEOUT_S = 10.0
STOP_GRACE_S = 0.2
QUEUE_KBYTES = 64 * 1024

_COMMON: dict[str, Any] = {
    "client.id": "citybrain",
    "acks": "all",
    "enable.idempotence": True,
    "message.max.bytes": 16 * 2**20,
    "queue.buffering.max.kbytes": QUEUE_KBYTES,
    "delivery.report.only.error": True,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 500,
    "retry.backoff.ms": 50,
    "retry.backoff.max.ms": 500,
    "socket.timeout.ms": 5000,
    "socket.connection.setup.timeout.ms": 3000,
    "socket.nagle.disable": True,
    "topic.metadata.refresh.fast.interval.ms": 50,
    "topic.metadata.propagation.max.ms": 3000,
    "allow.auto.create.topics": False,
    "log_level": 0,
}

# Trying again does not help.
_FOR_GOOD = {
    KafkaError.INVALID_TIMESTAMP: "the record time is too far from the broker's clock (at most an hour ahead allowed)",
    KafkaError.MSG_SIZE_TOO_LARGE: "the message is larger than the topic allows",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "the topic is not on the broker",
    KafkaError._UNKNOWN_TOPIC: "the topic is not on the broker",
    KafkaError._UNKNOWN_PARTITION: "the topic has no such partition",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "this client may not write the topic",
    KafkaError.INVALID_RECORD: "the broker refuses the record",
}


class _Link:
    """One librdkafka producer and what failed on it."""

    def __init__(self, brokers: Brokers, settings: dict[str, Any]) -> None:
        # librdkafka prints each refused connection on stderr; what matters is raised by `flush`.
        silent = logging.getLogger("citybrain.librdkafka")
        silent.setLevel(logging.CRITICAL)
        self.refusal = Refusal(brokers)
        self.producer = Producer(settings | {"error_cb": self.refusal.note}, logger=silent)
        self.failures: list[tuple[KafkaError, str]] = []

    def note(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.failures.append((error, str(message.topic())))


class _Sender:
    """Sends over a link, and makes a new one when it has failed."""

    def __init__(self, brokers: Brokers, timeout_s: float, **settings: Any) -> None:
        self._brokers = brokers
        self._timeout_s = timeout_s
        self._settings = _COMMON | settings | brokers.librdkafka()
        self._link: _Link | None = None

    def send(self, topic: str, **message: Any) -> None:
        link = self._link
        if link is None:
            link = self._link = _Link(self._brokers, self._settings)
        try:
            link.producer.produce(topic, on_delivery=link.note, **message)
        except BufferError:
            self._make_room(link)
            link.producer.produce(topic, on_delivery=link.note, **message)
        except KafkaException as error:
            raise self._failed(error.args[0], topic) from error

    def flush(self, stop: Event | None) -> None:
        link = self._link
        if link is None:
            return
        began_s = time.monotonic()
        deadline_s = began_s + self._timeout_s
        while (left := link.producer.flush(STOP_GRACE_S / 2)) and not link.failures:
            if stop is not None and stop.is_set():
                deadline_s = min(deadline_s, began_s + STOP_GRACE_S)
            if time.monotonic() >= deadline_s:
                raise self._late(link, left, time.monotonic() - began_s)
        if link.failures:
            raise self._failed(*link.failures[0])

    def close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            # What is still in flight may yet be written: whoever sends again sends a repeat, which stages recognise.
            link.producer.purge()
            link.producer.flush(0.1)

    def _make_room(self, link: _Link) -> None:
        deadline = time.monotonic() + self._timeout_s
        full = len(link.producer)
        while len(link.producer) > full // 2:
            link.producer.poll(0.05)
            if link.failures:
                raise self._failed(*link.failures[0])
            if time.monotonic() > deadline:
                raise self._late(link, full, self._timeout_s)

    def _failed(self, error: KafkaError, topic: str) -> ConfigError | BrokerUnavailable:
        self.close()
        if reason := _FOR_GOOD.get(error.code()):
            return ConfigError(f"topic {topic} on {self._brokers}: {reason} ({error.str()})")
        return BrokerUnavailable(f"topic {topic} on {self._brokers}: a message was not taken ({error.str()})")

    def _late(self, link: _Link, left: int, waited_s: float) -> BrokerUnavailable:
        self.close()
        waited_s = round(waited_s, 1)
        if not answers(self._brokers):
            return no_answer(self._brokers, waited_s)
        if link.refusal.reason:
            return BrokerUnavailable(link.refusal.reason)
        return BrokerUnavailable(
            f"the Kafka broker at {self._brokers} has not confirmed {left} messages within {waited_s:g} s"
        )


class BatchProducer:
    """Sends batches of columns: few and large messages, each to a partition that the sender knows.

    Parameters
    ----------
    brokers
        No connection is made before the first message.
    run
        Name of a replay run; empty for the live topics.
    timeout_s
        `flush` waits so long before it gives up.
    """

    def __init__(self, brokers: Brokers, run: str = "", *, timeout_s: float = TIMEOUT_S) -> None:
        self._sender = _Sender(brokers, timeout_s, **{"linger.ms": 0})
        self._run = run

    def send(self, outputs: Iterable[Output], record_ms: int) -> None:
        """Queue messages; those without a record time of their own take ``record_ms``.

        Raises
        ------
        BrokerUnavailable
            If 64 MB wait to be sent and the broker takes none in time.
        ConfigError
            If a topic or partition is not there.
        """
        for output in outputs:
            self._sender.send(
                topic_address(output.topic, self._run),
                value=output.value,
                key=output.key,
                partition=output.partition,
                timestamp=record_ms if output.record_ms is None else output.record_ms,
            )

    def flush(self, stop: Event | None = None) -> None:
        """Return once every queued message is durable.

        Raises
        ------
        BrokerUnavailable
            If the broker has not confirmed all in time, or ``stop`` was set meanwhile: send them again later. Nothing
            stays queued.
        ConfigError
            If the broker refuses a message for good.
        """
        self._sender.flush(stop)

    def close(self) -> None:
        """Drop the connection, and what was not flushed."""
        self._sender.close()


class JsonProducer:
    """Sends many small messages, to the partition that their key falls in."""

    def __init__(self, brokers: Brokers, run: str = "", *, timeout_s: float = TIMEOUT_S) -> None:
        settings = {"linger.ms": 5, "batch.num.messages": 50_000, "partitioner": "murmur2_random"}
        self._sender = _Sender(brokers, timeout_s, **settings, **{"queue.buffering.max.messages": 1_000_000})
        self._run = run

    def send(self, topic: TopicName, messages: Iterable[tuple[bytes, bytes, int]]) -> None:
        """Queue messages of (key, value, record time in ms UTC); raises as `BatchProducer.send`."""
        name = topic_address(topic, self._run)
        for key, value, record_ms in messages:
            self._sender.send(name, key=key, value=value, timestamp=record_ms)

    def flush(self, stop: Event | None = None) -> None:
        """Return once every queued message is durable; raises as `BatchProducer.flush`."""
        self._sender.flush(stop)

    def close(self) -> None:
        """Drop the connection, and what was not flushed."""
        self._sender.close()
