"""Two workers of one group against one: rate by the wall clock, and processor time a reading, over filled topics.

The rate is taken from when every worker applies messages of its last assignment until the first one has nearly ended
its share. On two cores the broker has to share with the workers: by the wall clock two of them are held back by it,
which the processor time tells apart. One and two take turns.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.cases.gridtown import Town, town
from benchmarks.columns import CORE, fill
from benchmarks.figure import Figure, repeated
from benchmarks.rig.broker import broker
from benchmarks.rig.child import Child, Point, until
from infra.kafka.admin import delete_run_topics
from infra.kafka.client import Brokers

SEGMENTS = 10_000
INTERVALS = 240
TIMES = 3
NEARLY = 0.97


@dataclass(frozen=True, slots=True)
class Rate:
    """Readings a second of all workers together, and processor seconds a million readings."""

    readings_s: float
    cpu_s: float


def rate(place: Town, brokers: Brokers, run: str, workers: int, intervals: int) -> Rate:
    """Let so many workers read a filled topic."""
    count = fill(brokers, place.network, run, intervals)
    with ExitStack() as running:
        children = [
            running.enter_context(Child("benchmarks.rig.worker", place.folder, brokers, run, *CORE))
            for _ in range(workers)
        ]
        # What is applied again after the second has joined is counted again: there may be more than were sent.
        until(
            lambda: sum(_counted(child) for child in children) >= count and not any(map(_held, children)),
            f"{workers} workers with all of {count:,} readings",
        )
        points = [list(child.points) for child in children]
    delete_run_topics(brokers, run, 30)
    return _window(points)


def _newest(child: Child) -> Point:
    none = {"readings": 0.0, "held": 1.0}
    return next((point for point in reversed(list(child.points)) if "readings" in point), none)


def _counted(child: Child) -> float:
    return float(_newest(child)["readings"])


def _held(child: Child) -> bool:
    return bool(_newest(child)["held"])


def _window(points: list[list[Point]]) -> Rate:
    """Return the rate while all of them work."""
    begin_s = max(_begin_s(mine) for mine in points)
    counted = [[point for point in mine if "readings" in point] for mine in points]
    end_s = min(_end_s(mine) for mine in counted)
    if end_s <= begin_s:
        raise RuntimeError("the workers never worked at the same time: more intervals are needed")
    readings = cpu_s = 0.0
    for mine in counted:
        at = np.array([point["at_s"] for point in mine])
        for name in ("readings", "cpu_s"):
            begin, end = np.interp([begin_s, end_s], at, [point[name] for point in mine])
            readings += (end - begin) if name == "readings" else 0.0
            cpu_s += (end - begin) if name == "cpu_s" else 0.0
    return Rate(readings / (end_s - begin_s), cpu_s / readings * 1e6)


def _begin_s(points: list[Point]) -> float:
    assigned = max(at for at, point in enumerate(points) if point.get("event") == "assigned")
    return float(next(point["at_s"] for point in points[assigned:] if point.get("event") == "applied"))


def _end_s(counted: list[Point]) -> float:
    most = counted[-1]["readings"]
    return float(next(point["at_s"] for point in counted if point["readings"] >= NEARLY * most))


def run() -> list[Figure]:
    """Measure one and two in turns."""
    one, two = list[Rate](), list[Rate]()
    with tempfile.TemporaryDirectory() as folder, broker() as brokers:
        place = town(Path(folder) / "city", SEGMENTS)
        for nth in range(TIMES):
            one.append(rate(place, brokers, f"one{nth}", 1, INTERVALS))
            two.append(rate(place, brokers, f"two{nth}", 2, INTERVALS))
    what = f"two workers against one, {place.name}, 16 partitions"
    ratios = [b.readings_s / a.readings_s for a, b in zip(one, two, strict=True)]
    by_cpu = [2 * a.cpu_s / b.cpu_s for a, b in zip(one, two, strict=True)]
    return [
        repeated(
            f"{what}: by the wall clock", ratios, "times", at_least=1.8, peer="one worker", peer_value=1.0,
            note=f"{median([b.readings_s for b in two]):,.0f} against {median([a.readings_s for a in one]):,.0f} "
            "readings/s; the broker has the same two cores",
        ),
        repeated(
            f"{what}: by processor time, as if each had a core", by_cpu, "times", at_least=1.8, peer="one worker",
            peer_value=1.0, note=f"{median([b.cpu_s for b in two]):.3f} against {median([a.cpu_s for a in one]):.3f} "
            "CPU s per million readings",
        ),
    ]  # fmt: skip
