"""The producer of workers has an id of the broker's, by which a repeat of what was written is known."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from citybrain.metrics import Metrics
from infra.kafka.client import Brokers
from streams.aggregate import Aggregate
from streams.harness import make_app, running
from tests.broker import FreshTopics
from tests.fakes import city_settings
from tests.streams.worker import network

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("broker")]


def test_a_worker_s_producer_is_idempotent(broker: Brokers, fresh_topics: FreshTopics, tmp_path: Path) -> None:
    settings, run = city_settings(tmp_path), fresh_topics(2)

    async def look() -> bool:
        stages = [Aggregate.of(network(), settings)]
        app = make_app(stages, broker, run=run, role="worker", settings=settings, metrics=Metrics())
        async with running(app):
            known = app.producer._ensure_producer()._txn_manager  # type: ignore[attr-defined]
            return known is not None and known.has_pid()

    assert asyncio.run(look())
