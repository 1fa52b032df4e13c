"""``citybrain state`` and a worker that finds a state of another version; and one whose watchdog ends it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Producer

from cli.main import STUCK
from infra.kafka.offsets import Offsets
from streams.savepoint import Savepoint
from streams.snapshot import packed
from tests.cli.running import citybrain
from tests.cli.test_workers import exact
from tests.cli.working import GROUP, Town, town, until
from tests.streams.test_kill import batches

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("workers")]

SNAPSHOTS = "citybrain.snapshots-aggregate"


@pytest.fixture
def running(tmp_path: Path, jars_folder: Path) -> Iterator[Town]:
    with town(tmp_path, jars_folder) as made:
        yield made


def save(running: Town, partition: int, savepoint: Savepoint) -> None:
    producer = Producer(running.brokers.librdkafka())
    producer.produce(SNAPSHOTS, savepoint.record(), str(partition).encode(), partition)
    assert producer.flush(10) == 0


def work_until_done(running: Town) -> None:
    worker = running.worker()
    until(lambda: running.waiting() == 0, "not all was applied", seen=running.told)
    worker.end()
    offsets = Offsets(running.brokers)
    until(lambda: offsets.members(GROUP) == 0, "the worker is still in its group")
    offsets.close()


def test_a_state_of_another_version_stops_the_worker_and_is_begun_anew_on_command(running: Town) -> None:
    city, log = str(running.city), list(batches())
    assert "none yet" in citybrain("state", "inspect", city).stdout
    running.produce(log)
    worker = running.worker()
    until(lambda: running.waiting() == 0, "not all was applied", seen=running.told)
    told = citybrain("state", "inspect", city)
    assert told.returncode == 0, told.stderr
    lines = [line for line in told.stdout.splitlines() if line.startswith("aggregate")]
    assert [line.split()[1:3] for line in lines] == [["0", "ok"], ["1", "ok"]]
    assert [word for word in ("covers ", " s old", "format ", "committed ", "end ") if word not in lines[0]] == []
    refused = citybrain("state", "reset", city, "--yes")
    assert refused.returncode == 2
    assert "1 workers seen in the group citybrain.worker, none allowed" in refused.stderr
    worker.end()

    save(running, 0, Savepoint(7, packed(msgspec.msgpack.encode([99, "elsewhere"]))))
    save(running, 0, Savepoint(10**6, b"x"))  # beyond the end: of another topic, whatever it holds
    offsets = Offsets(running.brokers)
    ends = offsets.ends([("citybrain.readings", 0), ("citybrain.readings", 1)])
    save(running, 0, Savepoint(ends["citybrain.readings", 0], packed(msgspec.msgpack.encode([99, "elsewhere"]))))
    stopped = running.worker()
    running.produce(log[-1:])
    running.produce(log[-2:-1])
    assert stopped.ends() == 2
    assert "stage aggregate, partition 0" in stopped.said
    assert "citybrain state inspect" in stopped.said
    assert "citybrain state reset CITY --stage aggregate" in stopped.said
    told = citybrain("state", "inspect", city, "--stage", "aggregate", "--partition", "0")
    assert told.returncode == 2
    assert "BAD" in told.stdout
    assert "format 99, network elsewhere" in told.stdout

    until(lambda: offsets.members(GROUP) == 0, "the worker is still in its group")
    offsets.close()
    again = citybrain("state", "reset", city, "--stage", "aggregate", "--from", "earliest", "--yes")
    assert again.returncode == 0, again.stderr
    assert "counts again" in again.stdout
    work_until_done(running)
    exact(running)

    assert citybrain("state", "reset", city, "--stage", "aggregate", "--from", "latest", "--yes").returncode == 0
    assert running.waiting() == 0
    unknown = citybrain("state", "reset", city, "--stage", "store", "--yes")
    assert unknown.returncode == 2
    assert "--stage store seen, one of" in unknown.stderr


def test_a_reset_asks_first_and_then_goes_on_where_the_group_stands_with_an_empty_state(running: Town) -> None:
    city, log = str(running.city), list(batches())
    running.produce(log[:-10])
    work_until_done(running)
    offsets = Offsets(running.brokers)
    stood = offsets.committed(GROUP)
    kept = citybrain("state", "inspect", city, "--stage", "aggregate").stdout
    refused = citybrain("state", "reset", city, "--stage", "aggregate", told="n\n")
    assert refused.returncode != 0
    assert "aggregate, 2 partitions: it goes on where its group stands, with an empty state" in refused.stdout
    assert "Begin anew? [y/N]" in refused.stdout
    assert _without_age(citybrain("state", "inspect", city, "--stage", "aggregate").stdout) == _without_age(kept)

    begun = citybrain("state", "reset", city, "--stage", "aggregate", told="y\n")
    assert begun.returncode == 0, begun.stderr
    assert "Done: the next worker begins there." in begun.stdout
    assert citybrain("state", "inspect", city, "--stage", "aggregate").stdout.count("none yet") == 2
    assert offsets.committed(GROUP) == stood
    running.produce(log[-10:])
    worker = running.worker("--ops-port", "0")
    until(lambda: running.waiting() == 0, "not all was applied", seen=running.told)
    assert 'citybrain_messages_total{stage="aggregate"} 10.0' in worker.metrics()
    offsets.close()


def _without_age(told: str) -> str:
    return re.sub(r", \d+ (s|min) old", "", told)


@pytest.mark.parametrize("how", ["wait", "block"])
def test_a_stage_that_hangs_again_and_again_ends_the_worker_with_its_own_code_and_says_why(
    running: Town, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUCK", how)
    running.produce(list(batches()))
    worker = running.worker("--brokers", running.brokers.address, module="tests.cli.stuckworker")
    assert worker.ends() == STUCK, worker.said
    assert "process_stuck" in worker.said
    # Where the loop is blocked every stage is; the one that waited longest is named.
    assert "stage rollup is stuck" in worker.said or how == "block"
    assert "is stuck (working)" in worker.said
    assert "and none was applied for" in worker.said
    assert ("process_ended_at_once" in worker.said) == (how == "block")
    assert worker.said.count("process_stuck") == (1 if how == "block" else 2)


@pytest.mark.parametrize("supervised", [False, True])
def test_a_stage_that_hangs_once_is_made_anew_and_the_other_app_goes_on(
    running: Town, supervised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUCK", "once")
    running.produce(list(batches()))
    where = ("--brokers", running.brokers.address) if supervised else ()
    worker = running.worker("--ops-port", "0", *where, module="tests.cli.stuckworker")
    until(lambda: "process_stuck" in worker.said, "it was not noticed")
    until(lambda: running.waiting() == 0, "not all was applied", seen=running.told)
    told = worker.metrics()
    assert 'citybrain_restarts_total{role="worker",why="stuck"} 1.0' in told
    assert 'citybrain_restarts_total{role="archive"' not in told
    assert 'citybrain_rebalances_total{role="archive"} 1.0' in told
    offsets = Offsets(running.brokers)
    assert offsets.members(GROUP) == 1  # the app that was stuck has left: it can be given no partition again
    offsets.close()
    exact(running)
