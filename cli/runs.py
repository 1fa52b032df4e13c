"""Replay runs of others: their results on the broker in, rows of their own in our store out.

DuckDB has one process; a replay beside a serving process leaves the writing to it. Runs are found by their topics.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog

from citybrain.errors import CityBrainError
from cli.host import StageHost
from infra.kafka.admin import runs
from streams.pipeline import Ground

log = structlog.get_logger()

LOOK_S = 5.0
ANSWER_S = 1.5
"""A broker that is away must not hold the end of the program."""


class RunStores:
    """Stores the results of every replay run that has topics, until it is cancelled."""

    def __init__(self, address: str, ground: Callable[[], Ground]) -> None:
        self._address, self._ground = address, ground
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def follow(self) -> None:
        """Look for new and ended runs."""
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                try:
                    names = await asyncio.to_thread(runs, self._address, ANSWER_S)
                except CityBrainError as error:
                    log.info("runs_not_listed", reason=str(error))
                    continue
                self._begin(set(names) - set(self._tasks))
                self._end(set(self._tasks) - set(names))
        finally:
            self._end(set(self._tasks))

    def _begin(self, names: set[str]) -> None:
        for name in names:
            host = StageHost("serve", lambda name=name: replace(self._ground(), run=name), self._address)  # type: ignore[misc]
            self._tasks[name] = asyncio.create_task(host.run(), name=f"run {name}")
            log.info("run_found", run=name)

    def _end(self, names: set[str]) -> None:
        for name in names:
            self._tasks.pop(name).cancel()
