"""Hosts of stages: a role and its ground in, a Faust app kept running, made anew after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from citybrain.errors import ConfigError, Stuck
from citybrain.metrics import Metrics
from citybrain.settings import CitySettings
from citybrain.topics import group_address
from infra.kafka.admin import apply_topics
from infra.kafka.client import Brokers, answers
from infra.kafka.offsets import Offsets
from streams.handover import hand_over
from streams.harness import crash_of, looks, make_app, running
from streams.pipeline import Ground, Role, stages
from streams.progress import Look

log = structlog.get_logger()

BACKOFF_S = (1.0, 2.0, 5.0, 15.0)
STEADY_S = 60.0
BROKER_LOOK_S = 2.0
AGAIN_STUCK_S = 600.0
"""An app that is stuck twice within this is not made whole by a new one: a supervisor starts the process anew."""


class StageHost:
    """Runs the stages of one role until it is cancelled.

    A crash loses nothing: the next app restores the newest snapshots and reads on from there.

    Parameters
    ----------
    role
        Whose stages.
    ground
        Returns what stages are made of; asked again for every new app.
    brokers
        Where the topics are.
    production
        True where workers run on machines of their own.
    """

    def __init__(self, role: Role, ground: Callable[[], Ground], brokers: Brokers, *, production: bool = False) -> None:
        self.role = role
        self.ready = asyncio.Event()
        self.production = production
        self._state = "starting"
        self._app: Any = None
        self._run = ""
        self._metrics: Metrics | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stuck = asyncio.Event()
        self._why_stuck = ""
        self._stuck_s: float | None = None
        self._ending = False
        self._ground, self._brokers = ground, brokers
        self._renew = asyncio.Event()
        self._stages: list[Any] = []

    @property
    def state(self) -> str:
        """``ok``, ``starting``, or in plain words what it waits for, or why it is started again."""
        if self._state == "ok":
            for look in self.looks():
                if look.waits_for:
                    return f"stage {look.stage} is {look.waits_for}"
        return self._state

    @property
    def group(self) -> str:
        """Name of the consumer group."""
        return group_address(self.role, self._run)

    def looks(self) -> list[Look]:
        """Return what each stage does now; may be called from any thread."""
        app = self._app
        return [] if app is None else looks(app)

    @property
    def ending(self) -> bool:
        """True from `end` until the app has ended; may be asked from any thread."""
        return self._ending

    def end(self, why: str) -> None:
        """End the app because it is stuck; may be called from any thread. A new one is made, others go on."""
        loop = self._loop
        if loop is not None:
            self._ending = True
            loop.call_soon_threadsafe(self._end, why)

    def _end(self, why: str) -> None:
        self._why_stuck = why
        self._stuck.set()

    def renew(self) -> None:
        """Make the stages anew, on new ground such as a newly learnt typical week."""
        self._renew.set()

    async def run(self) -> None:
        """Run until cancelled.

        Raises
        ------
        ConfigError
            If the stages do not fit what is on the broker, such as a snapshot of another version.
        Stuck
            If the app is stuck again soon and a supervisor is there to start the process anew (``production``).
        """
        loop = self._loop = asyncio.get_running_loop()
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
                stuck = self._stuck.is_set()
                if self._metrics is not None:
                    self._metrics.count("citybrain_restarts_total", self.role, "stuck" if stuck else "crash")
                if stuck:
                    before, self._stuck_s = self._stuck_s, loop.time()
                    if self.production and before is not None and loop.time() - before < AGAIN_STUCK_S:
                        raise Stuck(self._why_stuck) from error
                failures = 0 if loop.time() - began > STEADY_S else failures + 1
                wait = BACKOFF_S[min(failures, len(BACKOFF_S)) - 1] if failures else BACKOFF_S[0]
                why = self._why_stuck if stuck else str(error)
                self._state = f"{self.role} {'was stuck' if stuck else 'crashed'} and is started again: {why}"
                log.error("stages_crashed", role=self.role, error=why if stuck else repr(error), again_in_s=wait)
                await asyncio.sleep(wait)

    async def _run_one(self) -> None:
        ground = self._ground()
        self._run, self._metrics = ground.run, ground.metrics
        self._stages = stages(self.role, ground)
        app = self._app = make_app(
            self._stages,
            self._brokers,
            run=ground.run,
            role=self.role,
            settings=ground.settings,
            metrics=ground.metrics,
            production=self.production,
        )
        self._renew.clear()
        self._stuck.clear()
        try:
            async with running(app):
                self._state = "ok"
                self.ready.set()
                await self._until_crash_or_renewal(app)
        finally:
            self._state, self._app, self._ending = "starting", None, False

    async def _until_crash_or_renewal(self, app: Any) -> None:
        crash = asyncio.ensure_future(crash_of(app))
        renewal = asyncio.ensure_future(self._renew.wait())
        stuck = asyncio.ensure_future(self._stuck.wait())
        try:
            await asyncio.wait({crash, renewal, stuck}, return_when=asyncio.FIRST_COMPLETED)
            if crash.done():
                raise crash.result()
            if stuck.done():
                raise Stuck(self._why_stuck)
        finally:
            # A store that is away must not hold the end of the app: what it has not taken stays in the log.
            for stage in self._stages:
                if hasattr(stage, "stopping"):
                    stage.stopping = True
            for task in (crash, renewal, stuck):
                task.cancel()


def prepare(brokers: Brokers, city: CitySettings, partitions: int, roles: Sequence[Role]) -> None:
    """Make the topics as the table has them, and let the groups of these roles begin where they have to; blocks.

    Raises
    ------
    CityBrainError
        If the brokers do not answer, or a topic does not fit.
    """
    apply_topics(brokers, partitions, retention=city.retention)
    offsets = Offsets(brokers)
    try:
        hand_over(offsets, roles, partitions)
    finally:
        offsets.close()


def cancelled() -> bool:
    """Return whether the running task was asked to end, though another error has come in between."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def tell_of_broker(brokers: Brokers, *, every_s: float = BROKER_LOOK_S) -> None:
    """Log once when no broker answers any more, and once when one does again; until cancelled."""
    there = True
    while True:
        await asyncio.sleep(every_s)
        seen = await asyncio.to_thread(answers, brokers)
        if seen != there:
            there = seen
            if seen:
                log.warning("broker_is_back", address=brokers.address)
            else:
                log.warning("broker_is_away", address=brokers.address, meaning="waiting for it; nothing is lost")
