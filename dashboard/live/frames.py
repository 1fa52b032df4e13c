"""Binary frames of the live map: arrays of bytes in, WebSocket frames out, and back.

A frame is a header (kind, layer, version) and a payload: the whole layer, or the gaps and values of what changed. It
knows no viewer, no time and no meaning of the values (``dashboard.live.layers``).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

ByteArray = npt.NDArray[np.uint8]

SNAPSHOT, DELTA = 0, 1
HEADER = struct.Struct("<BBHI")
SKIP = 255
"""A gap byte that skips so many segments and carries no value."""


class Layer(IntEnum):
    """What the map can show; every layer is one byte a segment."""

    LEVEL = 0
    LEVEL_15 = 1
    LEVEL_30 = 2
    LEVEL_60 = 3
    AGAINST_TYPICAL = 4
    SPEED = 5


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A decoded frame; ``index`` and ``values`` are what it sets."""

    kind: int
    layer: Layer
    version: int
    index: npt.NDArray[np.int64]
    values: ByteArray


def snapshot(layer: Layer, version: int, values: ByteArray) -> bytes:
    """Return the frame that sets a whole layer."""
    return HEADER.pack(SNAPSHOT, layer, 0, version) + values.tobytes()


def delta(layer: Layer, version: int, before: ByteArray, after: ByteArray) -> bytes:
    """Return the frame that turns ``before`` into ``after``: the difference, or a snapshot where that is shorter.

    Pairs of (gap, value): the gap counts unchanged segments since the last changed one.
    """
    index = np.flatnonzero(before != after)
    if 2 * len(index) >= len(after):
        return snapshot(layer, version, after)
    return HEADER.pack(DELTA, layer, 0, version) + _pairs(index, after[index]).tobytes()


def decode(frame: bytes) -> Frame:
    """Read a frame; the inverse of `snapshot` and `delta`, as a browser does it.

    Raises
    ------
    ValueError
        If the kind is unknown or a gap stands without its value.
    """
    kind, layer, _, version = HEADER.unpack_from(frame)
    payload = np.frombuffer(frame, dtype=np.uint8, offset=HEADER.size)
    if kind == SNAPSHOT:
        return Frame(kind, Layer(layer), version, np.arange(len(payload)), payload)
    if kind != DELTA:
        raise ValueError(f"frame kind: {kind} seen, {SNAPSHOT} or {DELTA} allowed")
    return Frame(kind, Layer(layer), version, *_unpairs(payload))


def _pairs(index: npt.NDArray[np.int64], values: ByteArray) -> ByteArray:
    gaps = np.diff(index, prepend=-1) - 1
    skips = gaps // SKIP
    width = skips + 2
    pairs = np.full(int(width.sum()), SKIP, dtype=np.uint8)
    at = np.cumsum(width)
    pairs[at - 2] = gaps % SKIP
    pairs[at - 1] = values
    return pairs


def _unpairs(payload: ByteArray) -> tuple[npt.NDArray[np.int64], ByteArray]:
    index: list[int] = []
    values: list[int] = []
    at, segment = 0, 0
    while at < len(payload):
        gap = int(payload[at])
        segment += gap
        at += 1
        if gap == SKIP:
            continue
        if at == len(payload):
            raise ValueError("a gap stands without its value at the end of the frame")
        index.append(segment)
        values.append(int(payload[at]))
        segment += 1
        at += 1
    return np.array(index, dtype=np.int64), np.array(values, dtype=np.uint8)
