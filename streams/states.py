"""States that are dumped as msgpack: bytes in, a state of the right kind, format and network out."""

from __future__ import annotations

from typing import Protocol, TypeVar

import msgspec

from citybrain.errors import ConfigError


class Kept(Protocol):
    """A state that says what it is and which network it knows."""

    format: str
    network: str


K = TypeVar("K", bound=Kept)


def state_of(kind: type[K], blob: bytes, form: str, network: str, *, before: str = "") -> K:
    """Return a state that was dumped as msgpack; ``before`` is a former format that is read, too.

    Raises
    ------
    ConfigError
        If it cannot be read, or is of another format or network.
    """
    try:
        state = msgspec.msgpack.decode(blob, type=kind)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{form}: the snapshot cannot be read ({error})") from error
    seen, allowed = (state.format, state.network), (form, network)
    if seen not in {allowed, (before, network)}:
        raise ConfigError(f"snapshot {seen[0]} of network {seen[1]} seen, {allowed[0]} of {allowed[1]} allowed")
    return state
