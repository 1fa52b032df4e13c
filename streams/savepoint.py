"""Savepoints: a stage's dump, the offset it covers and the topic it counts in, as one record; and back.

A record begins with a mark, the form of this header, the id that the brokers gave the source topic, and the next offset
that the dump does not cover. Records of form 1 had the offset alone, eight bytes. What is neither is refused: never is
a state guessed.
"""

from __future__ import annotations

import uuid
import zlib
from dataclasses import dataclass, field

import msgspec

from citybrain.errors import ConfigError
from streams.snapshot import unpacked

MARK = b"CBSNAP"
FORM = 2
_END_OF_MARK = 0xFF
"""Of form 1 the eighth byte is the highest of an offset, and 0."""
_OFFSET_BYTES, _ID_BYTES = 8, 16
_HEADER_BYTES = 8 + _ID_BYTES + _OFFSET_BYTES
NO_TOPIC = uuid.UUID(int=0)
"""What brokers say of a topic without an id."""


@dataclass(frozen=True, slots=True)
class Savepoint:
    """One snapshot as it lies in the snapshot topic.

    Attributes
    ----------
    next_offset
        First offset of the source that it does not cover.
    blob
        The stage's dump.
    topic_id
        Id of the source topic; None where it is not known (form 1).
    form
        Of the header.
    saved_ms
        When it was written, ms UTC, by its record; 0 where that is not known.
    """

    next_offset: int
    blob: bytes
    topic_id: uuid.UUID | None = None
    form: int = FORM
    saved_ms: int = field(default=0, compare=False)

    def record(self) -> bytes:
        """Return the record's value."""
        mark = MARK + bytes([FORM, _END_OF_MARK])
        identity = (self.topic_id or NO_TOPIC).bytes
        return mark + identity + self.next_offset.to_bytes(_OFFSET_BYTES, "little") + self.blob

    def counts_in(self, topic_id: uuid.UUID | None, end: int) -> bool:
        """Return whether it counts offsets of the topic with this id, which ends at ``end``.

        A topic that was made anew counts from 0 again: what was counted in the former one says nothing of it.
        """
        if self.topic_id is not None and topic_id is not None and self.topic_id != topic_id:
            return False
        return self.next_offset <= end


def savepoint_of(value: bytes) -> Savepoint:
    """Return what a record holds.

    Raises
    ------
    ConfigError
        If it is of a form that this version does not know, or cut short.
    """
    if value[7:8] != bytes([_END_OF_MARK]):
        if len(value) <= _OFFSET_BYTES:
            raise ConfigError(f"snapshot of {len(value)} bytes seen, more than {_OFFSET_BYTES} allowed")
        return Savepoint(int.from_bytes(value[:_OFFSET_BYTES], "little"), value[_OFFSET_BYTES:], None, 1)
    form = value[6]
    if value[:6] != MARK or form != FORM:
        raise ConfigError(f"snapshot with a header of form {form} seen, 1 or {FORM} allowed: a newer version wrote it")
    if len(value) <= _HEADER_BYTES:
        raise ConfigError(f"snapshot of {len(value)} bytes seen, more than {_HEADER_BYTES} allowed")
    identity = uuid.UUID(bytes=value[8 : 8 + _ID_BYTES])
    offset = int.from_bytes(value[8 + _ID_BYTES : _HEADER_BYTES], "little")
    return Savepoint(offset, value[_HEADER_BYTES:], None if identity == NO_TOPIC else identity)


def described(blob: bytes) -> tuple[str, str] | None:
    """Return format and network of a stage's dump, whatever its version; None where it says neither.

    Every dump is a msgpack whose first two fields are these; most are compressed.
    """
    for opened in (unpacked, zlib.decompress, bytes):
        try:
            fields = msgspec.msgpack.decode(opened(blob))
        except (OSError, ValueError, zlib.error, msgspec.DecodeError):
            continue
        if isinstance(fields, list) and len(fields) > 1:
            return str(fields[0]), str(fields[1])
        if isinstance(fields, dict) and {"format", "network"} <= fields.keys():
            return str(fields["format"]), str(fields["network"])
    return None
