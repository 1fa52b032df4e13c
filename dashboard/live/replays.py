"""Live views of replay runs: the name of a run in, a `Live` fed from the store out.

A run is read from the store, not from its topics: it is there while it is played and after, whoever plays it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from citybrain.errors import CityBrainError
from dashboard.live.feeds import Demo
from dashboard.live.push import TICK_MS, Live
from infra.stores.protocol import Store

log = structlog.get_logger(__name__)

IDLE_TICKS = 60
"""A run that nobody has looked at for so many ticks is let go."""
RUN_CLOCK = Demo(feed_clock=True, speed=0.0)


class Replays:
    """The runs that somebody looks at. Belongs to one event loop."""

    def __init__(self, store: Store, make: Callable[[str, Demo], Live]) -> None:
        self._store, self._make = store, make
        self._views: dict[str, Live] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def view(self, run: str) -> Live | None:
        """Return the live view of a run; None where the store holds no such run."""
        if run not in self._views:
            if run not in await asyncio.to_thread(self._store.runs):
                return None
            if run not in self._views:
                live = self._make(run, RUN_CLOCK)
                await asyncio.to_thread(live.restore)
                self._views.setdefault(run, live)
                self._tasks.setdefault(run, asyncio.create_task(self._follow(run, self._views[run])))
        return self._views[run]

    async def close(self) -> None:
        """Let go of all runs."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, run: str, live: Live) -> None:
        idle, write_id = 0, 0
        try:
            while idle < IDLE_TICKS:
                idle = 0 if live.hub.viewers else idle + 1
                try:
                    write_id = await asyncio.to_thread(self._poll, run, live, write_id)
                    await live.step()
                except CityBrainError as error:
                    log.warning("run_not_read", run=run, reason=str(error))
                await asyncio.sleep(TICK_MS / 1000)
        finally:
            del self._views[run], self._tasks[run]

    def _poll(self, run: str, live: Live, write_id: int) -> int:
        """Take what was stored since the last poll; returns the id to ask with next."""
        write_id, states = self._store.changes_since(write_id, run=run)
        if states:
            live.take(states, self._store.latest_areas(run=run), self._store.latest_forecasts(run=run))
        return write_id
