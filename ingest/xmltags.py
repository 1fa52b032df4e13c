"""An XML file in, its opening tags out, one after the other: flat memory whatever its size.

Text between tags is not looked at. A document type is refused: files of measurements have none, and entities are how
a small file becomes a large one.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

from citybrain.errors import FeedError

CHUNK = 2**16


class Tag(NamedTuple):
    """An opening tag: its name, its attributes, and the line it stands in."""

    name: str
    attributes: dict[str, str]
    line: int


def tags(path: Path) -> Iterator[Tag]:
    """Yield the opening tags of an XML file, plain or gzipped (``.gz``).

    Raises
    ------
    FeedError
        Where the file cannot be read any further: after the tags before that place.
    """
    found: list[Tag] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, attributes: found.append(
        Tag(name, attributes, parser.CurrentLineNumber)
    )  # fmt: skip
    parser.StartDoctypeDeclHandler = _refuse
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                parser.Parse(chunk)
                yield from found
                found.clear()
            parser.Parse(b"", True)
    except expat.ExpatError as error:
        yield from found
        raise FeedError(f"{path}: {error} seen, well-formed XML allowed") from error
    except (OSError, EOFError, zlib.error) as error:
        raise FeedError(f"{path}: cannot be read ({error})") from error


def _refuse(name: str, *_: object) -> None:
    raise FeedError(f"document type {name!r} seen, none allowed")
