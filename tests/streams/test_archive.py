from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path

import pytest

from citybrain.errors import StoreError
from citybrain.metrics import Metrics
from citybrain.wire import Message
from infra.archive import HOUR_MS, Archive, check
from streams.archive import ArchiveStage
from tests.infra.test_archive import disk

__all__ = ["disk"]

T0 = 497_000 * HOUR_MS


def message(offset: int, minutes: int, *, value: bytes = b"value") -> Message:
    return Message("readings", 0, offset, T0 + minutes * 60_000, b"loops", value)


def offsets(folder: Path) -> list[int]:
    return [m.offset for m in Archive(folder).read("readings", 0, 2**60)]


def run(stage: ArchiveStage, *messages: Message) -> None:
    """Take messages, and make them durable."""
    for each in messages:
        stage.step(None, each)
    asyncio.run(stage.durable())


def test_messages_are_on_the_disk_only_when_they_are_durable(tmp_path: Path) -> None:
    stage, archive = ArchiveStage(Archive(tmp_path), Metrics()), Archive(tmp_path)
    stage.step(None, message(0, 0))
    assert list(archive.read("readings", 0, 2**60)) == []
    asyncio.run(stage.durable())
    assert list(archive.read("readings", 0, 2**60)) == [message(0, 0)]


def test_an_hour_that_is_over_becomes_one_file(tmp_path: Path) -> None:
    stage = ArchiveStage(Archive(tmp_path), Metrics())
    for offset, minutes in enumerate((0, 10, 50, 62, 70)):
        run(stage, message(offset, minutes))
    assert len(list(tmp_path.rglob("*.parquet"))) == 1 + 2
    assert len(list(tmp_path.rglob("*.json"))) == 1 + 2
    assert offsets(tmp_path) == list(range(5))


def test_whoever_takes_over_makes_one_file_of_the_hours_that_another_left(tmp_path: Path) -> None:
    died = ArchiveStage(Archive(tmp_path), Metrics())
    for offset, minutes in enumerate((0, 10, 50)):
        run(died, message(offset, minutes))
    assert len(list(tmp_path.rglob("*.parquet"))) == 3
    run(ArchiveStage(Archive(tmp_path), Metrics()), message(3, 200))
    assert len(list(tmp_path.rglob("*.parquet"))) == 2
    assert offsets(tmp_path) == list(range(4))


def test_a_damaged_hour_holds_up_nothing_and_stays_as_it_is(tmp_path: Path) -> None:
    stage = ArchiveStage(Archive(tmp_path), Metrics())
    run(stage, message(0, 0))
    run(stage, message(1, 10))
    (first, _) = sorted(tmp_path.rglob("*.parquet"))
    first.write_bytes(b"x" * first.stat().st_size)
    run(stage, message(2, 70))
    run(stage, message(3, 80))
    assert len(list(tmp_path.rglob("*.parquet"))) == 4
    assert [problem.kind for problem in check(Archive(tmp_path), "readings").problems] == ["damaged"]


def test_hours_that_are_too_old_are_removed_as_record_time_goes_on(tmp_path: Path) -> None:
    stage = ArchiveStage(Archive(tmp_path), Metrics(), keep=timedelta(hours=2), now_ms=lambda: T0 + 100 * HOUR_MS)
    for offset in range(6):
        run(stage, message(offset, 60 * offset))
    assert offsets(tmp_path) == [3, 4, 5]
    assert check(Archive(tmp_path), "readings").problems == []


def test_a_message_from_the_future_removes_nothing_that_is_not_old(tmp_path: Path) -> None:
    stage = ArchiveStage(Archive(tmp_path), Metrics(), keep=timedelta(hours=2), now_ms=lambda: T0 + HOUR_MS)
    run(stage, message(0, 0))
    run(stage, message(1, 60 * 24 * 365 * 80))
    assert offsets(tmp_path) == [0, 1]


def test_a_full_disk_is_waited_for_visibly_and_nothing_is_lost(disk: Path) -> None:
    ballast, states, tries = disk / "ballast", [], 0
    ballast.write_bytes(bytes(2_900_000))

    async def sleep(seconds: float) -> None:
        nonlocal tries
        tries += 1
        states.append(stage.state)
        if tries == 3:
            ballast.unlink()

    metrics = Metrics()
    stage = ArchiveStage(Archive(disk / "archive"), metrics, sleep=sleep)
    sent = [message(at, at, value=os.urandom(4096)) for at in range(50)]
    run(stage, *sent)
    assert tries == 3
    assert all("waiting for the disk" in state and "almost full" in state for state in states)
    assert stage.state == "ok"
    assert list(Archive(disk / "archive").read("readings", 0, 2**60)) == sent


def test_a_full_disk_is_made_free_by_what_is_too_old(disk: Path) -> None:
    archive = Archive(disk / "archive")

    async def sleep(seconds: float) -> None:
        raise AssertionError("the second try had to succeed")

    async def once(seconds: float) -> None:
        stage._sleep = sleep

    stage = ArchiveStage(archive, Metrics(), keep=timedelta(hours=30), sleep=once, now_ms=lambda: T0 + 100 * HOUR_MS)
    run(stage, *[message(at, at % 60, value=os.urandom(4096)) for at in range(400)])
    (disk / "ballast").write_bytes(bytes(1_100_000))
    stage._keep = timedelta(hours=1)
    stage._newest_ms["readings", 0] = T0 + 50 * HOUR_MS
    run(stage, *[message(400 + at, 3000, value=os.urandom(4096)) for at in range(100)])
    assert offsets(disk / "archive") == list(range(400, 500))


def test_at_the_end_what_the_disk_has_not_taken_stays_with_the_stage(disk: Path) -> None:
    (disk / "ballast").write_bytes(bytes(2_900_000))
    stage = ArchiveStage(Archive(disk / "archive"), Metrics())
    stage.stopping = True
    with pytest.raises(StoreError, match="almost full"):
        run(stage, *[message(at, at, value=os.urandom(4096)) for at in range(50)])
    (disk / "ballast").unlink()
    run(stage)
    assert offsets(disk / "archive") == list(range(50))
