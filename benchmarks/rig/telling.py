"""Telling: inside a measured process, how far it is goes out as lines of JSON; `benchmarks.rig.child` reads them.

A line is a point: wall clock, processor time of the whole process, and whatever is counted. Lines are written by a
thread every 50 ms where something changed, so that measuring costs a thousandth of a core.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable

EVERY_S = 0.05

Counts = dict[str, float]


def tell(**said: float | str) -> None:
    """Write one line, with the wall clock and the processor time of this process."""
    line = json.dumps({"at_s": time.time(), "cpu_s": time.process_time(), **said})
    os.write(1, line.encode() + b"\n")


class Teller:
    """Tells counts while they change.

    Parameters
    ----------
    counts
        Returns them; called from a thread.
    """

    def __init__(self, counts: Callable[[], Counts]) -> None:
        self._counts = counts
        threading.Thread(target=self._run, daemon=True, name="teller").start()

    def _run(self) -> None:
        told: Counts | None = None
        while True:
            counts = self._counts()
            if counts != told:
                tell(**counts)
                told = counts
            time.sleep(EVERY_S)
