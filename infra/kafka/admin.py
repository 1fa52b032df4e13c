"""Topics on the broker: the table `citybrain.topics.TOPICS` in, topics made and checked; runs listed and removed."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

from kafka import KafkaAdminClient
from kafka.errors import (
    IncompatibleBrokerVersion,
    KafkaConfigurationError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    TopicAlreadyExistsError,
    UnknownBrokerIdError,
    UnrecognizedBrokerVersion,
    UnsupportedVersionError,
    for_code,
)

from citybrain.errors import BrokerUnavailable, ConfigError
from citybrain.settings import KafkaSettings
from citybrain.topics import PREFIX, TOPICS, Topic, TopicName, topic_address
from infra.kafka.client import Brokers, answering, answers, no_answer, silence_libraries, wait_for_broker
from infra.kafka.refusal import refuse_disagreement

OLDEST_BROKER = (3, 0)
MESSAGE_MAX_BYTES = 16 * 2**20
MINUTE_MS = 60_000
SEGMENT_BYTES = 64 * 2**20
SNAPSHOT_SEGMENT_BYTES = 16 * 2**20

# By size, a partition. Estimate: 3,000 loops every 30 s at five times real time write 3.5 GB of readings a day, so that
# four partitions hold the last seven hours.
SIZE_BYTES: Mapping[TopicName, int] = {"readings": 256 * 2**20, "segment-states": 128 * 2**20}
SIZE_BYTES_OTHERS = 64 * 2**20

Retention = Literal["time", "size"]
SINGLE = KafkaSettings()


def topic_settings(
    topic: Topic, *, copies: KafkaSettings = SINGLE, retention: Retention = "time", replay: bool = False
) -> dict[str, str]:
    """Return the broker's settings of a topic.

    Kafka deletes by record time. Where the feed's clock is not the wall clock (``size``) a topic is bounded by bytes
    instead, and a replay keeps everything until its topics are removed.
    """
    common = {"max.message.bytes": str(MESSAGE_MAX_BYTES), "min.insync.replicas": str(copies.min_insync_replicas)}
    if topic.appended:
        common["message.timestamp.type"] = "LogAppendTime"
    if topic.compacted:
        return common | {
            "cleanup.policy": "compact",
            "segment.ms": str(10 * MINUTE_MS),
            "segment.bytes": str(SNAPSHOT_SEGMENT_BYTES),
            "min.cleanable.dirty.ratio": "0.01",
            "delete.retention.ms": str(MINUTE_MS),
        }
    assert topic.retention_ms is not None
    common |= {"cleanup.policy": "delete"}
    if replay:
        return common | {"retention.ms": "-1", "retention.bytes": "-1"}
    if retention == "size":
        size = SIZE_BYTES.get(topic.name, SIZE_BYTES_OTHERS)
        segment = min(SEGMENT_BYTES, size // 4)
        return common | {"retention.ms": "-1", "retention.bytes": str(size), "segment.bytes": str(segment)}
    # Only closed segments are deleted: a topic kept for ten minutes needs segments of a minute or two.
    segment_ms = max(MINUTE_MS, topic.retention_ms // 7)
    return common | {
        "retention.ms": str(topic.retention_ms),
        "retention.bytes": "-1",
        "segment.ms": str(segment_ms),
    }


def apply_topics(
    brokers: Brokers, city_partitions: int, *, run: str = "", retention: Retention = "time", timeout_s: float = 10.0
) -> tuple[str, ...]:
    """Make the topics of the table that are absent, in one request, and return their names on the broker.

    Settings of topics that exist are left as the operator has them (`infra.kafka.differences` changes them); their
    partitions must fit the city.

    Raises
    ------
    BrokerUnavailable
        If no broker answers in time.
    ConfigError
        If a topic has another number of partitions, there are fewer brokers than copies, or one refuses or is too old.
    """
    _check_run(run)
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            return _apply(brokers, city_partitions, run, retention, timeout_s)
        except BrokerUnavailable:
            # One of several that has just died is asked for a few seconds more.
            if time.monotonic() > deadline_s or not answers(brokers):
                raise
            time.sleep(0.2)


def _apply(brokers: Brokers, city_partitions: int, run: str, retention: Retention, timeout_s: float) -> tuple[str, ...]:
    wanted = {topic_address(topic.name, run): topic for topic in TOPICS.values()}
    with admin(brokers, timeout_s) as client:
        seen = _partitions(client)
        absent = {name: topic for name, topic in wanted.items() if name not in seen}
        if absent:
            refuse_few_nodes(client, brokers)
            _create(client, brokers, absent, city_partitions, retention=retention, replay=bool(run))
            seen = partitions_of(client, list(wanted), timeout_s)
    for name, topic in wanted.items():
        expected = topic.partitions(city_partitions)
        if seen.get(name) != expected:
            raise wrong_partitions(brokers, name, seen.get(name, 0), expected)
    return tuple(absent)


def wrong_partitions(brokers: Brokers, topic: str, seen: int, expected: int) -> ConfigError:
    """Return the error for a topic of another network."""
    return ConfigError(
        f"topic {topic} on {brokers}: {seen} partitions seen, {expected} expected by the network;"
        " remove the topic, or use the network it was made for"
    )


def refuse_few_nodes(client: KafkaAdminClient, brokers: Brokers) -> None:
    """Raise `ConfigError` if fewer brokers run than there are to be copies."""
    nodes = len(client.describe_cluster()["brokers"])
    if nodes < brokers.settings.replication:
        raise ConfigError(
            f"kafka.replication {brokers.settings.replication} seen, at most {nodes} allowed:"
            f" so many brokers run at {brokers}"
        )


def runs(brokers: Brokers, timeout_s: float = 10.0) -> tuple[str, ...]:
    """Return the names of replay runs that have topics, sorted."""
    with admin(brokers, timeout_s) as client:
        names = client.list_topics()
    return tuple(sorted({run for name in names if (run := run_of(name))}))


def run_of(address_of_topic: str) -> str:
    """Return the run that a topic belongs to; empty for the live one and for foreign topics.

    Examples
    --------
    >>> run_of("citybrain.r1.readings"), run_of("citybrain.readings"), run_of("other.r1.readings")
    ('r1', '', '')
    """
    parts = address_of_topic.split(".")
    return parts[1] if len(parts) == 3 and parts[0] == PREFIX and parts[2] in TOPICS else ""


def delete_run_topics(brokers: Brokers, run: str, timeout_s: float = 10.0) -> int:
    """Delete the topics and consumer groups of a replay run; return how many topics there were.

    Raises
    ------
    ConfigError
        If ``run`` is empty: the live topics are not deleted by this program.
    """
    if not run:
        raise ConfigError("run '' seen, the name of a replay run allowed: the live topics are not deleted")
    with admin(brokers, timeout_s) as client:
        names = [name for name in client.list_topics() if run_of(name) == run]
        if names:
            client.delete_topics(names)
            _wait_until_gone(client, set(names), timeout_s)
        groups = [group["group_id"] for group in client.list_groups()]
        ended = [group for group in groups if group.startswith(f"{PREFIX}.{run}.")]
        if ended:
            # A group that still has members refuses; it holds nothing but offsets, and expires by itself.
            client.delete_groups(ended)
    return len(names)


@contextmanager
def admin(brokers: Brokers, timeout_s: float = 10.0) -> Iterator[KafkaAdminClient]:
    """Open an admin client; errors of the library leave it as ours."""
    silence_libraries()
    wait_for_broker(brokers, timeout_s)
    if brokers.settings.security != "plaintext":
        refuse_disagreement(brokers)
    client = None
    try:
        client = _open(brokers, timeout_s)
        _refuse_old(client, brokers)
        yield client
    except (UnrecognizedBrokerVersion, IncompatibleBrokerVersion, UnsupportedVersionError) as error:
        raise _too_old(brokers, "an unknown version") from error
    except KafkaConfigurationError as error:
        raise ConfigError(f"brokers {brokers}: {error}") from error
    except KafkaError as error:
        raise BrokerUnavailable(f"the Kafka broker at {brokers} failed: {error}") from error
    finally:
        if client is not None:
            client.close()


def _open(brokers: Brokers, timeout_s: float) -> KafkaAdminClient:
    try:
        return KafkaAdminClient(
            # It gives up at the first that refuses, though others answer.
            **brokers.kafka_python() | {"bootstrap_servers": answering(brokers)},
            bootstrap_timeout_ms=int(timeout_s * 1000),
            request_timeout_ms=int(max(timeout_s, 10.0) * 1000),
        )
    except KafkaTimeoutError:
        refuse_disagreement(brokers)
        raise


def _refuse_old(client: KafkaAdminClient, brokers: Brokers) -> None:
    # A broker of several may be dead and still be named.
    for node in client.describe_cluster()["brokers"]:
        try:
            version = client.get_broker_version_data(node["broker_id"]).broker_version
        except (KafkaConnectionError, KafkaTimeoutError, UnknownBrokerIdError):
            continue
        if version < OLDEST_BROKER:
            raise _too_old(brokers, "Kafka " + ".".join(map(str, version)))
        return
    raise no_answer(brokers, 0)


def _too_old(brokers: Brokers, seen: str) -> ConfigError:
    oldest = ".".join(map(str, OLDEST_BROKER))
    return ConfigError(f"broker at {brokers}: {seen} seen, Kafka {oldest} or newer allowed")


def _partitions(client: KafkaAdminClient, names: list[str] | None = None) -> dict[str, int]:
    described = client.describe_topics(names)
    return {topic["name"]: len(topic["partitions"]) for topic in described if topic["error_code"] == 0}


def partitions_of(client: KafkaAdminClient, names: list[str], timeout_s: float) -> dict[str, int]:
    """Return partitions by topic, asked for until all are known: one of several brokers may hear of a new one later."""
    deadline_s = time.monotonic() + timeout_s
    while len(seen := _partitions(client, names)) < len(names) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return seen


def _create(
    client: KafkaAdminClient, brokers: Brokers, absent: Mapping[str, Topic], city_partitions: int,
    *, retention: Retention, replay: bool,
) -> None:  # fmt: skip
    copies = brokers.settings
    request = {
        name: {
            "num_partitions": topic.partitions(city_partitions),
            "replication_factor": copies.replication,
            "configs": topic_settings(topic, copies=copies, retention=retention, replay=replay),
        }
        for name, topic in absent.items()
    }
    answer = client.create_topics(request, raise_errors=False)
    for topic in answer["topics"]:
        # Another process of the same city may have been first.
        if topic["error_code"] not in (0, TopicAlreadyExistsError.errno):
            said = topic.get("error_message") or for_code(topic["error_code"]).__name__
            raise ConfigError(f"topic {topic['name']} cannot be made: {said}")
    client.wait_for_topics(list(absent))


def _wait_until_gone(client: KafkaAdminClient, names: set[str], timeout_s: float) -> None:
    # The answer to a deletion comes before the broker's own list knows of it.
    deadline = time.monotonic() + timeout_s
    while names.intersection(client.list_topics()) and time.monotonic() < deadline:
        time.sleep(0.05)


def _check_run(run: str) -> None:
    if run and not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", run):
        raise ConfigError(f"run {run!r} seen; small letters, digits and '-' allowed, at most 40")
