from __future__ import annotations

import time

import pytest

from citybrain.errors import BrokerUnavailable, ConfigError
from citybrain.wire import Message, Output
from infra.kafka.client import Brokers
from infra.kafka.producer import BatchProducer, JsonProducer
from infra.kafka.tail import Tail
from tests.broker import FreshTopics

AT_MS = 1_700_000_000_000


def read_all(brokers: Brokers, run: str, topic: str) -> list[Message]:
    """Return what is in a topic now."""
    seen: list[Message] = []
    tail = Tail(brokers, [topic], seen.append, run=run, last=1_000_000)  # type: ignore[list-item]
    tail.start()
    assert tail.caught_up.wait(10), tail.state
    tail.stop()
    return sorted(seen, key=lambda message: (message.partition, message.offset))


@pytest.mark.broker
def test_what_is_flushed_is_on_the_broker_as_it_was_sent(broker: Brokers, fresh_topics: FreshTopics) -> None:
    run = fresh_topics(2)
    producer = BatchProducer(broker, run)
    outputs = [Output("readings", p, b"a", b"v%d%d" % (p, i)) for i in range(3) for p in range(2)]
    producer.send([*outputs, Output("readings", 0, b"b", b"own", record_ms=AT_MS - 5)], AT_MS)
    producer.flush()
    seen = [(m.partition, m.offset, m.record_ms, m.key, m.value) for m in read_all(broker, run, "readings")]
    assert seen == [
        (0, 0, AT_MS, b"a", b"v00"),
        (0, 1, AT_MS, b"a", b"v01"),
        (0, 2, AT_MS, b"a", b"v02"),
        (0, 3, AT_MS - 5, b"b", b"own"),
        (1, 0, AT_MS, b"a", b"v10"),
        (1, 1, AT_MS, b"a", b"v11"),
        (1, 2, AT_MS, b"a", b"v12"),
    ]
    producer.close()


@pytest.mark.broker
def test_what_the_broker_refuses_for_good_is_said_once_and_the_producer_goes_on(
    broker: Brokers, fresh_topics: FreshTopics
) -> None:
    run = fresh_topics(1)
    producer = BatchProducer(broker, run)
    two_hours_ahead = time.time_ns() // 1_000_000 + 7_200_000
    producer.send([Output("readings", 0, b"k", b"early")], two_hours_ahead)
    with pytest.raises(ConfigError, match="record time is too far from the broker's clock"):
        producer.flush()
    with pytest.raises(ConfigError, match="larger than the topic allows"):
        producer.send([Output("readings", 0, b"k", bytes(17 * 2**20))], AT_MS)
    producer.send([Output("readings", 0, b"k", b"good")], AT_MS)
    producer.flush()
    assert [message.value for message in read_all(broker, run, "readings")] == [b"good"]
    producer.close()


@pytest.mark.broker
def test_a_partition_or_topic_that_is_not_there_is_refused(broker: Brokers, fresh_topics: FreshTopics) -> None:
    producer = BatchProducer(broker, fresh_topics(1))
    producer.send([Output("readings", 7, b"k", b"v")], AT_MS)
    with pytest.raises(ConfigError, match="no such partition"):
        producer.flush()
    producer = BatchProducer(broker, "never-made")
    producer.send([Output("readings", 0, b"k", b"v")], AT_MS)
    with pytest.raises(ConfigError, match=r"citybrain\.never-made\.readings .* not on the broker"):
        producer.flush()


@pytest.mark.broker
def test_readings_of_one_key_stay_in_order_on_one_partition(broker: Brokers, fresh_topics: FreshTopics) -> None:
    run = fresh_topics(2)
    producer = JsonProducer(broker, run)
    producer.send("readings-json", [(b"d%d" % (i % 7), b"%d" % i, AT_MS + i) for i in range(1000)])
    producer.flush()
    producer.close()
    seen = read_all(broker, run, "readings-json")
    assert len(seen) == 1000
    assert {message.record_ms - AT_MS - int(message.value) for message in seen} == {0}
    for key in {message.key for message in seen}:
        of_key = [message for message in seen if message.key == key]
        assert len({message.partition for message in of_key}) == 1
        assert [int(message.value) for message in of_key] == sorted(int(message.value) for message in of_key)


def test_a_broker_that_is_not_there_gives_one_sentence_after_a_bounded_wait() -> None:
    producer = BatchProducer(Brokers("127.0.0.1:9"), timeout_s=0.2)
    producer.send([Output("readings", 0, b"k", b"v")], AT_MS)
    with pytest.raises(BrokerUnavailable, match=r"^no Kafka broker answers at 127\.0\.0\.1:9 \(waited 0\.2 s\)$"):
        producer.flush()
    producer.flush()


def test_without_a_broker_no_more_than_the_queue_is_held() -> None:
    producer = BatchProducer(Brokers("127.0.0.1:9"), timeout_s=0.2)
    with pytest.raises(BrokerUnavailable):
        producer.send((Output("readings", 0, b"k", bytes(2**20)) for _ in range(100)), AT_MS)
