from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from citybrain.records import Quality
from ingest.jsonedge import GROUP, Edge, JsonEdge
from tests.fakes import grid_network
from tests.ingest.build import START_MS

NETWORK = grid_network()
EDGE = JsonEdge(NETWORK)


def message(**changes: Any) -> bytes:
    """Return a good message with some fields changed; None leaves one out."""
    fields = {"detector": "d1", "observed_from": START_MS, "observed_to": START_MS + 30_000, "flow_vph": 600.0}
    return msgspec.json.encode({name: value for name, value in (fields | changes).items() if value is not None})


def decode(*values: bytes, record_ms: int = START_MS + 31_000) -> Edge:
    return EDGE.decode(values, np.full(len(values), record_ms, dtype=np.int64))


def test_each_field_lands_in_its_column() -> None:
    metrics = {"count_veh": 5, "flow_vph": 600.5, "speed_kmh": 43.25, "occupancy": 0.07, "travel_time_s": 12}
    (readings,) = decode(message(**metrics)).readings
    assert {name: getattr(readings, name).tolist() for name in metrics} == {n: [v] for n, v in metrics.items()}
    assert (readings.source, readings.network) == ("json", NETWORK.version)
    assert readings.detector.tolist() == [1]
    assert readings.observed_from_ms.tolist() == [START_MS]
    assert (readings.received_ms, readings.watermark_ms) == (START_MS + 31_000, START_MS + 30_000)


def test_what_is_left_out_or_null_is_missing() -> None:
    (readings,) = decode(b'{"detector":"d0","observed_from":0,"observed_to":1,"flow_vph":0,"speed_kmh":null}').readings
    assert np.isnan(readings.speed_kmh).all()
    assert np.isnan(readings.occupancy).all()
    assert readings.quality_speed.tolist() == [Quality.NO_VEHICLE]
    assert readings.quality_occupancy.tolist() == [Quality.MISSING]
    assert readings.quality_flow.tolist() == [Quality.OK]


@pytest.mark.parametrize(
    ("stamp", "instant_ms"),
    [
        (1_700_000_000_000, 1_700_000_000_000),
        ("1700000000000", 1_700_000_000_000),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("2023-11-15T06:13:20+08:00", 1_700_000_000_000),
        ("2023-11-14T22:13:20.123456789Z", 1_700_000_000_123),
    ],
)
def test_times_are_rfc_3339_with_a_zone_or_ms(stamp: str | int, instant_ms: int) -> None:
    (readings,) = decode(message(observed_from=stamp, observed_to=1_700_000_030_000)).readings
    assert readings.observed_from_ms.tolist() == [instant_ms]


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (b"", "one reading as a JSON object allowed"),
        (b"hello", "one reading as a JSON object allowed"),
        (b"[]", "Expected `object`, got `array`"),
        (b"\xff\xfe", "one reading as a JSON object allowed"),
        (message()[:-1], "one reading as a JSON object allowed"),
        (message() + b"," + message(), "one reading as a JSON object allowed"),
        (message(detector=7), r"Expected `str`, got `int` - at `\$.detector`"),
        (message(speed="fast"), "unknown field `speed`"),
        (message(speed_kmh="fast"), r"Expected `float \| null`, got `str` - at `\$.speed_kmh`"),
        (message(observed_to=None), "missing required field `observed_to`"),
        (
            message(observed_from="2023-11-14T22:13:20"),
            "observed_from: '2023-11-14T22:13:20' seen, RFC 3339 with a zone",
        ),
        (message(observed_from="noon"), "observed_from: 'noon' seen"),
        (message(observed_to=-5), "observed_to: -5 seen"),
        (message(observed_to=2**63 - 1), "observed_to: 9223372036854775807 seen"),
        (message(observed_to=2**64 - 1), "observed_to: 18446744073709551615 seen"),
        (message(observed_to=START_MS), f"observed_to: {START_MS} seen, later than observed_from {START_MS} allowed"),
        (message(source=""), "source: 0 characters seen, 1 to 64 allowed"),
        (message(source="x" * 65), "source: 65 characters seen, 1 to 64 allowed"),
    ],
)
def test_a_malformed_message_is_refused_with_what_was_seen_and_takes_nobody_with_it(value: bytes, detail: str) -> None:
    edge = decode(message(), value, message(detector="d2"))
    assert [(refusal.index, refusal.reason) for refusal in edge.refused] == [(1, "malformed")]
    with pytest.raises(ValueError, match=detail):
        raise ValueError(edge.refused[0].detail)
    assert edge.readings[0].detector.tolist() == [1, 2]
    assert edge.observed_to_ms.tolist() == [START_MS + 30_000, 0, START_MS + 30_000]


def test_an_unknown_detector_is_refused_under_its_own_reason() -> None:
    edge = decode(message(detector="nobody"))
    assert edge.readings == ()
    assert [(refusal.reason, refusal.detail) for refusal in edge.refused] == [
        ("unknown_detector", "detector: 'nobody' seen, a detector of the network allowed")
    ]


def test_halves_of_messages_are_never_put_together() -> None:
    whole = message()
    half = len(whole) // 2
    cut = whole.index(b",")
    edge = decode(whole + b"," + whole, whole[:cut], whole[cut + 1 :], whole[:half])
    assert edge.readings == ()
    assert len(edge.refused) == 4


def test_each_source_has_its_own_readings_and_watermark() -> None:
    edge = decode(
        message(source="north"),
        message(source="south", observed_to=START_MS + 60_000),
        message(source="north", detector="d3", observed_to=START_MS + 45_000),
    )
    assert [(r.source, r.detector.tolist(), r.watermark_ms - START_MS) for r in edge.readings] == [
        ("north", [1, 3], 45_000),
        ("south", [1], 60_000),
    ]


@given(st.lists(st.sampled_from("gmu"), max_size=3 * GROUP // 2))
def test_every_message_is_either_read_or_refused_in_order(kinds: list[str]) -> None:
    values = {"g": message(), "m": b"{", "u": message(detector="nobody")}
    edge = decode(*(values[kind] for kind in kinds))
    assert sum(map(len, edge.readings)) == kinds.count("g")
    assert [refusal.index for refusal in edge.refused] == [at for at, kind in enumerate(kinds) if kind != "g"]
    assert (edge.observed_to_ms > 0).tolist() == [kind == "g" for kind in kinds]
