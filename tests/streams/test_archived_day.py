"""A day that went wrong, archived while it ran: computed again it gives what was live, byte for byte.

Workers are killed, readings come late, twice, unreadable and for another map, and the map changes in mid-stream.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import aiokafka
import numpy as np
import pytest

from citybrain.network import Network
from citybrain.records import AreaIndices, SegmentStates, decode, encode
from citybrain.topics import TopicName, topic_address
from citybrain.wire import Message, Output
from infra.archive import HOUR_MS, Archive, check
from infra.kafka.client import Brokers
from infra.kafka.producer import BatchProducer
from streams.aggregate import Aggregate
from streams.offline import run as run_offline
from streams.replay import lag, results
from streams.ring import SPREAD_MS
from streams.rollup import Rollup
from streams.stage import Stage
from tests.broker import FreshTopics, broker, fresh_topics, jars_folder
from tests.conftest import ROOT
from tests.fakes import city_settings
from tests.streams.archiving import network
from tests.streams.build import MIN, T0, Row, readings

__all__ = ["broker", "fresh_topics", "jars_folder"]

BEFORE, AFTER, FOREIGN = 5, 4, 3
"""Maps: before and after the change, and one that a feed still has from long ago."""
UNTOLD = {"version", "revision", "status"}
WORK: list[tuple[TopicName, int]] = [("readings", 2), ("area-partials", 1)]
PACE_S = 0.008


def batches(map_: Network, from_min: int, to_min: int, rng: np.random.Generator, *, last: bool) -> Iterator[Output]:
    """Yield a feed's batches of both partitions, with all that goes wrong."""
    found: list[tuple[float, int, list[Row]]] = []
    for half in range(2 * from_min, 2 * to_min):
        for partition in range(2):
            detectors = rng.permutation(np.flatnonzero(map_.detector_partition == partition))
            for part in np.array_split(detectors, 4):
                rows: list[Row] = [
                    (int(d), 30 * half, 30 * half + 30, {"count_veh": float(rng.poisson(6)), "speed_kmh": 20.0 + d / 3})
                    for d in part
                ]
                draw = rng.random()
                late = rng.uniform(0, 60) if draw < 0.2 else rng.uniform(60, 300) if draw < 0.25 else rng.uniform(0, 3)
                found.append((30 * half + 30 + late, partition, rows))
    clock = [0, 0]
    foreign = network(FOREIGN)
    for at, partition, rows in sorted(found, key=lambda item: item[0]):
        clock[partition] = max(clock[partition], rows[0][2])
        times = {"watermark_s": clock[partition], "received_s": int(at) + 1}
        batch = readings(map_, rows, **times)  # type: ignore[arg-type]
        output = Output("readings", partition, b"loops", encode(batch), batch.received_ms)
        yield from (output, output) if rng.random() < 0.05 else (output,)
        if rng.random() < 0.02:
            yield Output("readings", partition, b"loops", b"poison", batch.received_ms)
        if rng.random() < 0.03:
            old = readings(foreign, [(0, *row[1:]) for row in rows[:1]], **times)  # type: ignore[arg-type]
            yield Output("readings", partition, b"old", encode(old), batch.received_ms)
    if last:
        end = readings(map_, watermark_s=60 * to_min + 300, received_s=60 * to_min + 301)
        for partition in range(2):
            yield Output("readings", partition, b"loops", encode(end), end.received_ms)


@dataclass
class Published:
    """What a run of the stages told of one map: first closes and newest results by key, areas by pane."""

    network: str
    first: dict[bytes, bytes] = field(default_factory=dict)
    newest: dict[bytes, tuple[tuple[int, int], bytes]] = field(default_factory=dict)
    areas: dict[bytes, AreaIndices] = field(default_factory=dict)

    def __call__(self, message: Message) -> None:
        """Take one message."""
        if message.topic == "segment-states":
            states = decode(SegmentStates, message.value)
            if states.network != self.network:
                return
            if states.revision == 0:
                assert self.first.setdefault(message.key, message.value) == message.value, "a first close that differs"
            place = states.version, states.revision
            if place >= self.newest.get(message.key, ((-1, -1), b""))[0]:
                self.newest[message.key] = place, message.value
        elif message.topic == "area-indices":
            indices = decode(AreaIndices, message.value)
            if indices.network == self.network:
                self.areas[message.key] = indices


def published(columns: int, messages: Sequence[Message]) -> Published:
    found = Published(network(columns).version)
    for message in messages:
        found(message)
    return found


def recomputed(columns: int, archive: Archive, from_ms: int = 0, to_ms: int = 2**60) -> Published:
    """Compute what the archive holds again, for one map."""
    map_, settings = network(columns), city_settings()
    found = Published(map_.version)
    stages: list[Stage[Any]] = [Aggregate.of(map_, settings), Rollup.of(map_, settings)]
    run_offline(stages, archive.read("readings", from_ms, to_ms), found)
    return found


def same(live: Published, again: Published) -> None:
    """Compare every byte of first closes and newest results, and every value of areas."""
    assert live.first == again.first
    assert live.newest == again.newest
    assert live.areas.keys() == again.areas.keys()
    for key, indices in live.areas.items():
        for f in fields(AreaIndices):
            if f.name not in UNTOLD:
                seen, wanted = getattr(indices, f.name), getattr(again.areas[key], f.name)
                np.testing.assert_array_equal(seen, wanted, err_msg=f.name)


@dataclass
class Day:
    """A broker's run, an archive, and workers that come and go."""

    brokers: Brokers
    run: str
    folder: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, columns: int) -> None:
        command = [sys.executable, "-m", "tests.streams.archiving", self.brokers.address, self.run, str(self.folder)]
        self.workers.append(subprocess.Popen([*command, str(columns)], cwd=ROOT, stderr=subprocess.DEVNULL))

    def kill(self, number: int) -> None:
        process = self.workers.pop(number)
        process.kill()
        process.wait()

    def waiting(self) -> int:
        return asyncio.run(lag(self.brokers, self.run, "worker", WORK))

    def read(self, *names: str) -> list[Message]:
        async def all_of() -> list[Message]:
            topics = [(name, 2 if name in ("readings", "segment-states") else 1) for name in names]
            return [message async for message in results(self.brokers, self.run, topics)]  # type: ignore[arg-type]

        return asyncio.run(all_of())

    def until_done(self, timeout_s: float = 90.0) -> None:
        deadline = time.monotonic() + timeout_s
        while self.waiting():
            assert time.monotonic() < deadline, f"not done after {timeout_s} s"
            time.sleep(0.2)

    def reset(self) -> None:
        """Make the snapshots void, as `citybrain state reset` does: the new map begins anew."""

        async def send() -> None:
            producer = aiokafka.AIOKafkaProducer(**self.brokers.aiokafka())
            await producer.start()
            for stage, partitions in (("aggregate", 2), ("rollup", 1)):
                topic = topic_address(f"snapshots-{stage}", self.run)  # type: ignore[arg-type]
                for partition in range(partitions):
                    await producer.send_and_wait(topic, None, str(partition).encode(), partition)
            await producer.stop()

        asyncio.run(send())

    def play(self, outputs: Iterator[Output], kills: Sequence[float], columns: int, rng: random.Random) -> None:
        """Send messages; after these shares of them kill a worker and start another."""
        queue = list(outputs)
        producer = BatchProducer(self.brokers, self.run)

        def produce() -> None:
            for output in queue:
                producer.send([output], output.record_ms or 0)
                producer.flush()
                self.sent += 1
                time.sleep(PACE_S)

        self.sent = 0
        producing = threading.Thread(target=produce)
        producing.start()
        for share in kills:
            while self.sent < share * len(queue):
                time.sleep(0.01)
            self.kill(rng.randrange(len(self.workers)))
            self.start(columns)
        producing.join()
        producer.close()

    sent: int = 0


@pytest.mark.broker
@pytest.mark.xdist_group("broker")
def test_a_day_with_crashes_and_a_new_map_is_computed_again_from_its_archive_byte_for_byte(
    broker: Brokers, fresh_topics: FreshTopics, tmp_path: Path
) -> None:
    day, rng, noise = Day(broker, fresh_topics(2), tmp_path), random.Random(5), np.random.default_rng(12)
    try:
        for _ in range(2):
            day.start(BEFORE)
        day.play(batches(network(BEFORE), 36, 48, noise, last=False), (0.3, 0.5, 0.55, 0.8), BEFORE, rng)
        while day.workers:
            day.kill(0)  # all at once
        day.start(BEFORE)
        day.until_done()
        day.kill(0)
        day.reset()
        for _ in range(2):
            day.start(AFTER)
        day.play(batches(network(AFTER), 49, 58, noise, last=True), (0.4, 0.7), AFTER, rng)
        day.until_done()
    finally:
        while day.workers:
            day.kill(0)
    archive = Archive(tmp_path / "archive")
    report = check(archive, "readings")
    assert report.problems == []
    assert report.networks == {network(columns).version for columns in (BEFORE, AFTER, FOREIGN)}
    raw = day.read("readings")
    kept = list(archive.read("readings", 0, 2**60))
    assert sorted(kept, key=lambda m: (m.partition, m.offset)) == sorted(raw, key=lambda m: (m.partition, m.offset))
    assert any(m.value == b"poison" for m in raw)
    log = day.read("segment-states", "area-indices")
    for columns, panes in ((BEFORE, 11), (AFTER, 9)):
        live = published(columns, log)
        assert len(live.first) >= 2 * panes
        assert any(place[1] > 0 for place, _ in live.newest.values()), "nothing was late"
        same(live, recomputed(columns, archive))
    # The hour that was over became one file of each partition while workers were dying.
    first_hour = archive.hour_folder("readings", T0 // HOUR_MS)
    assert Counter(file.name[0] for file in first_hour.glob("*.parquet")).keys() == {"0", "1"}
    for partition in range(2):
        archive.merge("readings", partition, T0)
    assert len(list(first_hour.glob("*.parquet"))) == 2
    same(published(BEFORE, log), recomputed(BEFORE, archive))


def test_any_period_is_computed_as_the_whole_was(tmp_path: Path) -> None:
    archive, offsets = Archive(tmp_path), Counter[int]()
    messages = []
    for output in batches(network(BEFORE), 0, 64, np.random.default_rng(3), last=True):
        place = output.partition, offsets[output.partition], output.record_ms or 0
        messages.append(Message("readings", *place, output.key, output.value))
        offsets[output.partition] += 1
    archive.write(messages)
    whole = recomputed(BEFORE, archive)
    for from_min, to_min in ((20, 23), (30, 44), (50, 51)):
        from_ms, to_ms = T0 + from_min * MIN, T0 + to_min * MIN
        part = recomputed(BEFORE, archive, from_ms - SPREAD_MS, to_ms + SPREAD_MS)
        keys = [key for key in whole.first if from_ms <= int(key.split(b"/")[1]) < to_ms]
        assert len(keys) == 2 * (to_min - from_min)
        for key in keys:
            assert part.first[key] == whole.first[key]
            assert part.newest[key] == whole.newest[key]
