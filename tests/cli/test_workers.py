"""Workers as processes: watched from outside, started again one by one, stopped and woken, and with no broker."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from citybrain.records import encode
from citybrain.wire import Output
from tests.cli.working import Process, Town, town, until
from tests.ingest.build import readings
from tests.streams.test_kill import MINUTES, batches, newest, newest_areas, reference, same
from tests.streams.worker import network

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("workers")]

TOPICS = (("readings", 2), ("segment-states", 2), ("area-indices", 1), ("dead-letters", 1))
STOPS_WITHIN_S = 5.0
SESSION_S = 2.0


@pytest.fixture
def running(tmp_path: Path, jars_folder: Path) -> Iterator[Town]:
    with town(tmp_path, jars_folder) as made:
        yield made


def exact(running: Town) -> None:
    """Compare all that was told with what the log says, pane by pane."""
    log = running.read(*TOPICS)
    expected = reference(log["readings"])
    states = newest(log["segment-states"])
    assert states.keys() == expected.states.keys()
    assert len(states) == 2 * (MINUTES + 4)
    for place, seen in states.items():
        same(seen, expected.states[place])
    areas = newest_areas(log["area-indices"])
    assert areas.keys() == expected.areas.keys()
    for pane, indices in areas.items():
        same(indices, expected.areas[pane])


def fresh_batches() -> list[Output]:
    """Return five minutes of half-minute batches of both partitions, up to now."""
    city, found = network(), []
    now_ms = time.time_ns() // 1_000_000
    for back in range(9, -1, -1):
        to_ms = now_ms - 30_000 * back
        for partition in range(2):
            detectors = np.flatnonzero(city.detector_partition == partition)
            batch = readings(city, detectors.tolist(), to_ms=to_ms, source="loops", received_ms=to_ms)
            found.append(Output("readings", partition, b"loops", encode(batch), to_ms))
    return found


def test_a_worker_tells_how_it_is_and_is_ready_once_what_it_gives_is_fresh(running: Town) -> None:
    worker = running.worker("--ops-port", "0")
    assert worker.url.startswith("http://127.0.0.1:")
    status, answer = worker.get("/ready")
    assert (status, answer["ready"]) == (503, False)
    assert answer["reasons"]
    running.produce(old := list(batches()))
    until(lambda: "behind the city's clock, 900 s allowed" in str(worker.get("/ready")[1]), "old data passes for fresh")
    running.produce(fresh_batches())
    until(lambda: worker.get("/ready")[0] == 200, "it was not ready", seen=lambda: worker.get("/ready"))
    _, health = worker.get("/health")
    assert (health["status"], health["parts"]) == ("ok", {"broker": "ok", "worker": "ok", "archive": "ok"})
    stages = {stage["stage"]: stage for stage in health["stages"]}
    assert set(stages) == {"match", "aggregate", "rollup", "forecast", "warn", "report", "alert", "archive"}
    until(lambda: running.waiting() == 0, "not all was acknowledged")
    (first, second) = worker.get("/health")[1]["stages"][1]["partitions"]
    assert (first["topic"], first["partition"], second["partition"]) == ("citybrain.readings", 0, 1)
    assert first["watermark_ms"] > 1_790_000_000_000
    assert first["position"] + second["position"] == len(old) + 20
    until(lambda: 'citybrain_lag_messages{partition="0",stage="aggregate",topic="citybrain.readings"} 0.0'
          in worker.metrics(), "lag was not shown as none")  # fmt: skip
    told = worker.metrics()
    for sample in (
        'citybrain_watermark_delay_seconds{partition="1",stage="aggregate"}', 'citybrain_held_messages{stage="warn"}',
        'citybrain_saved_at_seconds{stage="rollup"}', 'citybrain_generation{role="archive"}', "citybrain_ready 1.0",
        'citybrain_rebalances_total{role="worker"} 1.0', 'citybrain_restore_seconds_count{stage="aggregate"} 1.0',
        'citybrain_snapshot_bytes{partition="0",stage="aggregate"}',
    ):  # fmt: skip
        assert sample in told, sample
    assert worker.end() < STOPS_WITHIN_S
    assert worker.ends() == 0


def test_two_workers_started_again_one_by_one_and_one_that_was_asleep_lose_and_double_nothing(running: Town) -> None:
    """A rolling restart; then SIGSTOP for longer than the session, SIGCONT, and kill -9 of the new owner."""

    def both_work(*workers: Process) -> bool:
        return all(
            any(stage["stage"] == "aggregate" and len(stage["partitions"]) == 1 for stage in told["stages"])
            for told in (worker.get("/health")[1] for worker in workers)
        )

    first, second = running.worker("--ops-port", "0"), running.worker("--ops-port", "0")
    until(lambda: both_work(first, second), "the partitions were not shared")
    producing = threading.Thread(target=lambda: running.produce(list(batches()), 0.04))
    producing.start()
    time.sleep(1.0)
    for worker in (first, second):
        worker.end()
        running.worker("--ops-port", "0")
    third, fourth = running.processes[-2:]
    until(lambda: both_work(third, fourth), "the partitions were not shared again")
    third.tell(signal.SIGSTOP)
    until(lambda: _partitions(fourth) == 2, "nobody took over from the one asleep", 30)
    time.sleep(SESSION_S / 2)
    third.tell(signal.SIGCONT)
    time.sleep(0.5)
    fourth.end(signal.SIGKILL)
    running.worker()
    producing.join()
    until(lambda: running.waiting() == 0, "not all was acknowledged", seen=running.told)
    exact(running)
    assert third.running.poll() is None  # the zombie has joined again


def _partitions(worker: Process) -> int:
    stages = worker.get("/health")[1]["stages"]
    return sum(len(stage["partitions"]) for stage in stages if stage["stage"] == "aggregate")


def test_it_ends_within_seconds_of_sigterm_while_the_broker_is_away(running: Town) -> None:
    worker = running.worker("--ops-port", "0")
    running.produce(list(batches())[:50])
    until(lambda: worker.get("/health")[1]["parts"]["broker"] == "ok", "the broker was not seen")
    running.broker.stop()
    until(lambda: "broker_is_away" in worker.said, "that the broker is away was not said")
    until(lambda: "the broker: " in str(worker.get("/ready")[1]["reasons"]), "it still calls itself ready")
    assert worker.get("/health")[1]["status"] == "degraded"
    took_s = worker.end()
    assert took_s < STOPS_WITHIN_S, worker.said
    assert worker.ends() == 0
