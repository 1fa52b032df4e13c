"""Stage `forecast`: closed panes of segment states in, speeds 5 to 60 minutes ahead out; it learns from its errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from citybrain.network import Network
from citybrain.records import Forecasts, SegmentStates, decode, encode
from citybrain.settings import Thresholds
from citybrain.topics import TopicName
from citybrain.typical import Typical
from citybrain.wire import Message, Output
from models.errorbook import ErrorBook
from models.forecast import MODEL, ForecastMemory, ForecastModel
from models.snapshot import dumped, loaded
from streams.panes import is_next, require_network
from streams.stage import NOTHING, Results

_FORMAT = "forecast-1"
_MEMORY = ("deviation", "mean", "mean_n", "marks", "xy", "xx")


@dataclass(slots=True)
class ForecastState:
    """Memory of one partition and the pane it was brought to (-1 before the first)."""

    partition: int
    memory: ForecastMemory
    pane_start_ms: int = -1


class ForecastStage:
    """Forecasts at the first close of every pane, once each and in order; revisions are ignored."""

    name: ClassVar[str] = "forecast"
    sources: ClassVar[tuple[TopicName, ...]] = ("segment-states",)
    keeps_state: ClassVar[bool] = True

    def __init__(
        self, network: Network, thresholds: Thresholds, *, timezone: str, pane_ms: int, typical: Typical | None = None
    ) -> None:
        self._network = network
        self.model = f"{MODEL}+{typical.version if typical else 'none'}"
        self._segments = [network.segments_of(partition) for partition in range(network.partitions)]
        self._models = [
            ForecastModel.of(
                network.segments.free_flow_kmh,
                segments,
                typical=typical,
                timezone=timezone,
                congested=thresholds.level_breaks[1],
                pane_ms=pane_ms,
            )
            for segments in self._segments
        ]

    def new(self, partition: int) -> ForecastState:
        """Return the state before the first pane."""
        return ForecastState(partition, self._models[partition].new())

    def dump(self, state: ForecastState) -> bytes:
        """Return the state as bytes."""
        memory = state.memory
        arrays = {name: getattr(memory, name) for name in _MEMORY} | {"book": memory.book.counts}
        numbers = {"pane_start_ms": state.pane_start_ms, "mark_ms": memory.mark_ms}
        return dumped(_FORMAT, self._network.version, numbers, arrays)

    def load(self, partition: int, blob: bytes) -> ForecastState:
        """Return the state that was dumped."""
        numbers, arrays = loaded(_FORMAT, self._network.version, blob)
        columns = {name: arrays[name] for name in _MEMORY}
        memory = ForecastMemory(**columns, book=ErrorBook(arrays["book"]), mark_ms=numbers["mark_ms"])
        return ForecastState(partition, memory, numbers["pane_start_ms"])

    def step(self, state: ForecastState, message: Message) -> Results:
        """Learn from the pane and forecast from its end."""
        states = decode(SegmentStates, message.value)
        require_network(states.network, self._network.version)
        if not is_next(states, state.pane_start_ms):
            return NOTHING
        state.pane_start_ms = states.pane_start_ms
        model, end_ms = self._models[state.partition], states.pane_start_ms + states.pane_ms
        model.observe(state.memory, states.speed_kmh, end_ms, states.pane_ms)
        ahead = model.ahead(state.memory, end_ms)
        forecasts = Forecasts(
            states.network,
            states.partition,
            states.pane_start_ms,
            states.pane_ms,
            message.offset,
            self.model,
            self._segments[state.partition],
            ahead.mean_kmh,
            ahead.q10_kmh,
            ahead.q50_kmh,
            ahead.q90_kmh,
            ahead.p_congested.astype(np.float32),
        )
        key = f"{states.partition}/{states.pane_start_ms}".encode()
        return Results([Output("forecasts", states.partition, key, encode(forecasts), end_ms)])

    def flush(self, state: ForecastState) -> Results:
        """Return nothing: forecasts are never revised."""
        return NOTHING

    def provisional(self, state: ForecastState) -> Sequence[Output]:
        """Return nothing: only closed panes are forecast from."""
        return ()

    async def durable(self) -> None:
        """Do nothing: all effects are in Kafka."""
