"""The table of topics against the brokers: what differs out, and the brokers brought to the table.

Partitions stay as they are: which segment is on which partition is fixed by the network.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from citybrain.errors import BrokerUnavailable, ConfigError
from citybrain.topics import TOPICS, Topic, topic_address
from infra.kafka.admin import Retention, admin, apply_topics, refuse_few_nodes, topic_settings, wrong_partitions
from infra.kafka.client import Brokers

COPY_S = 60.0
PARTITIONS, COPIES, ABSENT = "partitions", "replication", "topic"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as the table has it.

    Attributes
    ----------
    topic
        Name on the brokers.
    what
        ``topic`` (absent), ``partitions``, ``replication``, or the name of a setting.
    seen, wanted
        As it is, and as it should be.
    """

    topic: str
    what: str
    seen: str
    wanted: str

    def __str__(self) -> str:
        if self.what == ABSENT:
            return f"{self.topic}: absent"
        return f"{self.topic}: {self.what} {self.seen} seen, {self.wanted} wanted"


def differences(brokers: Brokers, city_partitions: int, *, retention: Retention = "time") -> tuple[Difference, ...]:
    """Return what differs between the live topics and the table, in the table's order.

    Raises
    ------
    BrokerUnavailable, ConfigError
        As `apply_topics`.
    """
    with admin(brokers) as client:
        return tuple(_differences(client, brokers, city_partitions, retention))


def bring_to_table(brokers: Brokers, city_partitions: int, *, retention: Retention = "time") -> tuple[Difference, ...]:
    """Make absent topics, bring copies and settings of the others to the table, and return what was changed.

    Raises
    ------
    BrokerUnavailable
        If no broker answers, or a new copy is not complete within a minute.
    ConfigError
        If a topic has another number of partitions or there are too few brokers: nothing is changed then. If a setting
        is refused.
    """
    with admin(brokers) as client:
        found = tuple(_differences(client, brokers, city_partitions, retention))
        _refuse_other_partitions(brokers, found)
        refuse_few_nodes(client, brokers)
    if any(one.what == ABSENT for one in found):
        apply_topics(brokers, city_partitions, retention=retention)
    with admin(brokers) as client:
        # Copies first: with more of them demanded than there are, nothing could be written.
        _copy(client, brokers, {one.topic for one in found if one.what == COPIES})
        _set(client, brokers, [one for one in found if one.what not in (ABSENT, COPIES)])
    return found


def _differences(
    client: KafkaAdminClient, brokers: Brokers, city_partitions: int, retention: Retention
) -> Iterable[Difference]:
    table = {topic_address(topic.name): topic for topic in TOPICS.values()}
    seen = {topic["name"]: topic for topic in client.describe_topics(list(table)) if topic["error_code"] == 0}
    settings = _settings(client, list(seen))
    for name, topic in table.items():
        if name not in seen:
            yield Difference(name, ABSENT, "none", "one")
            continue
        yield from _of_shape(name, topic, seen[name]["partitions"], city_partitions, brokers.settings.replication)
        wanted = topic_settings(topic, copies=brokers.settings, retention=retention)
        for setting, value in wanted.items():
            if (told := settings[name].get(setting, "nothing")) != value:
                yield Difference(name, setting, told, value)


def _of_shape(
    name: str, topic: Topic, partitions: list[Mapping[str, Any]], city_partitions: int, copies: int
) -> Iterable[Difference]:
    if len(partitions) != (expected := topic.partitions(city_partitions)):
        yield Difference(name, PARTITIONS, str(len(partitions)), str(expected))
    counts = sorted({len(partition["replica_nodes"]) for partition in partitions})
    if counts != [copies]:
        yield Difference(name, COPIES, "/".join(map(str, counts)), str(copies))


def _settings(client: KafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    told = client.describe_configs(asked, config_filter="all")["topic"]
    return {name: {key: str(one["value"]) for key, one in settings.items()} for name, settings in told.items()}


def _refuse_other_partitions(brokers: Brokers, found: Iterable[Difference]) -> None:
    for one in found:
        if one.what == PARTITIONS:
            raise wrong_partitions(brokers, one.topic, int(one.seen), int(one.wanted))


def _copy(client: KafkaAdminClient, brokers: Brokers, names: set[str]) -> None:
    """Give each partition of the topics as many copies as wished, and wait until they are complete."""
    if not names:
        return
    nodes = sorted(int(node["broker_id"]) for node in client.describe_cluster()["brokers"])
    wanted = {
        TopicPartition(topic["name"], partition["partition_index"]): _placed(
            partition["replica_nodes"], nodes, partition["partition_index"], brokers.settings.replication
        )
        for topic in client.describe_topics(sorted(names))
        for partition in topic["partitions"]
    }
    refused = [(place, error) for place, error in client.alter_partition_reassignments(wanted).items() if error]
    if refused:
        place, error = refused[0]
        raise ConfigError(f"topic {place.topic} on {brokers}: its copies cannot be moved ({error.__name__})")
    deadline_s = time.monotonic() + COPY_S
    while client.list_partition_reassignments(list(wanted)):
        if time.monotonic() > deadline_s:
            raise BrokerUnavailable(f"the brokers at {brokers} still copy after {COPY_S:g} s: apply again later")
        time.sleep(0.1)


def _placed(present: list[int], nodes: list[int], partition: int, copies: int) -> list[int]:
    """Return the nodes of a partition's copies: those that have it, then others in turn.

    Examples
    --------
    >>> _placed([2], [1, 2, 3], 0, 3), _placed([2], [1, 2, 3], 2, 2), _placed([3, 1, 2], [1, 2, 3], 0, 2)
    ([2, 1, 3], [2, 3], [3, 1])
    """
    turn = [nodes[(partition + at) % len(nodes)] for at in range(len(nodes))]
    return [*present, *(node for node in turn if node not in present)][:copies]


def _set(client: KafkaAdminClient, brokers: Brokers, found: list[Difference]) -> None:
    changes: dict[str, dict[str, str]] = {}
    for one in found:
        changes.setdefault(one.topic, {})[one.what] = one.wanted
    if not changes:
        return
    asked = [ConfigResource(ConfigResourceType.TOPIC, name, settings) for name, settings in changes.items()]
    for name, answer in client.alter_configs(asked)["topic"].items():
        if answer != "OK":
            raise ConfigError(f"topic {name} on {brokers}: its settings are refused ({answer})")
