"""Stage `warn`: closed panes of segment states in; what breaks down, what will, and what looks like an incident out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from citybrain.messages import Signal, Signals, encode_json
from citybrain.network import Network
from citybrain.records import HORIZONS_MIN, SegmentStates, decode
from citybrain.settings import Thresholds
from citybrain.topics import TopicName
from citybrain.typical import Typical
from citybrain.wire import Message, Output
from models import warning
from models.breakdown import Found, Limits, Pane, RoadMemory, follow, judge
from models.errorbook import ErrorBook
from models.forecast import ForecastMemory, ForecastModel
from models.roads import neighbours_within, observed_downstream
from models.snapshot import dumped, loaded
from models.typical import of_segments
from streams.panes import is_next, require_network
from streams.stage import NOTHING, Results

_FORMAT = "warn-1"
_FORECAST = ("deviation", "mean", "mean_n", "marks", "xy", "xx")
_AROUND_MIN = (-30, -15, 0, 15, 30)
_PERSIST_MIN = 2.0
"""Expected congestion must be expected for so long before it is signalled."""
_LET_GO = 0.75
"""It is signalled until its probability falls below this share of the threshold."""

Small = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(slots=True)
class WarnState:
    """Memory of one partition; ``expected_min`` says for how long congestion has been expected, shape (m,)."""

    partition: int
    forecast: ForecastMemory
    road: RoadMemory
    expected_min: Small
    pane_start_ms: int = -1


@dataclass(frozen=True, slots=True)
class _View:
    """One pane as the signals are made from it, shape (m,) each."""

    states: SegmentStates
    found: Found
    expected: Mask
    probability: Small
    speed_kmh: Small
    typical_kmh: Small
    reasons: dict[str, Mask]


class WarnStage:
    """Speaks at the first close of every pane, once each and in order, if only to say that there is nothing."""

    name: ClassVar[str] = "warn"
    sources: ClassVar[tuple[TopicName, ...]] = ("segment-states",)
    keeps_state: ClassVar[bool] = True

    def __init__(
        self, network: Network, thresholds: Thresholds, *, timezone: str, pane_ms: int, typical: Typical | None = None
    ) -> None:
        self._network, self._thresholds, self._timezone = network, thresholds, timezone
        self.model = f"{warning.MODEL}+{typical.version if typical else 'none'}"
        self._limits = Limits(congested=thresholds.level_breaks[1], jammed=thresholds.level_breaks[2])
        self._segments = [network.segments_of(partition) for partition in range(network.partitions)]
        leads_into = observed_downstream(network)
        self._downstream = [neighbours_within(leads_into, network, p) for p in range(network.partitions)]
        self._typical = [of_segments(typical, segments) if typical else None for segments in self._segments]
        self._models = [
            ForecastModel.of(
                network.segments.free_flow_kmh,
                segments,
                typical=typical,
                timezone=timezone,
                congested=self._limits.congested,
                pane_ms=pane_ms,
            )
            for segments in self._segments
        ]

    def new(self, partition: int) -> WarnState:
        """Return the state before the first pane."""
        m = len(self._segments[partition])
        return WarnState(partition, self._models[partition].new(), RoadMemory.of(m), np.full(m, -1.0, dtype=np.float32))

    def dump(self, state: WarnState) -> bytes:
        """Return the state as bytes."""
        arrays = {f"forecast.{name}": getattr(state.forecast, name) for name in _FORECAST}
        arrays |= {f"road.{f.name}": getattr(state.road, f.name) for f in fields(RoadMemory)}
        arrays |= {"book": state.forecast.book.counts, "expected_min": state.expected_min}
        numbers = {"pane_start_ms": state.pane_start_ms, "mark_ms": state.forecast.mark_ms}
        return dumped(_FORMAT, self._network.version, numbers, arrays)

    def load(self, partition: int, blob: bytes) -> WarnState:
        """Return the state that was dumped."""
        numbers, arrays = loaded(_FORMAT, self._network.version, blob)
        columns = {name: arrays[f"forecast.{name}"] for name in _FORECAST}
        forecast = ForecastMemory(**columns, book=ErrorBook(arrays["book"]), mark_ms=numbers["mark_ms"])
        road = RoadMemory(**{f.name: arrays[f"road.{f.name}"] for f in fields(RoadMemory)})
        return WarnState(partition, forecast, road, arrays["expected_min"], numbers["pane_start_ms"])

    def step(self, state: WarnState, message: Message) -> Results:
        """Bring the memory up to the pane and say what holds at its end."""
        states = decode(SegmentStates, message.value)
        require_network(states.network, self._network.version)
        if not is_next(states, state.pane_start_ms):
            return NOTHING
        state.pane_start_ms = states.pane_start_ms
        signals = Signals(
            network=states.network,
            partition=states.partition,
            pane_start_ms=states.pane_start_ms,
            pane_ms=states.pane_ms,
            version=message.offset,
            model=self.model,
            signals=_signals(self._view(state, states)),
        )
        key = f"{states.partition}/{states.pane_start_ms}".encode()
        end_ms = states.pane_start_ms + states.pane_ms
        return Results([Output("signals", 0, key, encode_json(signals), end_ms)])

    def _view(self, state: WarnState, states: SegmentStates) -> _View:
        partition, end_ms = state.partition, states.pane_start_ms + states.pane_ms
        segments, model = self._segments[partition], self._models[partition]
        free = model.free_flow_kmh
        around, spread = (
            np.stack([self._typical_at(partition, name, end_ms + 60_000 * at) for at in _AROUND_MIN])
            for name in ("speed_kmh", "speed_sd_kmh")
        )
        pane = Pane(
            speed=(states.speed_kmh / free).astype(np.float32),
            usual=(np.fmin.reduce(around) / free).astype(np.float32),
            usual_sd=(np.fmax.reduce(spread) / free).astype(np.float32),
            flow_vph=states.flow_vph.astype(np.float32),
            occupancy=states.occupancy.astype(np.float32),
            minutes=states.pane_ms / 60_000,
        )
        follow(state.road, pane, self._limits)
        downstream = self._downstream[partition].least(state.road.fast)
        found = judge(state.road, pane, downstream)
        model.observe(state.forecast, states.speed_kmh, end_ms, states.pane_ms)
        ahead = model.ahead(state.forecast, end_ms)
        outlook = warning.Outlook(
            p_forecast=ahead.p_congested[:, [HORIZONS_MIN.index(h) for h in warning.HORIZONS]],
            fast=state.road.fast,
            slow=state.road.slow,
            downstream=downstream,
            downstream_slow=self._downstream[partition].least(state.road.slow),
            utilisation=(pane.flow_vph / self._network.segments.capacity_vph[segments]).astype(np.float32),
        )
        probability = warning.probabilities(outlook)
        flows = (state.road.fast > self._limits.congested) & ~found.congested & ~found.breakdown
        now, at_15 = around[_AROUND_MIN.index(0)], around[_AROUND_MIN.index(15)]
        return _View(
            states,
            found,
            self._expected(state, probability[:, -1], flows, pane.minutes),
            probability,
            (state.road.fast * free).astype(np.float32),
            now,
            warning.reasons(outlook, now / free, at_15 / free),
        )

    def _expected(self, state: WarnState, probability: Small, flows: Mask, minutes: float) -> Mask:
        """Return where congestion is expected: for long enough, and until it is clearly no longer so."""
        threshold = self._thresholds.warn_probability
        high = flows & (probability >= threshold)
        holds = flows & (state.expected_min >= 0) & (probability >= _LET_GO * threshold)
        state.expected_min = np.where(
            high | holds, np.maximum(state.expected_min, 0) + np.float32(minutes), np.float32(-1)
        ).astype(np.float32)
        return state.expected_min >= _PERSIST_MIN

    def _typical_at(self, partition: int, name: str, instant_ms: int) -> Small:
        typical = self._typical[partition]
        if typical is None:
            return np.full(len(self._segments[partition]), np.nan, dtype=np.float32)
        return typical.segments_at(name, instant_ms, self._timezone)

    def flush(self, state: WarnState) -> Results:
        """Return nothing: signals are never revised."""
        return NOTHING

    def provisional(self, state: WarnState) -> Sequence[Output]:
        """Return nothing: only closed panes speak."""
        return ()

    async def durable(self) -> None:
        """Do nothing: all effects are in Kafka."""


def _signals(view: _View) -> tuple[Signal, ...]:
    now = view.found.congested | view.found.breakdown | view.found.incident
    rows = np.flatnonzero(now | view.expected)
    return tuple(_now(view, int(i)) if now[i] else _coming(view, int(i)) for i in rows)


def _now(view: _View, i: int) -> Signal:
    found, delay = view.found, view.states.delay_veh_h[i]
    incident, breakdown = bool(found.incident[i]), bool(found.breakdown[i])
    return Signal(
        segment=int(view.states.segment[i]),
        kind="incident" if incident else "breakdown" if breakdown else "congestion",
        probability=round(float(found.incident_probability[i]), 3) if incident else 1.0,
        speed_kmh=_rounded(view.speed_kmh[i]),
        expected_kmh=_rounded(view.typical_kmh[i]),
        reason=_now_reasons(view, i, incident),
        delay_veh_h=0.0 if math.isnan(delay) else round(float(delay), 6),
        as_usual=bool(found.as_usual[i]),
    )


def _now_reasons(view: _View, i: int, incident: bool) -> tuple[str, ...]:
    said = ["free_downstream"] if incident else []
    said += ["sudden_drop"] if view.found.breakdown[i] else []
    said += [code for code in ("queue_downstream", "below_typical") if view.reasons[code][i]]
    return (*said, "as_usual") if view.found.as_usual[i] else tuple(said)


def _coming(view: _View, i: int) -> Signal:
    likely = view.probability[i] >= view.probability[i, -1] * 0.9
    return Signal(
        segment=int(view.states.segment[i]),
        kind="congestion_expected",
        probability=round(float(view.probability[i, -1]), 3),
        speed_kmh=_rounded(view.speed_kmh[i]),
        expected_kmh=_rounded(view.typical_kmh[i]),
        horizon_min=warning.HORIZONS[int(np.argmax(likely))],
        reason=tuple(code for code, holds in view.reasons.items() if holds[i]),
        as_usual=bool(view.reasons["typical_peak"][i]),
    )


def _rounded(speed_kmh: float) -> float | None:
    return None if math.isnan(speed_kmh) else round(float(speed_kmh), 1)
