"""kill -9 of workers in mid-stream: nothing is lost and nothing is counted twice, on Kafka."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from citybrain.messages import DeadLetter, decode_json
from citybrain.records import AreaIndices, SegmentStates, decode, encode
from citybrain.wire import Message, Output
from infra.kafka.client import Brokers
from infra.kafka.producer import BatchProducer
from streams.aggregate import Aggregate
from streams.offline import run as run_offline
from streams.replay import lag, results
from streams.rollup import Rollup
from tests.broker import FreshTopics, broker, fresh_topics, jars_folder
from tests.conftest import ROOT
from tests.fakes import city_settings
from tests.streams.build import Newest, Row, readings
from tests.streams.worker import network

__all__ = ["broker", "fresh_topics", "jars_folder"]

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("broker")]

MINUTES = 12
PACE_S = 0.012
UNTOLD = {"version", "revision", "status"}


def batches() -> Iterator[Output]:
    """Yield small batches of both partitions, some up to a minute late, some repeated, some no batch at all."""
    city, rng = network(), np.random.default_rng(11)
    found: list[tuple[float, int, list[Row]]] = []
    for half in range(2 * MINUTES):
        for partition in range(2):
            detectors = rng.permutation(np.flatnonzero(city.detector_partition == partition))
            for part in np.array_split(detectors, 5):
                rows: list[Row] = [
                    (int(d), 30 * half, 30 * half + 30, {"count_veh": float(rng.poisson(6)), "speed_kmh": 20.0 + d / 3})
                    for d in part
                ]
                late = rng.uniform(0, 60) if rng.random() < 0.2 else rng.uniform(0, 3)
                found.append((30 * half + 30 + late, partition, rows))
    clock = [0, 0]
    for at, partition, rows in sorted(found, key=lambda item: item[0]):
        clock[partition] = max(clock[partition], rows[0][2])
        batch = readings(city, rows, watermark_s=clock[partition], received_s=int(at) + 1)
        output = Output("readings", partition, b"loops", encode(batch), batch.received_ms)
        yield from (output, output) if rng.random() < 0.05 else (output,)
        if rng.random() < 0.02:
            yield Output("readings", partition, b"loops", b"poison", batch.received_ms)
    end = readings(city, watermark_s=60 * MINUTES + 300, received_s=60 * MINUTES + 301)
    for partition in range(2):
        yield Output("readings", partition, b"loops", encode(end), end.received_ms)


@contextmanager
def workers(brokers: Brokers, run: str, folder: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def start(brokers: Brokers, run: str, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.streams.worker", str(brokers), run, str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)


async def read(brokers: Brokers, run: str) -> dict[str, list[Message]]:
    topics = ("readings", 2), ("segment-states", 2), ("area-indices", 1), ("dead-letters", 1)
    found: dict[str, list[Message]] = {}
    async for message in results(brokers, run, topics):  # type: ignore[arg-type]
        found.setdefault(message.topic, []).append(message)
    return found


def until(condition: object, brokers: Brokers, run: str, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"not so after {timeout_s} s"
        time.sleep(0.2)


def test_workers_killed_in_mid_stream_lose_nothing_and_double_nothing(
    broker: Brokers, fresh_topics: FreshTopics, tmp_path: Path
) -> None:
    run = fresh_topics(2)
    work = [("readings", 2), ("area-partials", 1)]

    def waiting() -> int:
        return asyncio.run(lag(broker, run, "worker", work))  # type: ignore[arg-type]

    def told() -> int:
        return len(asyncio.run(read(broker, run)).get("area-indices", []))

    def produce() -> None:
        producer = BatchProducer(broker, run)
        for output in batches():
            producer.send([output], output.record_ms or 0)
            producer.flush()
            time.sleep(PACE_S)
        producer.close()

    producing = threading.Thread(target=produce)
    with workers(broker, run, tmp_path) as running:
        running += [start(broker, run, tmp_path), start(broker, run, tmp_path)]
        producing.start()
        until(lambda: told() >= 2, broker, run)
        running[0].kill()
        running.append(start(broker, run, tmp_path))
        seen = told()
        until(lambda: told() >= seen + 2 or not producing.is_alive(), broker, run)
        running[1].kill()
        running.append(start(broker, run, tmp_path))
        producing.join()
        until(lambda: waiting() == 0, broker, run)
    log = asyncio.run(read(broker, run))
    expected = reference(log["readings"])
    seen_states = newest(log["segment-states"])
    assert seen_states.keys() == expected.states.keys()
    assert len(seen_states) == 2 * (MINUTES + 4)
    for place, states in seen_states.items():
        same(states, expected.states[place])
    seen_areas = newest_areas(log["area-indices"])
    assert seen_areas.keys() == expected.areas.keys()
    for pane, indices in seen_areas.items():
        same(indices, expected.areas[pane])
    assert first_closes_are_the_same_bytes_in_every_repeat(log["segment-states"])
    # A repeat that was not dropped would be refused as a duplicate: it would show here.
    assert {told_of(decode_json(DeadLetter, m.value)) for m in log["dead-letters"]} == set(
        map(told_of, expected.letters)
    )
    poisoned = sum(1 for m in log["readings"] if m.value == b"poison")
    assert len([letter for letter in expected.letters if letter.reason == "malformed"]) == poisoned > 0


def told_of(letter: DeadLetter) -> tuple[str, int, int, int]:
    """Return what identifies a dead letter: offline, offsets of each partition count from 0 as on the broker."""
    return letter.reason, letter.partition, letter.offset, letter.count


def reference(log: list[Message]) -> Newest:
    """Run the log through the stages without a broker, as it was written."""
    settings, found = city_settings(), Newest()
    in_order = sorted(log, key=lambda message: (message.record_ms, message.partition, message.offset))
    # Within a partition the order of offsets decides, and record times never fall there.
    for partition in range(2):
        offsets = [message.offset for message in in_order if message.partition == partition]
        assert offsets == sorted(offsets)
    run_offline([Aggregate.of(network(), settings), Rollup.of(network(), settings)], in_order, found)
    return found


def newest(messages: list[Message]) -> dict[tuple[int, int], SegmentStates]:
    found: dict[tuple[int, int], SegmentStates] = {}
    for message in messages:
        states = decode(SegmentStates, message.value)
        place = states.partition, states.pane_start_ms
        if place not in found or states.version >= found[place].version:
            found[place] = states
    return found


def newest_areas(messages: list[Message]) -> dict[int, AreaIndices]:
    """Return the newest version of each pane: a worker that was asleep may write an old one last."""
    found: dict[int, AreaIndices] = {}
    for message in messages:
        indices = decode(AreaIndices, message.value)
        if indices.pane_start_ms not in found or indices.version >= found[indices.pane_start_ms].version:
            found[indices.pane_start_ms] = indices
    return found


def same(seen: SegmentStates | AreaIndices, wanted: SegmentStates | AreaIndices) -> None:
    for f in fields(seen):
        if f.name not in UNTOLD:
            np.testing.assert_array_equal(getattr(seen, f.name), getattr(wanted, f.name), err_msg=f.name)


def first_closes_are_the_same_bytes_in_every_repeat(messages: list[Message]) -> bool:
    first: dict[bytes, bytes] = {}
    for message in messages:
        if (
            decode(SegmentStates, message.value).revision == 0
            and first.setdefault(message.key, message.value) != message.value
        ):
            return False
    return len(first) == 2 * (MINUTES + 4)
