from __future__ import annotations

from pathlib import Path

import pytest

from citybrain.errors import StoreError
from citybrain.wire import Message
from infra.archive import HOUR_MS, Archive

T0 = 497_000 * HOUR_MS


def message(offset: int, *, partition: int = 0, minutes: float = 0.0, value: bytes = b"v") -> Message:
    return Message("readings", partition, offset, T0 + int(minutes * 60_000), b"loops", value + str(offset).encode())


def test_messages_come_back_as_they_were_by_offset_and_merged_by_time(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    sent = [message(0), message(1, minutes=2), message(0, partition=1, minutes=1), message(2, minutes=70, value=b"")]
    archive.write(sent)
    assert list(archive.read("readings", T0, T0 + 2 * HOUR_MS)) == [sent[0], sent[2], sent[1], sent[3]]
    assert list(archive.read("readings", T0 + 60_000, T0 + 120_000)) == [sent[2]]
    assert list(archive.read("passages", 0, 2**60)) == []


def test_what_a_killed_worker_wrote_twice_is_read_once(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.write([message(k) for k in range(10)])
    archive.write([message(k) for k in range(4, 14)])
    archive.write([message(k) for k in range(4, 6)])
    assert [m.offset for m in archive.read("readings", T0, T0 + 1)] == list(range(14))


def test_the_files_of_an_hour_become_one_with_the_same_messages(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    for k in range(5):
        archive.write([message(2 * k), message(2 * k + 1)])
    before = list(archive.read("readings", T0, T0 + HOUR_MS))
    archive.merge("readings", 0, T0)
    assert list(archive.read("readings", T0, T0 + HOUR_MS)) == before
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    assert archive.span("readings") == (T0, T0 + HOUR_MS)


def test_a_file_that_was_not_finished_is_not_read(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.write([message(0)])
    (whole,) = tmp_path.rglob("*.parquet")
    whole.with_name("0-000000000000007-1.partial").write_bytes(b"half")
    assert [m.offset for m in archive.read("readings", T0, T0 + 1)] == [0]


def test_a_disk_that_takes_nothing_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "readings").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        Archive(tmp_path).write([message(0)])
