"""One file of the archive: rows of messages in, a Parquet file and its manifest on the disk out; and back.

A file is named by its contents and never changed: who writes the same rows again finds it there, and whoever dies
leaves it whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from citybrain.errors import StoreError
from citybrain.topics import TopicName
from citybrain.wire import Message
from infra.archive.manifest import Manifest, load, manifest_of, manifest_path

HOUR_MS = 3_600_000
SCHEMA = pa.schema([("offset", pa.int64()), ("record_ms", pa.int64()), ("key", pa.binary()), ("value", pa.binary())])
SUFFIX = ".parquet"
PARTIAL = ".partial"
SPARE_BYTES, SPARE_SHARE = 512 * 2**20, 0.02
"""So much of the disk, whichever is less, is left free: brokers and databases on it fail worse than an archive."""


class ArchiveDamaged(StoreError):
    """A file of the archive is not what was written."""


def table_of(messages: Iterable[Message]) -> pa.Table:
    """Return messages as rows, by offset, each offset once."""
    rows = [(m.offset, m.record_ms, m.key, m.value) for m in messages]
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, SCHEMA.types, strict=True)]
    return once(pa.table(arrays, schema=SCHEMA))


def write(folder: Path, topic: TopicName, partition: int, table: pa.Table) -> Path:
    """Write one file and its manifest; both are on the disk when it returns.

    Raises
    ------
    StoreError
        If the disk does not take them, or has too little space left.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=False, write_statistics=["offset", "record_ms"])
    data = sink.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    first = "-".join(f"{table.column(name)[0].as_py():015d}" for name in ("offset", "record_ms"))
    path = folder / f"{partition}-{first}-{digest[:16]}{SUFFIX}"
    with _told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _leave_space(folder, data.size)
        if not path.exists() or path.stat().st_size != data.size:
            _put(path, data)
        if not manifest_path(path).exists():
            told = manifest_of(topic, partition, table, file=path.name, size=data.size, sha256=digest)
            _put(manifest_path(path), msgspec.json.format(msgspec.json.encode(told), indent=1))
        if not path.exists():
            # Another worker, which has the partition too, has just put the same rows into a greater file.
            manifest_path(path).unlink(missing_ok=True)
    return path


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"archive {folder}: cannot be written ({error.strerror})") from error


def _leave_space(folder: Path, size: int) -> None:
    disk = shutil.disk_usage(folder)
    least = min(SPARE_BYTES, int(SPARE_SHARE * disk.total))
    if disk.free - size < least:
        free, kept = disk.free / 2**20, least / 2**20
        raise StoreError(
            f"archive {folder}: cannot be written (disk almost full: {free:.0f} MiB free, {kept:.0f} kept)"
        )


def _put(path: Path, data: bytes | pa.Buffer) -> None:
    """Write a file under its name only when it is whole and on the disk."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with scratch.open("wb") as sink:
            sink.write(data)
            sink.flush()
            os.fsync(sink.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Have the disk keep the names in a folder, too."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(file: Path) -> None:
    """Remove a file, its manifest first; once more after it, should another worker have written one in between."""
    with _told(file.parent):
        manifest_path(file).unlink(missing_ok=True)
        file.unlink(missing_ok=True)
        manifest_path(file).unlink(missing_ok=True)


def files_of(folder: Path, partition: int) -> list[Path]:
    """Return the files of a partition in an hour's folder."""
    return sorted(folder.glob(f"{partition}-*{SUFFIX}"))


def read(files: Sequence[Path]) -> pa.Table:
    """Return the rows of some files by offset, each offset once.

    Raises
    ------
    ArchiveDamaged
        If one of them cannot be read.
    """
    tables = []
    for file in files:
        try:
            tables.append(pq.read_table(file, schema=SCHEMA))
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise ArchiveDamaged(f"archive: {file} cannot be read ({str(error).splitlines()[0]})") from error
    return once(pa.concat_tables(tables))


def verify(file: Path, told: Manifest | None = None) -> None:
    """Compare a file with its manifest.

    Raises
    ------
    ArchiveDamaged
        If it is not what was written.
    """
    path = manifest_path(file)
    if told is None and path.exists():
        told = load(path)
    if told is None:
        return
    with file.open("rb") as source:
        seen = hashlib.file_digest(source, "sha256").hexdigest()
    if seen != told.sha256:
        raise ArchiveDamaged(f"archive: {file} is damaged: sha256 {seen[:12]}... seen, {told.sha256[:12]}... written")


def once(table: pa.Table) -> pa.Table:
    """Return the rows by offset, each offset once."""
    table = table.combine_chunks()
    order = cast(Any, pa.compute).sort_indices(table, sort_keys=[("offset", "ascending"), ("record_ms", "ascending")])
    table = table.take(order)
    offsets, times = table.column("offset").to_numpy(), table.column("record_ms").to_numpy()
    repeated = (offsets[1:] == offsets[:-1]) & (times[1:] == times[:-1])
    return table.filter(pa.array([True, *(~repeated).tolist()])) if repeated.any() else table
