"""The doctor's look at what flows: brokers in; who is behind, who is silent and what is refused, in plain words, out.

It reads messages and offsets as nobody's member, and changes nothing.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from confluent_kafka import Consumer, TopicPartition

from citybrain.clock import utc
from citybrain.errors import BadRecord
from citybrain.messages import DeadLetter, decode_json
from citybrain.topics import PREFIX, TopicName, topic_address
from cli.finding import Finding
from infra.kafka.client import Brokers
from infra.kafka.offsets import Offsets, Place
from streams.pipeline import PIPELINE

FAR_BEHIND = 1_000
AGAIN_S = 2.0
"""Lag is looked at twice, so long apart, to say how it goes."""
SKEW_MS = 5 * 60_000
ANSWER_S = 5.0
NEWEST_READINGS, NEWEST_LETTERS = 200, 500


def reader_of(brokers: Brokers) -> Consumer:
    """Return a reader. A group is named but never joined, and nothing is committed: it leaves nothing behind."""
    silent = logging.getLogger("citybrain.librdkafka")
    silent.setLevel(logging.CRITICAL)
    settings = brokers.librdkafka() | {"group.id": f"{PREFIX}.doctor", "enable.auto.commit": False}
    return Consumer(settings, logger=silent)


def check_flow(
    brokers: Brokers, network: str, seen: Mapping[str, int], committed: Mapping[str, Mapping[Place, int]]
) -> Iterator[Finding]:
    """Yield what is to be said of lag, skew, silent sources and refused records.

    Parameters
    ----------
    brokers
        Where the topics are.
    network
        Version of the city's network.
    seen
        Partitions of each topic that is there.
    committed
        Offsets by consumer group.
    """
    reader, offsets = reader_of(brokers), Offsets(brokers)
    try:
        yield from _lag(reader, offsets, committed)
        yield from _sources(reader, seen)
        yield from _skew(reader, seen)
        yield from _refused(reader, network, seen)
    finally:
        reader.close()
        offsets.close()


@dataclass(frozen=True, slots=True)
class Behind:
    """What one group has not done of one topic: messages by partition, and how many they were before."""

    now: Mapping[int, int]
    before: Mapping[int, int]

    @property
    def total(self) -> int:
        """Messages that wait."""
        return sum(self.now.values())

    @property
    def faster(self) -> float:
        """Messages a second by which it catches up; negative where it falls behind."""
        return (sum(self.before.values()) - self.total) / AGAIN_S


def outlook(behind: Behind) -> str:
    """Return how it goes, in words.

    Examples
    --------
    >>> outlook(Behind({0: 3000}, {0: 3200}))
    'it catches up, in 30 s'
    >>> outlook(Behind({0: 3000}, {0: 3000})), outlook(Behind({0: 3000}, {0: 2600}))
    ('it stands still', 'it falls behind, by 200 messages a second')
    """
    if behind.faster > 0:
        return f"it catches up, in {behind.total / behind.faster:,.0f} s"
    return f"it falls behind, by {-behind.faster:,.0f} messages a second" if behind.faster < 0 else "it stands still"


def _lag(reader: Consumer, offsets: Offsets, committed: Mapping[str, Mapping[Place, int]]) -> Iterator[Finding]:
    committed = {group: _read_by(group, done) for group, done in committed.items()}
    before = {group: _behind(offsets, done) for group, done in committed.items()}
    if any(sum(by.values()) > FAR_BEHIND for topics in before.values() for by in topics.values()):
        time.sleep(AGAIN_S)
        now = {group: _behind(offsets, _read_by(group, offsets.committed(group))) for group in committed}
    else:
        now = before
    for group, topics in sorted(now.items()):
        far = {
            topic: Behind(by, before[group].get(topic, by))
            for topic, by in topics.items()
            if sum(by.values()) > FAR_BEHIND
        }
        total = sum(sum(by.values()) for by in topics.values())
        if not far:
            yield Finding("well", f"{group} is {total:,} messages behind")
        for topic, behind in sorted(far.items()):
            yield Finding("wrong", _sentence(reader, group, topic, behind, committed[group]))


def _read_by(group: str, done: Mapping[Place, int]) -> Mapping[Place, int]:
    """Leave out topics that a role reads no more: it has a group of its own now, the old one's offsets stand still."""
    role = group.rpartition(".")[2]
    topics = {source for step in PIPELINE if step.role == role for source in step.sources}
    return {place: at for place, at in done.items() if not topics or place[0].rpartition(".")[2] in topics}


def _behind(offsets: Offsets, done: Mapping[Place, int]) -> dict[str, dict[int, int]]:
    ends, begins = offsets.ends(done), offsets.begins(done)
    found: dict[str, dict[int, int]] = defaultdict(dict)
    for (topic, partition), offset in done.items():
        place = topic, partition
        if place in ends:
            found[topic][partition] = max(0, ends[place] - max(begins[place], offset))
    return found


def _sentence(reader: Consumer, group: str, topic: str, behind: Behind, done: Mapping[Place, int]) -> str:
    name, role = topic.rpartition(".")[2], group.rpartition(".")[2]
    stages = " and ".join(step.name for step in PIPELINE if name in step.sources and step.role == role) or role
    worst = max(behind.now, key=lambda partition: behind.now[partition])
    text = f"{stages} ({group}): {behind.total:,} messages of {topic} wait, most in partition {worst}"
    oldest_ms = _record_ms(reader, topic, worst, done[topic, worst])
    if oldest_ms is not None:
        text += f", the oldest since {utc(oldest_ms):%Y-%m-%d %H:%M:%S} UTC by its record time"
    idle = behind.faster <= 0 and behind.now == behind.before
    return f"{text}; {outlook(behind)}{': does a process of it run?' if idle else ''}"


def _record_ms(reader: Consumer, topic: str, partition: int, offset: int) -> int | None:
    reader.assign([TopicPartition(topic, partition, offset)])
    raw = reader.poll(ANSWER_S)
    return None if raw is None or raw.error() is not None else int(raw.timestamp()[1])


def _sources(reader: Consumer, seen: Mapping[str, int]) -> Iterator[Finding]:
    newest: dict[str, int] = {}
    by_partition: dict[int, int] = {}
    for partition, record_ms, key, _ in _last_records(reader, "readings", seen, NEWEST_READINGS):
        source = key.decode(errors="replace")
        newest[source] = max(newest.get(source, 0), record_ms)
        by_partition[partition] = max(by_partition.get(partition, 0), record_ms)
    if not newest:
        yield Finding("note", "no reading has arrived yet")
        return
    at = max(newest.values())
    yield Finding("well", f"the newest reading arrived at {utc(at):%Y-%m-%d %H:%M:%S} UTC by the feed's clock")
    for source, when in sorted(newest.items()):
        if at - when > SKEW_MS:
            yield Finding(
                "wrong",
                f"source {source} is silent since {utc(when):%Y-%m-%d %H:%M:%S} UTC while others send: is it cut?",
            )
    slow = sorted(p for p, when in by_partition.items() if at - when > SKEW_MS)
    if slow:
        yield Finding("wrong", f"partitions {slow} hear nothing since more than 5 min while others do: is a feed cut?")


def _skew(reader: Consumer, seen: Mapping[str, int]) -> Iterator[Finding]:
    """Results of a pane come once the partition's watermark has passed it: their newest panes tell the watermarks."""
    newest: dict[int, int] = {}
    for partition, record_ms, _, _ in _last_records(reader, "segment-states", seen, 5):
        newest[partition] = max(newest.get(partition, 0), record_ms)
    if not newest:
        return
    first, last = max(newest.values()), min(newest.values())
    if first - last > SKEW_MS:
        slow = sorted(p for p, at in newest.items() if first - at > SKEW_MS)
        yield Finding(
            "wrong",
            f"partitions {slow} have computed panes up to {utc(last):%H:%M} only, others up to {utc(first):%H:%M} UTC:"
            " a source of theirs holds their event time back, or their worker is behind",
        )
    else:
        yield Finding("well", f"all partitions have computed panes up to {utc(last):%Y-%m-%d %H:%M} UTC")


def _refused(reader: Consumer, network: str, seen: Mapping[str, int]) -> Iterator[Finding]:
    counts: Counter[str] = Counter()
    example: dict[str, str] = {}
    for _, _, _, value in _last_records(reader, "dead-letters", seen, NEWEST_LETTERS):
        try:
            letter = decode_json(DeadLetter, value)
        except BadRecord:
            continue
        counts[letter.reason] += letter.count
        example[letter.reason] = f"{letter.detail} (from {letter.source or 'unknown'}, {letter.topic})"
    for reason, count in counts.most_common():
        text = f"dead letters: {count:,} lately for {reason}, the last: {example[reason]}"
        if reason == "network_version":
            yield Finding("wrong", f"{text}; give its sender the network {network}, or start it again with it")
        else:
            yield Finding("note", text)
    if not counts:
        yield Finding("well", "no dead letters")


def _last_records(
    reader: Consumer, name: TopicName, seen: Mapping[str, int], most: int
) -> Iterator[tuple[int, int, bytes, bytes]]:
    """Yield partition, record time, key and value of the newest records of each partition."""
    address = topic_address(name)
    ends: dict[int, int] = {}
    starts = []
    for partition in range(seen.get(address, 0)):
        low, high = reader.get_watermark_offsets(TopicPartition(address, partition), timeout=ANSWER_S)
        if high > low:
            ends[partition] = high
            starts.append(TopicPartition(address, partition, max(low, high - most)))
    reader.assign(starts)
    while ends:
        raw = reader.poll(ANSWER_S)
        if raw is None or raw.error() is not None:
            return
        partition, key, value = int(raw.partition() or 0), raw.key(), raw.value()
        record_ms = int(raw.timestamp()[1])
        yield partition, record_ms, key if isinstance(key, bytes) else b"", value if isinstance(value, bytes) else b""
        if int(raw.offset() or 0) + 1 >= ends.get(partition, 0):
            ends.pop(partition, None)
