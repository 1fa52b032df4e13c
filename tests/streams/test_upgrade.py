"""A rolling upgrade with another form of state: the new version reads the old one's, the old one refuses the new."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from citybrain.errors import ConfigError
from citybrain.metrics import Metrics
from citybrain.topics import TopicName, topic_address
from infra.kafka.client import Brokers
from infra.kafka.offsets import Offsets
from streams.harness import crash_of, make_app, running
from streams.stage import NOTHING, Message, Output, Results, Stage
from tests.broker import FreshTopics, broker, fresh_topics, jars_folder
from tests.fakes import city_settings
from tests.streams.test_harness import read_all, until

__all__ = ["broker", "fresh_topics", "jars_folder"]

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("broker")]


class Counting:
    """Counts messages and tells how many there were; its state of form 1 is a number."""

    name: ClassVar[str] = "rollup"
    sources: ClassVar[tuple[TopicName, ...]] = ("area-partials",)
    keeps_state: ClassVar[bool] = True

    def new(self, partition: int) -> list[int]:
        return [0]

    def dump(self, state: list[int]) -> bytes:
        return msgspec.msgpack.encode([1, "net", state[0]])

    def load(self, partition: int, blob: bytes) -> list[int]:
        form, _, count = msgspec.msgpack.decode(blob)
        if form != 1:
            raise ConfigError(f"format {form} seen, 1 allowed")
        return [count]

    def step(self, state: list[int], message: Message) -> Results:
        state[0] += 1
        return Results([Output("area-indices", 0, b"n", b"%d" % state[0])])

    def flush(self, state: list[int]) -> Results:
        return NOTHING

    def provisional(self, state: list[int]) -> list[Output]:
        return []

    async def durable(self) -> None: ...


class CountingAnew(Counting):
    """The next version: form 2 has a name too; it reads form 1."""

    def dump(self, state: list[int]) -> bytes:
        return msgspec.msgpack.encode([2, "net", {"count": state[0]}])

    def load(self, partition: int, blob: bytes) -> list[int]:
        form, _, told = msgspec.msgpack.decode(blob)
        return [told["count"]] if form == 2 else super().load(partition, blob)


def test_states_are_read_forwards_and_refused_backwards_and_never_counted_wrongly(
    broker: Brokers, fresh_topics: FreshTopics, tmp_path: Path
) -> None:
    run, offsets = fresh_topics(2), Offsets(broker)
    source = topic_address("area-partials", run)

    async def send(count: int) -> None:
        producer = AIOKafkaProducer(**broker.aiokafka())
        await producer.start()
        for _ in range(count):
            await producer.send_and_wait(source, b"m", partition=0)
        await producer.stop()

    def app(stage: Stage[Any]) -> Any:
        settings = city_settings(tmp_path)
        return make_app([stage], broker, run=run, role="worker", settings=settings, metrics=Metrics())

    async def told() -> list[int]:
        return [int(record.value) for record in await read_all(broker, topic_address("area-indices", run), 1)]

    async def work(stage: Stage[Any], upto: int) -> None:
        async def done() -> bool:
            return offsets.committed(f"citybrain.{run}.worker").get((source, 0)) == upto

        async with running(app(stage)):
            await until(done)

    async def scenario() -> tuple[list[int], BaseException]:
        await send(3)
        await work(Counting(), 3)
        await send(2)
        await work(CountingAnew(), 5)
        await send(1)
        before = await told()
        async with running(app(Counting())) as old:
            refused = await asyncio.wait_for(crash_of(old), 20)
        assert await told() == before
        await work(CountingAnew(), 6)
        return await told(), refused

    counts, refused = asyncio.run(scenario())
    offsets.close()
    assert counts == [1, 2, 3, 4, 5, 6]
    assert isinstance(refused, ConfigError)
    assert "stage rollup, partition 0: format 2 seen, 1 allowed; `citybrain state inspect CITY`" in str(refused)
