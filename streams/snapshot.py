"""Snapshots: the panes of a partition in, compact bytes out, and back; a function of the log and nothing else."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from citybrain.errors import ConfigError
from streams.health import Health
from streams.intervals import Intervals
from streams.ring import Ring, Source, Times

FORMAT = 2
READ = 1, 2
"""Formats that are read: the first knew nothing of the detectors' health, which begins anew then."""
CODEC = "zstd"
LARGEST_BYTES = 2**31


class _SourceBlob(msgspec.Struct, array_like=True):
    name: str
    watermark_ms: int
    spoke_ms: int
    kept: int
    intervals: bytes


class _Blob(msgspec.Struct, array_like=True):
    format: int
    network: str
    settings: str
    base: int
    open: int
    first: int
    shown: int
    watermark_ms: int
    offset: int
    filled: list[int]
    sums: bytes
    told: bytes
    notes: bytes
    sources: list[_SourceBlob]
    health: bytes = b""
    health_from_ms: int = -1


def dump(ring: Ring, network: str, settings: str, times: Times) -> bytes:
    """Return the state as bytes. ``settings`` names what the panes' meaning depends on."""
    filled = np.flatnonzero(ring.filled)
    notes = np.stack([ring.revised, ring.changed_by, ring.dirty.astype(np.int64)])
    blob = _Blob(
        FORMAT,
        network,
        settings,
        ring.base,
        ring.open,
        ring.first,
        ring.shown,
        ring.watermark_ms,
        ring.offset,
        filled.tolist(),
        _shuffle(ring.sums[filled]),
        ring.told[filled].tobytes(),
        notes.tobytes(),
        [_dump_source(name, ring.sources[name], ring.horizon_ms(times)) for name in sorted(ring.sources)],
        _dump_health(ring.health),
        ring.health.begun_ms,
    )
    return packed(msgspec.msgpack.encode(blob))


def load(blob: bytes, partition: int, network: str, settings: str, shape: tuple[int, int, int], detectors: int) -> Ring:
    """Return the state that was dumped; ``shape`` is that of the sums, ``detectors`` how many the partition has.

    Raises
    ------
    ConfigError
        If it is of another format, network or setting of time.
    """
    read = _read(blob)
    seen, allowed = (read.format, read.network, read.settings), (FORMAT, network, settings)
    if seen[1:] != allowed[1:] or read.format not in READ:
        raise ConfigError(
            f"snapshot of `aggregate`, partition {partition}: format, network, settings of time {seen} seen, {allowed}"
            " allowed; finish with the city that made it, or remove the topic citybrain.snapshots-aggregate to begin"
            " anew (results stay, open panes are counted again from what the topic readings still holds)"
        )
    ring = Ring.empty(partition, shape[0], shape[2], detectors)
    if read.health:
        ring.health = _load_health(read.health, detectors, read.health_from_ms)
    filled = np.array(read.filled, dtype=np.intp)
    ring.sums[filled] = _unshuffle(read.sums, (len(filled), *shape[1:]))
    ring.told[filled] = np.frombuffer(read.told, dtype=np.uint8).reshape(len(filled), shape[2])
    ring.filled[filled] = True
    notes = _longs(read.notes, (3, shape[0]))
    ring.revised, ring.changed_by, ring.dirty = notes[0].copy(), notes[1].copy(), notes[2] != 0
    ring.base, ring.open, ring.first, ring.shown = read.base, read.open, read.first, read.shown
    ring.watermark_ms, ring.offset = read.watermark_ms, read.offset
    ring.sources = {source.name: _load_source(source) for source in read.sources}
    return ring


def packed(raw: bytes) -> bytes:
    """Return bytes compressed, their size before them."""
    return len(raw).to_bytes(8, "little") + cast(bytes, pa.compress(raw, codec=CODEC, asbytes=True))


def unpacked(blob: bytes) -> bytes:
    """Return what was packed; raises ValueError or OSError if it is not that."""
    size = int.from_bytes(blob[:8], "little")
    if size > LARGEST_BYTES:
        raise ValueError(f"{size} bytes seen, {LARGEST_BYTES} allowed")
    return cast(bytes, pa.decompress(blob[8:], size, codec=CODEC, asbytes=True))


def _read(blob: bytes) -> _Blob:
    try:
        return msgspec.msgpack.decode(unpacked(blob), type=_Blob)
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise ConfigError(
            f"snapshot of `aggregate` cannot be read ({error}): remove the topic citybrain.snapshots-aggregate to begin"
            " anew"
        ) from error


def _dump_source(name: str, source: Source, horizon_ms: int) -> _SourceBlob:
    seen = source.seen
    seen.forget(horizon_ms)
    rows = np.column_stack([seen.run_from, seen.run_to, seen.floor, seen.old_from, seen.old_to]).T
    return _SourceBlob(name, source.watermark_ms, source.spoke_ms, seen.old_to.shape[1], _shuffle(rows))


def _load_source(blob: _SourceBlob) -> Source:
    rows = np.frombuffer(blob.intervals, dtype=np.uint8)
    width = 3 + 2 * blob.kept
    columns = _unshuffle(blob.intervals, (width, len(rows) // 8 // width)).T
    run_from, run_to, floor = (columns[:, at].copy() for at in range(3))
    old_from, old_to = columns[:, 3 : 3 + blob.kept].copy(), columns[:, 3 + blob.kept :].copy()
    return Source(blob.watermark_ms, blob.spoke_ms, Intervals(run_from, run_to, old_from, old_to, floor))


def _dump_health(health: Health) -> bytes:
    longs = _shuffle(np.stack([health.value, health.from_ms, health.until_ms, health.since_ms]))
    rest = (health.vehicles, health.metres, health.verdict, health.told)
    return longs + b"".join(column.tobytes() for column in rest)


def _load_health(blob: bytes, detectors: int, begun_ms: int) -> Health:
    edges = np.cumsum([0, 32 * detectors, 4 * detectors, 4 * detectors, detectors, detectors]).tolist()
    longs, *rest = (blob[begin:end] for begin, end in pairwise(edges))
    value, from_ms, until_ms, since_ms = (row.copy() for row in _unshuffle(longs, (4, detectors)))
    vehicles, metres = (np.frombuffer(part, dtype=np.float32).copy() for part in rest[:2])
    verdict, told = (np.frombuffer(part, dtype=np.uint8).copy() for part in rest[2:])
    return Health(value, from_ms, until_ms, vehicles, metres, verdict, since_ms, told, begun_ms)


def _shuffle(values: npt.NDArray[np.int64]) -> bytes:
    """Bytes of the same weight beside each other: numbers of one size compress much better so."""
    flat = np.ascontiguousarray(values).reshape(-1)
    return flat.view(np.uint8).reshape(-1, 8).T.tobytes()


def _unshuffle(blob: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    bytes_by_weight = np.frombuffer(blob, dtype=np.uint8).reshape(8, -1)
    return np.ascontiguousarray(bytes_by_weight.T).view(np.int64).reshape(shape)


def _longs(blob: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    return np.frombuffer(blob, dtype=np.int64).reshape(shape)
