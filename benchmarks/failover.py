"""A worker dies by kill -9 under a live feed of 10,000 segments; another one of its group takes over all partitions.

Restoring is from the assignment to the first message applied; the whole fail-over from the kill to that message, of
which most is the group's session (2 s on one machine; 10 s in production, where workers are on machines of their own).
Beside it a plain consumer of the same group settings, which has nothing to restore. Five kills, in turns.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.cases.gridtown import INTERVAL_MS, START_MS, Town, columns, town
from benchmarks.columns import CORE, fill
from benchmarks.figure import Figure, repeated
from benchmarks.rig.broker import broker
from benchmarks.rig.child import Child
from infra.kafka.admin import apply_topics
from infra.kafka.client import Brokers
from infra.kafka.producer import BatchProducer

SEGMENTS = 10_000
KILLS = 5
BEFORE = 20
"""Intervals in the state."""
FEED_S = 0.2
RUN = "live"
SETTLED_S = 3.0


@contextmanager
def feed(place: Town, brokers: Brokers) -> Iterator[None]:
    """Keep sending: every partition gets an interval, which is a message, some four times a second."""
    ended = threading.Event()

    def send() -> None:
        producer = BatchProducer(brokers, RUN, timeout_s=60)
        nth = BEFORE
        while not ended.wait(FEED_S):
            producer.send(columns(place.network, 1, start_ms=START_MS + nth * INTERVAL_MS), 0)
            producer.flush()
            nth += 1
        producer.close()

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(10)


def kills(start: list[str], place: Town, brokers: Brokers) -> tuple[list[float], list[float], list[float]]:
    """Kill the one that works, five times; return seconds from assignment to work, from kill to work, of restoring."""
    to_work, whole, restores = list[float](), list[float](), list[float]()

    def another() -> Child:
        return Child(start[0], *[{"CITY": place.folder, "BROKERS": brokers, "RUN": RUN}.get(a, a) for a in start[1:]])

    working = another()
    try:
        working.event("applied")
        for _ in range(KILLS):
            heir = another()
            heir.event("applied")
            time.sleep(SETTLED_S)
            known = len(heir.points)
            killed_s = working.kill()
            working = heir
            assigned = heir.event("assigned", since=known)
            applied = heir.event("applied", since=heir.points.index(assigned))
            restored = [p["seconds"] for p in heir.points[known:] if p.get("stage") == "aggregate"]
            to_work.append(applied["at_s"] - assigned["at_s"])
            whole.append(applied["at_s"] - killed_s)
            restores += restored[:1]
    finally:
        working.__exit__(None, None, None)
    return to_work, whole, restores


def run() -> list[Figure]:
    """Kill workers, then plain consumers."""
    with tempfile.TemporaryDirectory() as folder, broker() as brokers:
        place = town(Path(folder) / "city", SEGMENTS)
        apply_topics(brokers, place.network.partitions, run="peer")
        fill(brokers, place.network, RUN, BEFORE)
        with feed(place, brokers):
            ours = kills(["benchmarks.rig.worker", "CITY", "BROKERS", "RUN", *CORE], place, brokers)
            plain = kills(["benchmarks.peers.plain", "columns", "CITY", "BROKERS", "RUN"], place, brokers)
    what = f"after kill -9, {place.name}, 16 partitions to one worker"
    peer = "plain confluent-kafka consumer, nothing to restore"
    return [
        repeated(
            f"{what}: assignment to the first message applied", ours[0], "s", at_most=1.0, peer=peer,
            peer_value=median(plain[0]),
        ),
        repeated(f"{what}: of that reading the snapshots", ours[2], "s"),
        repeated(
            f"{what}: kill to the first message applied", ours[1], "s", peer=peer, peer_value=median(plain[1]),
            note="session 2 s",
        ),
    ]  # fmt: skip
