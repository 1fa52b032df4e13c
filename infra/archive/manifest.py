"""Manifest: the rows of one archive file in, what the file must hold out: offsets, times, readings, size, checksum.

It stands beside its file as JSON, so that a file that is damaged or missing is found without any other. It is written
after the file and removed before it: a file without a manifest is one that a worker had just written, or an old one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from citybrain import __version__
from citybrain.errors import BadRecord
from citybrain.records import Passages, Readings, decode
from citybrain.topics import TopicName

FORMAT = 1
SUFFIX = ".json"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What one file must hold.

    Attributes
    ----------
    file
        Name of the file beside it.
    topic, partition
        Where its messages were read.
    offsets
        First and last of each row of offsets without a gap, ascending.
    first_record_ms, last_record_ms
        Least and greatest record time, ms UTC.
    messages, readings
        Messages, heartbeats included; rows in them (readings, passages).
    refused
        Messages that cannot be read: they are archived as they came.
    networks
        Versions of the networks that messages name.
    bytes, sha256
        Size and checksum of the file.
    written_by
        Program and version.
    """

    format: int = FORMAT
    file: str
    topic: str
    partition: int
    offsets: list[tuple[int, int]]
    first_record_ms: int
    last_record_ms: int
    messages: int
    readings: int
    refused: int
    networks: list[str]
    bytes: int
    sha256: str
    written_by: str = f"citybrain {__version__}"


def manifest_of(topic: TopicName, partition: int, table: pa.Table, *, file: str, size: int, sha256: str) -> Manifest:
    """Return the manifest of a table of messages, which are in the order of their offsets."""
    times = table.column("record_ms").to_numpy()
    readings, refused, networks = _contents(topic, table.column("value"))
    return Manifest(
        file=file, topic=topic, partition=partition, offsets=runs(table.column("offset").to_numpy()),
        first_record_ms=int(times.min()), last_record_ms=int(times.max()), messages=table.num_rows, readings=readings,
        refused=refused, networks=networks, bytes=size, sha256=sha256,
    )  # fmt: skip


def manifest_path(file: Path) -> Path:
    """Return where the manifest of a file stands."""
    return file.with_suffix(SUFFIX)


def load(path: Path) -> Manifest:
    """Read a manifest; raises ValueError where it is none of this format."""
    manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    if manifest.format != FORMAT:
        raise ValueError(f"format {manifest.format} seen, {FORMAT} allowed")
    return manifest


def runs(offsets: np.ndarray[Any, np.dtype[np.int64]]) -> list[tuple[int, int]]:
    """Return first and last of each row of offsets without a gap.

    Examples
    --------
    >>> runs(np.array([3, 4, 5, 9, 9]))
    [(3, 5), (9, 9)]
    """
    breaks = np.flatnonzero(np.diff(offsets) > 1)
    firsts = offsets[np.concatenate([[0], breaks + 1])].tolist()
    lasts = offsets[np.concatenate([breaks, [len(offsets) - 1]])].tolist()
    return list(zip(firsts, lasts, strict=True))


def _contents(topic: TopicName, values: pa.ChunkedArray) -> tuple[int, int, list[str]]:
    """Return the rows in the messages, how many messages cannot be read, and the networks that they name."""
    kinds: dict[str, Any] = {"readings": Readings, "passages": Passages}
    if topic not in kinds:
        return 0, 0, []
    rows, refused, networks = 0, 0, set()
    for value in values:
        try:
            record = decode(kinds[topic], value.as_py())
        except BadRecord:
            refused += 1
            continue
        rows += len(record.detector) if isinstance(record, Readings) else len(record.passed_ms)
        networks.add(record.network)
    return rows, refused, sorted(networks)


def covered(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ranges of offsets joined where they overlap or touch.

    Examples
    --------
    >>> covered([(5, 9), (0, 3), (4, 6), (12, 13)])
    [(0, 9), (12, 13)]
    """
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(joined[-1][1], last)
        else:
            joined.append((first, last))
    return joined
