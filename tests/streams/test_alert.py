"""Stage `alert`: panes complete across partitions, reports last until they end, replays agree."""

from __future__ import annotations

from itertools import pairwise

import pytest

from citybrain.errors import BadRecord, ConfigError
from citybrain.messages import REPORTS, AlertEvent, Signal, Signals, decode_json, encode_json
from citybrain.settings import Thresholds
from citybrain.wire import Message
from streams.alert import AlertStage, AlertState
from tests.fakes import corridor_network

NETWORK = corridor_network(8, partitions=2)
SLOW = {p: Signal(segment=s, kind="breakdown", probability=1.0) for p, s in ((0, 3), (1, 4))}


def _signals(partition: int, minute: int, *signals: Signal) -> Signals:
    return Signals(
        network=NETWORK.version,
        partition=partition,
        pane_start_ms=minute * 60_000,
        pane_ms=0 if partition == REPORTS else 60_000,
        version=minute,
        model="m",
        signals=signals,
    )


def _apply(stage: AlertStage, state: AlertState, *told: Signals) -> list[AlertEvent]:
    events = []
    for signals in told:
        message = Message("signals", 0, 0, 0, b"", encode_json(signals))
        events += [decode_json(AlertEvent, output.value) for output in stage.step(state, message).outputs]
    return events


def _log(minutes: int) -> list[Signals]:
    log = []
    for minute in range(minutes):
        slow = 5 <= minute < 15
        log += [_signals(p, minute, *([SLOW[p]] if slow else [])) for p in (0, 1)]
    return log


def test_a_queue_across_partitions_is_one_alert() -> None:
    stage = AlertStage(NETWORK, Thresholds())
    events = _apply(stage, stage.new(0), *_log(30))
    assert [event.type for event in events] == ["alert.opened", "alert.resolved"]
    assert events[0].segments == (4, 3)
    assert {event.alert_id for event in events} == {events[0].alert_id}
    assert (events[0].started_ms, events[0].detected_ms) == (5 * 60_000, 8 * 60_000)
    assert events[1].resolved_ms == 15 * 60_000


def test_an_alert_is_keyed_by_its_id_at_its_event_time() -> None:
    stage = AlertStage(NETWORK, Thresholds())
    state = stage.new(0)
    outputs = [
        output
        for signals in _log(10)
        for output in stage.step(state, Message("signals", 0, 0, 0, b"", encode_json(signals))).outputs
    ]
    [opened] = outputs
    event = decode_json(AlertEvent, opened.value)
    assert (opened.topic, opened.partition, opened.key) == ("alerts", 0, event.alert_id.encode())
    assert opened.record_ms == event.updated_ms


def test_a_partition_that_falls_silent_is_left_behind() -> None:
    stage = AlertStage(NETWORK, Thresholds())
    only = [_signals(1, minute, SLOW[1]) for minute in range(19)]
    [opened] = _apply(stage, stage.new(0), *only)
    assert opened.segments == (4,)
    assert opened.detected_ms == 3 * 60_000


def test_a_partition_that_catches_up_within_a_quarter_of_an_hour_loses_nothing() -> None:
    stage = AlertStage(NETWORK, Thresholds())
    log = _log(40)
    late = sorted(log, key=lambda s: s.pane_start_ms + (14 * 60_000 if s.partition == 0 else 0))
    assert _apply(stage, stage.new(0), *late) == _apply(stage, stage.new(0), *log)


def test_nobody_waits_for_a_pane_that_a_partition_has_passed() -> None:
    stage = AlertStage(NETWORK, Thresholds())
    told = [signals for signals in _log(12) if signals.partition == 1 or signals.pane_start_ms >= 4 * 60_000]
    assert [event.type for event in _apply(stage, stage.new(0), *told)] == ["alert.opened"]


def test_the_order_of_partitions_within_a_pane_decides_nothing() -> None:
    stage = AlertStage(NETWORK, Thresholds())
    swapped = [signals for a, b in zip(_log(30)[::2], _log(30)[1::2], strict=True) for signals in (b, a)]
    assert _apply(stage, stage.new(0), *_log(30)) == _apply(stage, stage.new(0), *swapped)


def test_one_partition_may_run_ahead() -> None:
    stage = AlertStage(NETWORK, Thresholds())
    log = _log(30)
    ahead = sorted(log, key=lambda s: s.pane_start_ms - (2 * 60_000 if s.partition == 0 else 0))
    assert _apply(stage, stage.new(0), *log) == _apply(stage, stage.new(0), *ahead)


def test_what_comes_after_its_pane_was_worked_on_is_ignored() -> None:
    stage = AlertStage(NETWORK, Thresholds())
    state = stage.new(0)
    _apply(stage, state, *_log(10))
    before = stage.dump(state)
    _apply(stage, state, _signals(0, 3, SLOW[0]))
    assert stage.dump(state) == before


def test_a_restart_anywhere_goes_on_as_if_nothing_had_been() -> None:
    log, stage = _log(25), AlertStage(NETWORK, Thresholds())
    whole = _apply(stage, stage.new(0), *log)
    for cut in range(0, len(log), 7):
        state = stage.new(0)
        events = _apply(stage, state, *log[:cut])
        again = AlertStage(NETWORK, Thresholds())
        events += _apply(again, again.load(0, stage.dump(state)), *log[cut:])
        assert events == whole


def test_a_reported_incident_lasts_until_it_is_ended() -> None:
    stage = AlertStage(NETWORK, Thresholds())
    state = stage.new(0)
    report = Signal(segment=2, kind="incident", probability=1.0, reason=("reported",), event="e1")
    ended = Signal(segment=2, kind="incident", probability=1.0, reason=("reported",), event="e1", ended_ms=20 * 60_000)
    events = _apply(stage, state, _signals(REPORTS, 0, report), *_log(5))
    assert [(e.type, e.kind, e.segments) for e in events] == [("alert.opened", "incident", (2,))]
    quiet = [_signals(p, minute, *()) for minute in range(5, 30) for p in (0, 1)]
    assert _apply(stage, state, *quiet[:20]) == []
    [resolved] = _apply(stage, state, _signals(REPORTS, 0, ended), *quiet[20:])
    assert resolved.type == "alert.resolved"
    assert state.reports == {}


def test_sequences_count_from_one() -> None:
    stage = AlertStage(NETWORK, Thresholds())
    events = _apply(stage, stage.new(0), *_log(30))
    assert events[0].sequence == 1
    assert all(b.sequence == a.sequence + 1 for a, b in pairwise(events))


def test_bad_messages_and_foreign_snapshots_are_refused() -> None:
    stage = AlertStage(NETWORK, Thresholds())
    state = stage.new(0)
    with pytest.raises(BadRecord, match="malformed"):
        stage.step(state, Message("signals", 0, 0, 0, b"", b"{}"))
    with pytest.raises(ConfigError, match="allowed"):
        AlertStage(corridor_network(4), Thresholds()).load(0, stage.dump(state))
    with pytest.raises(ConfigError, match="cannot be read"):
        stage.load(0, b"junk")
