"""Measured processes: a module and its arguments in, the points it told, its processor time and peak memory out."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

ROOT = Path(__file__).resolve().parents[2]
STOP_S = 10.0

Point = dict[str, Any]
"""What `benchmarks.rig.telling.tell` wrote: ``at_s``, ``cpu_s`` and counts, or an ``event``."""


class Child:
    """One process of ``python -m``, ended with the block.

    Parameters
    ----------
    module, arguments
        What to run.
    python
        Which interpreter; this one by default.
    """

    def __init__(self, module: str, *arguments: object, python: str = sys.executable) -> None:
        self.points: list[Point] = []
        self.name = module
        self._complaint: list[str] = []
        self._process = subprocess.Popen(
            [python, "-m", module, *map(str, arguments)],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._listen, self._hear_complaint)]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                self.points.append(json.loads(line))

    def _hear_complaint(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._complaint = [*self._complaint[-20:], line]

    def wait(self, holds: Callable[[Point], bool], within_s: float = 120.0, *, since: int = 0) -> Point:
        """Return the first point, from number ``since`` on, for which ``holds``.

        Raises
        ------
        RuntimeError
            If the process ends before, or no such point comes in time.
        """
        deadline, at = time.monotonic() + within_s, since
        while True:
            while at < len(self.points):
                if holds(self.points[at]):
                    return self.points[at]
                at += 1
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.name} ended ({self._process.returncode}): {''.join(self._complaint)}")
            if time.monotonic() > deadline:
                newest = self.points[-1] if self.points else "nothing"
                raise RuntimeError(f"{self.name}: not so within {within_s:.0f} s, newest point {newest}")
            time.sleep(0.01)

    def event(self, name: str, within_s: float = 120.0, *, since: int = 0) -> Point:
        """Return the first point that tells this event."""
        return self.wait(lambda point: point.get("event") == name, within_s, since=since)

    def at_least(self, within_s: float = 120.0, **counts: float) -> Point:
        """Return the first point with these counts."""
        return self.wait(lambda point: all(point.get(k, -1) >= v for k, v in counts.items()), within_s)

    def finish(self, within_s: float) -> int:
        """Wait until it ends by itself; return its exit code."""
        return self._process.wait(within_s)

    def complaint(self) -> str:
        """Return the last lines that it wrote on stderr."""
        return "".join(self._complaint)

    def cpu_s(self) -> float:
        """Return its processor time so far, its children's too."""
        process = psutil.Process(self.pid)
        family = [process, *process.children(recursive=True)]
        return sum(sum(member.cpu_times()[:2]) for member in family)

    def peak_mb(self) -> float:
        """Return the most memory it has held, MB (RSS)."""
        status = Path(f"/proc/{self.pid}/status")
        if status.exists():
            (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
            return float(line.split()[1]) / 1024
        return float(psutil.Process(self.pid).memory_info().rss) / 2**20

    def kill(self) -> float:
        """End it by kill -9; return when, by the wall clock."""
        at_s = time.time()
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        return at_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for reader in self._readers:
            reader.join(1)


def until(holds: Callable[[], bool], what: str, within_s: float = 300.0) -> None:
    """Wait until it holds; raise RuntimeError with ``what`` if it does not in time."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not so within {within_s:.0f} s")
        time.sleep(0.02)


def between(first: Point, last: Point) -> tuple[float, float]:
    """Return processor and wall seconds between two points of one process."""
    return last["cpu_s"] - first["cpu_s"], last["at_s"] - first["at_s"]
