"""Stage `outbox`: alert events in, the alert desk and its outbox out, before anything is acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar

import structlog

from citybrain.errors import BadRecord, StoreError
from citybrain.messages import AlertEvent, decode_json
from citybrain.metrics import Metrics
from citybrain.network import Network
from citybrain.topics import TopicName
from citybrain.wire import Message
from infra.database.protocol import AlertDesk
from streams.panes import require_network
from streams.stage import NOTHING, Results, Stateless
from streams.store import BACKOFF_S

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
        self._waiting: list[AlertEvent] = []
        self.stopping = False
        """Set when the program ends: what fails is not tried again, and its messages stay in the log."""

    def step(self, state: None, message: Message) -> Results:
        """Take one event to be applied at the next checkpoint."""
        event = decode_json(AlertEvent, message.value)
        require_network(event.network, self._network.version)
        limit = len(self._network.segments)
        if not event.segments or not all(0 <= segment < limit for segment in event.segments):
            raise BadRecord("out_of_range", f"segments {event.segments} seen, some of 0 to {limit - 1} allowed")
        self._waiting.append(event)
        return NOTHING

    async def durable(self) -> None:
        """Apply what came since the last time; tried again until the desk has taken it.

        Raises
        ------
        StoreError
            When it failed while the program ends.
        """
        taken, self._waiting = self._waiting, []
        wait_s = BACKOFF_S[0]
        while taken:
            try:
                await asyncio.to_thread(self._desk.apply, taken, run=self._run)
                return
            except StoreError as error:
                self._metrics.count("citybrain_store_errors_total", "retried")
                log.warning("alerts_not_stored", error=str(error), again_in_s=wait_s)
                if self.stopping:
                    self._waiting = taken + self._waiting
                    raise
                await self._sleep(wait_s)
                wait_s = min(2 * wait_s, BACKOFF_S[1])
