"""Events: alerts and true incidents in; which were found and how soon, which alerts were false, out.

An alert finds an incident if it opens while the incident or its queue lasts, or at most `AFTER_MIN` later, on the
incident's segment, one beside it or one its queue stood on. Each alert finds one incident and each incident is found
by its first alert. To be found are incidents, and closures that nobody announced. An incident alert that finds none is
false, unless works or rubbernecking slow its segments down: nobody asks for these. One of congestion is false where
nothing was at level 3 or worse on its segments around then. That an alert was opened is known at the end of the pane
that decided it.

References
----------
Detection rate, false alarms and mean time to detect: Martin, Perrin and Hansen (2001), Incident detection algorithm
evaluation, Utah Transportation Center.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from citybrain.messages import AlertEvent
from citybrain.network import Network
from simulators.judgement.truthfiles import TrueIncident

AFTER_MIN = 10
AROUND_MS = 5 * 60_000
MS_PER_MIN = 60_000
FELT_M = 100.0
"""A queue from here on is felt; HCM counts a vehicle 7.6 m: a dozen of them."""
WasJammed = Callable[[Iterable[int], int, int], bool]


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alert over its whole life: ``kind`` at the end, ``first_kind`` when it opened, all its segments."""

    alert_id: str
    first_kind: str
    kind: str
    detected_ms: int
    resolved_ms: int | None
    segments: frozenset[int]


@dataclass(frozen=True, slots=True)
class Found:
    """A true incident and the alert that found it, None where none did; ``open_before`` where a jam was alarmed."""

    incident: TrueIncident
    alarm: Alarm | None
    open_before: bool

    @property
    def minutes(self) -> float:
        """Minutes from its onset to the alert; NaN where there was none."""
        return (self.alarm.detected_ms - self.incident.onset_ms) / MS_PER_MIN if self.alarm else float("nan")


@dataclass(frozen=True, slots=True)
class Events:
    """What was found, and what was said beyond that.

    Attributes
    ----------
    found
        Every true incident and closure, by onset.
    false_incidents, false_congestion
        Alerts with nothing behind them.
    true_congestion
        Alerts of congestion that found no incident and were right.
    expected, came_true
        Alerts that expected congestion, and those after which it came within an hour.
    days
        Length of the run.
    explained
        Incident alerts at works, or where drivers looked at an incident on the other carriageway.
    false_in_jam
        Of the false incident alerts those where there was a jam, if not an incident.
    """

    found: tuple[Found, ...]
    false_incidents: tuple[Alarm, ...]
    false_congestion: tuple[Alarm, ...]
    true_congestion: int
    expected: int
    came_true: int
    days: float
    explained: int = 0
    false_in_jam: int = 0

    def felt(self) -> list[Found]:
        """Return the incidents whose queue reached `FELT_M`."""
        return [one for one in self.found if one.incident.furthest_m >= FELT_M]


def alarms_of(steps: Sequence[AlertEvent]) -> list[Alarm]:
    """Return alerts from the steps of their lives, by their opening."""
    lives: dict[str, list[AlertEvent]] = {}
    for step in steps:
        lives.setdefault(step.alert_id, []).append(step)
    found = []
    for alert_id, life in lives.items():
        ordered = sorted(life, key=lambda step: step.sequence)
        first, last = ordered[0], ordered[-1]
        segments = frozenset(s for step in ordered for s in step.segments)
        found.append(Alarm(alert_id, first.kind, last.kind, first.detected_ms, last.resolved_ms, segments))
    return sorted(found, key=lambda alarm: (alarm.detected_ms, alarm.alert_id))


def judge_events(
    incidents: Sequence[TrueIncident],
    alarms: Sequence[Alarm],
    network: Network,
    was_jammed: WasJammed,
    *,
    days: float,
) -> Events:
    """Match alerts with incidents.

    Parameters
    ----------
    incidents, alarms
        What happened, also what is not to be found, and what was said; each by time.
    network
        Which segments lie beside each other.
    was_jammed
        Tells whether one of some segments was truly at level 3 or worse between two instants, ms UTC.
    days
        Length of the run.
    """
    speaking = [alarm for alarm in alarms if alarm.first_kind != "congestion_expected"]
    taken: set[str] = set()
    found = []
    for incident in (one for one in incidents if one.to_find):
        around = _around(incident, network)
        near = [a for a in speaking if a.segments & around]
        alarm = next((a for a in near if _meanwhile(a, incident) and a.alert_id not in taken), None)
        if alarm:
            taken.add(alarm.alert_id)
        before = any(
            a.detected_ms < incident.onset_ms and (a.resolved_ms is None or a.resolved_ms > incident.onset_ms)
            for a in near
        )
        found.append(Found(incident, alarm, before))
    rest = [alarm for alarm in speaking if alarm.alert_id not in taken]

    def jammed(a: Alarm) -> bool:
        return was_jammed(a.segments, a.detected_ms - AROUND_MS, a.detected_ms + AROUND_MS)

    jams = [alarm for alarm in rest if alarm.kind != "incident"]
    unfounded = [alarm for alarm in rest if alarm.kind == "incident"]
    others = [(one, _around(one, network)) for one in incidents if not one.to_find]
    false = [a for a in unfounded if not any(_meanwhile(a, one) and a.segments & around for one, around in others)]
    right = [alarm for alarm in jams if jammed(alarm)]
    expected = [alarm for alarm in alarms if alarm.first_kind == "congestion_expected"]
    came = [a for a in expected if was_jammed(a.segments, a.detected_ms, a.detected_ms + 60 * MS_PER_MIN)]
    return Events(
        tuple(found),
        tuple(false),
        tuple(alarm for alarm in jams if alarm not in right),
        len(right),
        len(expected),
        len(came),
        days,
        len(unfounded) - len(false),
        sum(1 for alarm in false if jammed(alarm)),
    )


def _meanwhile(alarm: Alarm, incident: TrueIncident) -> bool:
    """Return whether an alert opened while an incident or its queue lasted, or not long after."""
    return incident.onset_ms <= alarm.detected_ms < incident.gone_ms + AFTER_MIN * MS_PER_MIN


def _around(incident: TrueIncident, network: Network) -> frozenset[int]:
    """Return the segments on which an alert speaks of an incident."""
    segments, at = network.segments, incident.segment
    beside = (segments.to_node == segments.from_node[at]) | (segments.from_node == segments.to_node[at])
    return frozenset(np.flatnonzero(beside).tolist()) | {at} | incident.queue
