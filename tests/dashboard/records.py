"""Records and messages for tests of the screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np

from citybrain.messages import AlertEvent, Signal, Signals
from citybrain.network import Network
from citybrain.records import ColumnRecord, Quality, Readings, SegmentStates, encode
from citybrain.topics import TopicName
from citybrain.wire import Message
from tests.fakes import segment_states


def message(topic: TopicName, record: ColumnRecord | msgspec.Struct | bytes, offset: int = 0) -> Message:
    if isinstance(record, bytes):
        value = record
    else:
        value = msgspec.json.encode(record) if isinstance(record, msgspec.Struct) else encode(record)
    return Message(topic, 0, offset, 0, b"", value)


def provisional(states: SegmentStates) -> SegmentStates:
    return replace(states, status="provisional", revision=-1)


def open_pane(network: Network, partition: int, pane_start_ms: int, speed_kmh: float) -> SegmentStates:
    return provisional(segment_states(network, partition=partition, pane_start_ms=pane_start_ms, speed_kmh=speed_kmh))


def readings(
    network: Network,
    detectors: Sequence[int],
    to_ms: int,
    *,
    received_ms: int | None = None,
    interval_ms: int = 30_000,
    source: str = "loops",
    speed_kmh: float = 40.0,
    flow_vph: float = 600.0,
    quality: Quality = Quality.OK,
) -> Readings:
    """Return one reading of each detector that ends at ``to_ms``; without detectors a heartbeat."""
    n = len(detectors)
    fine, nothing = np.full(n, quality, dtype=np.uint8), np.full(n, np.nan)
    return Readings(
        network=network.version,
        source=source,
        received_ms=to_ms if received_ms is None else received_ms,
        watermark_ms=to_ms,
        detector=np.array(detectors, dtype=np.int32),
        observed_from_ms=np.full(n, to_ms - interval_ms, dtype=np.int64),
        observed_to_ms=np.full(n, to_ms, dtype=np.int64),
        count_veh=nothing,
        flow_vph=np.full(n, flow_vph),
        speed_kmh=np.full(n, speed_kmh),
        occupancy=np.full(n, 0.1),
        travel_time_s=nothing,
        speed_kind=np.zeros(n, dtype=np.uint8),
        quality_flow=fine,
        quality_speed=fine,
        quality_occupancy=fine,
        quality_travel_time=np.full(n, Quality.MISSING, dtype=np.uint8),
    )


def signals(network: Network, pane_start_ms: int, *given: Signal, partition: int = 0) -> Signals:
    return Signals(
        network=network.version,
        partition=partition,
        pane_start_ms=pane_start_ms,
        pane_ms=60_000,
        version=1,
        model="m1",
        signals=given,
    )


def alert_event(network: Network, alert_id: str = "a1", *, sequence: int = 1, **changes: object) -> AlertEvent:
    event = AlertEvent(
        network=network.version,
        alert_id=alert_id,
        sequence=sequence,
        type="alert.opened",
        kind="incident",
        severity="critical",
        segments=(1, 0),
        probability=0.9,
        speed_kmh=9.0,
        expected_kmh=45.0,
        delay_veh_h=12.5,
        queue_km=1.0,
        horizon_min=0,
        started_ms=0,
        detected_ms=60_000,
        updated_ms=60_000,
    )
    return msgspec.structs.replace(event, **changes)
