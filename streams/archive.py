"""Archive: messages of the raw topics in, Parquet files out (``infra.archive``); acknowledged once on the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar

from citybrain.topics import TopicName
from infra.archive import HOUR_MS, Archive
from streams.stage import NOTHING, Message, Results, Stateless

MERGE_AFTER_MS = 5 * 60_000
"""An hour's files are made one so long after its end, by the partition's record time."""


class ArchiveStage(Stateless):
    """The stage ``archive``. It holds messages for half a minute, so that an hour is a hundred files, then one."""

    name: ClassVar[str] = "archive"
    sources: ClassVar[tuple[TopicName, ...]] = ("readings", "passages", "events")
    checkpoint_every: ClassVar[timedelta] = timedelta(seconds=30)

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._pending: list[Message] = []
        self._unmerged: dict[tuple[TopicName, int], set[int]] = {}

    def step(self, state: None, message: Message) -> Results:
        """Hold one message."""
        self._pending.append(message)
        return NOTHING

    async def durable(self) -> None:
        """Write what is held."""
        pending, self._pending = self._pending, []
        if pending:
            await asyncio.to_thread(self._write, pending)

    def _write(self, messages: Sequence[Message]) -> None:
        self._archive.write(messages)
        newest: dict[tuple[TopicName, int], int] = {}
        for message in messages:
            place = message.topic, message.partition
            newest[place] = max(newest.get(place, 0), message.record_ms)
            self._unmerged.setdefault(place, set()).add(message.record_ms // HOUR_MS)
        for place, now_ms in newest.items():
            over = {hour for hour in self._unmerged[place] if (hour + 1) * HOUR_MS + MERGE_AFTER_MS < now_ms}
            for hour in sorted(over):
                self._archive.merge(*place, hour * HOUR_MS)
            self._unmerged[place] -= over
