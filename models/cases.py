"""Cases: the signals of one pane of the whole city in, steps in the life of alerts out. One alert a cause and place.

Neighbouring congested segments are one case; its head, the cause, is its most downstream segment or the incident. What
is as usual for the time of day opens no case: an alert is for what an operator must act on (EEMUA 191). A case opens
after it has lasted, stays open through gaps, and only ever gets more severe, so that it does not flap.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from citybrain.messages import AlertEvent, AlertEventType, AlertKind, Severity, Signal
from citybrain.network import Network
from citybrain.settings import Thresholds
from models.roads import observed_downstream

SURE = 0.8
"""An incident signal from this probability is a cause of its own."""
EXPECTED_KM = 2.0
"""Expected congestion alarms from two segments of together so many times ``alert_min_km``, and ..."""
EXPECTED_SURER = 0.1
"""... if the mean probability is above the threshold by so much."""
INCIDENT_CLEAR = 2.0
"""An incident must be gone so many times ``close_after``: while lanes are closed its queue goes when drivers choose
another way, and comes back with them."""
GAP_PANES = 2
"""A case that has not opened yet is forgotten after so many panes without a signal."""
CRITICAL_KM, MAJOR_KM = 1.0, 2.0
"""Queue of an incident that is critical; of congestion that is major."""
MAJOR_DELAY_VEH_H = 20.0
"""Delay so far from which congestion is major."""
WORTH_VEH_H: dict[AlertKind, float] = {"congestion_expected": 0.0, "congestion": 15.0, "incident": 2.0}
"""Delay so far from which an alert is worth an operator's time; what was reported needs none."""
_RANK: dict[Severity, int] = {"minor": 0, "major": 1, "critical": 2}
_KIND_RANK: dict[AlertKind, int] = {"congestion_expected": 0, "congestion": 1, "incident": 2}


class Case(msgspec.Struct):
    """One cause as it stands; ``sequence`` is 0 until its alert opens.

    ``seen`` holds the segments of the last minutes with the time each was last in the case, ``segments`` those of the
    newest pane, head first.
    """

    alert_id: str
    kind: AlertKind
    started_ms: int
    seen: dict[int, int]
    segments: tuple[int, ...]
    last_ms: int
    active_ms: int = 0
    sequence: int = 0
    detected_ms: int = 0
    told_ms: int = 0
    told_km: float = 0.0
    severity: Severity = "minor"
    probability: float = 0.0
    speed_kmh: float | None = None
    expected_kmh: float | None = None
    delay_veh_h: float = 0.0
    queue_km: float = 0.0
    horizon_min: int = 0
    reason: tuple[str, ...] = ()
    follows: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Connected segments with their signals, head first; ``length_km`` of those that are measured to be slow."""

    kind: AlertKind
    signals: tuple[Signal, ...]
    length_km: float
    members: frozenset[int]

    @property
    def segments(self) -> tuple[int, ...]:
        """Segment indices, head first."""
        return tuple(signal.segment for signal in self.signals)

    @property
    def reported(self) -> bool:
        """True where somebody reported an incident and is sure."""
        return any(s.event and s.probability >= 1 for s in self.signals)


class Casebook:
    """The rules by which signals become alerts in one city; cases are passed in and out."""

    def __init__(self, network: Network, thresholds: Thresholds) -> None:
        self._network, self._thresholds = network, thresholds
        self._length_km = network.segments.length_km
        self._leads_into = observed_downstream(network)

    def advance(
        self, cases: list[Case], signals: Iterable[Signal], pane_start_ms: int, pane_ms: int
    ) -> tuple[list[Case], list[AlertEvent]]:
        """Return the cases after a pane, and what is told of them; panes come in order, signals of all partitions."""
        now, coming = _split(self._heads(signals))
        pane = _Pane(self, list(cases), pane_start_ms, pane_ms, [])
        congested = {signal.segment for signal in now}
        for group in self.groups(now):
            pane.take(group)
        for group in self.groups(coming):
            pane.take_expected(group, congested)
        pane.settle(congested)
        return pane.cases, pane.events

    def _heads(self, signals: Iterable[Signal]) -> list[Signal]:
        """Return the signals with only heads of queues as incidents.

        The stage that finds incidents sees one partition. Where the road downstream is jammed in another one, as usual
        or not, the cause is there.
        """
        given = list(signals)
        jammed = {s.segment for s in given if s.kind != "congestion_expected" and not s.event}
        return [
            _queueing(s) if s.kind == "incident" and not s.event and jammed & set(self._leads_into[s.segment]) else s
            for s in given
        ]

    def groups(self, signals: Sequence[Signal]) -> list[Group]:
        """Return the signals as groups of connected segments, in order of their lowest segment."""
        by_segment = {signal.segment: signal for signal in signals}
        parent = {segment: segment for segment in by_segment}
        into: dict[int, int] = {}
        for segment in sorted(by_segment):
            for after in self._leads_into[segment]:
                # Two queues into the same segment have one cause there, though it flows itself.
                beside = into.setdefault(after, segment)
                for other in (beside, after) if after in parent else (beside,):
                    a, b = _root(parent, segment), _root(parent, other)
                    parent[max(a, b)] = min(a, b)
        members: dict[int, list[Signal]] = {}
        for segment in sorted(by_segment):
            members.setdefault(_root(parent, segment), []).append(by_segment[segment])
        return [self._group(signals) for signals in members.values()]

    def length_km(self, segments: Iterable[int]) -> float:
        """Return the length of segments, km."""
        return round(float(sum(self._length_km[segment] for segment in segments)), 3)

    def led_into(self, group: Group) -> frozenset[int]:
        """Return the group's segments and those that it leads into: a queue with one of these is its own, or grows."""
        return group.members.union(*(self._leads_into[segment] for segment in group.members))

    def opens(self, group: Group) -> bool:
        """Return True where a group is worth an operator's time."""
        limits = self._thresholds
        if group.kind == "incident":
            return True
        if group.kind == "congestion":
            return group.length_km >= limits.alert_min_km
        mean = sum(signal.probability for signal in group.signals) / len(group.signals)
        long = len(group.signals) > 1 and group.length_km >= EXPECTED_KM * limits.alert_min_km
        return long and mean >= min(limits.warn_probability + EXPECTED_SURER, 0.95)

    def worth(self, case: Case) -> bool:
        """Return True where enough has been lost for an operator; where no flow is known, length decides."""
        if case.delay_veh_h == 0:
            return case.queue_km >= self._thresholds.alert_min_km
        return case.delay_veh_h >= WORTH_VEH_H[case.kind]

    def case_of(self, group: Group, pane_start_ms: int) -> Case:
        """Return a new case for a group; its id is the same in every replay."""
        head = group.segments[0]
        name = f"{self._network.version}/{group.kind}/{head}/{pane_start_ms}"
        alert_id = hashlib.sha256(name.encode()).hexdigest()[:16]
        return Case(alert_id, group.kind, pane_start_ms, {}, group.segments, pane_start_ms)

    def mean_kmh(self, pairs: Iterable[tuple[int, float | None]]) -> float | None:
        """Return the mean speed weighted by length; None where none is known."""
        known = [(float(self._length_km[segment]), speed) for segment, speed in pairs if speed is not None]
        length = sum(km for km, _ in known)
        return round(sum(km * speed for km, speed in known) / length, 1) if length > 0 else None

    def severity(self, case: Case) -> Severity:
        """Return how bad a case is now."""
        if case.kind == "incident":
            return "critical" if case.queue_km >= CRITICAL_KM else "major"
        if case.kind == "congestion" and (case.queue_km >= MAJOR_KM or case.delay_veh_h >= MAJOR_DELAY_VEH_H):
            return "major"
        return "minor"

    def event(self, case: Case, kind: AlertEventType, at_ms: int) -> AlertEvent:
        """Return the next step in the life of a case and count it."""
        case.sequence += 1
        case.told_ms, case.told_km = at_ms, case.queue_km
        return AlertEvent(
            network=self._network.version,
            alert_id=case.alert_id,
            sequence=case.sequence,
            type=kind,
            kind=case.kind,
            severity=case.severity,
            segments=case.segments,
            probability=case.probability,
            speed_kmh=case.speed_kmh,
            expected_kmh=case.expected_kmh,
            delay_veh_h=round(case.delay_veh_h, 3),
            queue_km=case.queue_km,
            horizon_min=case.horizon_min,
            started_ms=case.started_ms,
            detected_ms=case.detected_ms,
            updated_ms=at_ms,
            resolved_ms=case.last_ms if kind == "alert.resolved" else None,
            reason=case.reason,
            follows=case.follows,
        )

    def keep_ms(self, kind: AlertKind) -> int:
        """Return for how long an open case waits for its next signal, ms."""
        return int(self._thresholds.close_after.total_seconds() * 1000 * (INCIDENT_CLEAR if kind == "incident" else 1))

    @property
    def thresholds(self) -> Thresholds:
        """What counts, and for how long."""
        return self._thresholds

    def _group(self, signals: list[Signal]) -> Group:
        members = {signal.segment for signal in signals}
        incident = any(s.kind == "incident" and s.probability >= SURE for s in signals)
        kind: AlertKind = "incident" if incident else "congestion"
        if all(signal.kind == "congestion_expected" for signal in signals):
            kind = "congestion_expected"

        def head_first(signal: Signal) -> tuple[float, bool, float, int]:
            inside = any(after in members for after in self._leads_into[signal.segment])
            sure = signal.probability if signal.kind == "incident" else 0.0
            return (-sure, inside, -signal.delay_veh_h, signal.segment)

        ordered = tuple(sorted(signals, key=head_first))
        # A report alone, of which nobody is sure, has no length and so opens nothing.
        measured = [s.segment for s in signals if not (s.kind == "incident" and s.event)]
        return Group(kind, ordered, self.length_km(measured), frozenset(members))


@dataclass(slots=True)
class _Pane:
    """One pane's work on the cases."""

    book: Casebook
    cases: list[Case]
    start_ms: int
    pane_ms: int
    events: list[AlertEvent]

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.pane_ms

    def take(self, group: Group) -> None:
        """Give a congested group to its case, or open one; other cases of the same queue are merged into it."""
        mine = [case for case in self.cases if case.kind != "congestion_expected" and _touches(case, group.members)]
        if not mine:
            if not self.book.opens(group):
                return
            mine = [self.book.case_of(group, self.start_ms)]
            self.cases.append(mine[0])
        case = min(mine, key=_first)
        for other in mine:
            if other is not case:
                self._end(other, "merged", follows=case.alert_id)
        self._renew(case, group)
        if _KIND_RANK[group.kind] > _KIND_RANK[case.kind]:
            case.kind = group.kind
        limits = self.book.thresholds
        lasted = case.active_ms >= limits.open_after.total_seconds() * 1000 and self.book.worth(case)
        if case.sequence == 0 and (lasted or group.reported) and self.book.opens(group):
            self._open(case)

    def take_expected(self, group: Group, congested: set[int]) -> None:
        """Give an expected group to its case, or open one; not where a queue that is known already grows."""
        near = self.book.led_into(group)
        if any(case.kind != "congestion_expected" and _touches(case, near) for case in self.cases):
            return
        mine = [case for case in self.cases if case.kind == "congestion_expected" and _touches(case, group.members)]
        if not mine:
            if not self.book.opens(group) or congested.intersection(group.segments):
                return
            mine = [self.book.case_of(group, self.start_ms)]
            self.cases.append(mine[0])
        case = min(mine, key=_first)
        self._renew(case, group)
        case.horizon_min = min(signal.horizon_min for signal in group.signals)
        limits = self.book.thresholds
        if case.sequence == 0 and case.active_ms >= limits.open_after.total_seconds() * 1000 and self.book.opens(group):
            self._open(case)

    def settle(self, congested: set[int]) -> None:
        """Resolve what is over and tell what has changed."""
        for case in list(self.cases):
            if case.kind == "congestion_expected" and congested.intersection(case.segments):
                self._came_true(case)
            elif case.last_ms < self.end_ms:
                self._wait(case)
            elif case.sequence:
                self._tell(case)

    def _renew(self, case: Case, group: Group) -> None:
        renewed_twice = case.last_ms == self.end_ms
        signals = {signal.segment: signal for signal in group.signals}
        keep_ms = self.book.keep_ms(case.kind)
        case.seen = {s: at for s, at in case.seen.items() if at > self.end_ms - keep_ms - self.pane_ms}
        case.seen |= dict.fromkeys(signals, self.end_ms)
        case.segments = (*case.segments, *signals) if renewed_twice else tuple(signals)
        case.active_ms += 0 if renewed_twice else self.pane_ms
        case.last_ms = self.end_ms
        case.queue_km = self.book.length_km(case.segments)
        case.delay_veh_h += sum(signal.delay_veh_h for signal in group.signals)
        case.probability = _probability(group)
        case.speed_kmh = self.book.mean_kmh((s.segment, s.speed_kmh) for s in group.signals)
        case.expected_kmh = self.book.mean_kmh((s.segment, s.expected_kmh) for s in group.signals)
        case.reason = _reasons(group)

    def _open(self, case: Case) -> None:
        case.detected_ms = self.end_ms
        case.severity = self.book.severity(case)
        self.events.append(self.book.event(case, "alert.opened", self.end_ms))

    def _tell(self, case: Case) -> None:
        worse = self.book.severity(case)
        if _RANK[worse] > _RANK[case.severity]:
            case.severity = worse
            self.events.append(self.book.event(case, "alert.updated", self.end_ms))
            return
        due = self.end_ms - case.told_ms >= self.book.thresholds.update_every.total_seconds() * 1000
        if due and abs(case.queue_km - case.told_km) >= max(0.1, 0.1 * case.told_km):
            self.events.append(self.book.event(case, "alert.updated", self.end_ms))

    def _wait(self, case: Case) -> None:
        gone_ms = self.end_ms - case.last_ms
        if case.sequence == 0:
            if gone_ms >= GAP_PANES * self.pane_ms:
                self.cases.remove(case)
        elif gone_ms >= self.book.keep_ms(case.kind):
            self._end(case, "passed" if case.kind == "congestion_expected" else "cleared")

    def _came_true(self, case: Case) -> None:
        after = [c for c in self.cases if c.kind != "congestion_expected" and set(c.segments) & set(case.segments)]
        heir = min(after, key=_first) if after else None
        if heir is not None and not heir.follows and case.sequence:
            heir.follows = case.alert_id
        self._end(case, "came_true", follows=heir.alert_id if heir else "")

    def _end(self, case: Case, why: str, *, follows: str = "") -> None:
        self.cases.remove(case)
        if case.sequence:
            case.reason, case.follows = (why,), follows or case.follows
            self.events.append(self.book.event(case, "alert.resolved", self.end_ms))


def _split(signals: Iterable[Signal]) -> tuple[list[Signal], list[Signal]]:
    """What is congested unlike the typical day or an incident; what is expected unlike it. The strongest a segment."""
    now: dict[int, Signal] = {}
    coming: dict[int, Signal] = {}
    for signal in sorted(signals, key=lambda s: (s.segment, s.kind, s.event)):
        if signal.kind == "congestion_expected":
            if not signal.as_usual:
                coming[signal.segment] = signal
        elif signal.kind == "incident" or not signal.as_usual:
            before = now.get(signal.segment)
            now[signal.segment] = signal if before is None else _stronger(before, signal)
    return list(now.values()), [signal for segment, signal in coming.items() if segment not in now]


def _queueing(signal: Signal) -> Signal:
    """What looked like an incident, as the queue of something further on."""
    said = dict.fromkeys(("queue_downstream", *(code for code in signal.reason if code != "free_downstream")))
    return msgspec.structs.replace(signal, kind="congestion", probability=1.0, reason=tuple(said))


def _stronger(a: Signal, b: Signal) -> Signal:
    """One signal of two of the same segment: the sure incident, else what is measured; with what the other adds."""
    cause, other = sorted((a, b), key=lambda s: (s.kind == "incident" and s.probability >= SURE, s.probability))[::-1]
    return msgspec.structs.replace(
        cause,
        speed_kmh=cause.speed_kmh if cause.speed_kmh is not None else other.speed_kmh,
        expected_kmh=cause.expected_kmh if cause.expected_kmh is not None else other.expected_kmh,
        delay_veh_h=max(cause.delay_veh_h, other.delay_veh_h),
        reason=tuple(dict.fromkeys((*cause.reason, *other.reason))),
        event=cause.event or other.event,
    )


def _probability(group: Group) -> float:
    if group.kind == "incident":
        return max(signal.probability for signal in group.signals if signal.kind == "incident")
    return round(sum(signal.probability for signal in group.signals) / len(group.signals), 3)


def _reasons(group: Group) -> tuple[str, ...]:
    """The head's reasons first, then those of the others, by how many share them."""
    count: dict[str, int] = {}
    for signal in group.signals:
        for code in signal.reason:
            count[code] = count.get(code, 0) + 1
    others = sorted(count, key=lambda code: (-count[code], code))
    return tuple(dict.fromkeys((*group.signals[0].reason, *others)))[:4]


def _touches(case: Case, segments: frozenset[int]) -> bool:
    # Looks through the smaller of both: of a city that is half a jam, most cases and groups are small.
    return not case.seen.keys().isdisjoint(segments)


def _first(case: Case) -> tuple[bool, int, int, str]:
    """Order in which cases of one queue survive a merge: open, graver kind, older."""
    return (case.sequence == 0, -_KIND_RANK[case.kind], case.started_ms, case.alert_id)


def _root(parent: dict[int, int], segment: int) -> int:
    while parent[segment] != segment:
        parent[segment] = parent[parent[segment]]
        segment = parent[segment]
    return segment
