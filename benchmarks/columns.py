"""Columns through clean, aggregate, roll-up and snapshots on Kafka: one worker process, beside plain loops.

The topic is filled beforehand. Processor time is that of the whole worker process (consumer, stages, producer, a
snapshot every second) from the first reading counted until the last one is in a snapshot and acknowledged. City Brain
and the plain loop take turns over the same messages; Faust as documented gets a small sample of the same readings as
JSON, for it would take an hour.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cases.gridtown import Town, columns, json_readings, town
from benchmarks.figure import Figure, repeated
from benchmarks.rig.broker import broker
from benchmarks.rig.child import Child, between
from citybrain.network import Network
from infra.kafka.admin import apply_topics, delete_run_topics
from infra.kafka.client import Brokers
from infra.kafka.producer import BatchProducer, JsonProducer

SEGMENTS = 10_000
INTERVALS = 240
SAMPLE = 1
"""Intervals that Faust gets."""
TIMES = 3
CORE = ("aggregate", "rollup")


def fill(brokers: Brokers, network: Network, run: str, intervals: int, topic_run: bool = True) -> int:
    """Make a run's topics and fill its readings; return how many there are."""
    if topic_run:
        apply_topics(brokers, network.partitions, run=run)
    producer = BatchProducer(brokers, run, timeout_s=120)
    producer.send(columns(network, intervals), 0)
    producer.flush()
    producer.close()
    return intervals * len(network.detectors)


def worked(place: Town, brokers: Brokers, run: str, count: int, stages: Sequence[str] = CORE) -> tuple[float, float]:
    """Run a worker over a filled topic; return processor and wall seconds for a million readings."""
    with Child("benchmarks.rig.worker", place.folder, brokers, run, *stages) as worker:
        first = worker.at_least(readings=1)
        last = worker.wait(lambda point: point.get("readings", 0) >= count and not point["held"])
    return _per_million(first, last)


def looped(place: Town, brokers: Brokers, run: str, count: int, kind: str = "columns") -> tuple[float, float]:
    """Run the plain loop over a filled topic; the same."""
    with Child("benchmarks.peers.plain", kind, place.folder, brokers, run) as loop:
        return _per_million(loop.at_least(readings=1), loop.at_least(readings=count))


def documented(place: Town, brokers: Brokers, run: str) -> tuple[float, float]:
    """Run Faust as documented over a sample of JSON readings; the same."""
    count = SAMPLE * len(place.network.detectors)
    apply_topics(brokers, place.network.partitions, run=run)
    producer = JsonProducer(brokers, run, timeout_s=60)
    producer.send("readings-json", json_readings(place.network, SAMPLE))
    producer.flush()
    producer.close()
    with Child("benchmarks.peers.faust_table", place.folder, brokers, run) as app:
        return _per_million(app.at_least(readings=1), app.at_least(300, readings=count))


def _per_million(first: dict[str, float], last: dict[str, float]) -> tuple[float, float]:
    millions = (last["readings"] - first["readings"]) / 1e6
    cpu_s, wall_s = between(first, last)
    return cpu_s / millions, wall_s / millions


def run() -> list[Figure]:
    """Measure in turns: worker, plain loop, worker with all stages."""
    ours, plain, whole = list[tuple[float, float]](), list[tuple[float, float]](), list[tuple[float, float]]()
    with tempfile.TemporaryDirectory() as folder, broker() as brokers:
        place = town(Path(folder) / "city", SEGMENTS)
        apply_topics(brokers, place.network.partitions, run="peer")
        faust = documented(place, brokers, "documented")
        for nth in range(TIMES):
            name = f"r{nth}"
            count = fill(brokers, place.network, name, INTERVALS)
            ours.append(worked(place, brokers, name, count))
            plain.append(looped(place, brokers, name, count))
            delete_run_topics(brokers, name, 30)
        count = fill(brokers, place.network, "whole", INTERVALS)
        whole.append(worked(place, brokers, "whole", count, ()))
    what = f"columns, {place.name}, 16 partitions"
    cpu, wall = zip(*ours, strict=True)
    plain_cpu, plain_wall = (sorted(values)[TIMES // 2] for values in zip(*plain, strict=True))
    unit = "CPU s per million readings"
    return [
        repeated(
            f"{what}: clean, aggregate, roll-up, snapshots, one worker", cpu, unit, at_most=0.5,
            peer="plain confluent-kafka and numpy loop without any guarantee", peer_value=plain_cpu,
            cpu_s=sorted(cpu)[TIMES // 2] * count / 1e6, wall_s=sorted(wall)[TIMES // 2] * count / 1e6,
        ),
        repeated(
            f"{what}: the same, wall clock", wall, "s per million readings", peer="the plain loop",
            peer_value=plain_wall, note="the broker runs beside them",
        ),
        Figure(
            f"{what}: the same beside Faust as documented", sorted(cpu)[TIMES // 2], unit,
            peer="JSON a reading, windowed table with one sum", peer_value=faust[0],
            note=f"extrapolated from {SAMPLE * len(place.network.detectors):,} readings",
        ),
        Figure(
            f"{what}: all stages of a worker", whole[0][0], unit, wall_s=whole[0][1] * count / 1e6,
            cpu_s=whole[0][0] * count / 1e6, note="with forecasts, warnings, alerts and the archive",
        ),
    ]  # fmt: skip
