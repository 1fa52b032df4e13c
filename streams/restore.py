"""Restore: the snapshot topics of a worker's stages in, the newest snapshot of each partition out.

All stages of an app are read at once, when the first of them asks: one round of questions to the broker, one consumer.
A worker that was thought dead may have written the last records, so the largest offset of a topic's tail wins, not the
last record. A record without a value (`citybrain state reset`) makes void what was before it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import aiokafka
import structlog
from aiokafka import TopicPartition

from citybrain.errors import ConfigError
from infra.kafka.client import Brokers
from infra.kafka.offsets import Offsets, Place
from streams.savepoint import NO_TOPIC, Savepoint, savepoint_of

TAIL = 8
FETCH_BYTES = 16 * 2**20
TIMEOUT_S = 60.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Kept:
    """Where one stage's state is: its snapshot topic and the topic it reads, by their names on the broker."""

    stage: str
    snapshots: str
    source: str


@dataclass(frozen=True, slots=True)
class Known:
    """What the broker says of sources and snapshots."""

    topic_ids: Mapping[str, uuid.UUID]
    ends: Mapping[Place, int]
    begins: Mapping[Place, int]
    committed: Mapping[Place, int]
    """By the group, of each partition that it has committed an offset of."""

    def topic_id(self, source: str) -> uuid.UUID | None:
        """Return a topic's id, None where it has none."""
        found = self.topic_ids.get(source, NO_TOPIC)
        return None if found == NO_TOPIC else found


@dataclass(slots=True)
class _Seen:
    """The best snapshot of one partition so far, and what else was there."""

    best: Savepoint | None = None
    unreadable: ConfigError | None = None
    former: int = 0


class Restorer:
    """Reads snapshots for the stages of one app; each is given out once.

    Parameters
    ----------
    brokers, offsets
        Where the topics are; who answers for their offsets.
    group
        Consumer group, whose committed offsets a snapshot must cover.
    kept
        The stages that keep a state.
    """

    def __init__(self, brokers: Brokers, offsets: Offsets, group: str, kept: Iterable[Kept]) -> None:
        self._brokers, self._offsets, self._group = brokers, offsets, group
        self._kept = {one.stage: one for one in kept}
        self._lock = asyncio.Lock()
        self._generation: int | None = None
        self._ready: dict[tuple[str, int], Savepoint | None] = {}
        self._committed: Mapping[Place, int] | None = None
        self._topic_ids: dict[str, uuid.UUID | None] = {}

    def topic_id(self, source: str) -> uuid.UUID | None:
        """Return the id of a source as it was at the last restore."""
        return self._topic_ids.get(source)

    def forget(self) -> None:
        """Read again what is asked for next: partitions were handed out anew."""
        self._generation = None

    async def take(
        self, stage: str, partitions: Sequence[int], generation: int, assigned: Iterable[Place]
    ) -> dict[int, Savepoint]:
        """Return the newest snapshot of each partition that has one.

        Parameters
        ----------
        stage
            Who asks.
        partitions
            Those wanted.
        generation
            Of the consumer group: what was read in another one is read again.
        assigned
            All partitions that the app has: they are read along, for the stages that ask next.

        Raises
        ------
        ConfigError
            If the newest snapshot of a partition is of a form that this version does not know.
        """
        async with self._lock:
            self._in(generation)
            missing = [p for p in partitions if (stage, p) not in self._ready]
            if missing:
                await self._read({(stage, p) for p in missing} | self._others(set(assigned)))
            found = {p: self._ready.pop((stage, p)) for p in partitions}
        return {partition: savepoint for partition, savepoint in found.items() if savepoint is not None}

    async def begin(self, place: Place, generation: int) -> int:
        """Return the offset that the group has to go on from: the committed one, or the first that is still there."""
        async with self._lock:
            self._in(generation)
            try:
                if self._committed is None:
                    self._committed = await asyncio.to_thread(self._offsets.committed, self._group)
                if place in self._committed:
                    return self._committed[place]
                return (await asyncio.to_thread(self._offsets.begins, [place]))[place]
            finally:
                self._offsets.close()

    async def missed(self, place: Place, begin: int, end: int) -> AsyncIterator[aiokafka.ConsumerRecord]:
        """Yield what the source holds from offset ``begin`` up to ``end``, which is not included."""
        at = TopicPartition(*place)
        consumer = aiokafka.AIOKafkaConsumer(
            **self._brokers.aiokafka(), enable_auto_commit=False, auto_offset_reset="earliest"
        )
        try:
            await consumer.start()
            consumer.assign([at])
            consumer.seek(at, begin)
            while await consumer.position(at) < end:
                for record in (await consumer.getmany(at, timeout_ms=500)).get(at, ()):
                    if begin <= record.offset < end:
                        yield record
        finally:
            await end_consumer(consumer)

    def _in(self, generation: int) -> None:
        """Forget what was read in another generation of the group."""
        if generation != self._generation:
            self._generation, self._ready, self._committed = generation, {}, None

    def _others(self, assigned: set[Place]) -> set[tuple[str, int]]:
        return {(name, p) for name, one in self._kept.items() for source, p in assigned if source == one.source}

    async def _read(self, wanted: set[tuple[str, int]]) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                found, known = await newest(self._brokers, self._offsets, self._group, self._kept, wanted)
        finally:
            self._offsets.close()
        self._topic_ids |= {one.source: known.topic_id(one.source) for one in self._kept.values()}
        self._ready |= found
        self._committed = known.committed


async def newest(
    brokers: Brokers, offsets: Offsets, group: str, kept: Mapping[str, Kept], wanted: set[tuple[str, int]]
) -> tuple[dict[tuple[str, int], Savepoint | None], Known]:
    """Return the newest true snapshot of each (stage, partition) wanted, and what the broker said of them."""
    consumer = aiokafka.AIOKafkaConsumer(
        **brokers.aiokafka(), enable_auto_commit=False, max_partition_fetch_bytes=FETCH_BYTES
    )
    asking = asyncio.ensure_future(asyncio.to_thread(known_of, offsets, group, kept, wanted))
    try:
        await consumer.start()
        known = await asking
        seen = await _scan(consumer, kept, wanted, known, TAIL)
        behind = {key for key in wanted if _must_look_further(seen[key], kept[key[0]], key[1], known)}
        if behind:
            seen |= await _scan(consumer, kept, behind, known, None)
    finally:
        asking.cancel()
        await end_consumer(consumer)
    return {key: _judged(key, seen[key]) for key in wanted}, known


async def end_consumer(consumer: aiokafka.AIOKafkaConsumer) -> None:
    """Stop a consumer. It cancels its own fetches; that must not reach the caller, whose task would end without a word.

    A fetch that was cancelled before it began raises `asyncio.CancelledError` out of ``AIOKafkaConsumer.stop`` (0.14).
    """
    stopping = asyncio.ensure_future(consumer.stop())
    await asyncio.wait({stopping})
    if not stopping.cancelled() and (error := stopping.exception()) is not None:
        raise error


def known_of(offsets: Offsets, group: str, kept: Mapping[str, Kept], wanted: set[tuple[str, int]]) -> Known:
    """Ask the broker what has to be known of these stages and partitions; blocks."""
    sources = {(kept[stage].source, p) for stage, p in wanted}
    snapshots = {(kept[stage].snapshots, p) for stage, p in wanted}
    return Known(
        topic_ids=offsets.topic_ids({topic for topic, _ in sources}),
        ends=offsets.ends(sources | snapshots),
        begins=offsets.begins(snapshots),
        committed=offsets.committed(group),
    )


def _must_look_further(seen: _Seen, one: Kept, partition: int, known: Known) -> bool:
    """Return whether the tail may not hold the newest true snapshot: zombies wrote it, or another topic's worker."""
    if seen.best is None:
        return True
    return seen.best.next_offset < known.committed.get((one.source, partition), 0)


def _judged(key: tuple[str, int], seen: _Seen) -> Savepoint | None:
    if seen.unreadable is not None:
        raise ConfigError(f"stage {key[0]}, partition {key[1]}: {seen.unreadable}")
    if seen.best is None and seen.former:
        log.warning("snapshot_of_former_topic", stage=key[0], partition=key[1], snapshots=seen.former)
    return seen.best


async def _scan(
    consumer: aiokafka.AIOKafkaConsumer, kept: Mapping[str, Kept], wanted: set[tuple[str, int]], known: Known,
    tail: int | None,
) -> dict[tuple[str, int], _Seen]:  # fmt: skip
    """Read the last ``tail`` records of each partition's snapshots (None: all)."""
    seen = {key: _Seen() for key in wanted}
    at = {TopicPartition(kept[stage].snapshots, p): (stage, p) for stage, p in wanted}
    bounds = {place: (known.begins[place], known.ends[place]) for place in at}
    open_ = {place for place, (begin, end) in bounds.items() if end > begin}
    if not open_:
        return seen
    consumer.assign(sorted(open_))
    for place in open_:
        begin, end = bounds[place]
        consumer.seek(place, begin if tail is None else max(begin, end - tail))
    while open_:
        for place, records in (await consumer.getmany(*open_, timeout_ms=500)).items():
            stage, partition = at[place]
            source = kept[stage].source
            for record in records:
                _note(seen[stage, partition], record, known.topic_id(source), known.ends[source, partition])
        # Compaction may have removed the last offsets: the position tells, not the records.
        open_ = {place for place in open_ if await consumer.position(place) < bounds[place][1]}
    return seen


def _note(seen: _Seen, record: aiokafka.ConsumerRecord, topic_id: uuid.UUID | None, end: int) -> None:
    if record.value is None:
        seen.best, seen.unreadable, seen.former = None, None, 0
        return
    try:
        savepoint = replace(savepoint_of(record.value), saved_ms=record.timestamp)
    except ConfigError as error:
        seen.unreadable = error
        return
    if not savepoint.counts_in(topic_id, end):
        seen.former += 1
    elif seen.best is None or savepoint.next_offset >= seen.best.next_offset:
        seen.best = savepoint
