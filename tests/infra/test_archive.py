from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from citybrain.errors import StoreError
from citybrain.records import encode
from citybrain.wire import Message
from infra.archive import HOUR_MS, Archive, ArchiveDamaged, Manifest, check
from infra.archive.files import SCHEMA
from infra.archive.manifest import load
from tests.conftest import ROOT
from tests.fakes import grid_network
from tests.streams.build import readings

T0 = 497_000 * HOUR_MS


def message(offset: int, *, partition: int = 0, minutes: float = 0.0, value: bytes = b"v") -> Message:
    return Message("readings", partition, offset, T0 + int(minutes * 60_000), b"loops", value + str(offset).encode())


def offsets(archive: Archive) -> list[int]:
    return [m.offset for m in archive.read("readings", 0, 2**60)]


def manifests(folder: Path) -> list[Manifest]:
    return [load(path) for path in sorted(folder.rglob("*.json"))]


def kinds(archive: Archive, *, deep: bool = True) -> list[str]:
    return [problem.kind for problem in check(archive, "readings", deep=deep).problems]


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
    assert offsets(archive) == list(range(14))
    assert kinds(archive) == []


def test_the_same_messages_written_again_are_the_same_file(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.write([message(k) for k in range(10)])
    before = sorted(tmp_path.rglob("*.*"))
    archive.write([message(k) for k in range(10)])
    assert sorted(tmp_path.rglob("*.*")) == before


def test_the_files_of_an_hour_become_one_with_the_same_messages(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    for k in range(5):
        archive.write([message(2 * k), message(2 * k + 1)])
    before = list(archive.read("readings", T0, T0 + HOUR_MS))
    archive.merge("readings", 0, T0)
    assert list(archive.read("readings", T0, T0 + HOUR_MS)) == before
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    assert [(m.offsets, m.messages) for m in manifests(tmp_path)] == [([(0, 9)], 10)]
    assert archive.span("readings") == (T0, T0 + HOUR_MS)
    archive.merge("readings", 0, T0)
    assert kinds(archive) == []


def test_a_manifest_says_what_its_file_holds(tmp_path: Path) -> None:
    network = grid_network()
    rows = [(0, 0, 30, {"speed_kmh": 40.0}), (2, 0, 30, {"speed_kmh": 50.0})]
    value = encode(readings(network, rows))
    sent = [Message("readings", 0, at, T0 + at, b"loops", value) for at in (5, 6, 9)]
    sent.append(Message("readings", 0, 10, T0 + 10, b"loops", b"poison"))
    Archive(tmp_path).write(sent)
    (told,) = manifests(tmp_path)
    (file,) = tmp_path.rglob("*.parquet")
    assert (told.topic, told.partition, told.file, told.bytes) == ("readings", 0, file.name, file.stat().st_size)
    assert told.offsets == [(5, 6), (9, 10)]
    assert (told.first_record_ms, told.last_record_ms) == (T0 + 5, T0 + 10)
    assert (told.messages, told.readings, told.refused) == (4, 6, 1)
    assert told.networks == [network.version]
    assert told.written_by.startswith("citybrain ")
    assert json.loads(file.with_suffix(".json").read_text())["sha256"] == told.sha256


def test_a_file_that_was_not_finished_is_not_read(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.write([message(0)])
    (whole,) = tmp_path.rglob("*.parquet")
    half = whole.with_name(".0-000000000000007-1.parquet.1.partial")
    half.write_bytes(b"half")
    assert offsets(archive) == [0]
    assert kinds(archive) == []
    archive.merge("readings", 0, T0)
    assert half.exists(), "it may be being written"
    os.utime(half, (0, 0))
    archive.merge("readings", 0, T0)
    assert not half.exists()


def test_an_archive_without_manifests_is_read_checked_and_completed(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    folder = archive.hour_folder("readings", T0 // HOUR_MS)
    folder.mkdir(parents=True)
    for first in (0, 5):
        rows = [(m.offset, m.record_ms, m.key, m.value) for m in map(message, range(first, first + 5))]
        columns = dict(zip(SCHEMA.names, map(list, zip(*rows, strict=True)), strict=True))
        import pyarrow as pa

        pq.write_table(pa.table(columns, schema=SCHEMA), folder / f"0-{first:015d}-{T0:015d}.parquet")
    assert offsets(archive) == list(range(10))
    report = check(archive, "readings")
    assert (report.bare, report.problems, report.partitions[0].offsets) == (2, [], [(0, 9)])
    archive.merge("readings", 0, T0)
    assert check(archive, "readings").bare == 0
    assert offsets(archive) == list(range(10))


def test_a_disk_that_takes_nothing_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "readings").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        Archive(tmp_path).write([message(0)])


# What is wrong is found.


def hours_of_messages(archive: Archive, *, hours: int = 3, partition: int = 0) -> list[Path]:
    files = []
    for hour in range(hours):
        before = set(archive.folder.rglob("*.parquet"))
        archive.write([message(10 * hour + k, minutes=60 * hour + k, partition=partition) for k in range(10)])
        files += sorted(set(archive.folder.rglob("*.parquet")) - before)
    return files


def test_a_gap_is_told_with_its_offsets_and_when_it_was(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    files = hours_of_messages(archive)
    hours_of_messages(archive, partition=1)
    files[1].unlink()
    files[1].with_suffix(".json").unlink()
    (problem,) = check(archive, "readings").problems
    assert problem.kind == "gap"
    assert "readings, partition 0: 10 messages missing, offsets 10 to 19, between" in problem.text
    assert "08:09:00 UTC and 2026-09-12 10:00:00" in problem.text
    assert check(archive, "readings", T0, T0 + HOUR_MS).problems == []


def test_messages_that_come_out_of_the_order_of_their_times_are_no_gap(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.write([message(at, minutes=60 + minutes) for at, minutes in enumerate((-2, -1, 1, -0.5, 2, 3))])
    assert kinds(archive) == []
    assert sorted(m.offsets for m in manifests(tmp_path)) == [[(0, 1), (3, 3)], [(2, 2), (4, 5)]]


def test_a_topic_that_was_made_anew_is_no_gap(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.write([message(1000 + k, minutes=k) for k in range(5)])
    archive.write([message(k, minutes=70 + k) for k in range(5)])
    archive.write([message(k, minutes=140 + k) for k in range(5, 9)])
    assert kinds(archive) == []
    archive.write([message(k, minutes=200 + k) for k in range(12, 15)])
    assert kinds(archive) == ["gap"]


def test_a_missing_file_is_told_by_what_it_held(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    hours_of_messages(archive)[1].unlink()
    report = check(archive, "readings", deep=False)
    assert [problem.kind for problem in report.problems] == ["missing", "gap"]
    assert "10 messages of partition 0, offsets 10 to 19" in report.problems[0].text


def test_a_manifest_whose_rows_are_in_another_file_is_no_loss(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.write([message(k) for k in range(5)])
    archive.write([message(k) for k in range(5, 9)])
    (left, _) = [(path, path.read_text()) for path in sorted(tmp_path.rglob("*.json"))]
    archive.merge("readings", 0, T0)
    left[0].write_text(left[1])  # a worker was killed between two removals
    assert kinds(archive) == []


@pytest.mark.parametrize("harm", ["flip", "cut", "empty"])
def test_a_damaged_file_is_found_not_merged_and_can_be_left_out(tmp_path: Path, harm: str) -> None:
    archive = Archive(tmp_path)
    files = hours_of_messages(archive)
    archive.write([message(30, minutes=130)])
    content = bytearray(files[2].read_bytes())
    content[len(content) // 2] ^= 1
    files[2].write_bytes({"flip": bytes(content), "cut": bytes(content[:-9]), "empty": b""}[harm])
    report = check(archive, "readings")
    assert [problem.kind for problem in report.problems] == ["damaged", "gap"]
    assert report.damaged == {files[2]}
    assert ("damaged" in kinds(archive, deep=False)) == (harm != "flip")
    with pytest.raises(ArchiveDamaged, match="damaged"):
        archive.merge("readings", 0, T0 + 2 * HOUR_MS)
    assert files[2].exists()
    left = [m.offset for m in archive.read("readings", 0, 2**60, without=report.damaged)]
    assert left == [*range(20), 30]


def test_a_damaged_manifest_is_told_and_its_file_is_read(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    (file, *_) = hours_of_messages(archive)
    for text in ("{", '{"format": 1}'):
        file.with_suffix(".json").write_text(text)
        assert kinds(archive) == ["damaged"]
    assert offsets(archive) == list(range(30))


# Retention.


def test_hours_that_are_too_old_are_removed_whole_the_oldest_first(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    hours_of_messages(archive, hours=4)
    archive.write([Message("events", 0, 3, T0, b"", b"{}")])
    removed = archive.retain(T0 + 2 * HOUR_MS + HOUR_MS // 2)
    assert removed == ["events/2026-09-12/08", "readings/2026-09-12/08", "readings/2026-09-12/09"]
    assert offsets(archive) == list(range(20, 40))
    assert kinds(archive) == []
    assert not (tmp_path / "events" / "2026-09-12").exists()
    assert archive.retain(T0 - 400 * 24 * HOUR_MS) == []


# Killed, shared, full.

WRITER = """
import random, sys
from pathlib import Path
from citybrain.wire import Message
from infra.archive import HOUR_MS, Archive

T0 = 497_000 * HOUR_MS

def message(at):
    return Message("readings", partition, at, T0 + at * 3000, b"loops", b"v%d" % at)

folder, partition, begin, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
archive, rng, at = Archive(folder), random.Random(seed), begin
while True:
    size = rng.randint(1, 40)
    batch = [message(at + k) for k in range(size)]
    archive.write(batch)
    at += size
    print(at, flush=True)  # acknowledged
    if rng.random() < 0.4:
        archive.merge("readings", partition, batch[-1].record_ms // HOUR_MS * HOUR_MS)
"""


@contextmanager
def writing(folder: Path, partition: int, begin: int, seed: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", WRITER, str(folder), str(partition), str(begin), str(seed)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def acknowledged(process: subprocess.Popen[str], least: int) -> int:
    """Return how far a writer was told to be durable, after at least so many writes."""
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(least)]
    return int(lines[-1])


def kill(process: subprocess.Popen[str], so_far: int) -> int:
    """Kill a writer and return the last offset that it said was durable."""
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    rest = [line for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    return int(rest[-1]) if rest else so_far


def test_a_writer_killed_at_any_instant_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    rng, archive, done = random.Random(7), Archive(tmp_path), 0
    for life in range(6):
        # Whoever takes over begins where the last acknowledgement was, or a little before.
        begin = max(0, done - rng.randint(0, 30))
        with writing(tmp_path, 0, begin, life) as process:
            so_far = acknowledged(process, 3)
            time.sleep(rng.uniform(0, 0.15))
            done = max(done, kill(process, so_far))
        report = check(archive, "readings")
        assert report.problems == []
        seen = offsets(archive)
        assert seen == list(range(len(seen)))
        assert len(seen) >= done
    archive.merge("readings", 0, T0)
    assert [m.value for m in archive.read("readings", 0, 2**60)] == [message(k).value for k in range(len(seen))]
    assert check(archive, "readings").problems == []


def test_several_workers_write_at_once_and_a_partition_moves_between_two_in_its_hour(tmp_path: Path) -> None:
    archive, ends = Archive(tmp_path), {}
    with writing(tmp_path, 0, 0, 1) as first, writing(tmp_path, 1, 0, 2) as other:
        moved = acknowledged(first, 5)
        # Partition 0 moves; the one thought dead goes on for a while.
        with writing(tmp_path, 0, moved, 3) as second:
            acknowledged(second, 8)
            reading = threading.Thread(target=lambda: offsets(archive))
            reading.start()
            assert check(archive, "readings").problems == []
            reading.join()
            ends[0] = max(kill(second, 0), kill(first, 0))
        ends[1] = kill(other, 0)
    report = check(archive, "readings")
    assert report.problems == []
    for partition, end in ends.items():
        (run,) = report.partitions[partition].offsets
        assert run[0] == 0
        assert run[1] >= end - 1
    for hour in archive.hours("readings", 0, 2**60):
        for partition in ends:
            archive.merge("readings", partition, hour * HOUR_MS)
    assert all(len(list(folder.glob("*.parquet"))) <= 2 for folder in tmp_path.rglob("readings/*/*"))
    assert check(archive, "readings").problems == []


def small_disk(folder: Path) -> bool:
    """Mount a disk of 3 MiB at a folder, if this machine lets us."""
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        return False
    command = [mount, "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return the folder of a small file system."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not small_disk(folder):
        pytest.skip("mounting a small file system takes root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(archive: Archive, write: Callable[[list[Message]], object], *, size: int = 20) -> int:
    """Write messages of 4 kB of noise until an error comes; return the first offset that was not written."""
    rng = random.Random(3)
    for at in range(0, 100_000, size):
        batch = [Message("readings", 0, at + k, T0 + at + k, b"loops", rng.randbytes(4096)) for k in range(size)]
        try:
            write(batch)
        except StoreError:
            return at
    raise AssertionError("the disk was never full")


def test_a_full_disk_refuses_before_it_is_full_and_what_was_written_is_whole(disk: Path) -> None:
    archive = Archive(disk / "archive")
    (disk / "ballast").write_bytes(bytes(2**20))
    end = fill(archive, archive.write)
    assert offsets(archive) == list(range(end))
    assert kinds(archive) == []
    assert list(disk.rglob("*.partial")) == []
    (disk / "ballast").unlink()
    archive.write([message(end)])
    assert offsets(archive) == list(range(end + 1))


LIMITED = """
import resource, sys
from pathlib import Path
from infra.archive import Archive
from tests.infra.test_archive import fill, message

archive = Archive(Path(sys.argv[1]))
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
archive.write([message(k) for k in range(10)])
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
fill(archive, archive.write)
"""


def test_a_disk_that_refuses_in_mid_file_leaves_no_part_of_it(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], cwd=ROOT, env=env, check=True, capture_output=True)
    archive = Archive(tmp_path)
    assert list(tmp_path.rglob("*.partial")) == []
    assert offsets(archive) == list(range(10))
    assert kinds(archive) == []
