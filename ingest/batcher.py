"""The batcher: single JSON readings from ``readings-json`` in, batches on ``readings`` out, with what was refused.

Offsets are committed once the batches made of them are durable: after a crash some readings come twice, and are
recognised downstream. Times come from the Kafka record, never from a clock, so that a replay decides the same.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
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
from citybrain.records import Readings
from citybrain.topics import PREFIX, topic_address
from citybrain.wire import Output
from infra.kafka.client import Brokers
from ingest.backlog import Backlog, Chunk
from ingest.jsonedge import Edge, JsonEdge, Refusal
from ingest.publish import Producer, Publisher

STAGE = "batcher"
MESSAGES = 20_000
"""Most messages read at once."""
IN_HAND = 200_000
"""Messages in hand after which no more are read: when there is a backlog, batches of some thousand readings a
partition, which hold whole intervals of a city of 10,000 segments."""
WAIT_S = 0.1
GATHER_S = 1.0
"""How long it reads on at most before it sends, while there is a backlog."""
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
    # Small fetches, so that little is read of a partition before it is seen to be ahead (`ingest.backlog`).
    "max.partition.fetch.bytes": 256 * 1024,
    "queued.max.messages.kbytes": 16 * 1024,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1000,
    "socket.nagle.disable": True,
    "allow.auto.create.topics": False,
    "log_level": 0,
}

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Hand:
    """What was read and is not sent yet.

    Attributes
    ----------
    readings
        Columns with their watermarks, in the order in which they were read.
    letters
        What was refused.
    messages
        How many were read.
    record_ms
        Newest record time, ms UTC.
    next
        The offset to go on with in each partition, once all of it is durable.
    """

    readings: list[Readings] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    messages: int = 0
    record_ms: int = 0
    next: dict[int, int] = field(default_factory=dict)


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
        self._backlog = Backlog(time.monotonic())
        self._paused: set[int] = set()
        self._unsure: set[int] = set()
        self._bounds: dict[int, tuple[int, int]] = {}
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
                hand = self._gather(consumer, stop)
                if hand.messages and self._send(hand, stop):
                    self._commit(consumer, hand)
        finally:
            consumer.close()

    def _gather(self, consumer: Consumer, stop: Event) -> Hand:
        """Read what is there, and more while there is a backlog: columns are made at once, messages are let go."""
        hand, until_s = Hand(), time.monotonic() + GATHER_S
        while True:
            read = _chunk(consumer.consume(MESSAGES, WAIT_S))
            mine = [part.partition for part in consumer.assignment()]
            if not mine:
                # Whoever gets the partitions reads it again: nothing of it was committed.
                return hand
            behind = [number for number in mine if self._is_behind(consumer, number)]
            due = self._backlog.due(read, behind, time.monotonic())
            self._hold_back(consumer, set(mine))
            if due.messages:
                self._take(hand, due, self._backlog.waited_for(behind))
            enough = hand.messages >= IN_HAND or time.monotonic() > until_s or stop.is_set()
            if enough or not (read.messages and behind):
                return hand

    def _hold_back(self, consumer: Consumer, mine: set[int]) -> None:
        """Let partitions that are ahead of the others wait, and go on with those that are not any more."""
        ahead = self._backlog.ahead & mine
        resumed = ((self._paused | self._unsure) & mine) - ahead
        changes = (consumer.pause, ahead - self._paused), (consumer.resume, resumed)
        for change, numbers in changes:
            if numbers:
                change([TopicPartition(self._topic, number) for number in numbers])
        self._paused, self._unsure = ahead, set()

    def _take(self, hand: Hand, due: Chunk, behind: Sequence[int]) -> None:
        read = list(map(Message.value, due.messages))
        values: list[bytes] = read if all(read) else [value or b"" for value in read]  # type: ignore[assignment]
        edge = self._edge.decode(values, due.record_ms)
        hand.readings += self._watermarks.told(edge, due, [*behind, *self._backlog.kept])
        hand.letters += dead_letters(due.messages, edge.refused, "readings-json")
        hand.messages += len(due.messages)
        hand.record_ms = max(hand.record_ms, int(due.record_ms.max()))
        hand.next |= _following(due)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._watermarks = Watermarks()
        # What is kept is read again: nothing of it was committed.
        self._backlog = Backlog(time.monotonic())
        # Being paused outlasts an assignment.
        self._paused, self._unsure = set(), {part.partition for part in partitions}
        self._bounds = {}
        try:
            committed = consumer.committed(partitions, timeout=ANSWER_S)
        except KafkaException as error:
            log.info("batcher_starts_unknown", error=str(error))
            return
        for part in committed:
            try:
                low, high = consumer.get_watermark_offsets(part, timeout=ANSWER_S)
            except KafkaException as error:
                log.info("batcher_starts_unknown", partition=part.partition, error=str(error))
            else:
                self._bounds[part.partition] = max(part.offset, low), high

    def _send(self, hand: Hand, stop: Event) -> bool:
        readings = [in_order(batch) for batch in by_source(hand.readings)]
        while True:
            try:
                for batch in readings:
                    self._publisher.publish(batch)
                self._producer.send(_outputs(hand.letters), hand.record_ms)
                self._producer.flush(stop)
                break
            except BrokerUnavailable as error:
                log.warning("batcher_waits_for_broker", error=str(error), messages=hand.messages)
                if stop.wait(RETRY_S):
                    return False
        self._metrics.count("citybrain_messages_total", STAGE, by=hand.messages)
        for letter in hand.letters:
            self._metrics.count("citybrain_dead_letters_total", STAGE, letter.reason, by=letter.count)
        return True

    def _is_behind(self, consumer: Consumer, number: int) -> bool:
        """Return whether the partition holds messages beyond those in hand, or has not been heard of yet."""
        part = TopicPartition(self._topic, number)
        bounds = consumer.get_watermark_offsets(part, cached=True)
        if bounds is None or bounds[1] < 0:
            return True  # no fetch was answered yet: nobody knows what waits there
        # What the client knows of the end may be of an assignment before: so it is not less than when this one began.
        start, end = self._bounds.get(number, (-1, -1))
        position = consumer.position([part])[0].offset
        return max(bounds[1], end) > (position if position >= 0 else start)

    def _commit(self, consumer: Consumer, hand: Hand) -> None:
        mine = {part.partition for part in consumer.assignment()}
        offsets = [
            TopicPartition(self._topic, number, offset) for number, offset in hand.next.items() if number in mine
        ]
        if not offsets:
            return
        try:
            consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            # The partitions have gone to another batcher, or the broker is away: these readings will come twice.
            log.info("batcher_commit_failed", error=str(error))


def _chunk(read: list[Message]) -> Chunk:
    """Return what was read without the errors, which are told."""
    messages = read
    if list(map(Message.error, read)).count(None) < len(read):
        messages = [raw for raw in read if raw.error() is None]
        _tell_errors(read)
    partition = np.fromiter(map(Message.partition, messages), np.int64, len(messages))
    record_ms = np.fromiter(map(itemgetter(1), map(Message.timestamp, messages)), np.int64, len(messages))
    return Chunk(messages, partition, record_ms)


def _following(chunk: Chunk) -> dict[int, int]:
    """Return the offset after the last message of each partition."""
    # The last message of each partition: the first, seen from the end.
    numbers, from_end = np.unique(chunk.partition[::-1], return_index=True)
    last = (len(chunk.messages) - 1 - from_end).tolist()
    offsets = [int(chunk.messages[at].offset()) + 1 for at in last]
    return dict(zip(numbers.tolist(), offsets, strict=True))


class Watermarks:
    """What each source has shown, so that the backlog of one partition is not made late by another that is ahead."""

    def __init__(self) -> None:
        self._by_source: dict[str, int] = {}
        self._by_partition: dict[int, int] = {}

    def told(self, edge: Edge, read: Chunk, behind: Sequence[int]) -> list[Readings]:
        """Return the readings with their watermarks.

        Parameters
        ----------
        edge
            A decoded batch.
        read
            Its messages, with partition and record time of each.
        behind
            Partitions that hold messages which have not been read: nothing later than what was read of them is told.
        """
        # A clock that runs ahead shows nothing of what others still have to send.
        shown_ms = np.minimum(edge.observed_to_ms, read.record_ms)
        for number in np.unique(read.partition).tolist():
            seen_ms = int(shown_ms[read.partition == number].max())
            self._by_partition[number] = max(self._by_partition.get(number, 0), seen_ms)
        limit_ms = min((self._by_partition.get(number, 0) for number in behind), default=2**62)
        told = []
        for readings in edge.readings:
            newest_ms = min(readings.watermark_ms, readings.received_ms)
            newest_ms = max(newest_ms, self._by_source.get(readings.source, 0))
            self._by_source[readings.source] = newest_ms
            told.append(replace(readings, watermark_ms=min(newest_ms, limit_ms)))
        return told


def by_source(parts: Sequence[Readings]) -> list[Readings]:
    """Put the readings of each source together, sources in the order in which they first appear.

    The watermark is the one told last, after all of the rows; the reception is the newest.
    """
    found: dict[str, list[Readings]] = {}
    for part in parts:
        found.setdefault(part.source, []).append(part)
    return [
        replace(
            Readings.joined(of_one),
            received_ms=max(part.received_ms for part in of_one),
            watermark_ms=of_one[-1].watermark_ms,
        )
        for of_one in found.values()
    ]


def in_order(readings: Readings) -> Readings:
    """Return the rows by interval and detector, as a feed that polls a whole network sends them.

    Single readings come in any order, and for a worker that is a new list of detectors every time, with intervals
    mixed: it took 0.71 us a reading, and 0.45 so (625 a message). Rows that are alike in both stay in their order.
    """
    order = np.lexsort((readings.detector, readings.observed_from_ms))
    return readings.take(order)


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
