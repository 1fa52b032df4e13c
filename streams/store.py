"""Stage `store`: states, area indices and forecasts in, rows of the store out, before anything is acknowledged.

It keeps no state: a write is repeated until the store has taken it, and Kafka keeps what comes in the meantime. Open
panes (``live-states``) are for the screen and never stored.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import ClassVar, Protocol

import structlog

from citybrain.errors import BadRecord, StoreBusy, StoreError, StoreRefused
from citybrain.messages import DeadLetter
from citybrain.metrics import Metrics
from citybrain.records import AreaIndices, Forecasts, SegmentStates, decode
from citybrain.topics import TopicName
from citybrain.wire import Message
from infra.stores.protocol import Batch, Store
from streams.panes import require_network
from streams.stage import NOTHING, Results, Stateless, refusal

Record = SegmentStates | AreaIndices | Forecasts
BACKOFF_S = (0.5, 30.0)
"""Wait after the first failure; the longest wait, doubling in between."""
LOOK_S = 0.2
"""Who waits looks so often whether it is to stop."""

log = structlog.get_logger()


class Stoppable(Protocol):
    """A stage that waits for something outside Kafka."""

    stopping: bool


async def pause(stage: Stoppable, sleep: Callable[[float], Awaitable[None]], seconds: float) -> None:
    """Wait, but no longer than until the stage is told to stop: an app that waits on is a second one beside the next.

    Its consumer would stay in the group and keep partitions that it reads no more.
    """
    waiting = asyncio.ensure_future(sleep(seconds))
    try:
        while not waiting.done() and not stage.stopping:
            await asyncio.wait({waiting}, timeout=LOOK_S)
    finally:
        waiting.cancel()


class StoreStage(Stateless):
    """Writes what came since the last checkpoint in one transaction; the newest version of a pane wins.

    Parameters
    ----------
    store
        Where to write.
    network
        Version of the network that may be stored.
    metrics
        Where it counts.
    run
        Replay run, empty for the live city.
    period_ms
        Panes that begin outside of [from, to) are not stored; None stores all.
    sleep
        Waits between two tries, s.
    """

    name: ClassVar[str] = "store"
    sources: ClassVar[tuple[TopicName, ...]] = ("segment-states", "area-indices", "forecasts")
    checkpoint_every: ClassVar[timedelta] = timedelta(seconds=0.25)
    """A pane comes in as many messages as there are partitions: who wrote at the first shall not wait a second with the
    others."""

    def __init__(
        self,
        store: Store,
        network: str,
        metrics: Metrics,
        *,
        run: str = "",
        period_ms: tuple[int, int] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store, self._network, self._metrics, self._run, self._sleep = store, network, metrics, run, sleep
        self._period_ms = period_ms
        self._waiting: list[tuple[Message, Record]] = []
        self.state = "ok"
        """``ok``, or in plain words what it waits for."""
        self.stopping = False
        """Set when the app ends: a write that fails is not tried again, and its messages stay in the log."""

    def step(self, state: None, message: Message) -> Results:
        """Take one record to be written at the next checkpoint."""
        record: Record
        if message.topic == "segment-states":
            record = decode(SegmentStates, message.value)
        elif message.topic == "area-indices":
            record = decode(AreaIndices, message.value)
        else:
            record = decode(Forecasts, message.value)
        require_network(record.network, self._network)
        if self._period_ms is None or self._period_ms[0] <= record.pane_start_ms < self._period_ms[1]:
            self._waiting.append((message, record))
        return NOTHING

    async def durable(self) -> Results:
        """Write what came since the last time, tried again until the store has taken it; return what it refuses.

        Raises
        ------
        StoreError
            When the write failed while the program ends.
        """
        taken, self._waiting = self._waiting, []
        try:
            return Results(refused=await self._write(taken))
        except BaseException:
            self._waiting = taken + self._waiting
            raise

    async def _write(self, taken: list[tuple[Message, Record]]) -> list[DeadLetter]:
        try:
            await self._persist([record for _, record in taken])
        except StoreRefused:
            return await self._write_singly(taken)
        return []

    async def _write_singly(self, taken: list[tuple[Message, Record]]) -> list[DeadLetter]:
        """One bad record refuses the batch: each on its own finds it, and stores the others."""
        refused = []
        for message, record in taken:
            try:
                await self._persist([record])
            except StoreRefused as error:
                self._metrics.count("citybrain_store_errors_total", "refused")
                refused.append(refusal(self.name, message, BadRecord("refused_by_store", str(error))))
        return refused

    async def _persist(self, records: list[Record]) -> None:
        if not records:
            return
        batch, wait_s = _batch(records), BACKOFF_S[0]
        while True:
            began = time.monotonic()
            try:
                await asyncio.to_thread(self._store.write, batch, run=self._run)
            except StoreRefused:
                raise
            except StoreError as error:
                self._metrics.count("citybrain_store_errors_total", "retried")
                pause_s = max(wait_s, error.after_s) if isinstance(error, StoreBusy) else wait_s
                self.state = f"waiting for the store: {error}"
                log.warning("store_write_failed", error=str(error), again_in_s=pause_s)
                if self.stopping:
                    raise
                await pause(self, self._sleep, pause_s)
                wait_s = min(2 * wait_s, BACKOFF_S[1])
            else:
                self.state = "ok"
                self._metrics.time("citybrain_store_write_seconds", time.monotonic() - began)
                return


def _batch(records: list[Record]) -> Batch:
    return Batch(
        states=[record for record in records if isinstance(record, SegmentStates)],
        areas=[record for record in records if isinstance(record, AreaIndices)],
        forecasts=[record for record in records if isinstance(record, Forecasts)],
    )
