"""A worker as a process of its own, for tests that kill it: ``python -m tests.streams.worker ADDRESS RUN FOLDER``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from citybrain.metrics import Metrics
from citybrain.network import Network
from infra.kafka.client import Brokers
from streams.aggregate import Aggregate
from streams.harness import crash_of, make_app, running
from streams.rollup import Rollup
from streams.stage import Stage
from tests.fakes import city_settings, grid_network


def network() -> Network:
    """Return the network of the tests with killed workers."""
    return grid_network(6, 5)


async def main(brokers: Brokers, run: str, folder: Path) -> None:
    """Work until killed."""
    settings = city_settings(folder)
    stages: list[Stage[Any]] = [Aggregate.of(network(), settings), Rollup.of(network(), settings)]
    app = make_app(stages, brokers, run=run, role="worker", settings=settings, metrics=Metrics())
    async with running(app):
        raise await crash_of(app)


if __name__ == "__main__":
    asyncio.run(main(Brokers(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
