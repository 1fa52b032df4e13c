"""Recomputed: a run's messages in, what the stages that run live publish of it out, hour by hour, without a broker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from citybrain.messages import AlertEvent, decode_json
from citybrain.network import Network
from citybrain.records import HORIZONS_MIN, AreaIndices, DetectorHealth, Forecasts, SegmentStates, Verdict, decode
from citybrain.settings import CitySettings
from citybrain.typical import Typical
from citybrain.units import MS_PER_H
from citybrain.wire import Message, Output
from cli.published import AREA_SUMS, VALUES, Hour
from simulators.judgement.areas import AreaSeries
from simulators.judgement.health import Spell, Verdicts
from simulators.judgement.judge import ForecastsMade
from simulators.judgement.panes import Panes, empty_panes

MARK_MS = 5 * 60_000
"""Forecasts are judged as made on full 5 minutes."""
SETTLED_MS = 20 * 60_000
"""An hour is judged once so much later has been closed by every partition: nothing revises it any more."""


@dataclass(slots=True)
class _Waiting:
    """An hour that is still being published; versions by (partition, pane)."""

    panes: Panes
    made: ForecastsMade
    versions: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    forecast_marks: set[int] = field(default_factory=set)


class Recomputed:
    """Runs the stages that run live over a run's messages, without a broker.

    Parameters
    ----------
    settings, network, typical
        The city, and the typical week that its forecasts use.
    outputs
        The run's messages.
    span_ms
        The run, whole hours, ms UTC.
    area_rows
        Rows of the areas that are wanted.
    """

    def __init__(
        self,
        settings: CitySettings,
        network: Network,
        typical: Typical | None,
        outputs: Iterator[Output],
        span_ms: tuple[int, int],
        area_rows: npt.NDArray[np.int64],
    ) -> None:
        from citybrain.metrics import Metrics
        from streams.offline import Offline
        from streams.pipeline import PIPELINE, Ground

        ground = Ground(network, settings, Metrics(), typical=typical)
        wanted = ("match", "aggregate", "rollup", "forecast", "warn", "alert")
        self._offline = Offline([step.make(ground) for step in PIPELINE if step.name in wanted], self._take)
        self._network, self._outputs, self._span = network, outputs, span_ms
        self._pane_ms = settings.time.pane_ms
        self._partitions = frozenset(np.unique(network.detector_partition).tolist())
        self._area_rows = area_rows
        self._waiting: dict[int, _Waiting] = {}
        self._closed_ms: dict[int, int] = {}
        self._late: list[float] = []
        self._now_ms = 0
        self._indices: dict[int, tuple[int, npt.NDArray[np.float64]]] = {}
        self.steps: list[AlertEvent] | None = []
        self._verdicts = Verdicts()
        self.areas: AreaSeries | None = None
        self.verdicts: list[Spell] | None = None
        self.close_after_s: npt.NDArray[np.float64] | None = None

    def hours(self) -> Iterator[Hour]:
        """Yield the hours of the run in order."""
        next_ms = self._span[0]
        for output in self._outputs:
            self._now_ms = output.record_ms or 0
            self._offline.put(output, self._now_ms)
            if self._partitions <= self._closed_ms.keys():
                settled_ms = min(self._closed_ms.values()) - SETTLED_MS
                while next_ms + MS_PER_H <= settled_ms and next_ms < self._span[1]:
                    yield self._hour(next_ms)
                    next_ms += MS_PER_H
        self._offline.finish()
        for start_ms in range(next_ms, self._span[1], MS_PER_H):
            yield self._hour(start_ms)
        self.close_after_s = np.array(self._late)
        self.areas = self._series()
        self.verdicts = self._verdicts.spells()

    def _hour(self, start_ms: int) -> Hour:
        waiting = self._waiting.pop(start_ms, None) or self._new(start_ms)
        marks = np.array(sorted(waiting.forecast_marks), dtype=np.int64)
        made = waiting.made
        return waiting.panes, ForecastsMade(
            made.made_ms[marks], made.mean_kmh[marks], made.q10_kmh[marks], made.q90_kmh[marks], made.p_congested[marks]
        )

    def _new(self, start_ms: int) -> _Waiting:
        n, marks = len(self._network.segments), MS_PER_H // MARK_MS
        panes = empty_panes(start_ms, self._pane_ms, MS_PER_H // self._pane_ms, n)

        def missing() -> npt.NDArray[np.float32]:
            return np.full((marks, n, len(HORIZONS_MIN)), np.nan, np.float32)

        at_ms = start_ms + MARK_MS * np.arange(1, marks + 1)
        return _Waiting(panes, ForecastsMade(at_ms, missing(), missing(), missing(), missing()))

    def _of(self, pane_start_ms: int) -> _Waiting | None:
        if not self._span[0] <= pane_start_ms < self._span[1]:
            return None
        hour_ms = pane_start_ms // MS_PER_H * MS_PER_H
        if hour_ms not in self._waiting:
            self._waiting[hour_ms] = self._new(hour_ms)
        return self._waiting[hour_ms]

    def _take(self, message: Message) -> None:
        if message.topic == "segment-states":
            self._take_states(decode(SegmentStates, message.value))
        elif message.topic == "forecasts":
            self._take_forecasts(decode(Forecasts, message.value))
        elif message.topic == "area-indices":
            indices = decode(AreaIndices, message.value)
            if indices.revision >= self._indices.get(indices.pane_start_ms, (-1,))[0]:
                sums = np.stack([getattr(indices, name)[self._area_rows] for name in AREA_SUMS])
                self._indices[indices.pane_start_ms] = indices.revision, sums
        elif message.topic == "alerts" and self.steps is not None:
            self.steps.append(decode_json(AlertEvent, message.value))
        elif message.topic == "detector-health":
            told = decode(DetectorHealth, message.value)
            named = [Verdict(verdict).name.lower() for verdict in told.verdict.tolist()]
            said = dict(zip(told.detector.tolist(), named, strict=True))
            self._verdicts.take(told.partition, told.at_ms, said)

    def _take_states(self, states: SegmentStates) -> None:
        if states.revision == 0:
            self._closed_ms[states.partition] = max(states.pane_start_ms, self._closed_ms.get(states.partition, 0))
        waiting = self._of(states.pane_start_ms)
        if waiting is None:
            return
        if states.revision == 0:
            # Its own record time is the pane's end, so that a replay is the same: what counts is what closed it.
            self._late.append((self._now_ms - states.pane_start_ms - states.pane_ms) / 1000)
        key, edition = (states.partition, states.pane_start_ms), (states.version, states.revision)
        if edition >= waiting.versions.get(key, (-1, -1)):
            waiting.versions[key] = edition
            at = (states.pane_start_ms - waiting.panes.start_ms) // self._pane_ms
            for name in VALUES:
                getattr(waiting.panes, name)[at, states.segment] = getattr(states, name)

    def _take_forecasts(self, forecasts: Forecasts) -> None:
        made_ms = forecasts.pane_start_ms + forecasts.pane_ms
        waiting = self._of(forecasts.pane_start_ms) if made_ms % MARK_MS == 0 else None
        if waiting is None:
            return
        at = (made_ms - waiting.panes.start_ms) // MARK_MS - 1
        waiting.forecast_marks.add(at)
        for name in ("mean_kmh", "q10_kmh", "q90_kmh", "p_congested"):
            getattr(waiting.made, name)[at, forecasts.segment] = getattr(forecasts, name)

    def _series(self) -> AreaSeries | None:
        starts = sorted(start for start in self._indices if self._span[0] <= start < self._span[1])
        if not starts:
            return None
        sums = np.stack([self._indices[start][1] for start in starts])
        return AreaSeries(np.array(starts, dtype=np.int64), sums[:, 0], sums[:, 1], sums[:, 2])
