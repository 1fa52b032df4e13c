"""Heading: what an Arrow stream begins with, its schema and the texts in it, to bytes and back.

The texts of one message differ from those of the next in a few digits, and all that stands around them stays. pyarrow
is asked for it once for each set of lengths, and each text has its place in it then: parsing a schema anew cost as much
as a quarter of counting the message's readings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa

Texts = Mapping[str, bytes]


@dataclass(frozen=True, slots=True, eq=False)
class Heading:
    """A schema as bytes, with places for texts.

    Attributes
    ----------
    schema
        The schema without texts.
    names, places
        The texts by name, in their order, and where each lies in the bytes.
    around
        Where the rest lies: before each text by position, and after the last one.
    rest
        Those bytes, joined.
    pieces, order
        The same one by one, and the texts by position.
    """

    schema: pa.Schema
    names: tuple[str, ...]
    places: tuple[slice, ...]
    around: tuple[slice, ...]
    rest: bytes
    pieces: tuple[bytes, ...]
    order: tuple[int, ...]

    @classmethod
    def of(cls, schema: pa.Schema, texts: Texts) -> Heading | None:
        """Return the heading of texts of these lengths; None where a text has no place of its own."""
        places = _places(schema, texts)
        if places is None:
            return None
        whole = serialised(schema, texts)
        order = sorted(range(len(places)), key=lambda at: (places[at].start, places[at].stop))
        begins = [0, *[places[at].stop for at in order]]
        ends = [*[places[at].start for at in order], len(whole)]
        around = tuple(slice(begin, end) for begin, end in zip(begins, ends, strict=True))
        pieces = tuple(whole[part] for part in around)
        return cls(schema, tuple(texts), tuple(places), around, b"".join(pieces), pieces, tuple(order))

    def written(self, texts: list[bytes]) -> bytes:
        """Return the bytes with texts of the same lengths, in the order of their names."""
        by_position = [texts[at] for at in self.order]
        return b"".join(chain.from_iterable(zip(self.pieces, [*by_position, b""], strict=True)))

    def read(self, value: bytes | memoryview) -> dict[str, str] | None:
        """Return the texts of a stream; None where it begins otherwise. Raises ValueError if one is not UTF-8."""
        if b"".join([value[part] for part in self.around]) != self.rest:
            return None
        return {name: str(value[place], "utf-8") for name, place in zip(self.names, self.places, strict=True)}


def serialised(schema: pa.Schema, texts: Texts) -> bytes:
    """Return the bytes of a schema with texts, as pyarrow writes it."""
    return bytes(schema.with_metadata(dict(texts)).serialize().to_pybytes())


def _places(schema: pa.Schema, texts: Texts) -> list[slice] | None:
    """Find where each text lies: there the bytes change when it is changed, and nowhere else."""
    blank = {name: b"\x01" * len(text) for name, text in texts.items()}
    plain = np.frombuffer(serialised(schema, blank), dtype=np.uint8)
    places = []
    for name, text in blank.items():
        other = np.frombuffer(serialised(schema, blank | {name: b"\x02" * len(text)}), dtype=np.uint8)
        changed = np.flatnonzero(plain != other) if len(other) == len(plain) else np.empty(0, dtype=np.intp)
        begin = int(changed[0]) if len(text) and len(changed) else 0
        if changed.tolist() != list(range(begin, begin + len(text))):
            return None
        places.append(slice(begin, begin + len(text)))
    return places
