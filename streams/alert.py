"""Stage `alert`: signals of all partitions and reported events in, the life of alerts out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import msgspec

from citybrain.clock import utc
from citybrain.errors import BadRecord
from citybrain.messages import REPORTS, AlertEvent, Signal, Signals, decode_json, encode_json
from citybrain.network import Network
from citybrain.settings import Thresholds
from citybrain.topics import TopicName
from citybrain.wire import Message, Output
from models.cases import Case, Casebook
from streams.panes import MOST_PANES, require_network
from streams.snapshot import packed, unpacked
from streams.stage import NOTHING, Results, refusal
from streams.states import state_of

_FORMAT, _BEFORE = "alert-2", "alert-1"
WAIT_PANES, WAIT_MS = 3, 15 * 60_000
"""A pane waits for every partition until one so many panes, and so much later, has been seen ..."""
WAIT_CLOCK_MS = 10 * 60_000
"""... and it has waited so long by the broker's clock. What a partition says of a pane that was worked on is lost, and
its open alerts were told to be over. Event time alone does not tell a partition whose worker died (45 s until it is
replaced) from one that is behind: workers that come back after hours work on a quarter of an hour in less than a second
(docs/decisions/0013-alerts-wait-by-the-brokers-clock.md)."""
STOOD_STILL_MS = 60_000
"""A silence that is longer, and longer than two panes, is no waiting: nobody works, or the broker's clock was set."""
MOST_SIGNALS = 250_000
"""Signals that wait at most, beyond one pane: packed they are 8 MiB at most, and no snapshot may be larger than 16."""


class AlertState(msgspec.Struct):
    """Open cases, panes that wait for a partition, and reported events that last.

    Attributes
    ----------
    format, network
        Of the snapshot.
    cases
        What is going on.
    waiting
        By pane start: by partition its signals.
    done_ms
        Start of the newest pane that was worked on; -1 before the first.
    reports, from_ms
        By event id: its signal, and when it began. A backlog tells of it before the panes of that time.
    since_ms
        By pane that waits when it was first spoken of, by ``clock_ms``.
    told_ms
        By partition the start of the newest pane that it spoke of.
    kept
        How many signals wait.
    clock_ms, last_ms
        How long the log has moved, by the broker's clock without its standstills, ms; time of its last message, ms UTC.
    """

    format: str
    network: str
    cases: list[Case]
    waiting: dict[int, dict[int, tuple[Signal, ...]]]
    reports: dict[str, Signal]
    done_ms: int = -1
    since_ms: dict[int, int] = {}
    told_ms: dict[int, int] = {}
    from_ms: dict[str, int] = {}
    kept: int = 0
    clock_ms: int = 0
    last_ms: int = -1

    def passes(self, now_ms: int, most_ms: int) -> None:
        """Let the clock go on to the time of a message."""
        if self.last_ms >= 0:
            self.clock_ms += min(max(now_ms - self.last_ms, 0), most_ms)
        self.last_ms = now_ms

    def keep(self, start_ms: int, partition: int, signals: tuple[Signal, ...]) -> None:
        """Let what a partition says of a pane wait."""
        pane = self.waiting.setdefault(start_ms, {})
        self.kept += len(signals) - len(pane.get(partition, ()))
        pane[partition] = signals
        self.since_ms.setdefault(start_ms, self.clock_ms)

    def take(self, start_ms: int) -> list[Signal]:
        """Return what waits of a pane, by partition; it waits no more."""
        pane = self.waiting.pop(start_ms)
        signals = [signal for partition in sorted(pane) for signal in pane[partition]]
        self.kept -= len(signals)
        self.since_ms.pop(start_ms)
        return signals


class AlertStage:
    """Works on a pane once every partition has spoken of it (or has been left behind), in order of panes."""

    name: ClassVar[str] = "alert"
    sources: ClassVar[tuple[TopicName, ...]] = ("signals",)
    keeps_state: ClassVar[bool] = True

    def __init__(self, network: Network, thresholds: Thresholds) -> None:
        self._network = network
        self._book = Casebook(network, thresholds)

    def new(self, partition: int) -> AlertState:
        """Return the state before the first pane."""
        return AlertState(_FORMAT, self._network.version, [], {}, {})

    def dump(self, state: AlertState) -> bytes:
        """Return the state as bytes."""
        return packed(msgspec.msgpack.encode(state))

    def load(self, partition: int, blob: bytes) -> AlertState:
        """Return the state that was dumped."""
        state = state_of(AlertState, _unpacked(blob), _FORMAT, self._network.version, before=_BEFORE)
        if state.format == _BEFORE:
            state.format = _FORMAT
            state.since_ms = dict.fromkeys(state.waiting, 0)
            state.kept = sum(len(some) for pane in state.waiting.values() for some in pane.values())
            # What comes again is a repeat.
            state.told_ms = dict.fromkeys(range(self._network.partitions), state.done_ms)
            state.told_ms |= {part: start for start in sorted(state.waiting) for part in state.waiting[start]}
        return state

    def step(self, state: AlertState, message: Message) -> Results:
        """Take the signals of one partition, and work on every pane that is complete with them."""
        signals = decode_json(Signals, message.value)
        require_network(signals.network, self._network.version)
        state.passes(message.record_ms, max(STOOD_STILL_MS, 2 * signals.pane_ms))
        if signals.partition == REPORTS:
            _note(state, signals)
            return NOTHING
        start_ms, before_ms = signals.pane_start_ms, state.told_ms.get(signals.partition, -1)
        state.told_ms[signals.partition] = max(start_ms, before_ms)
        if start_ms <= state.done_ms:
            # What comes twice says nothing new; what comes too late is lost, if it says anything.
            return self._too_late(state, signals, message) if start_ms > before_ms and signals.signals else NOTHING
        state.keep(start_ms, signals.partition, signals.signals)
        events: list[AlertEvent] = []
        while (pane_start_ms := self._complete(state, signals.pane_ms)) is not None:
            events += self._advance(state, pane_start_ms, signals.pane_ms)
        return Results([_output(event) for event in events])

    def _too_late(self, state: AlertState, signals: Signals, message: Message) -> Results:
        seen, done = (utc(at_ms).isoformat() for at_ms in (signals.pane_start_ms, state.done_ms))
        detail = f"partition {signals.partition}, pane of {seen} seen, after {done} allowed (alerts are made up to it)"
        # The record time of a signal is the broker's: its letter lies where the city's time was.
        told = replace(message, record_ms=signals.pane_start_ms + signals.pane_ms)
        return Results(refused=[refusal(self.name, told, BadRecord("late", detail))])

    def _complete(self, state: AlertState, pane_ms: int) -> int | None:
        if not state.waiting:
            return None
        oldest, newest = min(state.waiting), max(state.waiting)
        late = newest - oldest >= max(WAIT_PANES * pane_ms, WAIT_MS)
        left_behind = late and state.clock_ms - state.since_ms[oldest] >= WAIT_CLOCK_MS
        # Each speaks of its panes in order: who has spoken of a later one says nothing of this one any more.
        all_spoke = all(state.told_ms.get(partition, -1) >= oldest for partition in range(self._network.partitions))
        return oldest if all_spoke or left_behind or self._too_many(state) else None

    @staticmethod
    def _too_many(state: AlertState) -> bool:
        return len(state.waiting) > MOST_PANES or (state.kept > MOST_SIGNALS and len(state.waiting) > 1)

    def _advance(self, state: AlertState, pane_start_ms: int, pane_ms: int) -> list[AlertEvent]:
        signals, end_ms = state.take(pane_start_ms), pane_start_ms + pane_ms
        state.done_ms = pane_start_ms
        for event in [key for key, signal in state.reports.items() if _over(signal, end_ms)]:
            del state.reports[event]
            state.from_ms.pop(event, None)
        begun = [event for event in sorted(state.reports) if state.from_ms.get(event, 0) < end_ms]
        signals += [state.reports[event] for event in begun]
        state.cases, events = self._book.advance(state.cases, signals, pane_start_ms, pane_ms)
        return events

    def flush(self, state: AlertState) -> Results:
        """Return nothing: a step that was told is never revised."""
        return NOTHING

    def provisional(self, state: AlertState) -> Sequence[Output]:
        """Return nothing: only closed panes open alerts."""
        return ()

    async def durable(self) -> None:
        """Do nothing: all effects are in Kafka."""


def _unpacked(blob: bytes) -> bytes:
    """Return a dump; the former format was not packed."""
    try:
        return unpacked(blob)
    except (OSError, ValueError):
        return blob


def _note(state: AlertState, signals: Signals) -> None:
    """Keep the newest word on each event. One that ends in the future lasts until then."""
    for signal in signals.signals:
        state.reports[signal.event] = signal
        state.from_ms[signal.event] = signals.pane_start_ms


def _over(signal: Signal, at_ms: int) -> bool:
    return signal.ended_ms is not None and signal.ended_ms <= at_ms


def _output(event: AlertEvent) -> Output:
    return Output("alerts", 0, event.alert_id.encode(), encode_json(event), event.updated_ms)
