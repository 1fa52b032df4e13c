"""What one detector, one segment and one pane cost: bytes on the wire and in snapshots, CPU time of each stage.

Measured on one partition of a grid of roads with random traffic, so that snapshots compress no better than real ones.
The sizing page multiplies these (`benchmarks.rig.demand`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.figure import Figure
from citybrain.network import Areas, Network
from citybrain.records import AreaPartials, Readings, decode, encode
from citybrain.topics import TopicName
from citybrain.wire import Message, Output
from streams.aggregate import Aggregate
from streams.forecast import ForecastStage
from streams.rollup import Rollup
from streams.stage import Stage
from streams.warn import WarnStage
from tests.fakes import city_settings, grid_network

COLUMNS, ROWS = 51, 50
PANES = 20
START_MS = 1_789_999_980_000
INTERVAL_MS = 30_000
BATCH = 2000
STREET = 10
"""Segments a street, about as in the demo city."""


class Probe:
    """Drives one partition of one stage and notes what it costs."""

    def __init__(self, stage: Stage[Any]) -> None:
        self.stage = stage
        self.state = stage.new(0)
        self.offset = 0
        self.step_s = self.dump_s = self.open_s = 0.0
        self.snapshot = b""
        self.sent: Counter[TopicName] = Counter()
        """Bytes by topic."""

    def feed(self, output: Output) -> list[Output]:
        """Apply one message; return what the stage sends."""
        record_ms = output.record_ms or 0
        message = Message(output.topic, 0, self.offset, record_ms, output.key, output.value)
        self.offset += 1
        took_s, results = timed(lambda: self.stage.step(self.state, message))
        self.step_s += took_s
        return self._noted(list(results.outputs))

    def checkpoint(self) -> None:
        """Publish what is open, and dump."""
        took_s, outputs = timed(lambda: list(self.stage.provisional(self.state)))
        self.open_s += took_s
        self._noted(outputs)
        took_s, self.snapshot = timed(lambda: self.stage.dump(self.state))
        self.dump_s += took_s

    def _noted(self, outputs: list[Output]) -> list[Output]:
        for output in outputs:
            self.sent[output.topic] += len(output.value)
        return outputs


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU time of some work, s, and what it returned."""
    began = time.process_time()
    made = work()
    return time.process_time() - began, made


def batches(network: Network) -> Iterator[Output]:
    """Yield an interval's readings after the other, one loop a segment, in batches."""
    rng = np.random.default_rng(1)
    n = len(network.detectors)
    for begin in range(START_MS, START_MS + PANES * 60_000, INTERVAL_MS):
        for at in range(0, n, BATCH):
            detector = np.arange(at, min(at + BATCH, n), dtype=np.int32)
            yield _batch(network, detector, begin, last=at + BATCH >= n, rng=rng)


def _batch(
    network: Network, detector: np.ndarray, begin_ms: int, *, last: bool, rng: np.random.Generator
) -> Output:  # fmt: skip
    n, end_ms = len(detector), begin_ms + INTERVAL_MS
    none, well = np.full(n, np.nan), np.zeros(n, dtype=np.uint8)
    count = rng.poisson(8, n).astype(np.float64)
    times = np.full(n, begin_ms), np.full(n, end_ms)
    values = count, none, rng.uniform(10, 60, n), rng.uniform(0, 0.3, n), none
    mark_ms = end_ms if last else begin_ms
    readings = Readings(network.version, "loops", end_ms + 1000, mark_ms, detector, *times, *values, *([well] * 5))
    return Output("readings", 0, b"loops", encode(readings), end_ms + 1000)


def with_streets(network: Network) -> Network:
    """Return the network with a street for every few segments."""
    n = len(network.segments)
    street = (np.arange(n) // STREET).astype(np.int32)
    count = int(street[-1]) + 1
    areas = Areas(
        id=np.array(["city", "district", *(f"s{at}" for at in range(count))]),
        name=np.array(["City", "District", *(f"Street {at}" for at in range(count))]),
        level=np.array([0, 1, *([2] * count)], dtype=np.int32),
        parent=np.array([-1, 0, *([1] * count)], dtype=np.int32),
    )
    segments = replace(network.segments, district=np.ones(n, dtype=np.int32), street=street + 2)
    return replace(network, segments=segments, areas=areas)


def run() -> list[Figure]:
    """Measure; the sizes are exact, the times are CPU time of this process."""
    network, settings = with_streets(grid_network(COLUMNS, ROWS, partitions=1)), city_settings()
    options: dict[str, Any] = {"timezone": settings.timezone, "pane_ms": settings.time.pane_ms}
    aggregate, rollup = Probe(Aggregate.of(network, settings)), Probe(Rollup.of(network, settings))
    forecast = Probe(ForecastStage(network, settings.thresholds, **options))
    warn = Probe(WarnStage(network, settings.thresholds, **options))
    read_bytes = panes = checkpoints = contributions = 0
    an_interval = -(-len(network.detectors) // BATCH)
    for at, batch in enumerate(batches(network), start=1):
        read_bytes += len(batch.value)
        for output in aggregate.feed(batch):
            if output.topic == "segment-states":
                panes += 1
                forecast.feed(output)
                warn.feed(output)
            elif output.topic == "area-partials":
                contributions += len(decode(AreaPartials, output.value).area)
                rollup.feed(output)
        if at % (2 * an_interval) == 0:  # once a pane
            checkpoints += 1
            for probe in (aggregate, rollup, forecast, warn):
                probe.checkpoint()
    rows = len(network.detectors) * PANES * 60_000 / INTERVAL_MS
    segments = len(network.segments)
    return [
        Figure("sizing: readings, bytes a reading", read_bytes / rows, "B", note=f"{BATCH:,} a message"),
        *_per(aggregate.sent, "segment-states", segments * panes, "a segment and pane"),
        *_per(forecast.sent, "forecasts", segments * panes, "a segment and pane"),
        *_per(aggregate.sent, "live-states", segments * checkpoints, "a segment and update"),
        *_per(aggregate.sent, "area-partials", contributions, "an area, partition and pane"),
        *_per(rollup.sent, "area-indices", contributions, "an area and pane"),
        *(_snapshot(probe, segments, "segment") for probe in (aggregate, forecast, warn)),
        _snapshot(rollup, len(network.areas), "area and partition"),
        _cpu("aggregate, a reading and its share of the pane", aggregate.step_s, rows),
        _cpu("forecast, a segment and pane", forecast.step_s, segments * panes),
        _cpu("warn, a segment and pane", warn.step_s, segments * panes),
        _cpu("rollup, an area, partition and pane", rollup.step_s, contributions),
        _cpu("snapshot of rollup, an area and partition", rollup.dump_s, len(network.areas) * checkpoints),
        _cpu("live update, a segment", aggregate.open_s, segments * checkpoints),
        _cpu("snapshot of aggregate, a segment", aggregate.dump_s, segments * checkpoints),
        _cpu("snapshots of forecast and warn, a segment", forecast.dump_s + warn.dump_s, segments * checkpoints),
    ]


def _per(sent: Counter[TopicName], topic: TopicName, units: int, unit: str) -> list[Figure]:
    return [Figure(f"sizing: {topic}, bytes {unit}", sent[topic] / units, "B")]


def _snapshot(probe: Probe, units: int, unit: str) -> Figure:
    return Figure(f"sizing: snapshot of {probe.stage.name}, bytes a {unit}", len(probe.snapshot) / units, "B")


def _cpu(what: str, seconds: float, units: float) -> Figure:
    return Figure(f"sizing: CPU of {what}", 1e6 * seconds / units, "us")
