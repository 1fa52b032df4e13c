"""Hosts of stages: a role and its ground in, a Faust app kept running, made anew after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from citybrain.errors import ConfigError
from infra.kafka.client import answers
from streams.harness import crash_of, make_app, running
from streams.pipeline import Ground, Role, stages

log = structlog.get_logger()

BACKOFF_S = (1.0, 2.0, 5.0, 15.0)
STEADY_S = 60.0
BROKER_LOOK_S = 2.0


class StageHost:
    """Runs the stages of one role until it is cancelled.

    A crash loses nothing: the next app restores the newest snapshots and reads on from there.

    Parameters
    ----------
    role
        Whose stages.
    ground
        Returns what stages are made of; asked again for every new app.
    address
        Brokers.
    production
        True where workers run on machines of their own.
    """

    def __init__(self, role: Role, ground: Callable[[], Ground], address: str, *, production: bool = False) -> None:
        self.role = role
        self.state = "starting"
        """``ok``, ``starting``, or in plain words why it is started again."""
        self.ready = asyncio.Event()
        self._ground, self._address, self._production = ground, address, production
        self._renew = asyncio.Event()
        self._stages: list[Any] = []

    def renew(self) -> None:
        """Make the stages anew, on new ground such as a newly learnt typical week."""
        self._renew.set()

    async def run(self) -> None:
        """Run until cancelled.

        Raises
        ------
        ConfigError
            If the stages do not fit what is on the broker, such as a snapshot of another version.
        """
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began = loop.time()
            try:
                await self._run_one()
                failures = 0
            except ConfigError:
                raise
            except Exception as error:
                if cancelled():
                    # Without a broker it cannot be saved: what is not in the snapshot comes again at the next start.
                    log.warning("stages_ended_unsaved", role=self.role, error=repr(error))
                    raise asyncio.CancelledError from error
                failures = 0 if loop.time() - began > STEADY_S else failures + 1
                wait = BACKOFF_S[min(failures, len(BACKOFF_S)) - 1] if failures else BACKOFF_S[0]
                self.state = f"{self.role} crashed and is started again: {error}"
                log.error("stages_crashed", role=self.role, error=repr(error), again_in_s=wait)
                await asyncio.sleep(wait)

    async def _run_one(self) -> None:
        ground = self._ground()
        self._stages = stages(self.role, ground)
        app = make_app(
            self._stages,
            self._address,
            run=ground.run,
            role=self.role,
            settings=ground.settings,
            metrics=ground.metrics,
            production=self._production,
        )
        self._renew.clear()
        try:
            async with running(app):
                self.state = "ok"
                self.ready.set()
                await self._until_crash_or_renewal(app)
        finally:
            self.state = "starting"

    async def _until_crash_or_renewal(self, app: Any) -> None:
        crash = asyncio.ensure_future(crash_of(app))
        renewal = asyncio.ensure_future(self._renew.wait())
        try:
            await asyncio.wait({crash, renewal}, return_when=asyncio.FIRST_COMPLETED)
            if crash.done():
                raise crash.result()
        except asyncio.CancelledError:
            # A store that is away must not hold the end of the program: what it has not taken stays in the log.
            for stage in self._stages:
                if hasattr(stage, "stopping"):
                    stage.stopping = True
            raise
        finally:
            for task in (crash, renewal):
                task.cancel()


def cancelled() -> bool:
    """Return whether the running task was asked to end, though another error has come in between."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def tell_of_broker(address: str, *, every_s: float = BROKER_LOOK_S) -> None:
    """Log once when no broker answers any more, and once when one does again; until cancelled."""
    there = True
    while True:
        await asyncio.sleep(every_s)
        seen = await asyncio.to_thread(answers, address)
        if seen != there:
            there = seen
            if seen:
                log.warning("broker_is_back", address=address)
            else:
                log.warning("broker_is_away", address=address, meaning="waiting for it; nothing is lost")
