"""``citybrain up`` on the demo city at real time: start, delay from reading to page, memory and processor time."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import websockets

from benchmarks.figure import Figure
from dashboard.live.frames import SNAPSHOT, Layer, decode
from simulators.sensors import DELIVERY_MS

CITY = Path("cities/porto")
WATCHED_S = 95.0
START_WITHIN_S = 120.0
INTERVAL_S = 30.0


def run() -> list[Figure]:
    """Start the demo city anew, watch it for a minute and a half at real time, stop it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cli.main", "up", str(CITY), "--state", folder, "--port", str(port)]
        began = time.monotonic()
        process = subprocess.Popen([*command, "--real-time"], stdout=subprocess.DEVNULL)
        try:
            first_map_s = _first_map_s(f"http://127.0.0.1:{port}", began)
            time.sleep(5.0)
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            before = _cpu_s(family)
            delays_s = asyncio.run(_delays_s(f"ws://127.0.0.1:{port}/api/v1/live"))
            cores = (_cpu_s(family) - before) / WATCHED_S
            memory = sum(member.memory_info().rss for member in family) / 2**20
        finally:
            process.terminate()
            process.wait(20)
    return [
        Figure("up: start to first coloured map", first_map_s, "s", "15"),
        Figure("up: reading to its value on the page, median", float(np.median(delays_s)), "s"),
        Figure("up: reading to its value on the page, 99 %", float(np.quantile(delays_s, 0.99)), "s", "2"),
        Figure("up: segments that changed while it was watched", float(len(delays_s)), ""),
        Figure("up: memory of all processes (RSS)", memory, "MB", "1,500"),
        Figure("up: cores used at real time, one viewer", cores, "cores", "0.7"),
    ]


def _first_map_s(url: str, began: float) -> float:
    while time.monotonic() - began < START_WITHIN_S:
        try:
            with urllib.request.urlopen(f"{url}/api/v1/state", timeout=2) as answer:
                state: dict[str, Any] = json.load(answer)
            if sum(map(bool, state["level"])) > len(state["level"]) / 2:
                return time.monotonic() - began
        except OSError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"no coloured map within {START_WITHIN_S} s")


async def _delays_s(url: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return for each segment whose speed changed on the page how long its reading took, s.

    The feed's batches leave 2 s after each half minute of the wall clock, and are produced at once.
    """
    delays: list[float] = []
    shown: np.ndarray[Any, np.dtype[np.uint8]] | None = None
    ends = time.time() + WATCHED_S
    async with websockets.connect(url, max_size=None) as viewer:
        while (left := ends - time.time()) > 0:
            try:
                frame = await asyncio.wait_for(viewer.recv(), left)
            except TimeoutError:
                break
            if isinstance(frame, str) or frame[1] != Layer.SPEED:
                continue
            now = time.time()
            change = decode(frame)
            after = change.values.copy() if change.kind == SNAPSHOT or shown is None else shown.copy()
            after[change.index] = change.values
            if shown is not None and (late := (now - DELIVERY_MS / 1000) % INTERVAL_S) < INTERVAL_S / 2:
                delays += [late] * int(np.count_nonzero(after != shown))
            shown = after
    return np.array(delays)


def _cpu_s(family: list[psutil.Process]) -> float:
    return sum(sum(member.cpu_times()[:2]) for member in family)
