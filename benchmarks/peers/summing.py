"""Sums by pane and segment with numpy, and a message of columns for each closed pane: the least that the job needs.

No check of a reading, no revision, no repeat recognised, nothing kept: what dies with the process is lost.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pyarrow as pa
from confluent_kafka import Producer

from citybrain.network import Network

PANE_MS, REORDER_MS = 60_000, 10_000

Floats = np.ndarray[Any, np.dtype[np.float64]]
Longs = np.ndarray[Any, np.dtype[np.int64]]


class Panes:
    """Open panes of one partition."""

    def __init__(self, network: Network, producer: Producer, results: str) -> None:
        self._segment_of = network.detectors.segment
        self._segments = len(network.segments)
        self._producer, self._results = producer, results
        self._open: dict[int, list[Floats]] = {}

    def add(self, detector: Any, to_ms: Longs, flow: Floats, speed: Floats, occupancy: Floats) -> None:
        """Add readings: each counts in the pane in which it ends."""
        pane = (to_ms - 1) // PANE_MS
        segment = self._segment_of[detector]
        for one in np.unique(pane).tolist():
            mine = pane == one
            where = slice(None) if mine.all() else mine
            at, weight = segment[where], flow[where]
            sums: list[Floats] = [
                cast(Floats, np.bincount(at, values, self._segments))  # with weights, they are real numbers
                for values in (weight, weight / speed[where], occupancy[where], np.ones(len(at)))
            ]
            before = self._open.get(one)
            if before is not None:
                sums = [a + b for a, b in zip(before, sums, strict=True)]
            self._open[one] = sums

    def close(self, watermark_ms: int) -> None:
        """Send the panes that end before the watermark, as columns."""
        for pane in [pane for pane in self._open if (pane + 1) * PANE_MS + REORDER_MS <= watermark_ms]:
            flow, time, occupancy, count = self._open.pop(pane)
            seen = np.flatnonzero(count)
            batch = pa.record_batch(
                {
                    "segment": seen.astype(np.int32),
                    "flow": flow[seen],
                    "speed": flow[seen] / time[seen],
                    "occupancy": occupancy[seen] / count[seen],
                }
            )
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema) as writer:
                writer.write_batch(batch)
            self._producer.produce(self._results, sink.getvalue().to_pybytes(), str(pane).encode())
            self._producer.poll(0)
