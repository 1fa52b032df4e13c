"""Restore on a real broker: the newest true snapshot, whoever wrote the last one and whatever happened to the topic."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator, Sequence

import pytest
from confluent_kafka import Producer
from kafka.errors import KafkaError

from citybrain.errors import ConfigError
from citybrain.topics import topic_address
from infra.kafka.admin import admin
from infra.kafka.client import Brokers
from infra.kafka.offsets import Offsets
from streams.restore import Kept, Restorer, end_consumer
from streams.savepoint import MARK, Savepoint
from tests.broker import FreshTopics, broker, fresh_topics, jars_folder

__all__ = ["broker", "fresh_topics", "jars_folder"]

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("broker")]


class Place:
    """Source and snapshots of one stage under a run of its own, with two partitions."""

    def __init__(self, brokers: Brokers, run: str) -> None:
        self.brokers, self.run = brokers, run
        self.source, self.snapshots = topic_address("readings", run), topic_address("snapshots-aggregate", run)
        self.group = f"citybrain.{run}.worker"
        self.offsets = Offsets(brokers)

    @property
    def topic_id(self) -> uuid.UUID:
        return self.offsets.topic_ids([self.source])[self.source]

    def fill(self, topic: str, values: Sequence[bytes | None], partition: int = 0) -> None:
        producer = Producer(self.brokers.librdkafka())
        for value in values:
            producer.produce(topic, value, b"0", partition)
        producer.flush(10)

    def take(self, *partitions: int) -> dict[int, Savepoint]:
        async def taking() -> dict[int, Savepoint]:
            kept = [Kept("aggregate", self.snapshots, self.source)]
            restorer = Restorer(self.brokers, self.offsets, self.group, kept)
            return await restorer.take("aggregate", list(partitions or (0,)), 1, {(self.source, p) for p in (0, 1)})

        return asyncio.run(taking())

    def make_source_anew(self) -> None:
        with admin(self.brokers) as client:
            client.delete_topics([self.source])
            for _ in range(100):
                try:
                    client.create_topics({self.source: {"num_partitions": 2}})
                    break
                except KafkaError:
                    time.sleep(0.1)
            client.wait_for_topics([self.source])


@pytest.fixture
def place(broker: Brokers, fresh_topics: FreshTopics) -> Iterator[Place]:
    made = Place(broker, fresh_topics(2))
    yield made
    made.offsets.close()


def test_the_largest_offset_wins_though_a_zombie_wrote_last(place: Place) -> None:
    place.fill(place.source, [b"m"] * 20)
    place.fill(place.snapshots, [Savepoint(n, b"%d" % n, place.topic_id).record() for n in (3, 12, 5)])
    assert place.take(0, 1) == {0: Savepoint(12, b"12", place.topic_id)}


def test_where_zombies_filled_the_tail_it_reads_further_back(place: Place) -> None:
    place.fill(place.source, [b"m"] * 20)
    place.fill(place.snapshots, [Savepoint(n, b"%d" % n, place.topic_id).record() for n in (15, *range(9))])
    place.offsets.commit(place.group, {(place.source, 0): 14})
    assert place.take()[0].next_offset == 15


def test_a_snapshot_of_a_topic_that_was_made_anew_is_left_though_the_new_one_is_longer(place: Place) -> None:
    place.fill(place.source, [b"m"] * 5)
    place.fill(place.snapshots, [Savepoint(5, b"old", place.topic_id).record()])
    assert place.take()[0].blob == b"old"
    place.make_source_anew()
    place.fill(place.source, [b"m"] * 50)
    assert place.take() == {}
    place.fill(place.snapshots, [Savepoint(2, b"new", place.topic_id).record()])
    assert place.take()[0].blob == b"new"


def test_a_snapshot_without_a_header_is_read(place: Place) -> None:
    place.fill(place.source, [b"m"] * 9)
    place.fill(place.snapshots, [(7).to_bytes(8, "little") + b"state"])
    assert place.take() == {0: Savepoint(7, b"state", None, 1)}


def test_one_with_a_newer_header_stops_the_worker_instead_of_being_passed_over(place: Place) -> None:
    place.fill(place.source, [b"m"] * 9)
    newer = MARK + b"\x07\xff" + bytes(40)
    place.fill(place.snapshots, [Savepoint(3, b"x", place.topic_id).record(), newer])
    with pytest.raises(ConfigError, match=r"stage aggregate, partition 0: .*form 7 seen, 1 or 2 allowed"):
        place.take()


def test_what_was_reset_is_void_and_what_came_later_counts(place: Place) -> None:
    place.fill(place.source, [b"m"] * 9)
    newer = MARK + b"\x07\xff" + bytes(40)
    place.fill(place.snapshots, [Savepoint(8, b"x", place.topic_id).record(), newer, None])
    assert place.take() == {}
    place.fill(place.snapshots, [Savepoint(2, b"y", place.topic_id).record()])
    assert place.take()[0].blob == b"y"


def test_what_another_stage_will_ask_for_is_read_along_and_given_out_once(place: Place) -> None:
    place.fill(place.source, [b"m"] * 9)
    place.fill(place.snapshots, [Savepoint(4, b"a", place.topic_id).record()])
    warn = topic_address("snapshots-warn", place.run)
    place.fill(warn, [Savepoint(6, b"w", place.topic_id).record()])
    kept = [Kept("aggregate", place.snapshots, place.source), Kept("warn", warn, place.source)]

    async def scenario() -> list[dict[int, Savepoint]]:
        restorer = Restorer(place.brokers, place.offsets, place.group, kept)
        assigned = {(place.source, 0)}
        found = [await restorer.take("aggregate", [0], 1, assigned)]
        place.fill(warn, [Savepoint(7, b"later", place.topic_id).record()])
        found.append(await restorer.take("warn", [0], 1, assigned))
        # Asked again, or in another generation: read again.
        found.append(await restorer.take("warn", [0], 1, assigned))
        found.append(await restorer.take("warn", [0], 2, assigned))
        return found

    found = asyncio.run(scenario())
    assert [one[0].blob for one in found] == [b"a", b"w", b"later", b"later"]


class Ending:
    """A consumer as aiokafka's when it is stopped right after it began to fetch."""

    async def stop(self) -> None:
        fetch = asyncio.ensure_future(asyncio.sleep(60))
        fetch.cancel()
        await fetch


def test_a_consumer_that_cancels_its_fetch_does_not_cancel_who_stops_it() -> None:
    async def scenario() -> str:
        await end_consumer(Ending())
        return "went on"

    assert asyncio.run(scenario()) == "went on"
