"""Batches of readings and a driven stage, for the tests of the streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np

from citybrain.messages import DeadLetter, decode_json
from citybrain.network import Network
from citybrain.records import AreaIndices, AreaPartials, Readings, SegmentStates, decode, encode
from citybrain.settings import TimeSettings
from citybrain.wire import Message, Output
from streams.aggregate import Aggregate
from streams.offline import Offline
from streams.rollup import Rollup
from streams.stage import Results
from tests.fakes import city_settings

T0 = 1_790_000_040_000
"""2026-09-21 14:14:00 UTC, the start of a minute and no start of a quarter."""
S = 1000
MIN = 60 * S

Row = tuple[int, int, int, dict[str, float]]
"""Detector, from and to in seconds after `T0`, metrics."""


def readings(
    network: Network,
    rows: Sequence[Row] = (),
    *,
    source: str = "loops",
    watermark_s: float | None = None,
    received_s: float | None = None,
    quality: dict[str, list[int]] | None = None,
) -> Readings:
    """Return a batch; by default the feed's clock shows its newest reading, and it is received 1 s later."""
    n = len(rows)
    newest_s = max((row[2] for row in rows), default=0)
    clock_s = newest_s if watermark_s is None else watermark_s
    received = clock_s + 1 if received_s is None else received_s

    def metric(name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return np.array([row[3].get(name, np.nan) for row in rows], dtype=np.float64)

    def code(name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        return np.array((quality or {}).get(name, [0] * n), dtype=np.uint8)

    return Readings(
        network.version,
        source,
        T0 + int(received * S),
        T0 + int(clock_s * S),
        np.array([row[0] for row in rows], dtype=np.int32),
        np.array([T0 + row[1] * S for row in rows], dtype=np.int64),
        np.array([T0 + row[2] * S for row in rows], dtype=np.int64),
        metric("count_veh"),
        metric("flow_vph"),
        metric("speed_kmh"),
        metric("occupancy"),
        metric("travel_time_s"),
        np.zeros(n, dtype=np.uint8),
        code("flow"),
        code("speed"),
        code("occupancy"),
        code("travel_time"),
    )


def message(batch: Readings, offset: int = 0, partition: int = 0) -> Message:
    """Return the batch as Kafka holds it."""
    return Message("readings", partition, offset, batch.received_ms, batch.source.encode(), encode(batch))


def time_settings(**changes: float) -> TimeSettings:
    """Return the default settings of time; ``changes`` in seconds."""
    return replace(TimeSettings(), **{name: timedelta(seconds=value) for name, value in changes.items()})


def aggregate(network: Network, **changes: float) -> Aggregate:
    """Return the stage with the default settings."""
    settings = city_settings()
    return Aggregate(network, time_settings(**changes), settings.limits, settings.thresholds)


class Driven:
    """One partition of ``aggregate``, fed by hand."""

    def __init__(self, network: Network, *, partition: int = 0, **changes: float) -> None:
        self.network, self.partition = network, partition
        self.stage = aggregate(network, **changes)
        self.state = self.stage.new(partition)
        self.offset = -1
        self.refused: list[DeadLetter] = []

    def send(self, rows: Sequence[Row] = (), **options: object) -> list[SegmentStates]:
        """Send one batch and return the states that it closed."""
        return states(self.results(readings(self.network, rows, **options)).outputs)  # type: ignore[arg-type]

    def results(self, batch: Readings) -> Results:
        """Send one batch."""
        self.offset += 1
        results = self.stage.step(self.state, message(batch, self.offset, self.partition))
        self.refused += results.refused
        return results

    def flush(self) -> list[SegmentStates]:
        """Return the revisions."""
        return states(self.stage.flush(self.state).outputs)

    def reasons(self) -> dict[str, int]:
        """Return how many readings were refused, by reason."""
        total: dict[str, int] = {}
        for letter in self.refused:
            total[letter.reason] = total.get(letter.reason, 0) + letter.count
        return total


def states(outputs: Sequence[Output]) -> list[SegmentStates]:
    """Return the segment states among the outputs."""
    return [decode(SegmentStates, output.value) for output in outputs if output.topic == "segment-states"]


def partials(outputs: Sequence[Output]) -> list[AreaPartials]:
    """Return the area partials among the outputs."""
    return [decode(AreaPartials, output.value) for output in outputs if output.topic == "area-partials"]


class Newest:
    """A sink that keeps of every pane the newest result, as a store would, and all dead letters."""

    def __init__(self) -> None:
        self.states: dict[tuple[int, int], SegmentStates] = {}
        self.areas: dict[int, AreaIndices] = {}
        self.letters: list[DeadLetter] = []

    def __call__(self, message: Message) -> None:
        """Take one message."""
        if message.topic == "segment-states":
            seen = decode(SegmentStates, message.value)
            place = seen.partition, seen.pane_start_ms
            if place not in self.states or seen.version >= self.states[place].version:
                self.states[place] = seen
        elif message.topic == "area-indices":
            indices = decode(AreaIndices, message.value)
            self.areas[indices.pane_start_ms] = indices
        elif message.topic == "dead-letters":
            self.letters.append(decode_json(DeadLetter, message.value))


def drive(network: Network, batches: Sequence[tuple[int, Readings]], *, flush_every: int = 8) -> Newest:
    """Run batches, each with its partition, through aggregate and rollup; return what a store would hold."""
    settings, newest = city_settings(), Newest()
    offline = Offline([Aggregate.of(network, settings), Rollup.of(network, settings)], newest, flush_every=flush_every)
    for partition, batch in batches:
        offline.put(Output("readings", partition, batch.source.encode(), encode(batch)), batch.received_ms)
    offline.finish()
    return newest
