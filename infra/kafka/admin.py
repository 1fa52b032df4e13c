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
    KafkaError,
    TopicAlreadyExistsError,
    UnrecognizedBrokerVersion,
    UnsupportedVersionError,
    for_code,
)

from citybrain.errors import BrokerUnavailable, ConfigError
from citybrain.topics import PREFIX, TOPICS, Topic, TopicName, topic_address
from infra.kafka.client import no_answer, silence_libraries, wait_for_broker

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


def topic_settings(topic: Topic, *, retention: Retention = "time", replay: bool = False) -> dict[str, str]:
    """Return the broker's settings of a topic.

    Kafka deletes by record time. Where the feed's clock is not the wall clock (``size``) a topic is bounded by bytes
    instead, and a replay keeps everything until its topics are removed.
    """
    common = {"max.message.bytes": str(MESSAGE_MAX_BYTES)}
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
    return common | {"retention.ms": str(topic.retention_ms), "segment.ms": str(segment_ms)}


def apply_topics(
    address: str, city_partitions: int, *, run: str = "", retention: Retention = "time", timeout_s: float = 10.0
) -> tuple[str, ...]:
    """Make the topics of the table that are absent, in one request, and return their names on the broker.

    Settings of topics that exist are left as the operator has them; their partitions must fit the city.

    Raises
    ------
    BrokerUnavailable
        If no broker answers in time.
    ConfigError
        If a topic has another number of partitions, or the broker refuses or is too old.
    """
    _check_run(run)
    wanted = {topic_address(topic.name, run): topic for topic in TOPICS.values()}
    with admin(address, timeout_s) as client:
        seen = _partitions(client)
        absent = {name: topic for name, topic in wanted.items() if name not in seen}
        if absent:
            _create(client, absent, city_partitions, retention=retention, replay=bool(run))
            seen = _partitions(client, list(wanted))
    for name, topic in wanted.items():
        expected = topic.partitions(city_partitions)
        if seen.get(name) != expected:
            raise ConfigError(
                f"topic {name} on {address}: {seen.get(name, 0)} partitions seen, {expected} expected by the network;"
                " remove the topic, or use the network it was made for"
            )
    return tuple(absent)


def runs(address: str, timeout_s: float = 10.0) -> tuple[str, ...]:
    """Return the names of replay runs that have topics, sorted."""
    with admin(address, timeout_s) as client:
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


def delete_run_topics(address: str, run: str, timeout_s: float = 10.0) -> int:
    """Delete the topics and consumer groups of a replay run; return how many topics there were.

    Raises
    ------
    ConfigError
        If ``run`` is empty: the live topics are not deleted by this program.
    """
    if not run:
        raise ConfigError("run '' seen, the name of a replay run allowed: the live topics are not deleted")
    with admin(address, timeout_s) as client:
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
def admin(address: str, timeout_s: float = 10.0) -> Iterator[KafkaAdminClient]:
    """Open an admin client; errors of the library leave it as ours."""
    silence_libraries()
    wait_for_broker(address, timeout_s)
    client = None
    try:
        client = KafkaAdminClient(
            bootstrap_servers=address,
            bootstrap_timeout_ms=int(timeout_s * 1000),
            request_timeout_ms=int(max(timeout_s, 10.0) * 1000),
        )
        _refuse_old(client, address)
        yield client
    except (UnrecognizedBrokerVersion, IncompatibleBrokerVersion, UnsupportedVersionError) as error:
        raise _too_old(address, "an unknown version") from error
    except KafkaConfigurationError as error:
        raise ConfigError(f"broker address {address!r}: {error}") from error
    except KafkaError as error:
        raise BrokerUnavailable(f"the Kafka broker at {address} failed: {error}") from error
    finally:
        if client is not None:
            client.close()


def _refuse_old(client: KafkaAdminClient, address: str) -> None:
    brokers = client.describe_cluster()["brokers"]
    if not brokers:
        raise no_answer(address, 0)
    version = client.get_broker_version_data(brokers[0]["broker_id"]).broker_version
    if version < OLDEST_BROKER:
        raise _too_old(address, "Kafka " + ".".join(map(str, version)))


def _too_old(address: str, seen: str) -> ConfigError:
    oldest = ".".join(map(str, OLDEST_BROKER))
    return ConfigError(f"broker at {address}: {seen} seen, Kafka {oldest} or newer allowed")


def _partitions(client: KafkaAdminClient, names: list[str] | None = None) -> dict[str, int]:
    described = client.describe_topics(names)
    return {topic["name"]: len(topic["partitions"]) for topic in described if topic["error_code"] == 0}


def _create(
    client: KafkaAdminClient, absent: Mapping[str, Topic], city_partitions: int, *, retention: Retention, replay: bool
) -> None:
    request = {
        name: {
            "num_partitions": topic.partitions(city_partitions),
            "configs": topic_settings(topic, retention=retention, replay=replay),
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
