"""How a traffic engine's hour is told: what it cost and the flow of every link. Needs numpy only."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

HOUR_S = 3600


def arguments() -> argparse.Namespace:
    """Return what a program was asked for: ``CASE FLOWS [--fixed] [--seed N] [--wave M_S]``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("case", type=Path)
    parser.add_argument("flows", type=Path)
    parser.add_argument("--fixed", action="store_true", help="everyone keeps to the quickest way on an empty network")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--wave", type=float, default=0.0, help="speed of waves on all links, m/s; own engine only")
    return parser.parse_args()


class Told:
    """Measures one piece of work and prints it as JSON; the flows go into a file.

    Parameters
    ----------
    flows
        Where the vehicles that left each link in the hour are kept.
    """

    def __init__(self, flows: Path) -> None:
        self._flows = flows
        self._wall_s = self._cpu_s = 0.0

    def measure(self, work: Callable[[], object]) -> None:
        """Do the work, and note what it costs."""
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        work()
        self._wall_s = time.perf_counter() - wall_s
        self._cpu_s = time.process_time() - cpu_s

    def tell(self, left: npt.NDArray[np.float64], arrived: int) -> None:
        """Keep the flows, shape (links,), and print the costs."""
        np.save(self._flows, left)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        told = {"wall_s": self._wall_s, "cpu_s": self._cpu_s, "rss_mb": peak, "arrived": int(arrived)}
        print(json.dumps(told), flush=True)
