"""The broker that benchmarks run on: the embedded Kafka, as a process of its own in a temporary folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.kafka.broker import EmbeddedBroker
from infra.kafka.client import Brokers
from infra.kafka.jars import cache_folder, jars_in


@contextmanager
def broker() -> Iterator[Brokers]:
    """Run a broker and yield where it is; its data go with it."""
    with tempfile.TemporaryDirectory() as folder:
        jars = jars_in(cache_folder(os.environ) / "kafka")
        with EmbeddedBroker(Path(folder), jars_folder=jars) as running:
            yield Brokers(running.address)
