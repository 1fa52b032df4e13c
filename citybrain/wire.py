"""One message of the log, as Kafka holds it, and one message to send: what stages, stores and screens share."""

from __future__ import annotations

from dataclasses import dataclass

from citybrain.topics import TopicName


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a source topic, as Kafka holds it. ``record_ms`` is the record time, ms UTC."""

    topic: TopicName
    partition: int
    offset: int
    record_ms: int
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Output:
    """One message to send. ``record_ms`` is the event time that goes with it; None takes the cause's record time."""

    topic: TopicName
    partition: int
    key: bytes
    value: bytes
    record_ms: int | None = None
