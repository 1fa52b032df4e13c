"""Stage `outbox`: alert events in, the alert desk and its outbox out, before anything is acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar

import structlog

from citybrain.errors import BadRecord, StoreError, StoreRefused
from citybrain.messages import AlertEvent, DeadLetter, decode_json
from citybrain.metrics import Metrics
from citybrain.network import Network
from citybrain.topics import TopicName
from citybrain.wire import Message
from infra.database.protocol import AlertDesk
from streams.panes import require_network
from streams.stage import NOTHING, Results, Stateless, refusal
from streams.store import BACKOFF_S, pause

log = structlog.get_logger()


class OutboxStage(Stateless):
    """Gives the desk what came since the last checkpoint, in one transaction.

    Parameters
    ----------
    desk
        Alerts and outbox.
    network
        Network whose segments the alerts may name.
    metrics
        Where it counts.
    run
        Replay run, empty for the live city.
    sleep
        Waits between two tries, s.
    """

    name: ClassVar[str] = "outbox"
    sources: ClassVar[tuple[TopicName, ...]] = ("alerts",)

    def __init__(
        self,
        desk: AlertDesk,
        network: Network,
        metrics: Metrics,
        *,
        run: str = "",
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._desk, self._network, self._metrics, self._run, self._sleep = desk, network, metrics, run, sleep
        self._waiting: list[tuple[Message, AlertEvent]] = []
        self.state = "ok"
        """``ok``, or in plain words what it waits for."""
        self.stopping = False
        """Set when the app ends: what fails is not tried again, and its messages stay in the log."""

    def step(self, state: None, message: Message) -> Results:
        """Take one event to be applied at the next checkpoint."""
        event = decode_json(AlertEvent, message.value)
        require_network(event.network, self._network.version)
        limit = len(self._network.segments)
        if not event.segments or not all(0 <= segment < limit for segment in event.segments):
            raise BadRecord("out_of_range", f"segments {event.segments} seen, some of 0 to {limit - 1} allowed")
        self._waiting.append((message, event))
        return NOTHING

    async def durable(self) -> Results:
        """Apply what came since the last time, tried again until the desk has taken it; return what it refuses.

        Raises
        ------
        StoreError
            When it failed while the program ends.
        """
        taken, self._waiting = self._waiting, []
        try:
            return Results(refused=await self._apply(taken))
        except BaseException:
            self._waiting = taken + self._waiting
            raise

    async def _apply(self, taken: list[tuple[Message, AlertEvent]]) -> list[DeadLetter]:
        try:
            await self._persist([event for _, event in taken])
        except StoreRefused:
            return await self._apply_singly(taken)
        return []

    async def _apply_singly(self, taken: list[tuple[Message, AlertEvent]]) -> list[DeadLetter]:
        """One bad event refuses the batch: each on its own finds it, and applies the others."""
        refused = []
        for message, event in taken:
            try:
                await self._persist([event])
            except StoreRefused as error:
                self._metrics.count("citybrain_store_errors_total", "refused")
                refused.append(refusal(self.name, message, BadRecord("refused_by_store", str(error))))
        return refused

    async def _persist(self, events: list[AlertEvent]) -> None:
        wait_s = BACKOFF_S[0]
        while events:
            try:
                await asyncio.to_thread(self._desk.apply, events, run=self._run)
            except StoreRefused:
                raise
            except StoreError as error:
                self._metrics.count("citybrain_store_errors_total", "retried")
                self.state = f"waiting for the database: {error}"
                log.warning("alerts_not_stored", error=str(error), again_in_s=wait_s)
                if self.stopping:
                    raise
                await pause(self, self._sleep, wait_s)
                wait_s = min(2 * wait_s, BACKOFF_S[1])
            else:
                self.state = "ok"
                return
