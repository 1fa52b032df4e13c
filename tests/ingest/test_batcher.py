from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from threading import Event
from typing import Any

import msgspec
import numpy as np
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from citybrain.errors import BrokerUnavailable
from citybrain.messages import DeadLetter
from citybrain.metrics import Metrics
from citybrain.network import Network
from citybrain.records import Readings, decode
from citybrain.wire import Message, Output
from infra.kafka.client import Brokers
from infra.kafka.producer import BatchProducer, JsonProducer
from infra.kafka.tail import Tail
from ingest.backlog import Chunk
from ingest.batcher import Batcher, Watermarks, by_source, in_order
from ingest.jsonedge import JsonEdge
from tests.broker import FreshTopics
from tests.fakes import grid_network
from tests.infra.kafka.test_tail import wait_until
from tests.ingest.build import START_MS, readings
from tests.streams.build import aggregate

NETWORK = grid_network()


def message(detector: str = "d1", number: int = 0, **changes: Any) -> bytes:
    fields = {"detector": detector, "observed_from": START_MS, "observed_to": START_MS + 30_000, "flow_vph": number}
    return msgspec.json.encode(fields | changes)


class Heard:
    """What a test hears on the topics that the batcher writes."""

    def __init__(self, broker: Brokers, run: str) -> None:
        self.readings: list[tuple[int, Readings]] = []
        self.letters: list[DeadLetter] = []
        self._tail = Tail(broker, ["readings", "dead-letters"], self._hear, run=run, last=1_000_000)
        self._tail.start()

    def _hear(self, message: Message) -> None:
        if message.topic == "readings":
            self.readings.append((message.partition, decode(Readings, message.value)))
        else:
            self.letters.append(msgspec.json.decode(message.value, type=DeadLetter))

    def flows(self) -> list[float]:
        return sorted(flow for _, batch in self.readings for flow in batch.flow_vph.tolist())

    def stop(self) -> None:
        self._tail.stop()


def send(broker: Brokers, run: str, messages: Iterable[bytes], record_ms: int = START_MS + 31_000) -> None:
    producer = JsonProducer(broker, run)
    producer.send("readings-json", [(value[:30], value, record_ms) for value in messages])
    producer.flush()
    producer.close()


@pytest.mark.broker
def test_json_readings_become_batches_and_bad_ones_dead_letters(broker: Brokers, fresh_topics: FreshTopics) -> None:
    run = fresh_topics(NETWORK.partitions)
    metrics = Metrics()
    good = [message(f"d{i % len(NETWORK.detectors)}", i) for i in range(300)]
    send(broker, run, [*good, b'{"detector":', message("nobody")])
    batcher = Batcher(broker, NETWORK, BatchProducer(broker, run), run=run, metrics=metrics)
    batcher.start()
    heard = Heard(broker, run)
    assert wait_until(lambda: len(heard.flows()) == 300 and len(heard.letters) == 2, 30)
    assert heard.flows() == list(range(300))
    for partition, batch in heard.readings:
        assert set(NETWORK.detector_partition[batch.detector].tolist()) <= {partition}
        assert batch.received_ms == START_MS + 31_000
        assert batch.watermark_ms <= START_MS + 30_000
    letters = {letter.reason: letter for letter in heard.letters}
    assert letters["malformed"].excerpt == '{"detector":'
    assert letters["malformed"].topic == "readings-json"
    assert letters["malformed"].offset >= 0
    assert "'nobody' seen" in letters["unknown_detector"].detail
    assert wait_until(
        lambda: metrics.registry.get_sample_value("citybrain_messages_total", {"stage": "batcher"}) == 302
    )

    batcher.stop()
    assert not batcher.alive
    send(broker, run, [message("d2", 1000)])
    again = Batcher(broker, NETWORK, BatchProducer(broker, run), run=run)
    again.start()
    assert wait_until(lambda: 1000.0 in heard.flows(), 30)
    again.stop()
    heard.stop()
    assert heard.flows() == [*range(300), 1000], "what was committed is not read again"


class Aggregating:
    """What a worker makes of the batches: readings counted and refused."""

    def __init__(self, broker: Brokers, run: str, town: Network) -> None:
        self._stage = aggregate(town)
        self._rings = [self._stage.new(partition) for partition in range(town.partitions)]
        self.refused: list[DeadLetter] = []
        self.counted = 0
        self._tail = Tail(broker, ["readings"], self._hear, run=run, last=1_000_000)
        self._tail.start()

    def _hear(self, told: Message) -> None:
        results = self._stage.step(self._rings[told.partition], told)
        self.counted += results.read[1] if results.read else 0
        self.refused += results.refused

    @property
    def seen(self) -> int:
        return self.counted + sum(letter.count for letter in self.refused)

    @property
    def watermark_ms(self) -> int:
        return min(ring.watermark_ms for ring in self._rings)

    def stop(self) -> None:
        self._tail.stop()


@pytest.fixture
def small_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a backlog of a few thousand messages be what a city's millions are: more than is read at once."""
    monkeypatch.setattr("ingest.batcher.MESSAGES", 500)
    monkeypatch.setattr("ingest.batcher.IN_HAND", 1000)


HOUR = 120
"""Intervals."""


def an_hour_of(town: Network, broker: Brokers, run: str) -> int:
    """Send what a town says in an hour; return how many readings."""
    producer = JsonProducer(broker, run)
    for begin_ms in range(START_MS, START_MS + HOUR * 30_000, 30_000):
        span = {"observed_from": begin_ms, "observed_to": begin_ms + 30_000}
        each = [(name.encode(), message(name, 300, **span), begin_ms + 31_000) for name in town.detectors.id.tolist()]
        producer.send("readings-json", each)
    producer.flush()
    producer.close()
    return HOUR * len(town.detectors)


@pytest.mark.broker
@pytest.mark.usefixtures("small_reads")
def test_after_an_hour_of_absence_no_reading_is_too_late(broker: Brokers, fresh_topics: FreshTopics) -> None:
    """A client reads one partition to its end before it begins with another; a worker would refuse the rest."""
    town = grid_network(6, 5, partitions=8)
    run = fresh_topics(town.partitions)
    sent, worker = an_hour_of(town, broker, run), Aggregating(broker, run, town)
    batcher = Batcher(broker, town, BatchProducer(broker, run), run=run)
    batcher.start()
    assert wait_until(lambda: worker.seen == sent, 60)
    batcher.stop()
    worker.stop()
    assert worker.refused == []
    # The last panes wait for a word that is later than they are.
    assert worker.watermark_ms >= START_MS + (HOUR - 1) * 30_000


class Slow:
    """A producer to a broker that takes its time."""

    def __init__(self, producer: BatchProducer) -> None:
        self._producer = producer

    def send(self, outputs: Iterable[Output], record_ms: int) -> None:
        self._producer.send(outputs, record_ms)

    def flush(self, stop: Event | None = None) -> None:
        time.sleep(0.5)
        self._producer.flush(stop)


def come_and_go(broker: Brokers, run: str) -> None:
    """Be two members of the batcher's group for a moment, for another topic; all wait two seconds for one of them."""
    settings = broker.librdkafka() | {"group.id": f"citybrain.{run}.batcher", "log_level": 0}
    slow, other = Consumer(settings), Consumer(settings)
    slow.subscribe([f"citybrain.{run}.events"], on_revoke=lambda consumer, partitions: None)
    assert wait_until(lambda: bool(slow.poll(0.1) or slow.assignment()), 30)
    other.subscribe([f"citybrain.{run}.events"])
    other.poll(2.0)
    slow.close()
    other.close()


@pytest.mark.broker
@pytest.mark.usefixtures("small_reads")
def test_a_rebalance_in_a_backlog_makes_no_reading_too_late(broker: Brokers, fresh_topics: FreshTopics) -> None:
    """All partitions are taken away and given back, since another member comes, which wants another topic."""
    town = grid_network(6, 5, partitions=8)
    run = fresh_topics(town.partitions)
    sent, worker = an_hour_of(town, broker, run), Aggregating(broker, run, town)
    batcher = Batcher(broker, town, Slow(BatchProducer(broker, run)), run=run)
    batcher.start()
    assert wait_until(lambda: worker.seen > sent // 20, 60)
    members = 0
    while worker.seen < sent // 2:
        come_and_go(broker, run)
        members += 1

    def refused() -> list[str]:
        # What was sent and not yet committed comes again, and is told from what was counted by its interval.
        return [letter.detail for letter in list(worker.refused) if letter.reason != "duplicate"]

    assert wait_until(lambda: worker.counted == sent or bool(refused()), 60)
    batcher.stop()
    worker.stop()
    assert members
    assert not refused()
    assert worker.counted == sent


class Dying:
    """A producer whose process ends before what was sent is durable."""

    def send(self, outputs: Iterable[Output], record_ms: int) -> None:
        list(outputs)

    def flush(self, stop: Event | None = None) -> None:
        raise RuntimeError("killed")


@pytest.mark.broker
def test_a_batcher_that_dies_before_its_batches_are_durable_loses_nothing(
    broker: Brokers, fresh_topics: FreshTopics
) -> None:
    run = fresh_topics(NETWORK.partitions)
    send(broker, run, [message("d1", i) for i in range(50)])
    with pytest.raises(RuntimeError, match="killed"):
        Batcher(broker, NETWORK, Dying(), run=run).run(Event())
    batcher = Batcher(broker, NETWORK, BatchProducer(broker, run), run=run)
    batcher.start()
    heard = Heard(broker, run)
    assert wait_until(lambda: len(heard.flows()) == 50, 30)
    batcher.stop()
    heard.stop()
    assert heard.flows() == list(range(50))


class Away:
    """A producer whose broker is away."""

    def __init__(self) -> None:
        self.tries = 0

    def send(self, outputs: Iterable[Output], record_ms: int) -> None:
        list(outputs)

    def flush(self, stop: Event | None = None) -> None:
        self.tries += 1
        raise BrokerUnavailable("no Kafka broker answers at nowhere:1 (waited 0 s)")


@pytest.mark.broker
def test_a_batcher_stops_while_it_waits_for_the_broker(broker: Brokers, fresh_topics: FreshTopics) -> None:
    run = fresh_topics(NETWORK.partitions)
    send(broker, run, [message()])
    away = Away()
    batcher = Batcher(broker, NETWORK, away, run=run)
    batcher.start()
    assert wait_until(lambda: away.tries > 1, 30)
    assert batcher.alive
    batcher.stop()
    assert not batcher.alive


RECEIVED_MS = START_MS + 100_000


def edge(*to_ms: int, received_ms: int = RECEIVED_MS) -> Any:
    values = [message(observed_from=START_MS - 1, observed_to=end) for end in to_ms]
    return JsonEdge(NETWORK).decode(values, np.full(len(values), received_ms, dtype=np.int64))


def read(*partition: int) -> Chunk:
    return Chunk([], np.array(partition), np.full(len(partition), RECEIVED_MS))


def test_the_backlog_of_one_partition_holds_back_the_watermark_of_another() -> None:
    marks = Watermarks()
    (told,) = marks.told(edge(START_MS + 10, START_MS + 50_000, START_MS + 20), read(0, 0, 1), behind=[1])
    assert told.watermark_ms == START_MS + 20
    (told,) = marks.told(edge(START_MS + 30_000), read(1), behind=[])
    assert told.watermark_ms == START_MS + 50_000


def test_a_partition_of_which_nothing_was_read_lets_nothing_be_told() -> None:
    (told,) = Watermarks().told(edge(START_MS + 10), read(0), behind=[1])
    assert told.watermark_ms == 0


def test_a_clock_that_runs_ahead_shows_no_more_than_the_time_of_reception() -> None:
    (told,) = Watermarks().told(edge(START_MS + 200_000), read(0), behind=[])
    assert told.watermark_ms == RECEIVED_MS


def test_an_interval_of_tomorrow_does_not_say_how_far_its_partition_was_read() -> None:
    marks, tomorrow_ms = Watermarks(), START_MS + 86_400_000
    marks.told(edge(tomorrow_ms, START_MS + 10), read(1, 0), behind=[])
    (told,) = marks.told(edge(START_MS + 150_000, received_ms=START_MS + 200_000), read(0), behind=[1])
    assert told.watermark_ms == RECEIVED_MS


def test_single_readings_are_sent_by_interval_and_detector_and_repeats_stay_behind_the_first() -> None:
    later, earlier = START_MS + 60_000, START_MS + 30_000
    mixed = readings(NETWORK, [3, 1, 3, 2, 3], to_ms=[later, earlier, earlier, earlier, earlier])
    sent = in_order(mixed)
    assert sent.detector.tolist() == [1, 2, 3, 3, 3]
    assert sent.observed_to_ms.tolist() == [earlier] * 4 + [later]
    assert sent.flow_vph.tolist() == [1, 3, 2, 4, 0]


def test_what_was_read_of_a_source_in_several_pieces_is_put_together_with_the_last_watermark() -> None:
    pieces = [
        readings(NETWORK, [3], source="north", received_ms=START_MS + 9, watermark_ms=START_MS + 5),
        readings(NETWORK, [1], source="south", watermark_ms=START_MS + 6),
        readings(NETWORK, [2, 4], source="north", received_ms=START_MS + 8, watermark_ms=START_MS + 4),
    ]
    north, south = by_source(pieces)
    assert (north.detector.tolist(), north.received_ms, north.watermark_ms) == ([3, 2, 4], START_MS + 9, START_MS + 4)
    assert (south.detector.tolist(), south.watermark_ms) == ([1], START_MS + 6)


@dataclass
class Idle:
    """A batcher that does not run, a consumer of its group to ask it about, and the two partitions of its topic."""

    broker: Brokers
    run: str
    batcher: Batcher
    consumer: Consumer
    parts: list[TopicPartition]

    def send(self) -> None:
        """Send 40 readings."""
        send(self.broker, self.run, [message(f"d{n}") for n in range(40)])

    def read(self) -> None:
        """Read 40 readings."""
        read = 0
        while read < 40:
            read += len(self.consumer.consume(40, 5.0))

    def behind(self) -> list[bool]:
        """Return of each partition whether it is behind."""
        return [self.batcher._is_behind(self.consumer, number) for number in range(2)]


@pytest.fixture
def idle(broker: Brokers, fresh_topics: FreshTopics) -> Iterator[Idle]:
    run = fresh_topics(2)
    batcher = Batcher(broker, NETWORK, BatchProducer(broker, run), run=run)
    consumer = Consumer(broker.librdkafka() | {"group.id": f"citybrain.{run}.batcher", "auto.offset.reset": "earliest"})
    parts = [TopicPartition(f"citybrain.{run}.readings-json", number, OFFSET_BEGINNING) for number in range(2)]
    yield Idle(broker, run, batcher, consumer, parts)
    consumer.close()


@pytest.mark.broker
@pytest.mark.xdist_group("broker")
def test_a_partition_counts_as_behind_until_it_was_heard_of_and_read_to_its_end(idle: Idle) -> None:
    idle.send()
    idle.batcher._assigned(idle.consumer, idle.parts)
    idle.consumer.assign(idle.parts)
    assert idle.behind() == [True, True]
    idle.read()
    assert idle.behind() == [False, False]
    idle.consumer.commit(asynchronous=False)


@pytest.mark.broker
@pytest.mark.xdist_group("broker")
def test_what_a_client_knew_of_the_end_before_an_assignment_hides_nothing(idle: Idle) -> None:
    idle.send()
    idle.consumer.assign(idle.parts)
    idle.read()
    # A client that does not fetch, as after an outage, hears of no new end.
    idle.consumer.pause(idle.parts)
    idle.send()
    assert idle.behind() == [False, False]
    idle.batcher._assigned(idle.consumer, idle.parts)
    assert idle.behind() == [True, True]


@pytest.mark.broker
@pytest.mark.xdist_group("broker")
def test_a_partition_that_is_ahead_right_after_an_assignment_is_not_read_on(idle: Idle) -> None:
    idle.send()

    def numbers(of: int) -> set[int | None]:
        read = [raw for _ in range(of) for raw in idle.consumer.consume(40, 0.5)]
        return {raw.partition() for raw in read if raw.error() is None}

    idle.batcher._assigned(idle.consumer, idle.parts)
    idle.consumer.assign(idle.parts)
    idle.batcher._backlog.ahead = {0}
    idle.batcher._hold_back(idle.consumer, {0, 1})
    assert numbers(6) == {1}
    idle.batcher._backlog.ahead = set()
    idle.batcher._hold_back(idle.consumer, {0, 1})
    assert numbers(6) == {0}


@pytest.mark.broker
@pytest.mark.xdist_group("broker")
def test_a_partition_that_holds_nothing_new_is_not_behind(idle: Idle) -> None:
    only = idle.parts[:1]

    def starts_known() -> bool:
        idle.batcher._assigned(idle.consumer, only)
        return bool(idle.batcher._bounds)

    assert wait_until(starts_known)
    idle.consumer.assign(only)

    def not_behind() -> bool:
        idle.consumer.poll(0.1)
        return not idle.batcher._is_behind(idle.consumer, 0)

    assert wait_until(not_behind)
