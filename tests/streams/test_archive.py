from __future__ import annotations

import asyncio
from pathlib import Path

from citybrain.wire import Message
from infra.archive import HOUR_MS, Archive
from streams.archive import ArchiveStage

T0 = 497_000 * HOUR_MS


def message(offset: int, minutes: int) -> Message:
    return Message("readings", 0, offset, T0 + minutes * 60_000, b"loops", b"value")


def test_messages_are_on_the_disk_only_when_they_are_durable(tmp_path: Path) -> None:
    stage, archive = ArchiveStage(Archive(tmp_path)), Archive(tmp_path)
    stage.step(None, message(0, 0))
    assert list(archive.read("readings", 0, 2**60)) == []
    asyncio.run(stage.durable())
    assert list(archive.read("readings", 0, 2**60)) == [message(0, 0)]


def test_an_hour_that_is_over_becomes_one_file(tmp_path: Path) -> None:
    stage = ArchiveStage(Archive(tmp_path))
    for offset, minutes in enumerate((0, 10, 50, 62, 70)):
        stage.step(None, message(offset, minutes))
        asyncio.run(stage.durable())
    assert len(list(tmp_path.rglob("*.parquet"))) == 1 + 2
    assert [m.offset for m in Archive(tmp_path).read("readings", 0, 2**60)] == list(range(5))
