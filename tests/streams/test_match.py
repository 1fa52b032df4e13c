"""Stage `match`: passages become travel times in the partition of their camera, and the clock reaches every one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citybrain.errors import BadRecord, ConfigError
from citybrain.records import Passages, Quality, Readings, SpeedKind, decode, encode
from citybrain.wire import Message
from streams.intervals import Intervals
from streams.match import MatchStage, MatchState
from tests.fakes import corridor_network

NETWORK = corridor_network(6, partitions=2, kind="camera")
Row = tuple[int, int, int]


def _message(rows: list[Row], *, offset: int = 0, watermark_ms: int = 200_000) -> Message:
    """Camera, ms, plate."""
    n = len(rows)
    passages = Passages(
        network=NETWORK.version,
        source="plates",
        received_ms=watermark_ms + 1000,
        watermark_ms=watermark_ms,
        camera=np.array([row[0] for row in rows], dtype=np.int32),
        passed_ms=np.array([row[1] for row in rows], dtype=np.int64),
        plate=np.array([row[2] for row in rows], dtype=np.int64),
        lane=np.zeros(n, dtype=np.uint8),
        vehicle_class=np.zeros(n, dtype=np.uint8),
        speed_kmh=np.full(n, np.nan),
    )
    return Message("passages", 0, offset, watermark_ms + 1500, b"", encode(passages))


def _readings(stage: MatchStage, state: MatchState, message: Message) -> list[Readings]:
    return [decode(Readings, output.value) for output in stage.step(state, message).outputs]


def test_two_passages_are_one_travel_time_in_the_second_that_ends_with_the_second() -> None:
    stage = MatchStage(NETWORK)
    first, second = _readings(stage, stage.new(0), _message([(2, 100_000, 7), (3, 132_000, 7)]))
    assert len(first) == 0
    assert second.detector.tolist() == [3]
    assert second.travel_time_s.tolist() == [32.0]
    assert (second.observed_from_ms[0], second.observed_to_ms[0]) == (131_000, 132_000)
    assert second.speed_kind.tolist() == [SpeedKind.SPACE_MEAN]
    assert second.quality_travel_time.tolist() == [Quality.DERIVED]
    assert second.quality_speed.tolist() == [Quality.MISSING]
    assert np.isnan(second.speed_kmh).all()
    assert second.source == "match:plates"


def test_vehicles_that_follow_within_a_second_all_count() -> None:
    stage = MatchStage(NETWORK)
    state, intervals = stage.new(0), Intervals.none(len(NETWORK.detectors))
    passages = [(2, 100_000, 7), (2, 100_300, 8), (2, 101_000, 9), (3, 132_000, 7), (3, 132_300, 8)]
    _, first = _readings(stage, state, _message(passages))
    _, second = _readings(stage, state, _message([(3, 132_900, 9)], offset=1))
    assert [*first.travel_time_s, *second.travel_time_s] == [32.0, 32.0, 31.9]
    for readings in (first, second):
        at = readings.detector.astype(np.intp)
        assert intervals.take(at, readings.observed_from_ms, readings.observed_to_ms, 0).all()
    assert second.observed_from_ms.tolist() == [132_300]


def test_every_partition_hears_the_feeds_clock() -> None:
    stage = MatchStage(NETWORK)
    outputs = stage.step(stage.new(0), _message([], watermark_ms=300_000)).outputs
    assert [(output.topic, output.partition, output.key) for output in outputs] == [
        ("readings", 0, b"match:plates"),
        ("readings", 1, b"match:plates"),
    ]
    for output in outputs:
        readings = decode(Readings, output.value)
        assert (readings.watermark_ms, len(readings)) == (300_000, 0)
        assert readings.received_ms == output.record_ms == 301_500


def test_an_unknown_camera_is_refused_and_the_rest_counts() -> None:
    stage = MatchStage(NETWORK)
    results = stage.step(stage.new(0), _message([(0, 100_000, 7), (99, 110_000, 7), (1, 130_000, 7)]))
    [letter] = results.refused
    assert (letter.reason, letter.count, letter.stage) == ("unknown_detector", 1, "match")
    assert letter.detail == "camera 99 seen, 0..5 allowed"
    assert decode(Readings, results.outputs[0].value).travel_time_s.tolist() == [30.0]


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 200_000), st.integers(1, 3)), max_size=20),
    st.randoms(use_true_random=False),
)
def test_the_order_of_rows_in_a_batch_decides_nothing(rows: list[Row], random: object) -> None:
    shuffled = sorted(rows, key=lambda row: hash((row, str(random))))
    stage = MatchStage(NETWORK)
    ours, theirs = stage.new(0), stage.new(0)
    a = [output.value for output in stage.step(ours, _message(rows)).outputs]
    b = [output.value for output in stage.step(theirs, _message(shuffled)).outputs]
    assert a == b
    assert stage.dump(ours) == stage.dump(theirs)


def test_a_restart_between_the_cameras_changes_nothing() -> None:
    stage = MatchStage(NETWORK)
    state = stage.new(0)
    _readings(stage, state, _message([(1, 100_000, 7)]))
    again = MatchStage(NETWORK)
    loaded = again.load(0, stage.dump(state))
    assert again.dump(loaded) == stage.dump(state)
    first, _ = _readings(again, loaded, _message([(2, 130_000, 7)], offset=1))
    assert first.travel_time_s.tolist() == [30.0]


def test_bad_messages_and_foreign_snapshots_are_refused() -> None:
    stage = MatchStage(NETWORK)
    with pytest.raises(BadRecord, match="malformed"):
        stage.step(stage.new(0), Message("passages", 0, 0, 0, b"", b"junk"))
    with pytest.raises(ConfigError, match="allowed"):
        MatchStage(corridor_network(3)).load(0, stage.dump(stage.new(0)))
