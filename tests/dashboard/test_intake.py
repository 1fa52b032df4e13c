from __future__ import annotations

import json
from typing import Any

import pytest

from dashboard.api.intake import NotJson, check_event, check_readings, instant_ms, split

GOOD = {"detector": "d0", "observed_from": "2026-11-24T08:00:00Z", "observed_to": "2026-11-24T08:00:30Z"}


def texts(*readings: Any) -> list[bytes]:
    return [json.dumps(reading).encode() for reading in readings]


@pytest.mark.parametrize(
    "body",
    [
        b"[%b, %b]" % (b'{"a": 1}', b'{"a": 2}'),
        b'{"a": 1}\n{"a": 2}',
        b'\r\n{"a": 1}\r\n\r\n{"a": 2}\r\n',
    ],
)
def test_a_list_and_lines_are_split_into_readings(body: bytes) -> None:
    assert [json.loads(text) for text in split(body)] == [{"a": 1}, {"a": 2}]


def test_one_reading_may_be_written_over_several_lines() -> None:
    assert len(split(b'{\n "a": 1\n}')) == 1


@pytest.mark.parametrize("body", [b"", b"  \n", b'[{"a": 1}', b"[1,]"])
def test_what_is_no_json_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(NotJson):
        split(body)


def test_good_readings_pass_as_they_were_written() -> None:
    given = texts(GOOD, {**GOOD, "observed_from": 0, "observed_to": 1, "speed_kmh": 5})
    assert check_readings(given, {"d0"}) == (given, [])


@pytest.mark.parametrize(
    ("change", "reason", "said"),
    [
        ({"detector": "nobody"}, "unknown_detector", "'nobody' is not in the network"),
        ({"speed_kmh": "fast"}, "malformed", "speed_kmh"),
        ({"colour": "red"}, "malformed", "colour"),
        ({"observed_from": "2026-11-24T08:00:00"}, "malformed", "a zone such as Z is needed"),
        ({"observed_from": "yesterday"}, "malformed", "yesterday"),
        ({"observed_to": "2026-11-24T08:00:00Z"}, "malformed", "before observed_to"),
    ],
)
def test_a_bad_reading_is_refused_by_its_index_and_the_rest_passes(
    change: dict[str, Any], reason: str, said: str
) -> None:
    accepted, [refused] = check_readings(texts(GOOD, {**GOOD, **change}, GOOD), {"d0"})
    assert (len(accepted), refused.index, refused.reason) == (2, 1, reason)
    assert said in refused.detail


EVENT = {"id": "e1", "kind": "works", "started_ms": 1000, "segment": "s1"}


def test_an_event_needs_a_known_place() -> None:
    assert check_event(json.dumps(EVENT).encode(), {"s1"}).id == "e1"
    somewhere = {**EVENT, "segment": "", "longitude": -8.6, "latitude": 41.1}
    assert check_event(json.dumps(somewhere).encode(), {"s1"}).longitude == -8.6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"segment": "s9"}, "'s9' is not in the network"),
        ({"segment": ""}, "one of them needed"),
        ({"ended_ms": 999}, "ended_ms 999 lies before"),
    ],
)
def test_an_event_without_place_or_sense_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_event(json.dumps({**EVENT, **change}).encode(), {"s1"})


def test_an_instant_with_a_zone_is_that_instant() -> None:
    assert instant_ms("2026-11-24T16:00:00.25+08:00") == instant_ms("2026-11-24T08:00:00.250Z") == 1_795_507_200_250
