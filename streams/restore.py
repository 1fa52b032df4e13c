"""Restore: a stage's snapshot topic in, the newest snapshot of each partition out.

A snapshot is the next offset that it does not cover (8 bytes) and the stage's dump. A worker that was thought dead may
have written the last ones, so the largest offset of the topic's tail wins, not the last record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import aiokafka
from aiokafka import TopicPartition

TAIL = 8
FETCH_BYTES = 16 * 2**20
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Restored:
    """A stage's dump and the first offset that it does not cover."""

    next_offset: int
    blob: bytes


def snapshot(next_offset: int, blob: bytes) -> bytes:
    """Return the record's value."""
    return next_offset.to_bytes(8, "little") + blob


async def restore(address: str, topic: str, source: str, partitions: Sequence[int], group: str) -> dict[int, Restored]:
    """Return the newest snapshot of each partition that has one.

    Parameters
    ----------
    address
        Broker.
    topic, source
        The snapshot topic, and the topic whose offsets it counts, by their names on the broker.
    partitions
        Partitions wanted.
    group
        Consumer group, whose committed offsets a snapshot must cover.
    """
    consumer = aiokafka.AIOKafkaConsumer(
        bootstrap_servers=address, group_id=group, enable_auto_commit=False, max_partition_fetch_bytes=FETCH_BYTES
    )
    async with asyncio.timeout(TIMEOUT_S):
        await consumer.start()
        try:
            sources = {p: TopicPartition(source, p) for p in partitions}
            ends = await consumer.end_offsets(list(sources.values()))
            found = await _newest(consumer, topic, partitions, TAIL, {p: ends[at] for p, at in sources.items()})
            committed = {p: await consumer.committed(at) or 0 for p, at in sources.items()}
            behind = [p for p in partitions if p in found and found[p].next_offset < committed[p]]
            behind += [p for p in partitions if p not in found]
            if behind:
                found |= await _newest(consumer, topic, behind, None, {p: ends[sources[p]] for p in behind})
        finally:
            await consumer.stop()
    return found


async def _newest(
    consumer: aiokafka.AIOKafkaConsumer,
    topic: str,
    partitions: Sequence[int],
    tail: int | None,
    end_of_source: dict[int, int],
) -> dict[int, Restored]:
    """Read the last ``tail`` snapshots of each partition (None: all), and return the newest that can be true."""
    at = {TopicPartition(topic, p): p for p in partitions}
    begins, ends = await consumer.beginning_offsets(list(at)), await consumer.end_offsets(list(at))
    open_ = {place for place in at if ends[place] > begins[place]}
    found: dict[int, Restored] = {}
    if not open_:
        return found
    consumer.assign(sorted(open_))
    for place in open_:
        consumer.seek(place, begins[place] if tail is None else max(begins[place], ends[place] - tail))
    while open_:
        for place, records in (await consumer.getmany(*open_, timeout_ms=500)).items():
            for record in records:
                value = record.value or b""
                next_offset = int.from_bytes(value[:8], "little")
                # A source that was made anew counts from 0: what covers more than it has is of the old one.
                usable = len(value) > 8 and next_offset <= end_of_source[at[place]]
                best = found.get(at[place])
                if usable and (best is None or next_offset >= best.next_offset):
                    found[at[place]] = Restored(next_offset, value[8:])
        # Compaction may have removed the last offsets: the position tells, not the records.
        open_ = {place for place in open_ if await consumer.position(place) < ends[place]}
    return found
