"""Cases: one alert a cause and place, that lasts, does not flap and is worth an operator's time."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from citybrain.messages import AlertEvent, Signal, SignalKind
from citybrain.settings import Thresholds
from models.cases import Case, Casebook
from tests.fakes import corridor_network, grid_network

MINUTE_MS = 60_000
ROAD = corridor_network(12)


class Minutes:
    """A casebook and its cases, brought forward minute by minute."""

    def __init__(self, book: Casebook | None = None) -> None:
        self.book = book or Casebook(ROAD, Thresholds())
        self.cases: list[Case] = []
        self.events: list[AlertEvent] = []
        self.minute = 0

    def pass_by(self, signals: Iterable[Signal], minutes: int = 1) -> list[AlertEvent]:
        told: list[AlertEvent] = []
        for _ in range(minutes):
            self.cases, events = self.book.advance(self.cases, signals, self.minute * MINUTE_MS, MINUTE_MS)
            told += events
            self.minute += 1
        self.events += told
        return told


def slow(
    *segments: int, kind: SignalKind = "congestion", p: float = 1.0, usual: bool = False, delay: float = 4.0
) -> list[Signal]:
    return [
        Signal(
            segment=segment,
            kind=kind,
            probability=p,
            speed_kmh=20.0,
            expected_kmh=80.0,
            reason=("below_typical",),
            delay_veh_h=delay,
            as_usual=usual,
        )
        for segment in segments
    ]


def test_neighbours_are_one_alert_that_opens_after_it_has_lasted() -> None:
    minutes = Minutes()
    assert minutes.pass_by(slow(4, 5, 6), 2) == []
    [opened] = minutes.pass_by(slow(4, 5, 6))
    assert (opened.type, opened.sequence, opened.kind) == ("alert.opened", 1, "congestion")
    assert opened.segments[0] == 6
    assert set(opened.segments) == {4, 5, 6}
    assert opened.queue_km == 1.5
    assert opened.delay_veh_h == 36.0
    assert (opened.started_ms, opened.detected_ms) == (0, 3 * MINUTE_MS)
    assert (opened.speed_kmh, opened.expected_kmh) == (20.0, 80.0)
    assert opened.reason == ("below_typical",)


def test_what_costs_little_opens_late_or_never() -> None:
    minutes = Minutes()
    assert minutes.pass_by(slow(4, 5, delay=0.5), 14) == []
    [opened] = minutes.pass_by(slow(4, 5, delay=0.5))
    assert opened.delay_veh_h == 15.0


def test_where_no_flow_is_known_length_decides() -> None:
    minutes = Minutes()
    minutes.pass_by(slow(4, 5, delay=0.0), 3)
    assert [event.type for event in minutes.events] == ["alert.opened"]


def test_two_places_are_two_alerts() -> None:
    minutes = Minutes()
    minutes.pass_by(slow(1, 2) + slow(8, 9), 5)
    assert len({event.alert_id for event in minutes.events}) == 2


def test_it_is_resolved_when_it_has_been_gone_for_long_enough() -> None:
    minutes = Minutes()
    minutes.pass_by(slow(4, 5), 4)
    assert minutes.pass_by([], 4) == []
    [resolved] = minutes.pass_by([])
    assert (resolved.type, resolved.sequence, resolved.reason) == ("alert.resolved", 2, ("cleared",))
    assert resolved.resolved_ms == 4 * MINUTE_MS
    assert minutes.cases == []


def test_oscillating_input_does_not_flap() -> None:
    minutes = Minutes()
    for _ in range(30):
        minutes.pass_by(slow(4, 5))
        minutes.pass_by([])
    assert [event.type for event in minutes.events].count("alert.opened") == 1
    assert [event.type for event in minutes.events].count("alert.resolved") == 0


def test_a_queue_that_moves_stays_one_alert() -> None:
    minutes = Minutes()
    for tail in range(8, 2, -1):
        minutes.pass_by(slow(*range(tail, tail + 3)), 3)
    assert len({event.alert_id for event in minutes.events}) == 1


def test_changes_are_told_at_most_so_often() -> None:
    minutes = Minutes()
    minutes.pass_by(slow(8, 9), 3)
    for tail in range(7, 5, -1):
        minutes.pass_by(slow(*range(tail, 10)), 2)
    updates = [event for event in minutes.events if event.type == "alert.updated"]
    assert [event.updated_ms for event in updates if event.severity == "minor"] == []
    minutes.pass_by(slow(*range(6, 10)), 4)
    times = [event.updated_ms for event in minutes.events]
    assert times == sorted(times)
    assert [event.sequence for event in minutes.events] == list(range(1, len(times) + 1))


def test_what_is_as_usual_opens_nothing() -> None:
    minutes = Minutes()
    minutes.pass_by(slow(3, 4, 5, 6, usual=True), 30)
    assert minutes.events == []


def test_an_incident_opens_although_the_hour_is_usually_slow() -> None:
    minutes = Minutes()
    minutes.pass_by(slow(3, 4, usual=True) + slow(5, kind="incident", p=0.9), 3)
    [opened] = minutes.events
    assert (opened.kind, opened.segments[0], opened.severity, opened.probability) == ("incident", 5, "major", 0.9)


def test_congestion_that_proves_an_incident_stays_the_same_alert_and_gets_graver() -> None:
    minutes = Minutes()
    minutes.pass_by(slow(5), 4)
    [event] = minutes.pass_by(slow(5, kind="incident", p=0.9))
    assert (event.type, event.kind, event.severity) == ("alert.updated", "incident", "major")
    [event] = minutes.pass_by(slow(3, 4) + slow(5, kind="incident", p=0.9))
    assert event.severity == "critical"
    assert len({event.alert_id for event in minutes.events}) == 1


def test_short_congestion_opens_nothing() -> None:
    short = Casebook(corridor_network(12, typical_km=0.1), Thresholds())
    minutes = Minutes(short)
    minutes.pass_by(slow(4, 5), 20)
    assert minutes.events == []
    minutes.pass_by(slow(4, 5, 6), 5)
    assert [event.type for event in minutes.events] == ["alert.opened"]


def test_two_alerts_that_grow_together_become_the_older_one() -> None:
    minutes = Minutes()
    minutes.pass_by(slow(1, 2), 1)
    minutes.pass_by(slow(1, 2) + slow(5, 6), 5)
    first, second = (event for event in minutes.events if event.type == "alert.opened")
    [resolved] = [e for e in minutes.pass_by(slow(1, 2, 3, 4, 5, 6)) if e.type == "alert.resolved"]
    assert (resolved.alert_id, resolved.reason, resolved.follows) == (second.alert_id, ("merged",), first.alert_id)
    assert [case.alert_id for case in minutes.cases] == [first.alert_id]


def test_two_queues_into_one_segment_are_one_alert() -> None:
    grid = grid_network(partitions=1)
    into, crossing = grid.segments.to_node, int(grid.segments.from_node[1])
    arms = [i for i in range(len(grid.segments)) if into[i] == crossing and i != 1]
    minutes = Minutes(Casebook(grid, Thresholds()))
    minutes.pass_by(slow(*arms[:2]), 4)
    assert len({event.alert_id for event in minutes.events}) == 1


def test_opposite_directions_are_two_places() -> None:
    grid = grid_network(partitions=1)
    there = 0
    start, end = int(grid.segments.from_node[there]), int(grid.segments.to_node[there])
    back = next(
        i for i in range(len(grid.segments)) if (grid.segments.from_node[i], grid.segments.to_node[i]) == (end, start)
    )
    minutes = Minutes(Casebook(grid, Thresholds()))
    minutes.pass_by(slow(there) + slow(back), 4)
    assert len({event.alert_id for event in minutes.events}) == 2


def test_expected_congestion_alarms_only_where_it_is_long_and_likely() -> None:
    minutes = Minutes()
    minutes.pass_by(slow(5, 6, kind="congestion_expected", p=0.62), 10)
    minutes.pass_by(slow(5, kind="congestion_expected", p=0.9), 10)
    assert minutes.events == []
    lone = Minutes(Casebook(corridor_network(12, typical_km=2.0), Thresholds()))
    lone.pass_by(slow(5, kind="congestion_expected", p=0.9), 10)
    assert lone.events == []
    minutes.pass_by(slow(5, 6, kind="congestion_expected", p=0.8), 3)
    [opened] = minutes.events
    assert (opened.kind, opened.severity, opened.probability) == ("congestion_expected", "minor", 0.8)


def test_an_expectation_that_comes_true_ends_and_the_congestion_follows_it() -> None:
    minutes = Minutes()
    minutes.pass_by(slow(5, 6, kind="congestion_expected", p=0.8), 4)
    expected = minutes.events[0]
    minutes.pass_by(slow(5, 6), 4)
    resolved, opened = minutes.events[1:]
    assert (resolved.type, resolved.reason, resolved.follows) == ("alert.resolved", ("came_true",), opened.alert_id)
    assert (opened.type, opened.follows) == ("alert.opened", expected.alert_id)


def test_an_expectation_that_does_not_come_true_passes() -> None:
    minutes = Minutes()
    minutes.pass_by(slow(5, 6, kind="congestion_expected", p=0.8), 4)
    minutes.pass_by([], 6)
    assert minutes.events[-1].reason == ("passed",)


def test_the_growth_of_a_known_queue_is_not_news() -> None:
    minutes = Minutes()
    minutes.pass_by(slow(7, 8), 4)
    minutes.pass_by(slow(7, 8) + slow(5, 6, kind="congestion_expected", p=0.9), 6)
    assert {event.kind for event in minutes.events} == {"congestion"}


def test_a_sure_report_opens_at_once_and_a_citizens_only_with_slow_traffic() -> None:
    sure = Signal(segment=3, kind="incident", probability=1.0, reason=("reported", "accident"), event="e1")
    minutes = Minutes()
    [opened] = minutes.pass_by([sure])
    assert (opened.kind, opened.reason, opened.speed_kmh) == ("incident", ("reported", "accident"), None)

    doubtful = Signal(segment=3, kind="incident", probability=0.5, reason=("reported",), event="e2")
    later = Minutes()
    later.pass_by([doubtful], 10)
    assert later.events == []
    later.pass_by([doubtful, *slow(2)], 4)
    assert [event.kind for event in later.events] == ["congestion"]
    assert "reported" in later.events[0].reason


def test_the_same_signals_give_the_same_ids() -> None:
    runs = []
    for _ in range(2):
        minutes = Minutes()
        minutes.pass_by(slow(4, 5), 5)
        minutes.pass_by([], 6)
        runs.append(minutes.events)
    assert runs[0] == runs[1]


def test_an_incident_waits_longer_for_its_queue_to_come_back() -> None:
    minutes = Minutes()
    jam = slow(5, kind="incident", p=0.9)
    minutes.pass_by(jam, 4)
    minutes.pass_by([], 8)
    minutes.pass_by(jam, 4)
    assert [event.type for event in minutes.events].count("alert.opened") == 1
    minutes.pass_by([], 9)
    [resolved] = minutes.pass_by([])
    assert (resolved.type, resolved.resolved_ms) == ("alert.resolved", 16 * MINUTE_MS)


def test_a_queue_from_a_jam_further_on_is_no_incident_of_its_own() -> None:
    for jam_is_usual in (False, True):
        [jam] = slow(5, kind="incident", p=0.9)
        jam = msgspec.structs.replace(jam, reason=("free_downstream", "below_typical"))
        minutes = Minutes()
        minutes.pass_by([jam, *slow(6, usual=jam_is_usual)], 4)
        [opened] = [event for event in minutes.events if event.type == "alert.opened"]
        assert opened.kind == "congestion"
        assert set(opened.reason) == {"queue_downstream", "below_typical"}


def test_a_reported_incident_is_one_even_before_a_jam_further_on() -> None:
    reported = Signal(segment=5, kind="incident", probability=1.0, event="e1")
    minutes = Minutes()
    minutes.pass_by([reported, *slow(6)], 1)
    assert [event.kind for event in minutes.events] == ["incident"]
