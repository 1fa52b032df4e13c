"""Stage `alert`: panes complete across partitions, reports last until they end, replays agree."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from citybrain.errors import BadRecord, ConfigError
from citybrain.messages import REPORTS, AlertEvent, DeadLetter, Signal, Signals, decode_json, encode_json
from citybrain.settings import Thresholds
from citybrain.wire import Message, Output
from infra.kafka.admin import MESSAGE_MAX_BYTES
from streams.alert import MOST_SIGNALS, WAIT_CLOCK_MS, AlertStage, AlertState
from streams.panes import MOST_PANES
from streams.snapshot import unpacked
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


def _apply(
    stage: AlertStage, state: AlertState, *told: Signals, at_ms: Callable[[Signals], int] = lambda s: s.pane_start_ms
) -> list[AlertEvent]:
    """Return what is told; ``at_ms`` is the broker's clock, by default that of the city: as it goes in real time."""
    events, now_ms = [], 0
    for signals in told:
        now_ms = max(now_ms, at_ms(signals))
        message = Message("signals", 0, 0, now_ms, b"", encode_json(signals))
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


def test_a_partition_that_comes_back_hours_later_than_others_loses_nothing() -> None:
    # Workers that work on a backlog: hours of the city pass in seconds of the broker's clock.
    stage = AlertStage(NETWORK, Thresholds())
    log = _log(300)
    late = sorted(log, key=lambda s: s.pane_start_ms + (200 * 60_000 if s.partition == 0 else 0))
    assert _apply(stage, stage.new(0), *late, at_ms=lambda s: s.pane_start_ms // 240) == _apply(
        stage, stage.new(0), *log
    )


def test_a_partition_that_stays_away_in_a_backlog_is_waited_for_by_the_brokers_clock() -> None:
    stage = AlertStage(NETWORK, Thresholds())
    only = [_signals(1, minute, SLOW[1]) for minute in range(MOST_PANES)]
    state = stage.new(0)
    before = WAIT_CLOCK_MS // 1000  # a minute of the city in a second
    assert _apply(stage, state, *only[:before], at_ms=lambda s: s.pane_start_ms // 60) == []
    [opened] = _apply(stage, state, *only[before:], at_ms=lambda s: s.pane_start_ms // 60)
    assert opened.segments == (4,)


def test_a_standstill_of_everything_is_no_waiting() -> None:
    # A backlog was worked on, one partition 100 minutes ahead of the queue that the other has yet to tell of, when the
    # broker went away for half an hour.
    stage = AlertStage(NETWORK, Thresholds())
    log = _log(300)
    late = sorted(log, key=lambda s: s.pane_start_ms + (120 * 60_000 if s.partition == 0 else 0))
    before, away_ms = {id(signals) for signals in late[:100]}, 30 * 60_000

    def at_ms(signals: Signals) -> int:
        return signals.pane_start_ms // 240 + (0 if id(signals) in before else away_ms)

    assert _apply(stage, stage.new(0), *late, at_ms=at_ms) == _apply(stage, stage.new(0), *log)


def test_a_broker_whose_clock_is_set_back_does_not_hold_up_the_city() -> None:
    stage = AlertStage(NETWORK, Thresholds())
    state, hour_ms = stage.new(0), 60 * 60_000
    events: list[Output] = []
    for minute in range(40):
        message = Message("signals", 0, 0, (minute + 60) * 60_000 - (hour_ms if minute >= 10 else 0), b"",
                          encode_json(_signals(1, minute, SLOW[1])))  # fmt: skip
        events += stage.step(state, message).outputs
    assert len(events) == 1
    assert state.done_ms == (39 - 15) * 60_000


def test_a_partition_that_cannot_keep_up_holds_the_alerts_of_others_for_a_quarter_of_an_hour() -> None:
    # It says something all the while, of panes an hour ago.
    stage = AlertStage(NETWORK, Thresholds())

    def sent_ms(signals: Signals) -> int:
        return signals.pane_start_ms + (60 * 60_000 if signals.partition == 0 else 0)

    state, told = stage.new(0), list[int]()
    for signals in sorted(_log(120), key=sent_ms):
        events = _apply(stage, state, signals, at_ms=sent_ms)
        told += [sent_ms(signals) - event.updated_ms for event in events]
    assert told
    assert max(told) <= 15 * 60_000


def test_no_more_panes_wait_than_a_snapshot_can_hold() -> None:
    stage = AlertStage(NETWORK, Thresholds())
    state = stage.new(0)
    _apply(stage, state, *(_signals(1, minute) for minute in range(MOST_PANES + 9)), at_ms=lambda s: 0)
    assert len(state.waiting) == MOST_PANES


def test_no_more_signals_wait_than_a_snapshot_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.alert.MOST_SIGNALS", 50)
    stage = AlertStage(NETWORK, Thresholds())
    state = stage.new(0)
    _apply(stage, state, *(_signals(1, minute, *[SLOW[1]] * 20) for minute in range(9)), at_ms=lambda s: 0)
    assert list(state.waiting) == [7 * 60_000, 8 * 60_000]
    _apply(stage, state, _signals(1, 9, *[SLOW[1]] * 90), at_ms=lambda s: 0)
    assert list(state.waiting) == [9 * 60_000], "one pane may be larger"
    assert state.kept == 90


def test_the_largest_snapshot_fits_a_message() -> None:
    # Random to the last bit, which no compression makes smaller.
    rng, stage = np.random.default_rng(1), AlertStage(NETWORK, Thresholds())
    state, panes = stage.new(0), 10
    for minute in range(panes):
        signals = [
            Signal(
                segment=at, kind="breakdown", reason=("below_typical", "queue_downstream"),
                probability=p, speed_kmh=50 * speed, expected_kmh=50 * usual, delay_veh_h=delay,
            )
            for at, (p, speed, usual, delay) in enumerate(rng.random((MOST_SIGNALS // panes, 4)).tolist())
        ]  # fmt: skip
        state.keep(minute * 60_000, 1, tuple(signals))
    assert state.kept == MOST_SIGNALS
    assert len(stage.dump(state)) < 0.8 * MESSAGE_MAX_BYTES


def test_what_comes_too_late_is_refused_and_what_comes_twice_is_not() -> None:
    stage = AlertStage(NETWORK, Thresholds())
    state = stage.new(0)
    _apply(stage, state, *(_signals(1, minute) for minute in range(30)))

    def refused(signals: Signals) -> list[DeadLetter]:
        return list(stage.step(state, Message("signals", 0, 7, 0, b"0/0", encode_json(signals))).refused)

    assert refused(_signals(1, 3, SLOW[1])) == [], "a repeat"
    assert refused(_signals(0, 2)) == [], "it says nothing"
    [letter] = refused(_signals(0, 3, SLOW[0]))
    assert (letter.reason, letter.stage, letter.offset) == ("late", "alert", 7)
    assert letter.record_ms == 4 * 60_000, "the city's time, not the broker's"
    assert "partition 0, pane of 1970-01-01T00:03:00+00:00 seen, after 1970-01-01T00:14:00+00:00" in letter.detail
    assert refused(_signals(0, 3, SLOW[0])) == [], "a repeat of it"


def _first_format(dump: bytes) -> bytes:
    """Return a state as the version before dumped it."""
    fields = msgspec.msgpack.decode(unpacked(dump))
    kept = ("network", "cases", "waiting", "reports", "done_ms")
    return msgspec.msgpack.encode({"format": "alert-1"} | {name: fields[name] for name in kept})


def test_a_snapshot_of_before_is_read_and_what_comes_again_is_a_repeat() -> None:
    stage = AlertStage(NETWORK, Thresholds())
    state = stage.new(0)
    _apply(stage, state, *_log(10))
    again = stage.load(0, _first_format(stage.dump(state)))
    message = Message("signals", 0, 7, 0, b"0/0", encode_json(_signals(0, 9, SLOW[0])))
    assert not stage.step(again, message).refused


def test_a_snapshot_of_before_knows_who_has_spoken_of_the_panes_that_wait() -> None:
    log, stage = _log(25), AlertStage(NETWORK, Thresholds())
    state = stage.new(0)
    _apply(stage, state, *log[:17])  # partition 1 has yet to speak of the last
    again = stage.load(0, _first_format(stage.dump(state)))
    assert again.waiting
    assert (again.told_ms, again.kept) == (state.told_ms, 1)
    assert _apply(stage, again, *log[17:]) == _apply(stage, state, *log[17:])


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
    before = copy.deepcopy((state.cases, state.waiting, state.done_ms))
    assert _apply(stage, state, _signals(0, 3, SLOW[0])) == []
    assert (state.cases, state.waiting, state.done_ms) == before


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


def test_an_incident_that_a_backlog_tells_of_first_begins_when_it_began() -> None:
    stage = AlertStage(NETWORK, Thresholds())
    state = stage.new(0)
    signal = Signal(segment=2, kind="incident", probability=1.0, reason=("reported",), event="e1", ended_ms=20 * 60_000)
    events = _apply(stage, state, _signals(REPORTS, 10, signal), *(_signals(p, m) for m in range(30) for p in (0, 1)))
    opened, resolved = events
    assert (opened.type, opened.detected_ms) == ("alert.opened", 11 * 60_000)
    assert (resolved.type, resolved.resolved_ms) == ("alert.resolved", 19 * 60_000)


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
