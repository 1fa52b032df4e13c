"""Stage `match`: plate passages in, travel times between cameras out, as readings of the source ``match:<source>``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec
import numpy as np

from citybrain.messages import DeadLetter
from citybrain.network import Network
from citybrain.records import Passages, Quality, Readings, SpeedKind, decode, encode
from citybrain.topics import TopicName
from citybrain.units import MS_PER_S
from citybrain.wire import Message, Output
from models.journeys import CameraMap, Journeys, forget
from streams.panes import require_network
from streams.stage import NOTHING, Results
from streams.states import state_of

_FORMAT = "match-1"
Row = tuple[int, int, int, float]
"""Camera, instant from which it was observed and passage in ms, travel time in s."""


class MatchState(msgspec.Struct):
    """Plates on their way, when the newest journey at each camera ended, ms; the rest says whose snapshot it is."""

    format: str
    network: str
    journeys: Journeys
    newest_ms: dict[int, int] = {}


class MatchStage:
    """Measures journeys; passes the feed's clock on to every partition, so that a quiet camera holds nothing back."""

    name: ClassVar[str] = "match"
    sources: ClassVar[tuple[TopicName, ...]] = ("passages",)
    keeps_state: ClassVar[bool] = True

    def __init__(self, network: Network) -> None:
        self._network = network
        self._cameras = CameraMap(network)

    def new(self, partition: int) -> MatchState:
        """Return the state before the first passage."""
        return MatchState(_FORMAT, self._network.version, Journeys({}, {}))

    def dump(self, state: MatchState) -> bytes:
        """Return the state as bytes."""
        return msgspec.msgpack.encode(state)

    def load(self, partition: int, blob: bytes) -> MatchState:
        """Return the state that was dumped."""
        return state_of(MatchState, blob, _FORMAT, self._network.version)

    def step(self, state: MatchState, message: Message) -> Results:
        """Match one batch of passages."""
        passages = decode(Passages, message.value)
        require_network(passages.network, self._network.version)
        known = (passages.camera >= 0) & (passages.camera < len(self._network.detectors))
        # In order of time, then camera and plate, so that the order of rows within a batch decides nothing.
        order = np.lexsort((passages.plate, passages.camera, passages.passed_ms))
        order = order[known[order]]
        columns = (passages.camera, passages.passed_ms, passages.plate)
        rows: list[Row] = []
        for camera, passed_ms, plate in zip(*(column[order].tolist() for column in columns), strict=True):
            seconds = self._cameras.travel_time_s(state.journeys, camera, passed_ms, plate)
            if seconds is not None:
                rows.append((camera, _observed_from(state, camera, passed_ms), passed_ms, seconds))
        forget(state.journeys, passages.watermark_ms)
        refused = [] if known.all() else [_unknown(passages, ~known, message, len(self._network.detectors))]
        return Results([self._output(passages, rows, p, message) for p in range(self._network.partitions)], refused)

    def _output(self, passages: Passages, rows: list[Row], partition: int, message: Message) -> Output:
        mine = [row for row in rows if self._network.detector_partition[row[0]] == partition]
        readings = _readings(passages, mine, message.record_ms)
        return Output("readings", partition, readings.source.encode(), encode(readings), message.record_ms)

    def flush(self, state: MatchState) -> Results:
        """Return nothing: a travel time is never revised."""
        return NOTHING

    def provisional(self, state: MatchState) -> Sequence[Output]:
        """Return nothing."""
        return ()

    async def durable(self) -> None:
        """Do nothing: all effects are in Kafka."""


def _observed_from(state: MatchState, camera: int, passed_ms: int) -> int:
    """Return from when a journey's end was observed: seconds of two vehicles would overlap, and one not count."""
    before_ms = state.newest_ms.get(camera, passed_ms)
    state.newest_ms[camera] = max(before_ms, passed_ms)
    begun_ms = passed_ms - MS_PER_S
    return max(begun_ms, before_ms) if before_ms < passed_ms else begun_ms


def _readings(passages: Passages, rows: list[Row], received_ms: int) -> Readings:
    """Each travel time as what was observed in the second that ends at the passage, or since the one before."""
    n = len(rows)
    missing = np.full(n, np.nan)
    begun, passed = (np.array([row[at] for row in rows], dtype=np.int64) for at in (1, 2))

    def quality(kind: Quality) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        return np.full(n, kind, dtype=np.uint8)

    return Readings(
        network=passages.network,
        source=f"match:{passages.source}",
        received_ms=received_ms,
        watermark_ms=passages.watermark_ms,
        detector=np.array([row[0] for row in rows], dtype=np.int32),
        observed_from_ms=begun,
        observed_to_ms=passed,
        count_veh=missing,
        flow_vph=missing,
        speed_kmh=missing,
        occupancy=missing,
        travel_time_s=np.array([row[3] for row in rows], dtype=np.float64),
        speed_kind=np.full(n, SpeedKind.SPACE_MEAN, dtype=np.uint8),
        quality_flow=quality(Quality.MISSING),
        quality_speed=quality(Quality.MISSING),
        quality_occupancy=quality(Quality.MISSING),
        quality_travel_time=quality(Quality.DERIVED),
    )


def _unknown(
    passages: Passages, bad: np.ndarray[tuple[int], np.dtype[np.bool_]], message: Message, cameras: int
) -> DeadLetter:
    first = int(np.flatnonzero(bad)[0])
    return DeadLetter(
        reason="unknown_detector",
        detail=f"camera {passages.camera[first]} seen, 0..{cameras - 1} allowed",
        stage="match",
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        source=passages.source,
        record_ms=message.record_ms,
        count=int(bad.sum()),
        excerpt=f"camera {passages.camera[first]} at {passages.passed_ms[first]}",
    )
