"""Fixtures for tests on a real broker: one embedded Kafka a test session, and topics of its own for each test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.kafka.admin import apply_topics, delete_run_topics
from infra.kafka.broker import EmbeddedBroker
from infra.kafka.client import Brokers
from infra.kafka.jars import cache_folder, jars_in

FreshTopics = Callable[..., str]


@pytest.fixture(scope="session")
def jars_folder() -> Path:
    """Return the folder with Kafka's jars, fetched where they are absent."""
    return jars_in(cache_folder(os.environ) / "kafka")


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory, jars_folder: Path) -> Iterator[Brokers]:
    """Return the session's broker. Tests tell their topics apart by `fresh_topics`."""
    with EmbeddedBroker(tmp_path_factory.mktemp("broker"), jars_folder=jars_folder) as running:
        yield Brokers(running.address)


@pytest.fixture
def fresh_topics(broker: Brokers) -> Iterator[FreshTopics]:
    """Return a function ``(city_partitions=2) -> run`` that makes all topics under a run name of its own."""
    made: list[str] = []

    def make(city_partitions: int = 2) -> str:
        run = f"t{uuid.uuid4().hex[:8]}"
        apply_topics(broker, city_partitions, run=run)
        made.append(run)
        return run

    yield make
    for run in made:
        delete_run_topics(broker, run)
