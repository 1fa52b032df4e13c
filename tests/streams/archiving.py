"""A worker that archives what it reads, for tests that kill it: ``python -m tests.streams.archiving ADDRESS ...``."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from citybrain.metrics import Metrics
from citybrain.network import Network
from infra.archive import Archive
from infra.kafka.client import Brokers
from streams.aggregate import Aggregate
from streams.archive import ArchiveStage
from streams.harness import crash_of, make_app, running
from streams.rollup import Rollup
from streams.stage import Stage
from tests.fakes import city_settings, grid_network


def network(columns: int) -> Network:
    """Return one of the maps of the tests; they differ in their version."""
    return grid_network(columns, 4)


class OftenArchive(ArchiveStage):
    """The stage, writing every half second, so that kills fall between its files."""

    checkpoint_every = timedelta(seconds=0.5)


async def main(brokers: Brokers, run: str, folder: Path, columns: int) -> None:
    """Work until killed."""
    settings, map_, metrics = city_settings(folder), network(columns), Metrics()
    stages: list[Stage[Any]] = [
        Aggregate.of(map_, settings),
        Rollup.of(map_, settings),
        OftenArchive(Archive(folder / "archive"), metrics),
    ]
    app = make_app(stages, brokers, run=run, role="worker", settings=settings, metrics=metrics)
    async with running(app):
        raise await crash_of(app)


if __name__ == "__main__":
    asyncio.run(main(Brokers(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])))
