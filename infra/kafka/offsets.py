"""Offsets on the broker: topics and groups in, where they end, begin and stand, and which topic it is, out.

One connection is kept for the questions of a process, each of which asks for many partitions at once. It may be used
from several threads.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaConfigurationError,
    KafkaError,
    NoError,
    NotCoordinatorError,
    UnknownTopicOrPartitionError,
)
from kafka.structs import OffsetAndMetadata

from citybrain.errors import BrokerUnavailable, ConfigError
from infra.kafka.client import Brokers, no_answer, silence_libraries, wait_for_broker

Place = tuple[str, int]
"""A topic's name on the broker, and a partition."""
ANSWER_S, CLOSE_S = 5.0, 0.5
NOBODY = ("Empty", "Dead")
"""States of a consumer group without members."""
_NOT_YET = (CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError)
_COORDINATOR_TRIES, _COORDINATOR_WAIT_S = 20, 0.25
A = TypeVar("A")


class GroupHasMembers(ConfigError):
    """Offsets of a group were to be set while somebody reads for it."""


class Offsets:
    """Asks the brokers about offsets.

    Every method raises `BrokerUnavailable` if they do not answer in time, and `ConfigError` if they cannot be reached
    as the settings say.
    """

    def __init__(self, brokers: Brokers, *, answer_s: float = ANSWER_S) -> None:
        self._brokers, self._answer_s = brokers, answer_s
        self._client: KafkaAdminClient | None = None
        self._lock = threading.Lock()

    def ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return the offset after the last message of each partition."""
        return self._bounds(places, OffsetSpec.LATEST)

    def begins(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return the offset of the first message that each partition still has."""
        return self._bounds(places, OffsetSpec.EARLIEST)

    def topic_ids(self, names: Iterable[str]) -> dict[str, uuid.UUID]:
        """Return the id that the brokers gave each topic when it was made; another topic of the name has another."""
        asked = sorted(set(names))
        told = self._ask(lambda client: client.describe_topics(asked)) if asked else []
        return {str(one["name"]): _uuid(one["topic_id"]) for one in told if one["error_code"] == 0}

    def partitions(self, names: Iterable[str]) -> dict[str, int]:
        """Return how many partitions each topic has; topics that are not there are left out."""
        asked = sorted(set(names))
        told = self._ask(lambda client: client.describe_topics(asked)) if asked else []
        return {str(one["name"]): len(one["partitions"]) for one in told if one["error_code"] == 0}

    def committed(self, group: str) -> dict[Place, int]:
        """Return the offset that the group reads next of each partition, as far as it has committed one."""
        told = self._ask(lambda client: client.list_group_offsets({group: None})[group])
        return {(at.topic, at.partition): said.offset for at, said in told.items() if said.offset >= 0}

    def members(self, group: str) -> int:
        """Return how many consumers the group has now."""
        told = self._ask(lambda client: client.describe_groups([group]))[group]
        return 0 if str(told["group_state"]) in NOBODY else max(1, len(told["members"]))

    def commit(self, group: str, offsets: Mapping[Place, int]) -> None:
        """Let a group without members go on from these offsets.

        A coordinator that has just started, and one that does not yet know a topic that was just made, are asked again.

        Raises
        ------
        GroupHasMembers
            If the brokers do not take them because the group has members.
        ConfigError
            If they do not take them for another reason, such as a topic that does not exist.
        """
        left = {TopicPartition(*place): OffsetAndMetadata(offset, "", -1) for place, offset in offsets.items()}
        for attempt in range(_COORDINATOR_TRIES):
            if attempt:
                time.sleep(_COORDINATOR_WAIT_S)
            refused = self._refused(group, left)
            left = {at: left[at] for at in refused}
            if not left or not set(refused.values()) <= {*_NOT_YET, UnknownTopicOrPartitionError}:
                break
        if not left:
            return
        names = ", ".join(sorted({said.__name__ for said in refused.values()}))
        if UnknownTopicOrPartitionError in refused.values():
            raise ConfigError(f"group {group}: {names} seen, topics that exist allowed")
        if set(refused.values()) <= set(_NOT_YET):
            raise no_answer(self._brokers, _COORDINATOR_TRIES * _COORDINATOR_WAIT_S)
        raise GroupHasMembers(f"group {group}: {names} seen, a group without members allowed")

    def _refused(self, group: str, wanted: Mapping[TopicPartition, OffsetAndMetadata]) -> dict[TopicPartition, type]:
        told = self._ask(lambda client: client.alter_group_offsets(group, wanted))
        return {at: said for at, said in told.items() if said is not NoError}

    def close(self) -> None:
        """Let go of the connection; the next question opens another."""
        if self._lock.acquire(timeout=CLOSE_S):  # a question without an answer must not hold the end of the program
            try:
                self._let_go()
            finally:
                self._lock.release()

    def _bounds(self, places: Iterable[Place], spec: OffsetSpec) -> dict[Place, int]:
        wanted = {TopicPartition(*place): spec for place in places}
        if not wanted:
            return {}
        limit_ms = int(self._answer_s * 1000)
        told = self._ask(lambda client: client.list_partition_offsets(wanted, timeout_ms=limit_ms))
        return {(at.topic, at.partition): int(said.offset) for at, said in told.items()}

    def _ask(self, question: Callable[[KafkaAdminClient], A]) -> A:
        with self._lock:
            try:
                return self._patiently(question)
            except KafkaConfigurationError as error:
                self._let_go()
                raise ConfigError(f"broker address {self._brokers}: {error}") from error
            except KafkaError as error:
                self._let_go()
                raise BrokerUnavailable(f"the Kafka broker at {self._brokers} failed: {error}") from error

    def _patiently(self, question: Callable[[KafkaAdminClient], A]) -> A:
        """Ask; a broker that has just started does not know its groups for a moment."""
        for _ in range(_COORDINATOR_TRIES):
            try:
                return question(self._open())
            except _NOT_YET:
                time.sleep(_COORDINATOR_WAIT_S)
        raise no_answer(self._brokers, _COORDINATOR_TRIES * _COORDINATOR_WAIT_S)

    def _open(self) -> KafkaAdminClient:
        if self._client is None:
            silence_libraries()
            wait_for_broker(self._brokers, self._answer_s)
            self._client = KafkaAdminClient(
                **self._brokers.kafka_python(),
                bootstrap_timeout_ms=int(self._answer_s * 1000),
                request_timeout_ms=int(self._answer_s * 1000),
            )
        return self._client

    def _let_go(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _uuid(told: object) -> uuid.UUID:
    return told if isinstance(told, uuid.UUID) else uuid.UUID(str(told))
