"""What waits outside Kafka holds up nobody else: a store that is away, a full disk, and their buffers full, too."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import cast

import aiokafka
import pytest

import streams.harness
from citybrain.clock import ManualClock
from citybrain.errors import StoreError
from citybrain.messages import encode_json
from citybrain.metrics import Metrics
from citybrain.records import encode
from citybrain.topics import TopicName, topic_address
from cli.host import StageHost
from infra.archive import Archive
from infra.database.alerts import SqlAlertDesk
from infra.database.payload import Sender
from infra.database.tables import open_database
from infra.kafka.client import Brokers
from infra.stores.duckdb import DuckStore
from infra.stores.protocol import Batch, Store
from streams.pipeline import Ground, replayed
from tests.broker import FreshTopics, broker, fresh_topics, jars_folder
from tests.cli.fullarchive import BUFFERED
from tests.cli.test_workers import exact
from tests.cli.working import Town, town, until
from tests.fakes import alert_event, city_settings, grid_network, segment_states
from tests.streams.test_harness import until as within
from tests.streams.test_kill import batches

__all__ = ["broker", "fresh_topics", "jars_folder"]

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("workers")]

NETWORK = grid_network()
MIN = 60_000
PANES = 40
"""Of each of two partitions: many times as many as a buffer takes and a checkpoint holds."""


class StoreAway:
    """The real store, which takes nothing until it is back."""

    def __init__(self, path: Path) -> None:
        self.real, self.away, self.asked = DuckStore(path, NETWORK, pane_ms=MIN), True, 0

    def write(self, batch: Batch, *, run: str = "") -> None:
        self.asked += 1
        if self.away:
            raise StoreError("the store is away")
        self.real.write(batch, run=run)


async def send(brokers: Brokers, run: str, records: Sequence[tuple[TopicName, int, bytes]]) -> None:
    producer = aiokafka.AIOKafkaProducer(**brokers.aiokafka())
    await producer.start()
    try:
        for topic, partition, value in records:
            await producer.send(topic_address(topic, run), value, key=b"k", partition=partition)
        await producer.flush()
    finally:
        await producer.stop()


@contextlib.asynccontextmanager
async def serving(ground: Ground, brokers: Brokers) -> AsyncIterator[list[StageHost]]:
    """Run the stages of a serving process."""
    hosts = [StageHost(role, lambda: ground, brokers) for role in replayed("serve")]
    tasks = [asyncio.create_task(host.run()) for host in hosts]
    try:
        yield hosts
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_alerts_go_out_while_the_store_is_away_and_its_buffer_is_full(
    broker: Brokers, fresh_topics: FreshTopics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams.harness, "BUFFERED", BUFFERED)
    run, store = fresh_topics(2), StoreAway(tmp_path / "s.duckdb")
    engine = open_database(f"sqlite:///{tmp_path / 'city.sqlite'}")
    desk = SqlAlertDesk(engine, NETWORK, [], ManualClock(), Sender("Gridtown"))
    ground = Ground(
        NETWORK, city_settings(tmp_path), Metrics(), run=run, store=cast(Store, store), desk=desk
    )  # fmt: skip
    panes: list[tuple[TopicName, int, bytes]] = [
        ("segment-states", p, encode(segment_states(NETWORK, partition=p, pane_start_ms=pane * MIN)))
        for pane in range(PANES)
        for p in (0, 1)
    ]

    async def asked() -> bool:
        return store.asked > 1

    async def told() -> bool:
        return [alert.event.sequence for alert in desk.alerts(run=run)] == [len(sent)]

    async def stored() -> bool:
        return len(store.real.states(0, PANES * MIN, run=run)) == PANES * len(NETWORK.segments)

    sent: list[int] = []

    async def scenario() -> None:
        async with serving(ground, broker) as hosts:
            await send(broker, run, panes)
            await within(asked)
            await asyncio.sleep(1.0)  # the consumer hands out what the buffer takes
            (held,) = [look.held for host in hosts for look in host.looks() if look.stage == "store"]
            assert held + BUFFERED < len(panes)
            for sequence in (1, 2):
                sent.append(sequence)
                await send(broker, run, [("alerts", 0, encode_json(alert_event(NETWORK, sequence=sequence)))])
                await within(told, 15.0)
            assert store.real.latest_states(run=run) == []
            assert [host.state for host in hosts] == ["stage store is waiting for the store: the store is away", "ok"]
            store.away = False
            await within(stored, 60.0)

    asyncio.run(scenario())
    engine.dispose()


@pytest.fixture
def running(tmp_path: Path, jars_folder: Path) -> Iterator[Town]:
    with town(tmp_path, jars_folder) as made:
        yield made


def archived(running: Town) -> int:
    archive = Archive(running.city / ".citybrain-data" / "archive")
    return len({(m.partition, m.offset) for m in archive.read("readings", 0, 2**53)})


def test_a_full_archive_disk_holds_up_no_stage_and_misses_nothing(
    running: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, log = running.city / "full", list(batches())
    full.touch()
    monkeypatch.setenv("FULL", str(full))
    worker = running.worker("--ops-port", "0", module="tests.cli.fullarchive")
    running.produce(log[:40])
    until(
        lambda: "waiting for the disk" in worker.get("/health")[1]["parts"].get("archive", ""),
        "the disk is not full",
        seen=lambda: worker.get("/health"),
    )
    running.produce(log[40:])
    until(lambda: running.waiting() == 0, "the archive holds up the others", seen=running.told)
    exact(running)
    (archive,) = [stage for stage in worker.get("/health")[1]["stages"] if stage["stage"] == "archive"]
    assert archive["held"] + 2 * BUFFERED < len(log)
    assert archived(running) == 0
    full.unlink()
    until(lambda: archived(running) == len(log), "not all was archived", seen=lambda: archived(running))
