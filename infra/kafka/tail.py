"""A reader without a consumer group: topics in, each message to a function out, for screens and tests.

It commits nothing and leaves nothing on the broker. It comes back by itself when the broker does; what was written
meanwhile is read then.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as RawMessage

from citybrain.topics import TopicName, topic_address
from citybrain.wire import Message
from infra.kafka.client import Brokers, answers
from infra.kafka.refusal import Refusal

POLL_S = 0.2
PROBE_EVERY_S = 1.0
PROBE_TIMEOUT_S = 0.7
LOST_AFTER_PROBES = 2

_SETTINGS: dict[str, Any] = {
    "client.id": "citybrain-tail",
    "group.id": "citybrain.tail",  # librdkafka wants a name; with assigned partitions no group is joined
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "latest",
    "queued.max.messages.kbytes": 16 * 1024,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1000,
    "socket.timeout.ms": 3000,
    "socket.connection.setup.timeout.ms": 2000,
    "socket.nagle.disable": True,
    "allow.auto.create.topics": False,
    "log_level": 0,
}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TailState:
    """How a tail is: ``starting`` until it reads, ``ok``, or ``lost`` with the reason; ``since_s`` is monotonic."""

    kind: Literal["starting", "ok", "lost"]
    error: str
    since_s: float


class Tail:
    """A thread that reads topics and calls ``on_message`` for each message, in order within a partition.

    Parameters
    ----------
    brokers
        Where the topics are.
    topics
        Topics to read, all their partitions.
    on_message
        Called in the tail's thread; what it raises is logged and the next message comes.
    run
        Name of a replay run; empty for the live topics.
    last
        Begin with so many of the newest messages of each partition; 0 begins at the end.
    since_ms
        Begin with the first message of this record time or later, instead of ``last``.
    """

    def __init__(
        self,
        brokers: Brokers,
        topics: Sequence[TopicName],
        on_message: Callable[[Message], None],
        *,
        run: str = "",
        last: int = 0,
        since_ms: int | None = None,
    ) -> None:
        self.caught_up = threading.Event()
        """Set once every partition has been read up to what was its end."""
        self._brokers = brokers
        self._names: dict[str, TopicName] = {topic_address(topic, run): topic for topic in topics}
        self._refusal = Refusal(brokers)
        self._on_message = on_message
        self._last = last
        self._since_ms = since_ms
        self._state = TailState("starting", "", time.monotonic())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-tail", daemon=True)

    @property
    def state(self) -> TailState:
        """Return how it is now; a broker that is gone is noticed within three seconds."""
        return self._state

    def start(self) -> None:
        """Begin to read; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, within a second."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        silent = logging.getLogger("citybrain.librdkafka")
        silent.setLevel(logging.CRITICAL)
        told = {"error_cb": self._refusal.note}
        consumer = Consumer(_SETTINGS | self._brokers.librdkafka() | told, logger=silent)
        try:
            if (behind := self._assign(consumer)) is not None:
                self._read(consumer, behind)
        finally:
            consumer.close()

    def _assign(self, consumer: Consumer) -> set[TopicPartition] | None:
        while not self._stop.is_set():
            try:
                starts = [start for name in self._names for start in self._starts(consumer, name)]
            except (KafkaException, LookupError) as error:
                consumer.poll(0)  # hears why it is refused
                self._tell("lost", self._sentence(error))
                self._stop.wait(0.3)
                continue
            consumer.assign(starts)
            self._tell("ok")
            return set(starts)
        return None

    def _starts(self, consumer: Consumer, name: str) -> list[TopicPartition]:
        described = consumer.list_topics(name, timeout=PROBE_TIMEOUT_S).topics[name]
        if described.error is not None or not described.partitions:
            raise LookupError(f"topic {name} is not on the broker")
        partitions = sorted(described.partitions)
        if self._since_ms is not None:
            asked = [TopicPartition(name, partition, self._since_ms) for partition in partitions]
            return list(consumer.offsets_for_times(asked, timeout=PROBE_TIMEOUT_S))
        found = []
        for partition in partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=PROBE_TIMEOUT_S)
            found.append(TopicPartition(name, partition, max(low, high - self._last)))
        return found

    def _read(self, consumer: Consumer, behind: set[TopicPartition]) -> None:
        probed = next(iter(behind))
        next_probe_s = time.monotonic() + PROBE_EVERY_S
        failed_probes = 0
        while not self._stop.is_set():
            raw = consumer.poll(POLL_S)
            error = None if raw is None else raw.error()
            if raw is not None and error is None:
                self._pass_on(raw)
                failed_probes = 0
                next_probe_s = time.monotonic() + PROBE_EVERY_S
                self._tell("ok")
                continue
            if raw is not None and error is not None and error.code() == KafkaError._PARTITION_EOF:
                behind.discard(TopicPartition(str(raw.topic()), int(raw.partition() or 0)))
                if not behind:
                    self.caught_up.set()
            if time.monotonic() >= next_probe_s:
                trouble = self._probe(consumer, probed)
                failed_probes = failed_probes + 1 if trouble else 0
                if failed_probes >= LOST_AFTER_PROBES:
                    self._tell("lost", trouble)
                elif not trouble:
                    self._tell("ok")
                next_probe_s = time.monotonic() + (POLL_S if trouble else PROBE_EVERY_S)

    def _probe(self, consumer: Consumer, partition: TopicPartition) -> str:
        # A silent topic and a dead broker look the same to a reader; only an answer tells them apart.
        try:
            consumer.get_watermark_offsets(partition, timeout=PROBE_TIMEOUT_S)
        except KafkaException as error:
            return self._sentence(error)
        return ""

    def _pass_on(self, raw: RawMessage) -> None:
        message = Message(
            self._names[str(raw.topic())],
            int(raw.partition() or 0),
            int(raw.offset() or 0),
            int(raw.timestamp()[1]),
            _bytes(raw.key()),
            _bytes(raw.value()),
        )
        try:
            self._on_message(message)
        except Exception:
            log.exception(
                "tail_message_failed", topic=message.topic, partition=message.partition, offset=message.offset
            )

    def _tell(self, kind: Literal["ok", "lost"], error: str = "") -> None:
        before = self._state
        if (before.kind, before.error) == (kind, error):
            return
        if kind == "ok":
            self._refusal.reason = ""
        log.info("tail_state", state=kind, error=error, address=self._brokers.address)
        self._state = TailState(kind, error, before.since_s if before.kind == kind else time.monotonic())

    def _sentence(self, error: Exception) -> str:
        if not answers(self._brokers):
            return f"no Kafka broker answers at {self._brokers}"
        if self._refusal.reason:
            return self._refusal.reason
        said = error.args[0] if error.args else error
        return f"the Kafka broker at {self._brokers}: {said.str() if isinstance(said, KafkaError) else said}"


def _bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""
