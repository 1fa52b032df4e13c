from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiokafka
import faust
import numpy as np
import pytest
from aiokafka import TopicPartition
from faust.types import TP

from citybrain.messages import DeadLetter, decode_json
from citybrain.metrics import Metrics
from citybrain.network import Network
from citybrain.records import AreaIndices, Readings, SegmentStates, decode, encode
from citybrain.topics import TOPICS, group_address, topic_address
from infra.kafka.client import Brokers
from infra.kafka.offsets import Offsets
from streams.aggregate import Aggregate
from streams.harness import crash_of, make_app, running
from streams.rollup import Rollup
from streams.stage import Message, Output, Results, Stage
from tests.broker import FreshTopics, broker, fresh_topics, jars_folder
from tests.fakes import city_settings, grid_network
from tests.streams.build import drive, readings

__all__ = ["broker", "fresh_topics", "jars_folder"]

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("broker")]

LOOP = {"count_veh": 7.0, "speed_kmh": 30.0, "occupancy": 0.1}


async def produce(brokers: Brokers, run: str, batches: Sequence[tuple[int, Readings | bytes]]) -> None:
    producer = aiokafka.AIOKafkaProducer(**brokers.aiokafka())
    await producer.start()
    try:
        for partition, batch in batches:
            value, at = (
                (encode(batch), batch.received_ms) if isinstance(batch, Readings) else (batch, 1_790_000_041_000)
            )
            topic = topic_address("readings", run)
            await producer.send(topic, value, key=b"loops", partition=partition, timestamp_ms=at)
        await producer.flush()
    finally:
        await producer.stop()


async def read_all(brokers: Brokers, topic: str, partitions: int) -> list[aiokafka.ConsumerRecord]:
    consumer = aiokafka.AIOKafkaConsumer(**brokers.aiokafka(), enable_auto_commit=False)
    await consumer.start()
    try:
        places = [TopicPartition(topic, p) for p in range(partitions)]
        ends = await consumer.end_offsets(places)
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        found: list[aiokafka.ConsumerRecord] = []
        while any([await consumer.position(place) < ends[place] for place in places]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += records
        return found
    finally:
        await consumer.stop()


async def until(probe: Callable[[], Awaitable[bool]], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not await probe():
        assert time.monotonic() < deadline, f"not so after {timeout_s} s"
        await asyncio.sleep(0.2)


def batches_of(network: Network, minutes: int) -> list[tuple[int, Readings]]:
    """Return half-minute batches of both partitions, and heartbeats that close all."""
    rng = np.random.default_rng(3)
    found = []
    for half in range(2 * minutes):
        for partition in range(network.partitions):
            detectors = np.flatnonzero(network.detector_partition == partition)
            rows = [
                (int(d), 30 * half, 30 * half + 30, {"count_veh": float(rng.poisson(6)), "speed_kmh": 40.0 + d})
                for d in detectors
            ]
            found.append((partition, readings(network, rows)))
    closing = readings(network, watermark_s=60 * minutes + 10, received_s=60 * minutes + 11)
    return found + [(partition, closing) for partition in range(network.partitions)]


def app_of(network: Network, brokers: Brokers, run: str, folder: Path, metrics: Metrics | None = None) -> faust.App:
    settings = city_settings(folder)
    stages: list[Stage[Any]] = [Aggregate.of(network, settings), Rollup.of(network, settings)]
    return make_app(stages, brokers, run=run, role="worker", settings=settings, metrics=metrics or Metrics())


def test_readings_on_kafka_become_the_same_indices_as_offline(
    broker: Brokers, fresh_topics: FreshTopics, tmp_path: Path
) -> None:
    network, minutes = grid_network(), 4
    run, batches = fresh_topics(2), batches_of(grid_network(), minutes)
    expected = drive(network, batches)
    metrics = Metrics()

    async def scenario() -> tuple[list[aiokafka.ConsumerRecord], list[aiokafka.ConsumerRecord], list[DeadLetter]]:
        await produce(broker, run, [batches[0], (0, b"poison"), *batches[1:]])
        async with running(app_of(network, broker, run, tmp_path, metrics)):

            async def done() -> bool:
                return len(await read_all(broker, topic_address("area-indices", run), 1)) >= minutes

            await until(done)
        states = await read_all(broker, topic_address("segment-states", run), 2)
        areas = await read_all(broker, topic_address("area-indices", run), 1)
        letters = await read_all(broker, topic_address("dead-letters", run), 1)
        return states, areas, [decode_json(DeadLetter, record.value) for record in letters]

    states, areas, letters = asyncio.run(scenario())
    for record in states:
        seen = decode(SegmentStates, record.value)
        wanted = expected.states[seen.partition, seen.pane_start_ms]
        np.testing.assert_array_equal(seen.flow_vph, wanted.flow_vph)
        np.testing.assert_array_equal(seen.speed_kmh, wanted.speed_kmh)
        assert record.timestamp == seen.pane_start_ms + seen.pane_ms
    assert len(states) == 2 * minutes
    for record in areas:
        indices = decode(AreaIndices, record.value)
        np.testing.assert_array_equal(indices.vkt_veh_km, expected.areas[indices.pane_start_ms].vkt_veh_km)
    assert len(areas) == minutes
    assert [(letter.reason, letter.offset, letter.source) for letter in letters] == [("malformed", 1, "loops")]
    counted = metrics.registry.get_sample_value("citybrain_readings_total", {"source": "loops"})
    assert counted == 2 * minutes * len(network.detectors)


def test_a_worker_that_starts_again_goes_on_from_its_snapshot(
    broker: Brokers, fresh_topics: FreshTopics, tmp_path: Path
) -> None:
    network, minutes = grid_network(), 4
    run, batches = fresh_topics(2), batches_of(grid_network(), minutes)
    half = len(batches) // 2 + 1

    async def run_until(panes: int, part: Sequence[tuple[int, Readings]]) -> None:
        await produce(broker, run, part)
        async with running(app_of(network, broker, run, tmp_path)):

            async def done() -> bool:
                return len(await read_all(broker, topic_address("area-indices", run), 1)) >= panes

            await until(done)

    async def scenario() -> list[aiokafka.ConsumerRecord]:
        await run_until(1, batches[:half])
        await run_until(minutes, batches[half:])
        return await read_all(broker, topic_address("area-indices", run), 1)

    records = asyncio.run(scenario())
    expected = drive(network, batches)
    assert len(records) == minutes
    for record in records:
        indices = decode(AreaIndices, record.value)
        np.testing.assert_array_equal(indices.vkt_veh_km, expected.areas[indices.pane_start_ms].vkt_veh_km)


async def committed(brokers: Brokers, run: str) -> int | None:
    consumer = aiokafka.AIOKafkaConsumer(**brokers.aiokafka(), group_id=f"citybrain.{run}.worker")
    await consumer.start()
    try:
        return await consumer.committed(TopicPartition(topic_address("readings", run), 0))  # type: ignore[no-any-return]
    finally:
        await consumer.stop()


@pytest.mark.parametrize("skipped", [0, 7])
def test_what_faust_hands_out_out_of_order_is_put_in_order_and_never_acknowledged_before_it_is_saved(
    skipped: int, broker: Brokers, fresh_topics: FreshTopics, tmp_path: Path
) -> None:
    """Messages come again that are applied and not saved, or are left out: both happen when a broker comes back."""
    network = grid_network(partitions=1)
    run, batches = fresh_topics(1), batches_of(network, 8)
    settings = replace(city_settings(tmp_path), time=replace(city_settings().time, checkpoint=timedelta(hours=1)))
    metrics = Metrics()

    def counted(name: str) -> float:
        return metrics.registry.get_sample_value(name, {"stage": "aggregate"}) or 0.0

    async def scenario() -> int | None:
        app: Any = make_app(
            [Aggregate.of(network, settings)], broker, run=run, role="worker", settings=settings, metrics=metrics
        )
        await produce(broker, run, batches[:8])
        async with running(app):

            async def applied() -> bool:
                return counted("citybrain_messages_total") == 8

            await until(applied)
            await app.consumer.seek(TP(topic_address("readings", run), 0), 8 + skipped if skipped else 0)
            await produce(broker, run, batches[8:])

            async def done() -> bool:
                return counted("citybrain_messages_total") == len(batches)

            await until(done)
            await asyncio.sleep(2 * app.conf.broker_commit_interval)
            return await committed(broker, run)

    before_saving = asyncio.run(scenario())
    assert not before_saving
    assert counted("citybrain_repeats_total") == (0 if skipped else 8)
    assert counted("citybrain_made_up_total") == skipped
    assert counted("citybrain_gaps_total") == 0
    # The end of the app saved all, and only then was it acknowledged.
    assert asyncio.run(committed(broker, run)) == len(batches)
    expected = drive(network, batches)
    states = asyncio.run(read_all(broker, topic_address("segment-states", run), 1))
    assert len(states) == 8
    for record in states:
        seen = decode(SegmentStates, record.value)
        np.testing.assert_array_equal(seen.flow_vph, expected.states[0, seen.pane_start_ms].flow_vph)


def test_a_consumer_whose_store_is_away_stays_in_its_group_as_long_as_kafka_keeps_what_waits(tmp_path: Path) -> None:
    """One that left would not come back: it joins again once somebody fetches, and Faust fetches once it has joined."""
    app: Any = app_of(grid_network(), Brokers("127.0.0.1:9"), "", tmp_path)
    kept_ms = max(topic.retention_ms or 0 for topic in TOPICS.values())
    assert app.conf.broker_max_poll_interval * 1000 >= kept_ms


class Failing:
    """A stage that fails in a way nobody foresaw."""

    name = "rollup"
    sources = ("readings",)
    keeps_state = True

    def new(self, partition: int) -> list[int]:
        return []

    def dump(self, state: list[int]) -> bytes:
        return bytes(state)

    def load(self, partition: int, blob: bytes) -> list[int]:
        return list(blob)

    def step(self, state: list[int], message: Message) -> Results:
        raise ZeroDivisionError("unforeseen")

    def flush(self, state: list[int]) -> Results:
        return Results()

    def provisional(self, state: list[int]) -> Iterator[Output]:
        return iter(())

    async def durable(self) -> None: ...


def test_an_unforeseen_error_crashes_the_app_and_skips_no_message(
    broker: Brokers, fresh_topics: FreshTopics, tmp_path: Path
) -> None:
    network = grid_network(partitions=1)
    run = fresh_topics(1)

    async def scenario() -> tuple[BaseException, int | None]:
        await produce(broker, run, [(0, readings(network, [(0, 0, 30, LOOP)]))])
        app = make_app(
            [Failing()],  # type: ignore[list-item]
            broker,
            run=run,
            role="worker",
            settings=city_settings(tmp_path),
            metrics=Metrics(),
        )
        async with running(app):
            reason = await asyncio.wait_for(crash_of(app), 20)
        return reason, await committed(broker, run)

    reason, done = asyncio.run(scenario())
    assert isinstance(reason, ZeroDivisionError)
    assert not done


class Hanging(Failing):
    """A stage that saves for ever."""

    def __init__(self) -> None:
        self.saves = asyncio.Event()

    def step(self, state: list[int], message: Message) -> Results:
        return Results()

    async def durable(self) -> None:
        self.saves.set()
        await asyncio.Event().wait()


def test_an_app_that_does_not_end_in_order_leaves_its_group_before_another_takes_its_place(
    broker: Brokers, fresh_topics: FreshTopics, tmp_path: Path
) -> None:
    run, stage, offsets = fresh_topics(1), Hanging(), Offsets(broker)
    group = group_address("worker", run)

    async def scenario() -> tuple[int, int]:
        await produce(broker, run, [(0, readings(grid_network(partitions=1), [(0, 0, 30, LOOP)]))])
        app = make_app(
            [stage],  # type: ignore[list-item]
            broker,
            run=run,
            role="worker",
            settings=city_settings(tmp_path),
            metrics=Metrics(),
            production=True,
        )
        with contextlib.suppress(TimeoutError):
            async with running(app):
                await asyncio.wait_for(stage.saves.wait(), 20)
                before = await asyncio.to_thread(offsets.members, group)
        return before, await asyncio.to_thread(offsets.members, group)

    try:
        assert asyncio.run(scenario()) == (1, 0)
    finally:
        offsets.close()
