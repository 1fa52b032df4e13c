from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from citybrain.wire import Message, Output
from infra.kafka.client import Brokers
from infra.kafka.producer import BatchProducer
from infra.kafka.tail import Tail
from tests.broker import FreshTopics

AT_MS = 1_700_000_000_000


def wait_until(condition: Callable[[], bool], timeout_s: float = 15.0) -> bool:
    """Return whether the condition came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def send(broker: Brokers, run: str, values: list[bytes]) -> None:
    producer = BatchProducer(broker, run)
    for index, value in enumerate(values):
        producer.send([Output("readings", index % 2, b"k", value)], AT_MS + index)
    producer.flush()
    producer.close()


@pytest.mark.broker
def test_a_tail_from_the_end_sees_only_what_comes_after(broker: Brokers, fresh_topics: FreshTopics) -> None:
    run = fresh_topics(2)
    send(broker, run, [b"old"] * 4)
    seen: list[Message] = []
    tail = Tail(broker, ["readings", "alerts"], seen.append, run=run)
    tail.start()
    assert tail.caught_up.wait(10)
    send(broker, run, [b"new"])
    assert wait_until(lambda: len(seen) == 1)
    tail.stop()
    assert seen[0] == Message("readings", 0, 2, AT_MS, b"k", b"new")


@pytest.mark.broker
def test_a_tail_can_begin_with_the_newest_messages_or_at_a_record_time(
    broker: Brokers, fresh_topics: FreshTopics
) -> None:
    run = fresh_topics(2)
    send(broker, run, [b"%d" % i for i in range(10)])
    newest: list[bytes] = []
    since: list[bytes] = []
    for seen, begin in ((newest, {"last": 2}), (since, {"since_ms": AT_MS + 7})):
        tail = Tail(broker, ["readings"], lambda message, seen=seen: seen.append(message.value), run=run, **begin)  # type: ignore[misc]
        tail.start()
        assert tail.caught_up.wait(10)
        tail.stop()
    assert sorted(newest) == [b"6", b"7", b"8", b"9"]
    assert sorted(since) == [b"7", b"8", b"9"]


@pytest.mark.broker
def test_a_function_that_raises_does_not_end_the_tail(broker: Brokers, fresh_topics: FreshTopics) -> None:
    run = fresh_topics(2)
    seen: list[bytes] = []

    def fail_once(message: Message) -> None:
        seen.append(message.value)
        if len(seen) == 1:
            raise ValueError("poison")

    tail = Tail(broker, ["readings"], fail_once, run=run, last=10)
    tail.start()
    send(broker, run, [b"a", b"b", b"c", b"d"])
    assert wait_until(lambda: len(seen) == 4)
    tail.stop()


@pytest.mark.broker
def test_a_tail_waits_for_topics_that_are_not_there_yet(broker: Brokers) -> None:
    tail = Tail(broker, ["readings"], lambda message: None, run="never-made")
    tail.start()
    assert wait_until(lambda: tail.state.kind == "lost")
    assert "citybrain.never-made.readings is not on the broker" in tail.state.error
    tail.stop()


def test_a_tail_without_a_broker_says_so_and_stops_at_once() -> None:
    tail = Tail(Brokers("127.0.0.1:9"), ["readings"], lambda message: None)
    tail.start()
    assert wait_until(lambda: tail.state.kind == "lost")
    assert tail.state.error == "no Kafka broker answers at 127.0.0.1:9"
    tail.stop()
    assert not any(thread.name == "kafka-tail" for thread in threading.enumerate())
