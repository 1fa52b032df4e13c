"""Readings on the real broker end in the store and at the alert desk, once, though both fail for a while."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import aiokafka
import pytest

from citybrain.messages import DeadLetter, decode_json, encode_json
from citybrain.metrics import Metrics
from citybrain.records import encode
from citybrain.topics import topic_address
from infra.database.protocol import AlertDesk
from infra.kafka.client import Brokers
from infra.stores.protocol import Store
from streams.aggregate import Aggregate
from streams.harness import make_app, running
from streams.outbox import OutboxStage
from streams.rollup import Rollup
from streams.stage import Stage
from streams.store import StoreStage
from tests.broker import FreshTopics, broker, fresh_topics, jars_folder
from tests.fakes import alert_event, city_settings, grid_network, segment_states
from tests.streams.build import drive
from tests.streams.test_harness import batches_of, produce, read_all, until
from tests.streams.test_outbox import FlakyDesk
from tests.streams.test_store import FlakyStore

__all__ = ["broker", "fresh_topics", "jars_folder"]

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("broker")]

NETWORK = grid_network()
MINUTES = 4


async def produce_alerts(brokers: Brokers, run: str) -> None:
    producer = aiokafka.AIOKafkaProducer(**brokers.aiokafka())
    await producer.start()
    try:
        for sequence in (1, 2, 2, 3):
            value = encode_json(alert_event(NETWORK, sequence=sequence))
            await producer.send(topic_address("alerts", run), value, key=b"a1", partition=0)
        await producer.flush()
    finally:
        await producer.stop()


def test_results_are_stored_once_through_failures_and_a_restart(
    broker: Brokers, fresh_topics: FreshTopics, tmp_path: Path
) -> None:
    run, batches = fresh_topics(2), batches_of(NETWORK, MINUTES)
    expected = drive(NETWORK, batches)
    settings, metrics = city_settings(tmp_path), Metrics()
    flaky, desk = FlakyStore(tmp_path / "s.duckdb", failures=2), FlakyDesk(tmp_path, failures=2)

    def stages() -> list[Stage[Any]]:
        return [
            Aggregate.of(NETWORK, settings),
            Rollup.of(NETWORK, settings),
            StoreStage(cast(Store, flaky), NETWORK.version, metrics),
            OutboxStage(cast(AlertDesk, desk), NETWORK, metrics),
        ]

    async def work_until(panes: int) -> None:
        async def stored() -> bool:
            states = flaky.real.states(0, 2**53)
            areas = flaky.real.areas(0, 2**53, area=0)
            return len(states) >= panes * len(NETWORK.segments) and len(areas) >= panes and bool(desk.real.alerts())

        app = make_app(stages(), broker, run=run, role="worker", settings=settings, metrics=metrics)
        async with running(app):
            await until(stored)

    async def scenario() -> None:
        half = len(batches) // 2 + 2
        await produce_alerts(broker, run)
        await produce(broker, run, batches[:half])
        await work_until(1)
        await produce(broker, run, batches[half:])
        await work_until(MINUTES)

    asyncio.run(scenario())
    stored = flaky.real.changes_since(0)[1]
    newest = max(pane for _, pane in expected.states)
    for state in stored:
        wanted = expected.states[state.partition, newest]
        assert state.speed_kmh.tolist() == pytest.approx(wanted.speed_kmh.tolist(), abs=0, nan_ok=True)
    frame = flaky.real.states(0, 2**53)
    assert len(frame) == MINUTES * len(NETWORK.segments)
    assert frame.groupby("time_start_ms")["vkt_veh_km"].sum().tolist() == pytest.approx(
        [
            sum(s.vkt_veh_km.sum() for (_, pane), s in expected.states.items() if pane == at)
            for at in sorted(expected.areas)
        ]
    )
    (alert,) = desk.real.alerts()
    assert (alert.event.sequence, alert.version) == (3, 3)
    assert (flaky.failures, desk.failures) == (0, 0)


def test_what_the_store_refuses_is_a_dead_letter_before_it_is_acknowledged(
    broker: Brokers, fresh_topics: FreshTopics, tmp_path: Path
) -> None:
    """Nothing follows the refused record: its letter must not wait for the next message to come."""
    run, metrics = fresh_topics(2), Metrics()
    store = FlakyStore(tmp_path / "s.duckdb", failures=0)
    refused = encode(segment_states(NETWORK, pane_start_ms=7))

    async def letters() -> list[DeadLetter]:
        records = await read_all(broker, topic_address("dead-letters", run), 1)
        return [decode_json(DeadLetter, record.value) for record in records]

    async def scenario() -> list[DeadLetter]:
        producer = aiokafka.AIOKafkaProducer(**broker.aiokafka())
        await producer.start()
        await producer.send_and_wait(topic_address("segment-states", run), refused, partition=0)
        await producer.stop()
        stage = StoreStage(cast(Store, store), NETWORK.version, metrics)
        app = make_app([stage], broker, run=run, role="serve", settings=city_settings(tmp_path), metrics=metrics)
        async with running(app):

            async def told() -> bool:
                return bool(await letters())

            await until(told)
        return await letters()

    (letter,) = asyncio.run(scenario())
    assert (letter.reason, letter.topic, letter.offset) == ("refused_by_store", "segment-states", 0)
    assert (
        metrics.registry.get_sample_value(
            "citybrain_dead_letters_total", {"stage": "store", "reason": "refused_by_store"}
        )
        == 1
    )


def test_a_pane_is_stored_soon_however_seldom_the_city_saves(
    broker: Brokers, fresh_topics: FreshTopics, tmp_path: Path
) -> None:
    """It comes in parts: what came after the first write waits for no checkpoint of the city's, here of an hour."""
    run, settings, metrics = fresh_topics(2), city_settings(tmp_path), Metrics()
    seldom = replace(settings, time=replace(settings.time, checkpoint=timedelta(hours=1)))
    store = FlakyStore(tmp_path / "s.duckdb", failures=0)

    async def scenario() -> None:
        stage = StoreStage(cast(Store, store), NETWORK.version, metrics)
        app = make_app([stage], broker, run=run, role="serve", settings=seldom, metrics=metrics)
        async with running(app):
            for partition in range(NETWORK.partitions):
                await produce_states(broker, run, partition)
                wanted = sum(len(NETWORK.segments_of(at)) for at in range(partition + 1))

                async def stored(wanted: int = wanted) -> bool:
                    return len(store.real.states(0, 2**53)) == wanted

                await until(stored)

    asyncio.run(scenario())


async def produce_states(brokers: Brokers, run: str, partition: int) -> None:
    producer = aiokafka.AIOKafkaProducer(**brokers.aiokafka())
    await producer.start()
    try:
        value = encode(segment_states(NETWORK, partition=partition, pane_start_ms=1_790_000_040_000))
        await producer.send(topic_address("segment-states", run), value, key=b"pane", partition=partition)
        await producer.flush()
    finally:
        await producer.stop()
