"""Replay: messages of the past in, played into topics of a run of their own; and how far the run has come out.

It moves messages and looks at offsets; the stages that work on the run are the same as live, on other topics.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from threading import Event
from typing import Protocol

import aiokafka
from aiokafka import TopicPartition

from citybrain.clock import Clock
from citybrain.topics import TopicName, group_address, topic_address
from citybrain.wire import Message, Output
from infra.kafka.client import Brokers
from streams.restore import end_consumer

SLICE_MS = 200
"""A wait looks so often, in the clock's time, whether it is to stop."""
FLUSH_EVERY = 500
FETCH_BYTES = 16 * 2**20


class Sender(Protocol):
    """What a replay needs of a producer (`infra.kafka.producer.BatchProducer`)."""

    def send(self, outputs: Iterable[Output], record_ms: int) -> None:
        """Queue messages."""
        ...

    def flush(self) -> None:
        """Return once they are durable."""
        ...


def play(outputs: Iterable[Output], sender: Sender, clock: Clock, stop: Event) -> int:
    """Send each message when the clock shows its record time; return how many were sent.

    A clock that is ahead of all of them plays as fast as the broker takes them.
    """
    sent = unconfirmed = 0
    for output in outputs:
        at_ms = output.record_ms or 0
        while not stop.is_set() and (now_ms := clock.now_ms()) < at_ms:
            if unconfirmed:
                sender.flush()
                unconfirmed = 0
            clock.sleep_until_ms(min(at_ms, now_ms + SLICE_MS))
        if stop.is_set():
            break
        sender.send([output], at_ms)
        sent += 1
        unconfirmed += 1
        if unconfirmed >= FLUSH_EVERY:
            sender.flush()
            unconfirmed = 0
    sender.flush()
    return sent


async def lag(brokers: Brokers, run: str, role: str, topics: Sequence[tuple[TopicName, int]]) -> int:
    """Return how many messages a role of the run has not acknowledged yet.

    Topics come with their partitions, sources before what is made of them: where one is done, nothing is added to
    the next any more, so 0 means that all is done.
    """
    consumer = aiokafka.AIOKafkaConsumer(
        **brokers.aiokafka(), group_id=group_address(role, run), enable_auto_commit=False
    )
    await consumer.start()
    try:
        left = 0
        for name, partitions in topics:
            places = [TopicPartition(topic_address(name, run), number) for number in range(partitions)]
            ends, begins = await consumer.end_offsets(places), await consumer.beginning_offsets(places)
            for place in places:
                done = await consumer.committed(place)
                left += ends[place] - (begins[place] if done is None else done)
        return left
    finally:
        await end_consumer(consumer)


async def results(brokers: Brokers, run: str, topics: Sequence[tuple[TopicName, int]]) -> AsyncIterator[Message]:
    """Yield all messages of some topics of a run, one topic after the other, each partition in its order."""
    consumer = aiokafka.AIOKafkaConsumer(
        **brokers.aiokafka(), enable_auto_commit=False, max_partition_fetch_bytes=FETCH_BYTES
    )
    await consumer.start()
    try:
        for name, partitions in topics:
            places = [TopicPartition(topic_address(name, run), number) for number in range(partitions)]
            ends = await consumer.end_offsets(places)
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            open_ = set(places)
            while open_:
                for place, records in (await consumer.getmany(*open_, timeout_ms=200)).items():
                    for r in records:
                        yield Message(name, place.partition, r.offset, r.timestamp, r.key or b"", r.value or b"")
                open_ = {place for place in open_ if await consumer.position(place) < ends[place]}
    finally:
        await end_consumer(consumer)
