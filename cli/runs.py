"""Replay runs of others: their results on the broker in, rows of their own in our store out.

DuckDB has one process; a replay beside a serving process leaves the writing to it. Runs are found by their topics.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import structlog

from citybrain.errors import CityBrainError, ConfigError
from citybrain.settings import CitySettings
from cli.host import StageHost
from infra.kafka.admin import runs
from infra.kafka.client import Brokers
from streams.pipeline import Ground, replayed

log = structlog.get_logger()

LOOK_S = 5.0
RUNS_FOLDER = "runs"
"""In the data folder: the period of each replay run, told by the replay to the process that stores it."""
ANSWER_S = 1.5
"""A broker that is away must not hold the end of the program."""


def note_period(city: CitySettings, run: str, period_ms: tuple[int, int]) -> None:
    """Write down the period of a run before its topics are there.

    Raises
    ------
    ConfigError
        If a run of that name was replayed before: its rows would be mixed.
    """
    path = city.data_folder / RUNS_FOLDER / f"{run}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x") as file:
            json.dump({"from_ms": period_ms[0], "to_ms": period_ms[1]}, file)
    except FileExistsError as error:
        raise ConfigError(f"--run {run} seen, but there was such a run: another name, or none for a new one") from error


def period_of(city: CitySettings, run: str) -> tuple[int, int] | None:
    """Return the period of a run; None where it was not told, as from another machine."""
    try:
        told = json.loads((city.data_folder / RUNS_FOLDER / f"{run}.json").read_text())
        return int(told["from_ms"]), int(told["to_ms"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


class RunStores:
    """Stores the results of every replay run that has topics, until it is cancelled."""

    def __init__(self, brokers: Brokers, ground: Callable[[], Ground], *, production: bool = False) -> None:
        self._brokers, self._ground, self._production = brokers, ground, production
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}

    async def follow(self) -> None:
        """Look for new and ended runs."""
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                try:
                    names = await asyncio.to_thread(runs, self._brokers, ANSWER_S)
                except CityBrainError as error:
                    log.info("runs_not_listed", reason=str(error))
                    continue
                self._begin(set(names) - set(self._tasks))
                self._end(set(self._tasks) - set(names))
        finally:
            self._end(set(self._tasks))

    def _begin(self, names: set[str]) -> None:
        for name in names:
            ground = partial(self._ground_of, name)
            hosts = [StageHost(role, ground, self._brokers, production=self._production) for role in replayed("serve")]
            self._tasks[name] = [asyncio.create_task(host.run(), name=f"run {name}, {host.role}") for host in hosts]
            log.info("run_found", run=name)

    def _ground_of(self, run: str) -> Ground:
        ground = self._ground()
        return replace(ground, run=run, period_ms=period_of(ground.settings, run))

    def _end(self, names: set[str]) -> None:
        for name in names:
            for task in self._tasks.pop(name):
                task.cancel()
