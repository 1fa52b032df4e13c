"""Of one worker: which share of its processor time goes where, by a sampling profiler beside it (py-spy).

Columns through the core of a worker, as in `benchmarks.columns`. A sample counts for the innermost function that one
of the kinds of work names; what no kind names is Faust, the harness and the event loop.
"""

from __future__ import annotations

import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cases.gridtown import town
from benchmarks.columns import CORE, INTERVALS, SEGMENTS, fill
from benchmarks.figure import Figure, Skipped
from benchmarks.peers.engines import program
from benchmarks.rig.broker import broker
from benchmarks.rig.child import Child

RATE = 400
LONGEST_S = 300
FETCHING = "fetch messages (aiokafka, Faust's consumer)"
REST = "hand messages to stages (Faust, harness, event loop)"
WAITING = ("select (selectors.py", "_worker (concurrent/", "wait (threading.py", "(benchmarks/rig/")
"""Innermost frames of threads that wait, which py-spy cannot always tell from work, and of the measuring itself."""
KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("decode Arrow", ("decode (citybrain/records.py",)),
    ("check readings (clean)", ("(streams/clean.py", "(streams/intervals.py", "_new (streams/aggregate.py")),
    ("judge detectors", ("(streams/health.py", "_health (streams/aggregate.py")),
    ("add up", ("(streams/sums.py", ".add (streams/ring.py")),
    ("close panes and encode them", ("(streams/measures.py", "_pass (streams/aggregate.py", "_tell (streams/agg")),
    ("roll up areas", ("(streams/rollup.py",)),
    ("snapshots", ("Runner._dump (", "Runner._save (", "(streams/snapshot.py", "(streams/savepoint.py")),
    ("send results (Faust's producer, aiokafka)", ("Runner._send (", "Runner._produce (", "(aiokafka/")),
    ("the rest of aggregate", ("Aggregate.step (",)),
)
"""Kinds of work of the main thread, and what names them in a frame."""


def kind_of(frames: Sequence[str]) -> str:
    """Return the kind of work of a stack, outermost frame first.

    Examples
    --------
    >>> kind_of(["thread (1): MainThread", "Runner._step (streams/harness.py:170)", "clean (streams/clean.py:214)"])
    'check readings (clean)'
    >>> kind_of(["thread (2): Thread-1", "AIOKafkaConnection._read (aiokafka/conn.py:529)"])
    "fetch messages (aiokafka, Faust's consumer)"
    """
    if not frames[0].endswith("MainThread"):
        return FETCHING
    for frame in reversed(frames):
        for kind, names in KINDS:
            if any(name in frame for name in names):
                return kind
    return REST


def shares(samples: str) -> dict[str, float]:
    r"""Return the share of each kind in py-spy's raw samples, largest first.

    Examples
    --------
    >>> shares("MainThread;f (a.py:1) 3\nThread-1;g (b.py:2) 1\nThread-1;wait (threading.py:9) 5\n")
    {'hand messages to stages (Faust, harness, event loop)': 0.75, "fetch messages (aiokafka, Faust's consumer)": 0.25}
    """
    seen = Counter[str]()
    for line in samples.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if not any(name in frames[-1] for name in WAITING):
            seen[kind_of(frames)] += int(count)
    return {kind: count / seen.total() for kind, count in seen.most_common()}


def run() -> list[Figure]:
    """Sample a worker from its first reading to its last acknowledgement."""
    spy = program("py-spy")
    if spy is None:
        raise Skipped("py-spy is not installed (benchmarks/peers/requirements.txt says how)")
    with tempfile.TemporaryDirectory() as folder, broker() as brokers:
        place, out = town(Path(folder) / "city", SEGMENTS), Path(folder) / "samples"
        count = fill(brokers, place.network, "shares", INTERVALS)
        with Child("benchmarks.rig.worker", place.folder, brokers, "shares", *CORE) as worker:
            worker.at_least(readings=1)
            command = [spy, "record", "--pid", worker.pid, "--rate", RATE, "--duration", LONGEST_S, "--threads"]
            sampler = subprocess.Popen(
                [*map(str, command), "--format", "raw", "--output", str(out)],
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            worker.wait(lambda point: point.get("readings", 0) >= count and not point["held"])
            sampler.send_signal(signal.SIGINT)
            complaint = sampler.communicate()[1]
        if not out.exists():
            raise Skipped(f"py-spy may not look at another process here: {complaint.strip()[-200:]}")
        found = shares(out.read_text("utf-8"))
    return [Figure(f"of one worker's time, {place.name}: {kind}", 100 * of, "%") for kind, of in found.items()]
