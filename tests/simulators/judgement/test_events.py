from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from simulators.judgement.events import Alarm, Events, alarms_of, judge_events
from simulators.judgement.truthfiles import TrueIncident
from tests.fakes import alert_event, grid_network

GRID = grid_network()
MIN = 60_000
NOON = 1_790_000_000_000 // MIN * MIN


def incident(
    segment: int,
    begins: int = 0,
    lasts: int = 30,
    *,
    metres: float = 400.0,
    queue: Sequence[int] = (),
    kind: str = "incident",
) -> TrueIncident:
    onset, end = NOON + begins * MIN, NOON + (begins + lasts) * MIN
    return TrueIncident(segment, onset, end, end, metres, frozenset(queue), kind)


def alarm(at: int, *segments: int, kind: str = "incident", name: str = "", until: int | None = None) -> Alarm:
    resolved = None if until is None else NOON + until * MIN
    return Alarm(name or f"{kind}-{at}-{segments}", kind, kind, NOON + at * MIN, resolved, frozenset(segments))


def judged(incidents: list[TrueIncident], alarms: list[Alarm], jammed: Iterable[int] = ()) -> Events:
    def was_jammed(segments: Iterable[int], from_ms: int, to_ms: int) -> bool:
        return bool(set(segments) & set(jammed)) and from_ms < to_ms

    return judge_events(incidents, alarms, GRID, was_jammed, days=1.0)


def test_an_alert_on_its_segment_finds_an_incident_after_some_minutes() -> None:
    events = judged([incident(3)], [alarm(7, 3)])
    assert [one.minutes for one in events.found] == [7.0]
    assert events.false_incidents == ()


@pytest.mark.parametrize(
    ("at", "segment", "why"),
    [(-1, 3, "before it"), (41, 3, "long after it"), (7, 30, "elsewhere")],
)
def test_an_alert_at_another_time_or_place_is_false_and_the_incident_missed(at: int, segment: int, why: str) -> None:
    events = judged([incident(3)], [alarm(at, segment)])
    assert events.found[0].alarm is None, why
    assert len(events.false_incidents) == 1


def test_an_alert_on_the_queue_or_a_segment_beside_finds_it() -> None:
    before = int((GRID.segments.to_node == GRID.segments.from_node[3]).nonzero()[0][0])
    assert judged([incident(3)], [alarm(5, before)]).found[0].minutes == 5
    assert judged([incident(3, queue=[30])], [alarm(5, 30)]).found[0].minutes == 5


def test_each_alert_finds_one_incident_and_each_is_found_by_its_first_alert() -> None:
    events = judged([incident(3), incident(3, begins=2)], [alarm(5, 3, name="a"), alarm(9, 3, name="b")])
    assert [one.alarm and one.alarm.alert_id for one in events.found] == ["a", "b"]
    again = judged([incident(3)], [alarm(5, 3, name="a"), alarm(9, 3, name="b")])
    assert [one.alert_id for one in again.false_incidents] == ["b"]


def test_congestion_alerts_are_right_where_there_was_a_jam() -> None:
    alarms = [alarm(5, 3, kind="congestion"), alarm(5, 20, kind="congestion")]
    events = judged([], alarms, jammed=[3])
    assert events.true_congestion == 1
    assert [one.segments for one in events.false_congestion] == [{20}]
    assert events.false_incidents == ()


def test_a_closure_is_to_be_found_like_an_incident() -> None:
    events = judged([incident(3, kind="closure")], [alarm(7, 3)])
    assert [one.minutes for one in events.found] == [7.0]


@pytest.mark.parametrize("kind", ["rubbernecking", "works"])
def test_what_is_not_to_be_found_is_not_missed_and_an_alert_there_not_false(kind: str) -> None:
    events = judged([incident(3, kind=kind)], [alarm(7, 3, name="there"), alarm(7, 30, name="elsewhere")])
    assert events.found == ()
    assert events.explained == 1
    assert [one.alert_id for one in events.false_incidents] == ["elsewhere"]


def test_an_alert_long_after_rubbernecking_is_false() -> None:
    events = judged([incident(3, kind="rubbernecking")], [alarm(41, 3)])
    assert (events.explained, len(events.false_incidents)) == (0, 1)


def test_false_incident_alerts_tell_apart_what_was_a_jam() -> None:
    events = judged([], [alarm(7, 3), alarm(7, 30)], jammed=[3])
    assert (len(events.false_incidents), events.false_in_jam) == (2, 1)


def test_expected_congestion_finds_nothing_and_comes_true_or_not() -> None:
    alarms = [alarm(5, 3, kind="congestion_expected"), alarm(5, 20, kind="congestion_expected")]
    events = judged([incident(3)], alarms, jammed=[3])
    assert (events.expected, events.came_true) == (2, 1)
    assert events.found[0].alarm is None


def test_an_incident_in_a_jam_that_was_alarmed_already_says_so() -> None:
    events = judged([incident(3)], [alarm(-20, 3, kind="congestion", until=10)], jammed=[3])
    assert events.found[0].alarm is None
    assert events.found[0].open_before


def test_an_incident_without_a_queue_to_see_is_not_felt() -> None:
    events = judged([incident(3, metres=0.0), incident(20, metres=100.0)], [])
    assert [one.incident.segment for one in events.felt()] == [20]


def test_an_alerts_life_is_one_alarm_with_all_its_segments() -> None:
    steps = [
        alert_event(GRID, alert_id="a", sequence=2, segments=(4, 5)),
        alert_event(GRID, alert_id="a", sequence=1, segments=(3, 4)),
    ]
    [one] = alarms_of(steps)
    assert one.segments == {3, 4, 5}
    assert one.detected_ms == steps[1].detected_ms
