"""Check: an archive in, what it holds and what is wrong with it out. It changes nothing.

Offsets of a partition follow one another without a gap; where some are missing, so are their messages. A topic that was
made anew begins at 0 again: that is no gap.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

import msgspec
import pyarrow.parquet as pq
from pyarrow import ArrowException

from citybrain.clock import utc
from citybrain.topics import TopicName
from infra.archive.archive import Archive
from infra.archive.files import SUFFIX, ArchiveDamaged, verify
from infra.archive.manifest import SUFFIX as MANIFEST
from infra.archive.manifest import Manifest, covered, load, manifest_path, runs

Kind = Literal["gap", "damaged", "missing"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong, in words."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Seen:
    """One file: what it holds, or was to hold."""

    path: Path
    partition: int
    offsets: list[tuple[int, int]]
    first_ms: int
    last_ms: int
    messages: int
    readings: int
    bytes: int
    networks: tuple[str, ...] = ()


@dataclass(slots=True)
class Partition:
    """What the archive holds of one partition."""

    hours: int = 0
    files: int = 0
    messages: int = 0
    readings: int = 0
    bytes: int = 0
    first_ms: int = 0
    last_ms: int = 0
    offsets: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """What one topic's archive holds, by partition; problems, oldest first; files that are not to be read.

    ``absent`` are manifests without their file, ``bare`` counts files without a manifest: older ones, or one whose
    writer died just then.
    """

    topic: TopicName
    partitions: dict[int, Partition] = field(default_factory=dict)
    networks: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    damaged: set[Path] = field(default_factory=set)
    absent: list[tuple[Path, Manifest]] = field(default_factory=list)
    bare: int = 0


def check(archive: Archive, topic: TopicName, from_ms: int = 0, to_ms: int = 2**62, *, deep: bool = True) -> Report:
    """Return what the archive of a topic holds in the hours that [from, to) touches.

    ``deep`` reads every file and compares its checksum; without it only names, sizes and manifests are looked at.
    """
    report = Report(topic)
    files: dict[int, list[Seen]] = {}
    for hour in archive.hours(topic, from_ms, to_ms):
        for seen in _hour(archive.hour_folder(topic, hour), report, deep=deep):
            files.setdefault(seen.partition, []).append(seen)
    report.problems += _missing(report.absent, files)
    for partition, seen_files in sorted(files.items()):
        report.partitions[partition] = _held(seen_files)
        report.problems += _gaps(topic, partition, seen_files)
    return report


def _missing(absent: list[tuple[Path, Manifest]], files: dict[int, list[Seen]]) -> list[Problem]:
    """Tell the files that are missing, but for those whose rows are in others: a worker died while it removed them."""
    problems = []
    for path, told in absent:
        held = [run for one in files.get(told.partition, ()) if one.path.parent == path.parent for run in one.offsets]
        if covered([*held, *told.offsets]) != covered(held):
            problems.append(Problem("missing", f"{path} is missing: {_told(told)}"))
    return problems


def _hour(folder: Path, report: Report, *, deep: bool) -> list[Seen]:
    """Look at one hour; where a worker makes one file of several meanwhile, at that one too."""
    seen: list[Seen] = []
    looked: set[Path] = set()
    vanished = True
    while vanished:
        vanished = False
        for path in _named(folder):
            if path in looked:
                continue
            try:
                one = _file(path, report, deep=deep)
            except FileNotFoundError:
                vanished = True
                continue
            looked.add(path)
            if one is not None:
                seen.append(one)
                report.networks |= set(one.networks)
    return seen


def _named(folder: Path) -> list[Path]:
    """Return the files that are there and those that a manifest names."""
    there = set(folder.glob(f"*{SUFFIX}"))
    return sorted(there | {path.with_suffix(SUFFIX) for path in folder.glob(f"*{MANIFEST}")})


def _file(path: Path, report: Report, *, deep: bool) -> Seen | None:
    try:
        told = load(manifest_path(path))
    except FileNotFoundError:
        seen = _bare(path, report)
        report.bare += 1
        return seen
    except (ValueError, msgspec.DecodeError) as error:
        report.problems.append(Problem("damaged", f"{manifest_path(path)} cannot be read ({error})"))
        return _bare(path, report)
    if not path.exists():
        if manifest_path(path).exists():
            report.absent.append((path, told))
            return None
        raise FileNotFoundError(path)  # both gone: merged just now
    try:
        if (size := path.stat().st_size) != told.bytes:
            raise ArchiveDamaged(f"archive: {path} is damaged: {size} bytes seen, {told.bytes} written")
        if deep:
            verify(path, told)
    except ArchiveDamaged as error:
        _damaged(path, report, f"{error}; {_told(told)}")
        return None
    return Seen(
        path, told.partition, told.offsets, told.first_record_ms, told.last_record_ms, told.messages, told.readings,
        told.bytes, tuple(told.networks),
    )  # fmt: skip


def _bare(path: Path, report: Report) -> Seen | None:
    try:
        table = pq.read_table(path, columns=["offset", "record_ms"])
        offsets, times = table.column("offset").to_numpy(), table.column("record_ms").to_numpy()
    except FileNotFoundError:
        raise
    except (OSError, ArrowException) as error:
        _damaged(path, report, f"{path} cannot be read ({str(error).splitlines()[0]})")
        return None
    partition, size = int(path.name.split("-")[0]), path.stat().st_size
    return Seen(path, partition, runs(offsets), int(times.min()), int(times.max()), len(offsets), 0, size)


def _damaged(path: Path, report: Report, text: str) -> None:
    report.problems.append(Problem("damaged", text.removeprefix("archive: ")))
    report.damaged.add(path)


def _told(told: Manifest) -> str:
    return (
        f"{told.messages} messages of partition {told.partition}, offsets {told.offsets[0][0]} to {told.offsets[-1][1]}"
    )


def _held(files: list[Seen]) -> Partition:
    return Partition(
        hours=len({one.path.parent for one in files}), files=len(files), messages=sum(one.messages for one in files),
        readings=sum(one.readings for one in files), bytes=sum(one.bytes for one in files),
        first_ms=min(one.first_ms for one in files), last_ms=max(one.last_ms for one in files),
        offsets=covered([run for one in files for run in one.offsets]),
    )  # fmt: skip


def _gaps(topic: TopicName, partition: int, files: list[Seen]) -> list[Problem]:
    problems = []
    for same in _incarnations(files):
        joined = covered([run for one in same for run in one.offsets])
        for (_, before), (after, _) in pairwise(joined):
            since = max(one.last_ms for one in same if _reaches(one, before))
            until = min(one.first_ms for one in same if _reaches(one, after))
            count = after - before - 1
            problems.append(
                Problem(
                    "gap",
                    f"{topic}, partition {partition}: {count} message{'s' * (count != 1)} missing, offsets {before + 1}"
                    f" to {after - 1}, between {_at(min(since, until))} and {_at(max(since, until))}",
                )
            )
    return problems


def _reaches(one: Seen, offset: int) -> bool:
    return any(first <= offset <= last for first, last in one.offsets)


def _incarnations(files: list[Seen]) -> list[list[Seen]]:
    """Split the files where offsets begin anew: ones that were there, or lower than all, at a later time than all."""
    found: list[list[Seen]] = []
    reached: list[tuple[int, int]] = []
    last_ms = -1
    for one in sorted(files, key=lambda one: (one.first_ms, one.offsets[0][0])):
        if one.first_ms > last_ms and (not reached or _anew(one, reached)):
            found.append([])
            reached, last_ms = [], -1
        found[-1].append(one)
        reached, last_ms = covered([*reached, *one.offsets]), max(last_ms, one.last_ms)
    return found


def _anew(one: Seen, reached: list[tuple[int, int]]) -> bool:
    if one.offsets[-1][1] < reached[0][0]:
        return True
    return any(first <= end and begin <= last for first, last in one.offsets for begin, end in reached)


def _at(ms: int) -> str:
    return utc(ms).strftime("%Y-%m-%d %H:%M:%S UTC")
