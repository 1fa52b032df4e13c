"""The live map of 10,000 segments in a real Chromium: a tick on the wire, and from its arrival until it is painted."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.figure import Figure
from dashboard.live.feeds import Demo
from dashboard.live.frames import Layer
from dashboard.screenshot import find_chromium, headless_chromium
from tests.browser.generated import local_instant_ms
from tests.browser.serving import serving
from tests.fakes import city_settings, grid_network

SEGMENTS = 10_000
TICKS = 40
CHANGED = 250
"""Segments that change level in a tick, all over the map: so many that the whole of it is repainted."""
WATCH = """() => {
  window.ticks = [];
  const { map } = cityBrain.page;
  map.worker.postMessage({ type: 'flush', on: true });
  map.on.painted = (message) => message.type === 'tick' && ticks.push(performance.now() - message.received);
}"""


def run() -> list[Figure]:
    if find_chromium() is None:
        return []
    rows = int(np.sqrt(SEGMENTS / 4)) + 1
    network = grid_network(rows, rows)
    folder = Path(tempfile.mkdtemp())
    now_ms = local_instant_ms("Europe/Lisbon", 2026, 11, 24, 17, 30)
    demo = Demo(simulated=True, speed=5.0, label="simulated", feed_clock=True)
    with (
        serving(network, city_settings(folder), folder, now_ms=now_ms, demo=demo) as served,
        headless_chromium() as browser,
    ):
        served.minute()
        page = browser.new_page(viewport={"width": 1920, "height": 1080})
        page.goto(served.url)
        page.wait_for_selector("html[data-ready]")
        page.wait_for_timeout(2000)
        page.evaluate(WATCH)
        hub, rng = served.live.hub, np.random.default_rng(1)
        level = hub.shown[Layer.LEVEL].copy()
        sizes = []
        for _ in range(TICKS):
            level = level.copy()
            at = rng.choice(len(level), CHANGED, replace=False)
            level[at] = level[at] % 5 + 1
            sizes.append(served.on_loop(partial(hub.tick, {Layer.LEVEL: level}, [])))
            time.sleep(0.25)
        page.wait_for_timeout(1000)
        ticks = page.evaluate("() => window.ticks")
    n = f"{len(network.segments):,} segments, {CHANGED} changed"
    return [
        Figure(f"map tick, frame arrived until painted, {n}", median(ticks), "ms", "under 20 ms"),
        Figure(f"map tick on the wire, {n}", float(median(sizes)), "B", "under 2 kB"),
    ]
