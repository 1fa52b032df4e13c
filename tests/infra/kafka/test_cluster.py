"""A cluster of three in trouble: a broker killed, a leader moved, a partition without quorum. Nothing lost or doubled.

Producers, tail and a worker with real stages go on through each of it. `CITYBRAIN_NO_QUORUM_S` says for how long two of
three brokers are down.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from citybrain.wire import Message, Output
from infra.kafka.admin import apply_topics, delete_run_topics
from infra.kafka.client import Brokers
from infra.kafka.producer import BatchProducer, JsonProducer
from infra.kafka.tail import Tail
from streams.replay import lag
from tests.conftest import ROOT
from tests.infra.kafka.cluster import Cluster
from tests.streams.test_kill import batches, newest, newest_areas, read, reference, same

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("cluster")]

NO_QUORUM_S = float(os.environ.get("CITYBRAIN_NO_QUORUM_S", "3"))
PATIENCE_S = 60 + NO_QUORUM_S
PACE_S = 0.02


class Traffic:
    """Batches and single readings on their way, and what a tail heard of them."""

    def __init__(self, brokers: Brokers, run: str) -> None:
        self.brokers, self.run = brokers, run
        self.sent: list[Output] = []
        self.numbers = 0
        self.heard: list[Message] = []
        self.failed: list[BaseException] = []
        self.stop_numbers = threading.Event()
        self.tail = Tail(brokers, ["readings", "readings-json"], self.heard.append, run=run, last=1_000_000)
        self.threads = [threading.Thread(target=self._guarded, args=(send,)) for send in (self._batches, self._numbers)]

    def begin(self) -> None:
        """Start to send and to listen."""
        self.tail.start()
        for thread in self.threads:
            thread.start()

    def finish(self) -> None:
        """Wait until all batches are sent, and all that was sent is heard."""
        self.threads[0].join()
        self.stop_numbers.set()
        self.threads[1].join()
        assert not self.failed, self.failed
        wait_for(lambda: len(self.heard) >= len(self.sent) + self.numbers, "the tail hears all")
        self.tail.stop()

    def _guarded(self, send: Callable[[], None]) -> None:
        try:
            send()
        except BaseException as error:
            self.failed.append(error)

    def _batches(self) -> None:
        producer = BatchProducer(self.brokers, self.run, timeout_s=PATIENCE_S)
        for output in batches():
            producer.send([output], output.record_ms or 0)
            producer.flush()
            self.sent.append(output)
            time.sleep(PACE_S)
        producer.close()

    def _numbers(self) -> None:
        producer = JsonProducer(self.brokers, self.run, timeout_s=PATIENCE_S)
        while not self.stop_numbers.wait(PACE_S):
            producer.send("readings-json", [(b"%d" % (self.numbers % 7), b"%d" % self.numbers, 1_000)])
            self.numbers += 1
            if self.numbers % 5 == 0:
                producer.flush()
        producer.flush()
        producer.close()


class Worker:
    """A worker of real stages, started again when it ends, as its host would."""

    def __init__(self, brokers: Brokers, run: str, folder: Path) -> None:
        self._command = [sys.executable, "-m", "tests.streams.worker", str(brokers), run, str(folder)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep)

    def _keep(self) -> None:
        while not self._stop.is_set():
            with subprocess.Popen(self._command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
                while process.poll() is None and not self._stop.wait(0.1):
                    pass
                process.kill()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Run while the body does."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.1)


def kill_and_bring_back(cluster: Cluster, topic: str) -> None:
    """Kill the leader of a partition with what it has not confirmed yet, and start it again."""
    number = cluster.leader(topic)
    cluster.kill(number)
    wait_for(lambda: cluster.leader(topic) not in (number, -1), "another leads")
    time.sleep(1)
    cluster.start(number)


def move_the_leader(cluster: Cluster, topic: str) -> None:
    """Let each node lead in turn."""
    for number in (*cluster.nodes, 1):
        cluster.move_leader(topic, 0, number)
        wait_for(lambda number=number: cluster.leader(topic) == number, "it leads")  # type: ignore[misc]
        time.sleep(0.3)


def take_the_quorum_away(cluster: Cluster, topic: str) -> None:
    """Kill two of three: nothing can be written; then bring both back."""
    cluster.kill(1, 2)
    time.sleep(NO_QUORUM_S)
    cluster.start(1, 2)


@pytest.mark.parametrize("trouble", [kill_and_bring_back, move_the_leader, take_the_quorum_away])
def test_producers_tail_and_worker_go_on_and_nothing_is_lost_or_doubled(
    cluster: Cluster, tmp_path: Path, trouble: Callable[[Cluster, str], None]
) -> None:
    run, brokers = f"t{uuid.uuid4().hex[:8]}", cluster.brokers
    apply_topics(brokers, 2, run=run)
    topic = f"citybrain.{run}.readings"
    traffic = Traffic(brokers, run)
    with Worker(brokers, run, tmp_path).working():
        traffic.begin()
        wait_for(lambda: len(traffic.sent) > 60, "batches are sent")
        trouble(cluster, topic)
        assert apply_topics(brokers, 2, run=run, timeout_s=PATIENCE_S) == ()
        traffic.finish()
        work = [("readings", 2), ("area-partials", 1)]
        wait_for(lambda: asyncio.run(lag(brokers, run, "worker", work)) == 0, "all is computed")  # type: ignore[arg-type]
    cluster.wait_in_sync(topic)
    log = asyncio.run(read(brokers, run))
    for partition in range(2):
        sent = [output.value for output in traffic.sent if output.partition == partition]
        heard = [m.value for m in traffic.heard if m.topic == "readings" and m.partition == partition]
        assert [m.value for m in log["readings"] if m.partition == partition] == sent
        assert heard == sent
    numbers = [int(m.value) for m in traffic.heard if m.topic == "readings-json"]
    assert sorted(numbers) == list(range(traffic.numbers))
    for key in range(7):
        assert [number for number in numbers if number % 7 == key] == list(range(key, traffic.numbers, 7))
    expected = reference(log["readings"])
    seen_states = newest(log["segment-states"])
    assert seen_states.keys() == expected.states.keys()
    for place, states in seen_states.items():
        same(states, expected.states[place])
    seen_areas = newest_areas(log["area-indices"])
    assert seen_areas.keys() == expected.areas.keys()
    assert seen_areas
    for pane, indices in seen_areas.items():
        same(indices, expected.areas[pane])
    delete_run_topics(brokers, run)
