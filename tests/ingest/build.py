"""Readings for tests of the edges, and a producer that remembers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from threading import Event

import numpy as np

from citybrain.errors import BrokerUnavailable
from citybrain.network import Network
from citybrain.records import Readings, decode
from citybrain.wire import Output

START_MS = 1_700_000_000_000 // 60_000 * 60_000


def readings(
    network: Network,
    detector: list[int],
    *,
    to_ms: int | list[int] = START_MS + 30_000,
    interval_ms: int = 30_000,
    received_ms: int | None = None,
    watermark_ms: int | None = None,
    source: str = "loops",
) -> Readings:
    """Return one reading a detector; flows count up from 0, so that rows can be told apart."""
    n = len(detector)
    to = np.broadcast_to(np.asarray(to_ms, dtype=np.int64), n).copy()
    latest = int(to.max(initial=START_MS))
    missing, ok = np.full(n, np.nan), np.zeros(n, dtype=np.uint8)
    return Readings(
        network=network.version,
        source=source,
        received_ms=latest if received_ms is None else received_ms,
        watermark_ms=latest if watermark_ms is None else watermark_ms,
        detector=np.array(detector, dtype=np.int32),
        observed_from_ms=to - interval_ms,
        observed_to_ms=to,
        count_veh=missing,
        flow_vph=np.arange(n, dtype=np.float64),
        speed_kmh=np.full(n, 50.0),
        occupancy=missing,
        travel_time_s=missing,
        speed_kind=ok,
        quality_flow=ok,
        quality_speed=ok,
        quality_occupancy=np.full(n, 2, dtype=np.uint8),
        quality_travel_time=np.full(n, 2, dtype=np.uint8),
    )


@dataclass
class Remembered:
    """What was sent, in order; with ``fails`` above 0 so many flushes fail and lose what was not confirmed."""

    fails: int = 0
    confirmed: list[tuple[int, Output]] = field(default_factory=list)
    _waiting: list[tuple[int, Output]] = field(default_factory=list)

    def send(self, outputs: Iterable[Output], record_ms: int) -> None:
        self._waiting += [(record_ms, output) for output in outputs]

    def flush(self, stop: Event | None = None) -> None:
        waiting, self._waiting = self._waiting, []
        if self.fails:
            self.fails -= 1
            raise BrokerUnavailable("no Kafka broker answers at nowhere:1 (waited 0 s)")
        self.confirmed += waiting

    def batches(self, partition: int | None = None) -> list[tuple[int, Readings]]:
        """Return what was confirmed as (partition, readings)."""
        found = [(output.partition, decode(Readings, output.value)) for _, output in self.confirmed]
        return [(number, batch) for number, batch in found if partition in (None, number)]
