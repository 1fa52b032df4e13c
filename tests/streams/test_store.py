"""The store stage: what it writes, what it refuses, what it does while the store is down."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import cast

import pytest
from prometheus_client import generate_latest

from citybrain.errors import BadRecord, StoreBusy, StoreError
from citybrain.metrics import Metrics
from citybrain.records import ColumnRecord, encode
from citybrain.topics import TopicName
from citybrain.wire import Message
from infra.stores.duckdb import DuckStore
from infra.stores.protocol import Batch, Store
from streams.store import StoreStage
from tests.fakes import area_indices, forecasts, grid_network, segment_states

NETWORK = grid_network()
MIN = 60_000
HOUR = 60 * MIN


class FlakyStore:
    """The real store behind a disk that fails a number of times."""

    def __init__(self, path: Path, failures: int, busy_s: float | None = None) -> None:
        self.real = DuckStore(path, NETWORK, pane_ms=MIN)
        self.failures, self.busy_s = failures, busy_s

    def write(self, batch: Batch, *, run: str = "") -> None:
        if self.failures:
            self.failures -= 1
            if self.busy_s is not None:
                raise StoreBusy("busy (429)", self.busy_s)
            raise StoreError("no space left on the disk")
        self.real.write(batch, run=run)


def message(topic: TopicName, record: ColumnRecord, offset: int = 0) -> Message:
    return Message(topic, 0, offset, 0, b"", encode(record))


def stage_with(store: object, metrics: Metrics | None = None, slept: list[float] | None = None) -> StoreStage:
    async def sleep(seconds: float) -> None:
        if slept is not None:
            slept.append(seconds)

    return StoreStage(cast(Store, store), NETWORK.version, metrics or Metrics(), sleep=sleep)


def test_nothing_is_written_before_it_is_asked_to_be_durable(tmp_path: Path) -> None:
    store = DuckStore(tmp_path / "s.duckdb", NETWORK, pane_ms=MIN)
    stage = stage_with(store)
    stage.step(None, message("segment-states", segment_states(NETWORK)))
    stage.step(None, message("area-indices", area_indices(NETWORK)))
    stage.step(None, message("forecasts", forecasts(NETWORK)))
    assert store.latest_states() == []
    asyncio.run(stage.durable())
    assert len(store.latest_states()) == 1
    assert store.latest_areas() is not None
    assert len(store.latest_forecasts()) == 1


def test_a_store_that_fails_is_tried_until_it_has_taken_everything(tmp_path: Path) -> None:
    metrics, slept = Metrics(), list[float]()
    flaky = FlakyStore(tmp_path / "s.duckdb", failures=8)
    stage = stage_with(flaky, metrics, slept)
    stage.step(None, message("segment-states", segment_states(NETWORK)))
    asyncio.run(stage.durable())
    assert stage.state == "ok"
    assert len(flaky.real.latest_states()) == 1
    assert slept == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert b'citybrain_store_errors_total{kind="retried"} 8.0' in generate_latest(metrics.registry)


def test_a_store_that_names_a_time_is_left_alone_for_so_long(tmp_path: Path) -> None:
    slept = list[float]()
    flaky = FlakyStore(tmp_path / "s.duckdb", failures=4, busy_s=3.0)
    stage = stage_with(flaky, slept=slept)
    stage.step(None, message("segment-states", segment_states(NETWORK)))
    asyncio.run(stage.durable())
    assert stage.state == "ok"
    assert len(flaky.real.latest_states()) == 1
    assert slept == [3, 3, 3, 4]


def test_at_the_end_a_write_that_fails_keeps_its_records(tmp_path: Path) -> None:
    flaky = FlakyStore(tmp_path / "s.duckdb", failures=1)
    stage = stage_with(flaky)
    stage.step(None, message("segment-states", segment_states(NETWORK)))
    stage.stopping = True
    with pytest.raises(StoreError, match="no space"):
        asyncio.run(stage.durable())
    assert stage.state == "waiting for the store: no space left on the disk"
    asyncio.run(stage.durable())
    assert len(flaky.real.latest_states()) == 1


def test_a_record_that_is_refused_for_good_does_not_block_the_others(tmp_path: Path) -> None:
    store = DuckStore(tmp_path / "s.duckdb", NETWORK, pane_ms=MIN)
    metrics = Metrics()
    stage = stage_with(store, metrics)
    stage.step(None, message("segment-states", segment_states(NETWORK), 4))
    stage.step(None, message("segment-states", segment_states(NETWORK, pane_start_ms=7, version=2), 5))
    stage.step(None, message("segment-states", segment_states(NETWORK, pane_start_ms=MIN, version=3), 6))
    results = asyncio.run(stage.durable())
    assert store.states(0, HOUR)["time_start_ms"].unique().tolist() == [0, MIN]
    (letter,) = results.refused
    assert (letter.reason, letter.topic, letter.offset) == ("refused_by_store", "segment-states", 5)
    assert "at 7 seen" in letter.detail
    assert asyncio.run(stage.durable()).refused == []
    assert b'citybrain_store_errors_total{kind="refused"} 1.0' in generate_latest(metrics.registry)


def test_records_of_another_network_and_no_records_are_refused_at_once(tmp_path: Path) -> None:
    stage = stage_with(DuckStore(tmp_path / "s.duckdb", NETWORK, pane_ms=MIN))
    with pytest.raises(BadRecord, match="network_version"):
        stage.step(None, message("segment-states", segment_states(grid_network(5, 3))))
    with pytest.raises(BadRecord, match="malformed"):
        stage.step(None, Message("forecasts", 0, 0, 0, b"", b"nonsense"))


def test_the_newest_version_of_a_pane_wins_within_a_checkpoint(tmp_path: Path) -> None:
    store = DuckStore(tmp_path / "s.duckdb", NETWORK, pane_ms=MIN)
    stage = stage_with(store)
    for version in (1, 3, 2):
        stage.step(None, message("segment-states", segment_states(NETWORK, version=version, speed_kmh=10.0 * version)))
    asyncio.run(stage.durable())
    assert store.latest_states()[0].version == 3
    asyncio.run(stage.durable())
    assert store.changes_since(0)[0] == 1


def test_a_stage_that_waits_for_the_store_stops_waiting_when_the_app_ends(tmp_path: Path) -> None:
    stage = StoreStage(cast(Store, FlakyStore(tmp_path / "s.duckdb", failures=99)), NETWORK.version, Metrics())
    stage.step(None, message("segment-states", segment_states(NETWORK)))

    async def end() -> float:
        waiting = asyncio.ensure_future(stage.durable())
        await asyncio.sleep(1.7)  # it has failed three times and waits for two seconds
        assert not waiting.done()
        stage.stopping = True
        told_s = time.monotonic()
        with pytest.raises(StoreError):
            await waiting
        return time.monotonic() - told_s

    assert asyncio.run(end()) < 1.0
