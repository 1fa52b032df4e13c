"""Stage `alert`: signals of all partitions and reported events in, the life of alerts out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from citybrain.messages import REPORTS, AlertEvent, Signal, Signals, decode_json, encode_json
from citybrain.network import Network
from citybrain.settings import Thresholds
from citybrain.topics import TopicName
from citybrain.wire import Message, Output
from models.cases import Case, Casebook
from streams.panes import require_network
from streams.stage import NOTHING, Results
from streams.states import state_of

_FORMAT = "alert-1"
WAIT_PANES, WAIT_MS = 3, 15 * 60_000
"""A pane waits for every partition until one so many panes, and so much later, has been seen: a partition whose worker
died comes behind by what it takes to replace it, and after an outage some catch up minutes before others. What it has
to say by then would be lost, and its open alerts would be told to be over."""


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
    reports
        By event id: its signal.
    """

    format: str
    network: str
    cases: list[Case]
    waiting: dict[int, dict[int, tuple[Signal, ...]]]
    reports: dict[str, Signal]
    done_ms: int = -1


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
        return msgspec.msgpack.encode(state)

    def load(self, partition: int, blob: bytes) -> AlertState:
        """Return the state that was dumped."""
        return state_of(AlertState, blob, _FORMAT, self._network.version)

    def step(self, state: AlertState, message: Message) -> Results:
        """Take the signals of one partition, and work on every pane that is complete with them."""
        signals = decode_json(Signals, message.value)
        require_network(signals.network, self._network.version)
        if signals.partition == REPORTS:
            _note(state.reports, signals.signals)
            return NOTHING
        if signals.pane_start_ms <= state.done_ms:
            return NOTHING
        state.waiting.setdefault(signals.pane_start_ms, {})[signals.partition] = signals.signals
        events: list[AlertEvent] = []
        while (pane_start_ms := self._complete(state, signals.pane_ms)) is not None:
            events += self._advance(state, pane_start_ms, signals.pane_ms)
        return Results([_output(event) for event in events])

    def _complete(self, state: AlertState, pane_ms: int) -> int | None:
        if not state.waiting:
            return None
        oldest, newest = min(state.waiting), max(state.waiting)
        # Each speaks of its panes in order: who has spoken of a later one says nothing of this one any more.
        spoke = {partition for by_partition in state.waiting.values() for partition in by_partition}
        all_spoke = len(spoke) >= self._network.partitions
        return oldest if all_spoke or newest - oldest >= max(WAIT_PANES * pane_ms, WAIT_MS) else None

    def _advance(self, state: AlertState, pane_start_ms: int, pane_ms: int) -> list[AlertEvent]:
        by_partition, end_ms = state.waiting.pop(pane_start_ms), pane_start_ms + pane_ms
        state.done_ms = pane_start_ms
        signals = [signal for partition in sorted(by_partition) for signal in by_partition[partition]]
        for event in [key for key, signal in state.reports.items() if _over(signal, end_ms)]:
            del state.reports[event]
        signals += [signal for _, signal in sorted(state.reports.items())]
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


def _note(reports: dict[str, Signal], signals: Sequence[Signal]) -> None:
    """Keep the newest word on each event. One that ends in the future lasts until then."""
    for signal in signals:
        reports[signal.event] = signal


def _over(signal: Signal, at_ms: int) -> bool:
    return signal.ended_ms is not None and signal.ended_ms <= at_ms


def _output(event: AlertEvent) -> Output:
    return Output("alerts", 0, event.alert_id.encode(), encode_json(event), event.updated_ms)
