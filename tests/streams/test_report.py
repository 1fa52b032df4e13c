"""Stage `report`: an event finds its segment and becomes a signal that the alert stage keeps."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from citybrain.errors import BadRecord
from citybrain.messages import REPORTS, Event, Signals, decode_json, encode_json
from citybrain.wire import Message, Output
from streams.report import ReportStage, nearest_segment
from tests.fakes import corridor_network, grid_network

NETWORK = grid_network()
STAGE = ReportStage(NETWORK)


def _event(**fields: Any) -> Event:
    return msgspec.structs.replace(Event(id="e1", kind="incident", started_ms=60_000, segment="s3"), **fields)


def _step(event: Event) -> list[Output]:
    return list(STAGE.step(None, Message("events", 0, 9, 70_000, b"e1", encode_json(event))).outputs)


def test_an_incident_is_a_signal_with_its_reason_and_its_event() -> None:
    [output] = _step(_event(code="accident"))
    signals = decode_json(Signals, output.value)
    assert (signals.partition, signals.version, output.key) == (REPORTS, 9, b"e1")
    [signal] = signals.signals
    assert (signal.segment, signal.kind, signal.probability) == (3, "incident", 1.0)
    assert signal.reason == ("reported", "accident")
    assert (signal.event, signal.ended_ms) == ("e1", None)


def test_its_end_is_passed_on() -> None:
    [output] = _step(_event(version=2, ended_ms=120_000))
    assert decode_json(Signals, output.value).signals[0].ended_ms == 120_000


def test_a_citizens_report_is_less_sure_and_works_are_no_cause() -> None:
    [output] = _step(_event(kind="report"))
    assert decode_json(Signals, output.value).signals[0].probability == 0.5
    assert _step(_event(kind="works")) == []


def test_a_position_finds_the_nearest_segment() -> None:
    middle = NETWORK.lon_lat[6:8].mean(axis=0)
    found, distance_m = nearest_segment(NETWORK, float(middle[0]), float(middle[1]))
    # Two directions share one line: the lower index stands for both.
    assert found == 3
    assert distance_m == pytest.approx(0, abs=1)
    [output] = _step(_event(segment="", longitude=float(middle[0]), latitude=float(middle[1]) + 0.0001))
    assert decode_json(Signals, output.value).signals[0].segment == 3


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"segment": "nowhere"}, "segment 'nowhere' seen"),
        ({"segment": ""}, "neither segment nor position"),
        ({"segment": "", "longitude": 0.0, "latitude": 41.15}, "m from the nearest segment"),
        ({"ended_ms": 1}, "ended_ms 1 seen, 60000 or later allowed"),
    ],
)
def test_an_event_that_makes_no_sense_is_malformed(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRecord, match=said) as error:
        _step(_event(**fields))
    assert error.value.reason == "malformed"


def test_junk_is_malformed() -> None:
    with pytest.raises(BadRecord, match="malformed"):
        STAGE.step(None, Message("events", 0, 0, 0, b"", b'{"id": 1}'))


def test_a_road_without_a_map_has_no_nearest_segment() -> None:
    road = corridor_network(3)
    road.lon_lat[:] = float("nan")
    assert nearest_segment(road, 0.0, 0.0)[1] == float("inf")
