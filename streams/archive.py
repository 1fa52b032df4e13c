"""Archive: messages of the raw topics in, Parquet files out (``infra.archive``); acknowledged once on the disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import ClassVar

import structlog

from citybrain.errors import StoreError
from citybrain.metrics import Metrics
from citybrain.topics import TopicName
from infra.archive import HOUR_MS, Archive, ArchiveDamaged
from streams.stage import NOTHING, Message, Results, Stateless
from streams.store import BACKOFF_S, pause

MERGE_AFTER_MS = 5 * 60_000
"""An hour's files are made one so long after its end, by the partition's record time."""
LOOK_BACK_MS = 48 * HOUR_MS
"""Hours so far back are looked through for files that another worker could not make one any more."""

log = structlog.get_logger()
Place = tuple[TopicName, int]


class ArchiveStage(Stateless):
    """The stage ``archive``. It holds messages for half a minute, so that an hour is a hundred files, then one.

    Parameters
    ----------
    archive
        Where to write.
    metrics
        Where it counts.
    keep
        Hours older than this are removed, by record time; None keeps all.
    sleep
        Waits between two tries, s.
    now_ms
        The wall clock: a message from the future removes nothing that is not old by it too.
    """

    name: ClassVar[str] = "archive"
    sources: ClassVar[tuple[TopicName, ...]] = ("readings", "passages", "events")
    checkpoint_every: ClassVar[timedelta] = timedelta(seconds=30)

    def __init__(
        self,
        archive: Archive,
        metrics: Metrics,
        *,
        keep: timedelta | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._archive, self._metrics, self._keep, self._sleep, self._now_ms = archive, metrics, keep, sleep, now_ms
        self._pending: list[Message] = []
        self._unmerged: dict[Place, set[int]] = {}
        self._newest_ms: dict[Place, int] = {}
        self._retained_ms = 0
        self.stopping = False
        """Set when the app ends: what fails is not tried again, and its messages stay in the log."""
        self.state = "ok"
        """``ok``, or in plain words what it waits for."""

    def step(self, state: None, message: Message) -> Results:
        """Hold one message."""
        self._pending.append(message)
        return NOTHING

    async def durable(self) -> None:
        """Write what is held; tried again until the disk has taken it.

        Raises
        ------
        StoreError
            When it failed while the program ends.
        """
        taken, self._pending = self._pending, []
        try:
            if taken:
                await self._write(taken)
                await asyncio.to_thread(self._tidy, taken)
        except BaseException:
            self._pending = taken + self._pending
            raise

    async def _write(self, messages: Sequence[Message]) -> None:
        wait_s = BACKOFF_S[0]
        while True:
            try:
                await asyncio.to_thread(self._archive.write, messages)
            except StoreError as error:
                self._metrics.count("citybrain_store_errors_total", "retried")
                if self.state == "ok":
                    log.error("archive_waits", error=str(error), meaning="Kafka keeps what comes; nothing is lost")
                self.state = f"waiting for the disk: {error}"
                if self.stopping:
                    raise
                # A disk that is full may become free by what is too old on it.
                await asyncio.to_thread(self._retain)
                await pause(self, self._sleep, wait_s)
                wait_s = min(2 * wait_s, BACKOFF_S[1])
            else:
                if self.state != "ok":
                    log.warning("archive_goes_on")
                self.state = "ok"
                return

    def _tidy(self, messages: Sequence[Message]) -> None:
        """Make one file of the hours that are over, and let go of those that are too old. What fails is for later."""
        for message in messages:
            place = message.topic, message.partition
            if place not in self._newest_ms:
                since_ms = message.record_ms - LOOK_BACK_MS
                hours = self._archive.unmerged(*place, since_ms, message.record_ms)
                self._unmerged[place] = set(hours)
            self._newest_ms[place] = max(self._newest_ms.get(place, 0), message.record_ms)
            self._unmerged[place].add(message.record_ms // HOUR_MS)
        for place in {(message.topic, message.partition) for message in messages}:
            over = {h for h in self._unmerged[place] if (h + 1) * HOUR_MS + MERGE_AFTER_MS < self._newest_ms[place]}
            for hour in sorted(over):
                if self._merged(place, hour):
                    self._unmerged[place].discard(hour)
        if max(self._newest_ms.values()) - self._retained_ms >= HOUR_MS:
            self._retain()

    def _merged(self, place: Place, hour: int) -> bool:
        try:
            self._archive.merge(*place, hour * HOUR_MS)
        except ArchiveDamaged as error:
            log.error("archive_damaged", error=str(error), way="citybrain archive check")
        except StoreError as error:
            log.warning("archive_hour_not_merged", error=str(error))
            return False
        return True

    def _retain(self) -> None:
        if self._keep is None or not self._newest_ms:
            return
        newest_ms = max(self._newest_ms.values())
        self._retained_ms = newest_ms
        keep_ms = round(self._keep.total_seconds() * 1000)
        try:
            removed = self._archive.retain(min(newest_ms, self._now_ms()) - keep_ms)
        except (OSError, StoreError) as error:
            log.warning("archive_not_retained", error=str(error))
            return
        if removed:
            log.info("archive_hours_removed", hours=len(removed), first=removed[0], last=removed[-1])
