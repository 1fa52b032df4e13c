"""The batcher: single JSON readings from ``readings-json`` in, batches on ``readings`` out, with what was refused.

Offsets are committed once the batches made of them are durable: after a crash some readings come twice, and are
recognised downstream. Times come from the Kafka record, never from a clock, so that a replay decides the same.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import itemgetter
from threading import Event, Thread
from typing import Any

import msgspec
import numpy as np
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from citybrain.errors import BrokerUnavailable
from citybrain.messages import DeadLetter, encode_json
from citybrain.metrics import Metrics
from citybrain.network import Network
from citybrain.records import LongArray, Readings
from citybrain.topics import PREFIX, topic_address
from citybrain.wire import Output
from infra.kafka.client import Brokers
from ingest.jsonedge import Edge, JsonEdge, Refusal
from ingest.publish import Producer, Publisher, take

STAGE = "batcher"
MESSAGES = 20_000
"""Most messages in hand: with 16 partitions, batches of a thousand readings when there is a backlog."""
WAIT_S = 0.1
RETRY_S = 0.5
ANSWER_S = 5.0
EXCERPT = 300
SINGLE_LETTERS = 100

_SETTINGS: dict[str, Any] = {
    "client.id": "citybrain-batcher",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 1000,
    # Small fetches take turns between partitions, so that a backlog is read in about the order of its time.
    "max.partition.fetch.bytes": 256 * 1024,
    "queued.max.messages.kbytes": 16 * 1024,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1000,
    "socket.nagle.disable": True,
    "allow.auto.create.topics": False,
    "log_level": 0,
}

log = structlog.get_logger(__name__)


class Batcher:
    """Runs the batcher in a thread, or in the caller's by `run`.

    Parameters
    ----------
    brokers
        Where the topics are.
    network
        Whose detectors the readings name.
    producer
        Where batches and dead letters go; of this batcher alone.
    run
        Name of a replay run; empty for the live topics.
    metrics
        Where messages and dead letters are counted.
    """

    def __init__(
        self, brokers: Brokers, network: Network, producer: Producer, *, run: str = "", metrics: Metrics | None = None
    ) -> None:
        group = f"{PREFIX}.{run}.{STAGE}" if run else f"{PREFIX}.{STAGE}"
        self._settings = _SETTINGS | brokers.librdkafka() | {"group.id": group}
        self._topic = topic_address("readings-json", run)
        self._edge = JsonEdge(network)
        self._publisher = Publisher(network, producer)
        self._producer = producer
        self._metrics = metrics or Metrics()
        self._watermarks = Watermarks()
        self._starts: dict[int, int] = {}
        self._stop = Event()
        self._thread: Thread | None = None

    @property
    def alive(self) -> bool:
        """Return whether its thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Run in a thread."""
        self._thread = Thread(target=self.run, args=(self._stop,), name=STAGE, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread: what is in hand is published and committed, unless the broker is away."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def run(self, stop: Event) -> None:
        """Work until ``stop`` is set; raises `ConfigError` where the broker refuses a batch for good."""
        silent = logging.getLogger("citybrain.librdkafka")
        silent.setLevel(logging.CRITICAL)
        consumer = Consumer(self._settings, logger=silent)
        try:
            consumer.subscribe([self._topic], on_assign=self._assigned)
            while not stop.is_set():
                read = consumer.consume(MESSAGES, WAIT_S)
                messages = read
                if list(map(Message.error, read)).count(None) < len(read):
                    messages = [raw for raw in read if raw.error() is None]
                    _tell_errors(read)
                partition = np.fromiter(map(Message.partition, messages), np.int64, len(messages))
                if messages and self._send(consumer, messages, partition, stop):
                    self._commit(consumer, messages, partition)
        finally:
            consumer.close()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._watermarks = Watermarks()
        self._starts = {}
        try:
            for part in consumer.committed(partitions, timeout=ANSWER_S):
                low, _ = consumer.get_watermark_offsets(part, timeout=ANSWER_S)
                self._starts[part.partition] = max(part.offset, low)
        except KafkaException as error:
            log.info("batcher_starts_unknown", error=str(error))

    def _send(self, consumer: Consumer, messages: list[Message], partition: LongArray, stop: Event) -> bool:
        read = list(map(Message.value, messages))
        values: list[bytes] = read if all(read) else [value or b"" for value in read]  # type: ignore[assignment]
        record_ms = np.fromiter(map(itemgetter(1), map(Message.timestamp, messages)), np.int64, len(messages))
        edge = self._edge.decode(values, record_ms)
        readings = self._timed(consumer, partition, edge)
        letters = list(dead_letters(messages, edge.refused, "readings-json"))
        while True:
            try:
                for batch in readings:
                    self._publisher.publish(in_order(batch))
                self._producer.send(_outputs(letters), int(record_ms.max()))
                self._producer.flush(stop)
                break
            except BrokerUnavailable as error:
                log.warning("batcher_waits_for_broker", error=str(error), messages=len(messages))
                if stop.wait(RETRY_S):
                    return False
        self._metrics.count("citybrain_messages_total", STAGE, by=len(messages))
        for letter in letters:
            self._metrics.count("citybrain_dead_letters_total", STAGE, letter.reason, by=letter.count)
        return True

    def _timed(self, consumer: Consumer, partition: LongArray, edge: Edge) -> list[Readings]:
        behind = [
            number for number in (part.partition for part in consumer.assignment()) if self._is_behind(consumer, number)
        ]
        return self._watermarks.told(edge, partition, behind)

    def _is_behind(self, consumer: Consumer, number: int) -> bool:
        """Return whether the partition holds messages beyond those in hand, or has not been heard of yet."""
        part = TopicPartition(self._topic, number)
        bounds = consumer.get_watermark_offsets(part, cached=True)
        if bounds is None or bounds[1] < 0:
            return True  # no fetch was answered yet: nobody knows what waits there
        position = consumer.position([part])[0].offset
        return bounds[1] > (position if position >= 0 else self._starts.get(number, -1))

    def _commit(self, consumer: Consumer, messages: list[Message], partition: LongArray) -> None:
        # The last message of each partition: the first, seen from the end.
        numbers, from_end = np.unique(partition[::-1], return_index=True)
        last = (len(messages) - 1 - from_end).tolist()
        newest = {
            number: int(messages[at].offset() or 0) + 1 for number, at in zip(numbers.tolist(), last, strict=True)
        }
        try:
            consumer.commit(
                offsets=[TopicPartition(self._topic, number, offset) for number, offset in newest.items()],
                asynchronous=False,
            )
        except KafkaException as error:
            # The partitions have gone to another batcher, or the broker is away: these readings will come twice.
            log.info("batcher_commit_failed", error=str(error))


class Watermarks:
    """What each source has shown, so that the backlog of one partition is not made late by another that is ahead."""

    def __init__(self) -> None:
        self._by_source: dict[str, int] = {}
        self._by_partition: dict[int, int] = {}

    def told(self, edge: Edge, partition: LongArray, behind: Sequence[int]) -> list[Readings]:
        """Return the readings with their watermarks.

        Parameters
        ----------
        edge
            A decoded batch.
        partition
            Kafka partition of each message.
        behind
            Partitions that hold messages which have not been read: nothing later than what was read of them is told.
        """
        for number in np.unique(partition).tolist():
            seen_ms = int(edge.observed_to_ms[partition == number].max())
            self._by_partition[number] = max(self._by_partition.get(number, 0), seen_ms)
        limit_ms = min((self._by_partition.get(number, 0) for number in behind), default=2**62)
        told = []
        for readings in edge.readings:
            # A clock that runs ahead shows nothing of what others still have to send.
            newest_ms = min(readings.watermark_ms, readings.received_ms)
            newest_ms = max(newest_ms, self._by_source.get(readings.source, 0))
            self._by_source[readings.source] = newest_ms
            told.append(replace(readings, watermark_ms=min(newest_ms, limit_ms)))
        return told


def in_order(readings: Readings) -> Readings:
    """Return the rows by interval and detector, as a feed that polls a whole network sends them.

    Single readings come in any order, and for a worker that is a new list of detectors every time, with intervals
    mixed: it took 0.71 us a reading, and 0.45 so (625 a message). Rows that are alike in both stay in their order.
    """
    order = np.lexsort((readings.detector, readings.observed_from_ms))
    return take(readings, order)


def dead_letters(messages: Sequence[Message], refused: Sequence[Refusal], topic: str) -> Iterator[DeadLetter]:
    """Yield a letter for each refused message; beyond a hundred of one reason in a batch, one for all the rest."""
    seen: Counter[str] = Counter()
    rest: dict[str, DeadLetter] = {}
    for refusal in refused:
        seen[refusal.reason] += 1
        if refusal.reason in rest:
            continue
        letter = _letter(messages[refusal.index], refusal, topic)
        if seen[refusal.reason] <= SINGLE_LETTERS:
            yield letter
        else:
            rest[refusal.reason] = letter
    for reason, letter in rest.items():
        yield msgspec.structs.replace(letter, count=seen[reason] - SINGLE_LETTERS)


def _letter(raw: Message, refusal: Refusal, topic: str) -> DeadLetter:
    return DeadLetter(
        reason=refusal.reason,
        detail=refusal.detail,
        stage=STAGE,
        topic=topic,
        partition=int(raw.partition() or 0),
        offset=int(raw.offset() or 0),
        source=_source(raw.value() or b""),
        record_ms=int(raw.timestamp()[1]),
        count=1,
        excerpt=(raw.value() or b"")[: 4 * EXCERPT].decode("utf-8", "replace")[:EXCERPT],
    )


class _Sourced(msgspec.Struct):
    source: str = ""


def _source(text: bytes) -> str:
    """Return who sent a refused message, as far as it says so."""
    try:
        return msgspec.json.decode(text, type=_Sourced).source[:64]
    except msgspec.MsgspecError:
        return ""


def _outputs(letters: Sequence[DeadLetter]) -> list[Output]:
    return [
        Output("dead-letters", 0, letter.reason.encode(), encode_json(letter), letter.record_ms) for letter in letters
    ]


def _tell_errors(read: Sequence[Message]) -> None:
    for raw in read:
        error = raw.error()
        # That no broker answers is told by what is sent, in one sentence.
        if error is not None and error.code() not in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
            log.info("batcher_reads", error=error.str())
