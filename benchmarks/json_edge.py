"""The same job from one JSON reading a message: batcher and worker as processes of their own, beside plain loops.

A worker waits, the topic of JSON readings is filled, then the batcher starts. Processor time is that of both processes:
the batcher's from its start-up's end until it has sent all, the worker's from the batcher's start until the last
reading is in a snapshot and acknowledged. The plain loop reads the same messages after them, in turns. Other engines
run where they are installed (``benchmarks/peers/requirements.txt``).
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.cases.gridtown import DELAY_MS, INTERVAL_MS, START_MS, Town, json_readings, town
from benchmarks.columns import CORE, documented, looped
from benchmarks.figure import Figure, absent, repeated
from benchmarks.peers.engines import ENGINES, engine_python
from benchmarks.rig.broker import broker as embedded_broker
from benchmarks.rig.child import Child, between
from citybrain.network import Network
from infra.kafka.admin import apply_topics, delete_run_topics
from infra.kafka.client import Brokers
from infra.kafka.producer import JsonProducer
from ingest.jsonedge import JsonEdge

PARTITIONS = 4
SEGMENTS = 10_000
INTERVALS = 34
"""A little over a million readings."""
TIMES = 3
DECODED = 30_000
__all__ = ["PARTITIONS", "embedded_broker", "run"]


def fill(brokers: Brokers, network: Network, run: str, intervals: int) -> int:
    """Send single JSON readings; return how many."""
    producer = JsonProducer(brokers, run, timeout_s=120)
    producer.send("readings-json", json_readings(network, intervals))
    producer.flush()
    producer.close()
    return intervals * len(network.detectors)


def chain(place: Town, brokers: Brokers, run: str, intervals: int) -> tuple[float, float, float]:
    """Run batcher and worker; return the processor seconds of each and the wall seconds, for a million readings."""
    with Child("benchmarks.rig.worker", place.folder, brokers, run, *CORE) as worker:
        worker.at_least(partitions=place.network.partitions)
        count = fill(brokers, place.network, run, intervals)
        idle_s = worker.cpu_s()
        with Child("benchmarks.rig.batcher", place.folder, brokers, run) as batcher:
            started = batcher.event("ready")
            sent = batcher.at_least(300, messages=count)
            done = worker.wait(
                lambda at: at.get("readings", 0) + at.get("refused", 0) >= count and not at["held"], 300
            )  # fmt: skip
            batcher_s, _ = between(started, sent)
        worker_s = worker.cpu_s() - idle_s
    if done["refused"]:
        raise RuntimeError(f"{done['refused']:,.0f} of {count:,} readings were refused: none should be")
    return batcher_s / count * 1e6, worker_s / count * 1e6, (done["at_s"] - started["at_s"]) / count * 1e6


def decoding(network: Network) -> list[float]:
    """Return readings a second of processor time, decoded to columns by the batcher's own code."""
    edge = JsonEdge(network)
    values = [value for _, value, _ in json_readings(network, 1)][:DECODED]
    record_ms = np.full(len(values), START_MS + INTERVAL_MS + DELAY_MS, dtype=np.int64)
    found = []
    for _ in range(7):
        began = time.process_time()
        edge.decode(values, record_ms)
        found.append(len(values) / (time.process_time() - began))
    return found


def run() -> list[Figure]:
    """Measure chain and plain loop in turns, then the other engines on a sample."""
    ours, plain = list[tuple[float, float, float]](), list[float]()
    with tempfile.TemporaryDirectory() as folder, embedded_broker() as brokers:
        place = town(Path(folder) / "city", SEGMENTS)
        apply_topics(brokers, place.network.partitions, run="peer")
        for nth in range(TIMES):
            name = f"r{nth}"
            apply_topics(brokers, place.network.partitions, run=name)
            ours.append(chain(place, brokers, name, INTERVALS))
            plain.append(looped(place, brokers, name, INTERVALS * len(place.network.detectors), "json")[0])
            delete_run_topics(brokers, name, 30)
        rate = decoding(place.network)
        whole = [batcher + worker for batcher, worker, _ in ours]
        figures = _figures(place, ours, plain, whole)
        figures += [
            repeated("JSON edge: decoding to columns alone", rate, "readings/s per core", at_least=200_000),
            _beside("Faust as documented, one sum", median(whole), documented(place, brokers, "documented")[0]),
        ]
        figures += [_engine(name, place, brokers, median(whole)) for name in ENGINES]
    return figures


def _figures(
    place: Town, ours: list[tuple[float, float, float]], plain: list[float], whole: list[float]
) -> list[Figure]:
    count = INTERVALS * len(place.network.detectors) / 1e6
    batcher, worker, wall = zip(*ours, strict=True)
    unit = "CPU s per million readings"
    return [
        repeated(
            f"JSON, one reading a message, {place.name}: batcher and worker", whole, unit, at_most=2.5,
            peer="plain confluent-kafka, msgspec and numpy loop without any guarantee", peer_value=median(plain),
            cpu_s=median(whole) * count, wall_s=median(wall) * count,
        ),
        repeated("JSON: of that the batcher", batcher, unit),
        repeated("JSON: of that the worker", worker, unit),
    ]  # fmt: skip


def _beside(peer: str, ours: float, value: float) -> Figure:
    name = f"JSON: batcher and worker beside {peer}"
    return Figure(
        name, ours, "CPU s per million readings", peer=peer, peer_value=value, note="extrapolated from a sample"
    )


def _engine(name: str, place: Town, brokers: Brokers, ours: float) -> Figure:
    """Measure another engine on a sample, if it is installed."""
    engine = ENGINES[name]
    python = engine_python(name)
    if python is None:
        why = "skipped: not installed (benchmarks/peers/requirements.txt says how)"
        return absent(f"JSON: batcher and worker beside {name}", "", why)
    apply_topics(brokers, place.network.partitions, run=name)
    count = fill(brokers, place.network, name, engine.intervals)
    topic = f"citybrain.{name}.readings-json"
    with Child(engine.module, brokers, topic, count, python=str(python)) as child:
        child.event("ready")
        first = child.at_least(120, readings=1)
        last = child.at_least(300, readings=count)
    cpu_s = between(first, last)[0] / (last["readings"] - first["readings"]) * 1e6
    return _beside(name, ours, cpu_s)
