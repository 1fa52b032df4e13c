"""An existing city meets stages with consumer groups of their own: they go on where the former group stood."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import aiokafka
import pytest

from citybrain.clock import ManualClock
from citybrain.errors import ConfigError
from citybrain.messages import encode_json
from citybrain.metrics import Metrics
from citybrain.topics import topic_address
from citybrain.wire import Output
from cli.host import StageHost, prepare
from infra.archive import Archive
from infra.database.alerts import SqlAlertDesk
from infra.database.payload import Sender
from infra.database.protocol import AlertDesk
from infra.database.tables import open_database
from infra.kafka.admin import apply_topics
from infra.kafka.broker import EmbeddedBroker
from infra.kafka.client import Brokers
from infra.kafka.offsets import Offsets, Place
from infra.kafka.producer import BatchProducer
from streams.handover import hand_over
from streams.pipeline import FORMER, HOSTED, PIPELINE, Ground, program_of
from tests.cli.working import GROUP, Town, town, until
from tests.fakes import alert_event, city_settings, grid_network
from tests.streams.test_harness import until as within
from tests.streams.test_kill import batches

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("workers")]

NETWORK = grid_network(partitions=2)
READINGS: tuple[Place, Place] = ("citybrain.readings", 0), ("citybrain.readings", 1)
ALERTS: Place = ("citybrain.alerts", 0)


@pytest.fixture
def brokers(tmp_path: Path, jars_folder: Path) -> Iterator[Brokers]:
    """Return a broker of this test alone: it is about the live city's groups."""
    with EmbeddedBroker(tmp_path / "broker", jars_folder=jars_folder) as running:
        found = Brokers(running.address)
        apply_topics(found, 2, retention="size")
        yield found


@pytest.fixture
def offsets(brokers: Brokers) -> Iterator[Offsets]:
    made = Offsets(brokers)
    yield made
    made.close()


def tell(brokers: Brokers, *names: str) -> None:
    now_ms = time.time_ns() // 1_000_000  # Kafka removes what is older than a month
    events = [alert_event(NETWORK, alert_id=name, at_ms=now_ms) for name in names]
    producer = BatchProducer(brokers)
    producer.send([Output("alerts", 0, e.alert_id.encode(), encode_json(e)) for e in events], now_ms)
    producer.flush()
    producer.close()


def test_no_alert_is_told_again(brokers: Brokers, offsets: Offsets, tmp_path: Path) -> None:
    """The desk is a new one: it cannot know the alerts that were told before."""
    settings = city_settings(tmp_path)
    engine = open_database(f"sqlite:///{tmp_path / 'city.sqlite'}")
    desk = SqlAlertDesk(engine, NETWORK, [], ManualClock(), Sender("Gridtown"))
    tell(brokers, "a1", "a2", "a3", "a4")
    offsets.commit("citybrain.serve", {ALERTS: 3})
    prepare(brokers, settings, NETWORK.partitions, HOSTED["serve"])
    assert offsets.committed("citybrain.outbox") == {ALERTS: 3}
    tell(brokers, "a5")

    async def told() -> bool:
        return {alert.event.alert_id for alert in desk.alerts()} >= {"a5"}

    async def scenario() -> None:
        ground = Ground(NETWORK, settings, Metrics(), desk=cast(AlertDesk, desk))
        host = StageHost("outbox", lambda: ground, brokers)
        task = asyncio.create_task(host.run())
        await within(told)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    assert {alert.event.alert_id for alert in desk.alerts()} == {"a4", "a5"}
    until(lambda: offsets.committed("citybrain.outbox") == {ALERTS: 5}, "they were not acknowledged")
    prepare(brokers, settings, NETWORK.partitions, HOSTED["serve"])
    assert offsets.committed("citybrain.outbox") == {ALERTS: 5}
    engine.dispose()


def test_what_the_former_group_acknowledges_later_is_not_taken_for_what_was_archived(brokers: Brokers) -> None:
    offsets = Offsets(brokers)
    try:
        hand_over(offsets, HOSTED["worker"], 2)
        begun = offsets.committed("citybrain.archive")
        assert begun.keys() == {
            *READINGS,
            ("citybrain.passages", 0),
            ("citybrain.events", 0),
        }
        assert set(begun.values()) == {0}
        offsets.commit(GROUP, dict.fromkeys(READINGS, 7))
        hand_over(offsets, HOSTED["worker"], 2)
        assert offsets.committed("citybrain.archive") == begun
        assert offsets.committed("citybrain.worker") == dict.fromkeys(READINGS, 7)
    finally:
        offsets.close()


def test_partitions_of_a_former_group_are_taken_over_and_others_begin_at_the_first_message(offsets: Offsets) -> None:
    offsets.commit(GROUP, {READINGS[0]: 7})
    hand_over(offsets, HOSTED["worker"], 2)
    begun = offsets.committed("citybrain.archive")
    assert (begun[READINGS[0]], begun[READINGS[1]]) == (7, 0)


def test_offsets_of_a_topic_that_the_coordinator_meets_a_moment_later_are_taken(
    brokers: Brokers, offsets: Offsets
) -> None:
    """A topic that was just made is not known everywhere at once; those it refuses are sent again."""
    late = topic_address("readings", "late")
    maker = threading.Timer(1.0, apply_topics, (brokers, 2), {"run": "late"})
    maker.start()
    offsets.commit("citybrain.late", {(late, 0): 3, (late, 1): 4, READINGS[0]: 5})
    maker.join()
    assert offsets.committed("citybrain.late") == {(late, 0): 3, (late, 1): 4, READINGS[0]: 5}


def test_offsets_of_a_topic_that_does_not_exist_are_refused_by_name(offsets: Offsets) -> None:
    with pytest.raises(ConfigError, match=r"citybrain.nowhere: UnknownTopic\w+ seen, topics that exist allowed"):
        offsets.commit("citybrain.nowhere", {("nowhere", 0): 1})


def test_a_group_with_members_is_left_alone(brokers: Brokers, offsets: Offsets) -> None:
    async def scenario() -> None:
        member = aiokafka.AIOKafkaConsumer("citybrain.alerts", **brokers.aiokafka(), group_id="citybrain.outbox")
        await member.start()
        try:
            await within(joined)
            with pytest.raises(ConfigError, match=r"group citybrain.outbox: \w+ seen, a group without members allowed"):
                await asyncio.to_thread(offsets.commit, "citybrain.outbox", {ALERTS: 3})
            await asyncio.to_thread(offsets.commit, "citybrain.serve", {ALERTS: 3})
            await asyncio.to_thread(hand_over, offsets, HOSTED["serve"], 2)
            assert await asyncio.to_thread(offsets.committed, "citybrain.outbox") == {}
        finally:
            await member.stop()

    async def joined() -> bool:
        return await asyncio.to_thread(offsets.members, "citybrain.outbox") > 0

    asyncio.run(scenario())


@pytest.fixture
def running(tmp_path: Path, jars_folder: Path) -> Iterator[Town]:
    with town(tmp_path, jars_folder) as made:
        yield made


def test_a_worker_archives_on_from_where_the_former_group_stood(running: Town) -> None:
    log, stood = list(batches()), 30
    running.produce(log)
    offsets = Offsets(running.brokers)
    offsets.commit(GROUP, dict.fromkeys(READINGS, stood))
    ends = offsets.ends(READINGS)
    offsets.close()
    worker = running.worker()
    until(lambda: running.waiting() == 0, "not all was applied", seen=running.told)
    assert "group_handed_over" in worker.said
    worker.end()
    archive = Archive(running.city / ".citybrain-data" / "archive")
    for place in READINGS:
        seen = [m.offset for m in archive.read("readings", 0, 2**53) if m.partition == place[1]]
        assert seen == list(range(stood, ends[place]))


def test_every_role_has_one_program_and_goes_on_in_that_of_its_former_group() -> None:
    """Offsets are handed over before the program begins: no other may acknowledge for the former group then."""
    assert sorted(role for roles in HOSTED.values() for role in roles) == sorted({step.role for step in PIPELINE})
    for role, former in FORMER.items():
        assert program_of(role) == program_of(former)
