from __future__ import annotations

import time
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from citybrain.errors import BrokerUnavailable, ConfigError
from citybrain.topics import TOPICS, TopicName, topic_address
from citybrain.wire import Output
from infra.kafka.admin import apply_topics, delete_run_topics, partitions_of, runs, topic_settings
from infra.kafka.client import Brokers
from infra.kafka.producer import BatchProducer
from infra.kafka.tail import Tail
from tests.broker import FreshTopics
from tests.infra.kafka.test_tail import wait_until


@pytest.mark.broker
def test_every_topic_of_the_table_is_made_once(broker: Brokers, fresh_topics: FreshTopics) -> None:
    run = fresh_topics(3)
    assert apply_topics(broker, 3, run=run) == ()
    client = KafkaAdminClient(**broker.kafka_python())
    described = client.describe_topics([topic_address(name, run) for name in TOPICS])
    client.close()
    partitions = {topic["name"]: len(topic["partitions"]) for topic in described}
    assert partitions == {topic_address(name, run): topic.partitions(3) for name, topic in TOPICS.items()}


@pytest.mark.broker
def test_another_number_of_partitions_is_refused_with_topic_seen_and_expected(
    broker: Brokers, fresh_topics: FreshTopics
) -> None:
    run = fresh_topics(2)
    with pytest.raises(ConfigError, match=rf"citybrain\.{run}\.readings .* 2 partitions seen, 4 expected"):
        apply_topics(broker, 4, run=run)


class LateBroker:
    """One of several brokers, which hears of a new topic only after it was asked twice."""

    asked = 0

    def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        self.asked += 1
        known = [{"name": name, "error_code": 0, "partitions": [{}, {}]} for name in names]
        return known if self.asked > 2 else [*known[:-1], known[-1] | {"error_code": 3, "partitions": []}]


def test_a_broker_that_has_not_heard_of_a_new_topic_is_asked_again() -> None:
    client: Any = LateBroker()
    assert partitions_of(client, ["old", "new"], timeout_s=10.0) == {"old": 2, "new": 2}
    assert client.asked == 3


def test_a_topic_that_nobody_knows_is_waited_for_no_longer_than_allowed() -> None:
    client: Any = LateBroker()
    assert partitions_of(client, ["old", "new"], timeout_s=0.0) == {"old": 2}


@pytest.mark.broker
def test_a_run_is_listed_until_its_topics_are_deleted(broker: Brokers, fresh_topics: FreshTopics) -> None:
    run = fresh_topics(1)
    assert run in runs(broker)
    assert delete_run_topics(broker, run) == len(TOPICS)
    assert run not in runs(broker)
    assert delete_run_topics(broker, run) == 0


@pytest.mark.broker
def test_the_broker_takes_compaction_and_retention_from_the_table(broker: Brokers, fresh_topics: FreshTopics) -> None:
    run = fresh_topics(1)
    client = KafkaAdminClient(**broker.kafka_python())
    names = [topic_address("snapshots-aggregate", run), topic_address("readings", run)]
    said = client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    client.close()
    snapshots, readings = (said["topic"][name] for name in names)
    assert snapshots["cleanup.policy"]["value"] == "compact"
    assert snapshots["segment.ms"]["value"] == "600000"
    assert readings["retention.ms"]["value"] == "-1"


@pytest.mark.broker
def test_signals_have_the_brokers_time_and_results_the_time_of_the_event(
    broker: Brokers, fresh_topics: FreshTopics
) -> None:
    run = fresh_topics(1)
    began_ms = time.time_ns() // 1_000_000
    producer = BatchProducer(broker, run)
    names: tuple[TopicName, ...] = "signals", "alerts"
    producer.send([Output(name, 0, b"", b"x", 5) for name in names], 5)
    producer.flush()
    producer.close()
    heard: dict[str, int] = {}
    tail = Tail(broker, names, lambda message: heard.update({message.topic: message.record_ms}), run=run, last=10)
    tail.start()
    assert wait_until(lambda: len(heard) == 2)
    tail.stop()
    assert heard["alerts"] == 5
    assert began_ms <= heard["signals"] <= time.time_ns() // 1_000_000


def test_the_live_topics_cannot_be_deleted() -> None:
    with pytest.raises(ConfigError, match="live topics are not deleted"):
        delete_run_topics(Brokers("127.0.0.1:9"), "")


def test_a_broker_that_is_not_there_gives_one_sentence() -> None:
    with pytest.raises(BrokerUnavailable, match=r"^no Kafka broker answers at 127\.0\.0\.1:9 \(waited 0\.1 s\)$"):
        apply_topics(Brokers("127.0.0.1:9"), 1, timeout_s=0.1)


@pytest.mark.parametrize("address", ["", "localhost", ":9092", "host:0", "host:99999", "a:1,b"])
def test_an_address_without_host_and_port_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="host:port"):
        Brokers(address)


@pytest.mark.parametrize("run", ["A", "a.b", "a b", "-a", "a" * 41])
def test_a_run_name_that_would_break_topic_names_is_refused(run: str) -> None:
    with pytest.raises(ConfigError, match="run"):
        apply_topics(Brokers("127.0.0.1:9"), 1, run=run)


def test_topics_are_kept_by_time_by_size_or_for_the_whole_replay() -> None:
    readings = TOPICS["readings"]
    by_time = topic_settings(readings)
    assert by_time["retention.ms"] == str(7 * 86_400_000)
    assert by_time["retention.bytes"] == "-1"
    by_size = topic_settings(readings, retention="size")
    assert by_size["retention.ms"] == "-1"
    assert int(by_size["retention.bytes"]) >= 4 * int(by_size["segment.bytes"])
    replay = topic_settings(readings, retention="size", replay=True)
    assert (replay["retention.ms"], replay["retention.bytes"]) == ("-1", "-1")


def test_what_is_kept_for_minutes_has_segments_of_minutes() -> None:
    settings = topic_settings(TOPICS["live-states"])
    assert int(settings["segment.ms"]) <= int(settings["retention.ms"]) // 5


def test_snapshots_are_compacted_in_every_mode() -> None:
    for retention in ("time", "size"):
        settings = topic_settings(TOPICS["snapshots-warn"], retention=retention)
        assert settings["cleanup.policy"] == "compact"
        assert settings["min.cleanable.dirty.ratio"] == "0.01"
