"""Recomputing an archived day of 10,000 segments, a reading every 30 s: one hour is measured, a day is 24 of them.

Reading the Parquet archive, cleaning, aggregating, rolling up and writing the results as Parquet, in one thread.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.aggregate import INTERVAL_MS, START_MS, intervals
from benchmarks.figure import Figure
from citybrain.wire import Message
from infra.archive import Archive
from streams.aggregate import Aggregate
from streams.offline import run as run_offline
from streams.results import Recorder
from streams.rollup import Rollup
from streams.stage import Stage
from tests.fakes import city_settings, grid_network

INTERVALS = 120
ROWS = 2000
PARTITIONS = 4


def run() -> list[Figure]:
    """Measure in CPU time of this process; memory is its peak."""
    network = grid_network(51, 50, partitions=PARTITIONS)
    with tempfile.TemporaryDirectory() as folder:
        archive, settings = Archive(Path(folder) / "archive"), city_settings()
        offsets: Counter[int] = Counter()
        messages = []
        for o in intervals(network, INTERVALS, ROWS):
            messages.append(Message(o.topic, o.partition, offsets[o.partition], o.record_ms or 0, o.key, o.value))
            offsets[o.partition] += 1
        archive.write(messages)
        size = sum(file.stat().st_size for file in archive.folder.rglob("*.parquet"))
        del messages
        end_ms = START_MS + (INTERVALS + 10) * INTERVAL_MS
        began = time.process_time()
        recorder = Recorder(network, settings.time, Path(folder) / "out", START_MS, end_ms)
        stages: list[Stage[Any]] = [Aggregate.of(network, settings), Rollup.of(network, settings)]
        run_offline(stages, archive.read("readings", START_MS, end_ms), recorder)
        recorder.close()
        used_s = time.process_time() - began
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    day = f"{len(network.segments):,} segments"
    return [
        Figure(f"recomputing an archived day, {day}", 24 * used_s, "s of one core", "under 90 s", "an hour times 24"),
        Figure(f"archive of a day, {day}", 24 * size / 2**30, "GiB", "", "random values"),
        Figure("peak memory of recomputing", peak_mb, "MiB"),
    ]
