"""A worker for ``benchmarks.aggregate``: a task as JSON in the arguments in, what it did as a line of JSON out.

It begins once it has all partitions. Measured is from the 300th message to the 300th before the last, so that as many
wait in its buffers at the end as at the beginning. While it works
it looks every 2 ms of CPU time at what it does.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.aggregate import Load
from citybrain.metrics import Metrics
from citybrain.topics import topic_address
from infra.kafka.client import Brokers
from streams.aggregate import Aggregate
from streams.harness import looks, make_app, running
from streams.rollup import Rollup
from streams.stage import Stage
from tests.fakes import city_settings

BUFFERED = 300
SAMPLE_S = 0.002

PARTS: tuple[tuple[str, str, str], ...] = (
    # file of the code, function (empty: any), what it is part of; the innermost that is known decides
    ("streams/harness.py", "_dump", "snapshots"),
    ("streams/rollup.py", "", "roll-up"),
    ("streams/aggregate.py", "provisional", "open panes for the screen"),
    ("streams/aggregate.py", "_pass", "closing panes"),
    ("streams/aggregate.py", "_tell", "closing panes"),
    ("streams/aggregate.py", "_outputs", "closing panes"),
    ("streams/aggregate.py", "_closing", "closing panes"),
    ("streams/aggregate.py", "flush", "closing panes"),
    ("streams/intervals.py", "", "duplicates"),
    ("streams/aggregate.py", "_new", "duplicates"),
    ("streams/clean.py", "", "clean"),
    ("streams/roster.py", "", "clean"),
    ("streams/sums.py", "", "additions"),
    ("streams/ring.py", "add", "additions"),
    ("citybrain/records.py", "decode", "decode"),
    ("streams/aggregate.py", "", "other steps"),
    ("citybrain/metrics.py", "", "metrics"),
    ("streams/harness.py", "_write", "sending"),
    ("streams/harness.py", "_send", "sending"),
    ("aiokafka/producer/", "", "sending"),
    ("aiokafka/", "", "aiokafka: fetching, group, connections"),
    ("streams/harness.py", "", "harness"),
    ("faust/", "", "Faust"),
    ("mode/", "", "Faust"),
    ("asyncio/", "", "event loop"),
)


class Profile:
    """Counts what the process is at, by CPU time."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self._known: dict[Any, str] = {}

    def start(self) -> None:
        """Begin to look."""
        signal.signal(signal.SIGPROF, self._look)
        signal.setitimer(signal.ITIMER_PROF, SAMPLE_S, SAMPLE_S)

    def stop(self) -> dict[str, float]:
        """Look no more; return the share of each part."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        total = sum(self.seen.values())
        return {part: count / total for part, count in self.seen.most_common()}

    def _look(self, number: int, frame: FrameType | None) -> None:
        part = ""
        while frame is not None and not part:
            code = frame.f_code
            if code not in self._known:
                self._known[code] = _part_of(code.co_filename, code.co_name)
            part, frame = self._known[code], frame.f_back
        self.seen[part or "other"] += 1


def _part_of(file: str, function: str) -> str:
    for path, name, part in PARTS:
        if f"/{path}" in file and name in ("", function):
            return part
    return ""


async def main(task: dict[str, Any]) -> None:
    """Work."""
    load = Load(**task["load"])
    network, brokers = load.network(), Brokers(task["address"])
    per_partition = _messages_of_a_partition(load, len(network.detectors))
    with tempfile.TemporaryDirectory() as folder:
        settings = city_settings(Path(folder))
        stages: list[Stage[Any]] = [Aggregate.of(network, settings), Rollup.of(network, settings)]
        app: Any = make_app(stages, brokers, run=task["run"], role="worker", settings=settings, metrics=Metrics())
        aggregate = app.runners[0]
        await aggregate._applying.acquire()
        async with running(app):
            readings = topic_address("readings", task["run"])
            while len([place for place in looks(app)[0].positions if place[0] == readings]) != load.partitions:
                await asyncio.sleep(0.05)
            aggregate._applying.release()
            print(
                json.dumps(await _measured(app, load.partitions * per_partition, load.a_message(network))), flush=True
            )


def _messages_of_a_partition(load: Load, detectors: int) -> int:
    from benchmarks.aggregate import WORKED

    mine = -(-detectors // load.partitions)
    return load.intervals(WORKED) * -(-mine // load.rows)


async def _measured(app: Any, messages: int, a_message: float) -> dict[str, Any]:
    def done() -> int:
        return sum(position or 0 for position in looks(app)[0].positions.values())

    while done() < BUFFERED:
        await asyncio.sleep(0.01)
    profile, first = Profile(), done()
    cpu = time.process_time()
    profile.start()
    while done() < messages - BUFFERED:
        await asyncio.sleep(0.02)
    shares, cpu_s = profile.stop(), time.process_time() - cpu
    return {"cpu_s": cpu_s, "readings": round((done() - first) * a_message), "shares": shares}


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
