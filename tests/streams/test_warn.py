"""Stage `warn`: time passes in the log, a breakdown and an incident are found, a calm road is silent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from citybrain.errors import BadRecord
from citybrain.messages import Signals, decode_json
from citybrain.network import FloatArray
from citybrain.records import encode
from citybrain.settings import Thresholds
from citybrain.wire import Message
from streams.warn import WarnStage
from tests.fakes import corridor_network, segment_states, typical_week

NETWORK = corridor_network(6)
NOON_MS = 1_789_992_000_000
FREE = (85.0,) * 6
QUEUE = (85.0, 85.0, 85.0, 15.0, 85.0, 85.0)


def _stage(*, share: float | FloatArray = 0.9) -> WarnStage:
    return WarnStage(NETWORK, Thresholds(), timezone="UTC", pane_ms=60_000, typical=typical_week(NETWORK, share=share))


def _message(minute: int, speeds: Sequence[float], flow_vph: float = 1500.0) -> Message:
    at = NOON_MS + minute * 60_000
    pane = segment_states(NETWORK, pane_start_ms=at, speed_kmh=np.array(speeds), flow_vph=flow_vph)
    return Message("segment-states", 0, minute, at + 70_000, b"", encode(pane))


def _incident() -> list[Message]:
    free = [_message(minute, FREE) for minute in range(30)]
    return free + [_message(minute, QUEUE, 700.0) for minute in range(30, 36)]


def _run(stage: WarnStage, log: list[Message]) -> list[Signals]:
    state = stage.new(0)
    return [decode_json(Signals, output.value) for message in log for output in stage.step(state, message).outputs]


def test_every_pane_speaks_if_only_to_say_nothing() -> None:
    told = _run(_stage(), [_message(minute, FREE) for minute in range(60)])
    assert [signals.pane_start_ms for signals in told] == [NOON_MS + minute * 60_000 for minute in range(60)]
    assert all(signals.signals == () for signals in told)


def test_signals_go_to_the_one_partition_with_their_pane_as_key() -> None:
    stage = _stage()
    [output] = stage.step(stage.new(0), _message(0, FREE)).outputs
    assert (output.topic, output.partition, output.key) == ("signals", 0, f"0/{NOON_MS}".encode())
    assert output.record_ms == NOON_MS + 60_000


def test_a_sudden_queue_with_free_road_ahead_becomes_an_incident_within_four_minutes() -> None:
    told = _run(_stage(), _incident())
    kinds = [[(s.segment, s.kind) for s in signals.signals if s.segment == 3] for signals in told]
    assert kinds[30] == []
    assert kinds[31] == [(3, "breakdown")]
    assert (3, "incident") in kinds[33]
    signal = next(s for s in told[-1].signals if s.segment == 3)
    assert signal.reason[:2] == ("free_downstream", "sudden_drop")
    assert signal.probability > 0.8
    assert signal.expected_kmh == pytest.approx(81.0)
    assert signal.delay_veh_h > 0
    assert not signal.as_usual


def test_the_everyday_queue_is_told_as_usual() -> None:
    log = [_message(minute, FREE) for minute in range(30)] + [_message(minute, QUEUE) for minute in range(30, 60)]
    signal = _run(_stage(share=0.2), log)[-1].signals[0]
    assert (signal.segment, signal.kind, signal.as_usual) == (3, "congestion", True)
    assert "as_usual" in signal.reason


def test_a_falling_speed_before_the_usual_peak_is_warned_of_before_it_is_congested() -> None:
    share = np.full(96, 0.9)
    share[51:] = 0.35
    log = [_message(minute, FREE) for minute in range(30)]
    for minute in range(30, 50):
        speed = max(85.0 - 2.5 * (minute - 29), 50.0)
        log.append(_message(minute, (85.0, 85.0, speed, 15.0, 15.0, 15.0)))
    told = _run(_stage(share=share), log)
    warned = [s for signals in told for s in signals.signals if s.segment == 2]
    assert warned
    assert {signal.kind for signal in warned} == {"congestion_expected"}
    assert all(signal.probability >= 0.45 and signal.horizon_min in (5, 10, 15) for signal in warned)
    assert "typical_peak" in warned[0].reason
    assert warned[0].as_usual


def test_a_replay_gives_the_same_bytes_and_so_does_a_restart() -> None:
    def bytes_of(restart_at: int) -> list[bytes]:
        stage = _stage()
        state, told = stage.new(0), []
        for number, message in enumerate(_incident()):
            if number == restart_at:
                blob = stage.dump(state)
                stage = _stage()
                state = stage.load(0, blob)
            told += [output.value for output in stage.step(state, message).outputs]
        return told

    assert bytes_of(-1) == bytes_of(-1) == bytes_of(12) == bytes_of(33)


def test_revisions_are_ignored_and_another_network_refused() -> None:
    stage = _stage()
    state = stage.new(0)
    stage.step(state, _message(0, FREE))
    revised = segment_states(NETWORK, pane_start_ms=NOON_MS + 60_000, revision=1, speed_kmh=5.0)
    assert stage.step(state, Message("segment-states", 0, 1, 0, b"", encode(revised))).outputs == ()
    other = segment_states(corridor_network(4))
    with pytest.raises(BadRecord, match="network"):
        stage.step(state, Message("segment-states", 0, 2, 0, b"", encode(other)))
