"""Fixtures for tests on several brokers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.infra.kafka.cluster import Cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, jars_folder: Path) -> Iterator[Cluster]:
    """Return a cluster of three; a test leaves all its nodes running and in step."""
    with Cluster(tmp_path_factory.mktemp("cluster"), jars_folder) as running:
        yield running
