"""Memories as bytes and back: named arrays and numbers in, one compressed msgpack out. Same memory, same bytes."""

from __future__ import annotations

import zlib
from typing import Any, cast

import msgspec
import numpy as np
import numpy.typing as npt

from citybrain.errors import ConfigError

Array = npt.NDArray[Any]


class _Column(msgspec.Struct, frozen=True, array_like=True):
    dtype: str
    shape: tuple[int, ...]
    data: bytes


class _Memory(msgspec.Struct, frozen=True, array_like=True):
    format: str
    network: str
    numbers: dict[str, int]
    columns: dict[str, _Column]


def dumped(form: str, network: str, numbers: dict[str, int], arrays: dict[str, Array]) -> bytes:
    """Return the memory as bytes; ``form`` names what it is and its version, such as ``forecast-1``."""
    columns = {
        name: _Column(array.dtype.str, array.shape, np.ascontiguousarray(array).tobytes())
        for name, array in arrays.items()
    }
    return zlib.compress(msgspec.msgpack.encode(_Memory(form, network, numbers, columns)), 1)


def loaded(form: str, network: str, blob: bytes) -> tuple[dict[str, int], dict[str, Array]]:
    """Return numbers and arrays (writable) that were dumped.

    Raises
    ------
    ConfigError
        If it is no such memory, or belongs to another network version.
    """
    try:
        memory = msgspec.msgpack.decode(zlib.decompress(blob), type=_Memory)
    except (zlib.error, msgspec.DecodeError) as error:
        raise ConfigError(f"{form}: the snapshot cannot be read ({error})") from error
    if (memory.format, memory.network) != (form, network):
        raise ConfigError(f"snapshot {memory.format} of network {memory.network} seen, {form} of {network} allowed")
    return memory.numbers, {name: _array(column) for name, column in memory.columns.items()}


def _array(column: _Column) -> Array:
    return cast(Array, np.frombuffer(column.data, dtype=column.dtype).reshape(column.shape).copy())
