"""Cost and memory of a worker against the number of segments: 1,000, 10,000, 100,000.

The density of loops is the same (three on each segment) and messages have about the same size: the small city has two
partitions, the others 16. Memory is the most that a worker with all its stages held (RSS), and with the core alone.
The sizes take turns.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from benchmarks.cases.gridtown import town
from benchmarks.columns import CORE, fill
from benchmarks.figure import Figure, repeated
from benchmarks.rig.broker import broker
from benchmarks.rig.child import Child, between
from infra.kafka.admin import delete_run_topics
from infra.kafka.client import Brokers

SIZES = {1_000: 2, 10_000: 16, 100_000: 16}
"""Segments, and partitions."""
READINGS = 4_500_000
ROWS = 2000
TIMES = 2
MEMORY_MB = {10_000: 300, 100_000: 1000}
MEMORY_INTERVALS = 12
FLAT = 1.2


def cost(folder: Path, segments: int, nth: int) -> tuple[float, float]:
    """Return processor seconds a million readings of the core, and its peak memory, MB."""
    place = town(folder / f"c{segments}-{nth}", segments, partitions=SIZES[segments])
    with broker() as brokers:
        intervals = max(8, round(READINGS / len(place.network.detectors)))
        count = fill(brokers, place.network, "r", intervals)
        with Child("benchmarks.rig.worker", place.folder, brokers, "r", *CORE) as worker:
            first = worker.at_least(readings=1)
            last = worker.wait(lambda point: point.get("readings", 0) >= count and not point["held"])
            peak_mb = worker.peak_mb()
        delete_run_topics(brokers, "r", 30)
    return between(first, last)[0] / (last["readings"] - first["readings"]) * 1e6, peak_mb


def memory(folder: Path, segments: int, brokers: Brokers) -> float:
    """Return the most memory that a worker with all its stages held, MB."""
    place = town(folder / f"m{segments}", segments, partitions=SIZES[segments])
    run = f"m{segments}"
    count = fill(brokers, place.network, run, MEMORY_INTERVALS)
    with Child("benchmarks.rig.worker", place.folder, brokers, run) as worker:
        worker.wait(lambda point: point.get("readings", 0) >= count and not point["held"], 400)
        peak_mb = worker.peak_mb()
    delete_run_topics(brokers, run, 30)
    return peak_mb


def run() -> list[Figure]:
    """Measure the sizes in turns."""
    costs: dict[int, list[float]] = {size: [] for size in SIZES}
    core_mb: dict[int, list[float]] = {size: [] for size in SIZES}
    with tempfile.TemporaryDirectory() as folder:
        for nth in range(TIMES):
            for size in SIZES:
                cpu_s, peak_mb = cost(Path(folder), size, nth)
                costs[size].append(cpu_s)
                core_mb[size].append(peak_mb)
        with broker() as brokers:
            whole_mb = {size: memory(Path(folder), size, brokers) for size in MEMORY_MB}
    usual = median(costs[10_000])
    figures = [
        repeated(
            f"worker's core, {size:,} segments", costs[size], "CPU s per million readings",
            peer="10,000 segments", peer_value=usual,
        )
        for size in SIZES
    ]  # fmt: skip
    most, least = max(map(median, costs.values())), min(map(median, costs.values()))
    figures.append(
        Figure("cost of a reading, dearest size against cheapest", most / least, "times", at_most=FLAT, peer="itself")
    )
    figures += [
        Figure(
            f"memory of a worker with all stages, {size:,} segments, peak RSS", whole_mb[size], "MB", at_most=most_mb,
            peer="its core alone", peer_value=median(core_mb[size]), note="reading a backlog at full speed",
        )
        for size, most_mb in MEMORY_MB.items()
    ]  # fmt: skip
    return figures
