from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from citybrain.clock import ManualClock, ScaledClock, SystemClock
from citybrain.records import Readings
from ingest import feed
from ingest.feed import play
from ingest.publish import Publisher
from tests.fakes import grid_network
from tests.ingest.build import START_MS, Remembered, readings

NETWORK = grid_network(3, 2, partitions=1)


def batches(count: int, every_ms: int = 30_000) -> Iterator[Readings]:
    for number in range(1, count + 1):
        yield readings(NETWORK, [0, 1], to_ms=START_MS + number * every_ms, interval_ms=every_ms)


def test_a_jumping_clock_plays_everything_and_ends_at_the_last_batch() -> None:
    producer, clock = Remembered(), ManualClock(START_MS)
    assert play(batches(3), Publisher(NETWORK, producer), clock, threading.Event()) == 6
    assert clock.now_ms() == START_MS + 90_000
    assert sum(len(batch) for _, batch in producer.batches()) == 6


def test_silence_between_batches_is_filled_with_heartbeats_that_promise_nothing_new() -> None:
    producer = Remembered()
    play(batches(2), Publisher(NETWORK, producer, heartbeat_ms=10_000), ManualClock(START_MS), threading.Event())
    told = [
        (batch.received_ms - START_MS, len(batch), batch.watermark_ms - START_MS) for _, batch in producer.batches()
    ]
    assert told == [(30_000, 2, 30_000), (40_000, 0, 30_000), (50_000, 0, 30_000), (60_000, 2, 60_000)]


def test_a_gap_of_days_in_an_archive_is_not_filled() -> None:
    producer = Remembered()
    days_apart = batches(2, every_ms=5 * 86_400_000)
    play(days_apart, Publisher(NETWORK, producer, heartbeat_ms=60_000), ManualClock(START_MS), threading.Event())
    assert [len(batch) for _, batch in producer.batches()] == [2, *[0] * 9, 2]


def test_heartbeats_can_be_left_out() -> None:
    producer = Remembered()
    play(batches(3), Publisher(NETWORK, producer, heartbeat_ms=0), ManualClock(START_MS), threading.Event())
    assert [len(batch) for _, batch in producer.batches()] == [2, 2, 2]


def test_what_the_broker_did_not_confirm_is_sent_again_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "RETRY_S", 0.01)
    producer = Remembered(fails=3)
    told: list[int] = []
    rows = play(
        batches(4),
        Publisher(NETWORK, producer, heartbeat_ms=0),
        ManualClock(START_MS),
        threading.Event(),
        on_published=lambda batch: told.append(batch.received_ms - START_MS),
    )
    assert rows == 8
    assert told == [30_000, 60_000, 90_000, 120_000]
    assert [batch.received_ms - START_MS for _, batch in producer.batches()] == told


def test_a_batch_is_not_published_before_its_time() -> None:
    producer = Remembered()
    seen_ms: list[int] = []
    now_ms = SystemClock().now_ms()
    clock = ScaledClock(now_ms - 3_600_000, 1000.0)
    clock.now_ms()
    soon = (readings(NETWORK, [0], to_ms=now_ms - 3_600_000 + 100_000 * i) for i in range(1, 4))
    publisher = Publisher(NETWORK, producer)
    play(soon, publisher, clock, threading.Event(), on_published=lambda batch: seen_ms.append(clock.now_ms()))
    due_ms = [now_ms - 3_600_000 + 100_000 * i for i in range(1, 4)]
    assert all(seen >= due for seen, due in zip(seen_ms, due_ms, strict=True))


@pytest.mark.parametrize("fails", [0, 10_000])
def test_a_stop_ends_the_feed_at_once_also_while_the_broker_is_away(fails: int) -> None:
    stop = threading.Event()
    start_ms = SystemClock().now_ms()
    later = (readings(NETWORK, [0], to_ms=start_ms + i * 60_000) for i in range(100))
    player = threading.Thread(
        target=play, args=(later, Publisher(NETWORK, Remembered(fails)), SystemClock(), stop), daemon=True
    )
    player.start()
    time.sleep(0.4)
    assert player.is_alive()
    stop.set()
    player.join(2)
    assert not player.is_alive()
