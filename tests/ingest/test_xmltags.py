"""XML as a stream of opening tags."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pytest

from citybrain.errors import FeedError
from ingest.xmltags import tags


def test_tags_come_in_order_with_their_attributes_and_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text('<?xml version="1.0"?>\n<a x="1">\n<b y="é &amp; z"/>text</a>\n', encoding="utf-8")
    assert [tuple(tag) for tag in tags(path)] == [("a", {"x": "1"}, 2), ("b", {"y": "é & z"}, 3)]


def test_a_gzipped_file_is_read_like_a_plain_one(tmp_path: Path) -> None:
    path = tmp_path / "a.xml.gz"
    path.write_bytes(gzip.compress(b"<a><b/></a>"))
    assert [tag.name for tag in tags(path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "content", "before", "said"),
    [
        ("a.xml", b"<a><b/><c", ["a", "b"], "well-formed XML allowed"),
        ("a.xml", b"time,speed\n1,2\n", [], "well-formed XML allowed"),
        ("a.xml.gz", gzip.compress(b"<a><b/></a>" * 100, mtime=0)[:-12], None, "cannot be read"),
        ("a.xml.gz", b"<a/>", [], "cannot be read"),
        ("absent.xml", None, [], "cannot be read"),
    ],
)
def test_a_file_that_breaks_off_gives_what_came_before(
    tmp_path: Path, name: str, content: bytes | None, before: list[str] | None, said: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    found: list[str] = []
    with pytest.raises(FeedError, match=said):
        found.extend(tag.name for tag in tags(path))
    assert before is None or found == before


def test_entities_that_grow_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text('<!DOCTYPE a [<!ENTITY b "bbbbbbbb">]><a x="&b;"/>')
    with pytest.raises(FeedError, match="document type 'a' seen, none allowed"):
        list(tags(path))


def test_a_large_file_takes_no_more_memory_than_a_small_one(tmp_path: Path) -> None:
    peaks = []
    for count in (10_000, 200_000):
        path = tmp_path / f"{count}.xml"
        path.write_text("<a>" + '<b x="1"/>' * count + "</a>")
        tracemalloc.start()
        assert sum(1 for _ in tags(path)) == count + 1
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
