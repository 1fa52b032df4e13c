"""The DuckDB store with 10,000 segments in four partitions: writing, asking, size on disk.

Speeds are random to the last bit and every segment is measured, so the size is an upper bound. Four hours are written
as they would be live, one pane a write; a week of the city is the area table alone.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.figure import Figure
from citybrain.network import FloatArray, Network
from citybrain.records import SegmentStates
from infra.stores.duckdb import DuckStore
from infra.stores.protocol import Batch
from tests.fakes import area_indices, forecasts, grid_network, segment_states

MIN = 60_000
HOURS = 4
PARTITIONS = 4


def pane(network: Network, at: int, rng: np.random.Generator) -> list[SegmentStates]:
    """Return the states of all segments in minute ``at``."""
    n = len(network.segments) // PARTITIONS + 1
    states = []
    for partition in range(PARTITIONS):
        size = len(network.segments_of(partition))
        speed = rng.normal(40, 8, n).clip(3)[:size]
        flow: FloatArray = 120.0 * rng.integers(1, 12, n)[:size].astype(np.float64)
        states.append(
            segment_states(
                network, partition=partition, pane_start_ms=at * MIN, version=at, speed_kmh=speed, flow_vph=flow
            )
        )
    return states


def _best_ms(ask: Callable[[], object], times: int = 5) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - began)
    return min(taken) * 1000


def run() -> list[Figure]:
    """Measure it in a temporary folder."""
    rng = np.random.default_rng(1)
    network = grid_network(71, 36, partitions=PARTITIONS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.duckdb"
        store = DuckStore(path, network, pane_ms=MIN)
        taken = []
        for at in range(HOURS * 60):
            batch = Batch(states=pane(network, at, rng))
            began = time.perf_counter()
            store.write(batch)
            taken.append((time.perf_counter() - began) * 1000)
        minute = HOURS * 60
        ahead = Batch(
            forecasts=[forecasts(network, partition=at, pane_start_ms=minute * MIN) for at in range(PARTITIONS)]
        )
        forecast_ms = _best_ms(lambda: store.write(ahead), 1)
        span = (0, HOURS * 60 * MIN)
        segments = list(range(40))
        figures = [
            Figure(
                f"store: write a pane of {len(network.segments):,} segments, median",
                float(np.median(taken)),
                "ms",
                "< 20",
            ),
            Figure("store: the same, 99 %", float(np.percentile(taken, 99)), "ms"),
            Figure("store: write the forecasts of a pane", forecast_ms, "ms"),
            Figure("store: newest state of every segment", _best_ms(store.latest_states), "ms"),
            Figure(f"store: one segment, {HOURS} h of panes", _best_ms(lambda: store.series(77, *span)), "ms"),
            Figure(
                f"store: one segment, {HOURS} h by 5 min",
                _best_ms(lambda: store.series(77, *span, step_ms=5 * MIN)),
                "ms",
            ),
            Figure(
                f"store: 40 segments, {HOURS} h by 5 min",
                _best_ms(lambda: store.heatmap(segments, *span, step_ms=5 * MIN)),
                "ms",
            ),
            Figure(
                "store: top 20 of the last 15 min", _best_ms(lambda: store.ranking(span[1] - 15 * MIN, span[1])), "ms"
            ),
        ]
        store.close()
        bytes_a_row = path.stat().st_size / (HOURS * 60 * len(network.segments))
        figures.append(Figure("store: bytes a segment and minute, rollups included", bytes_a_row, "B"))
        figures.append(Figure("store: a day of 10,000 segments", bytes_a_row * 14.4, "MB"))
        store = DuckStore(Path(folder) / "areas.duckdb", network, pane_ms=MIN)
        store.write(Batch(areas=[area_indices(network, pane_start_ms=at * MIN) for at in range(7 * 1440)]))
        week = _best_ms(lambda: store.areas(0, 7 * 1440 * MIN, area=0))
        figures.append(Figure("store: a week of the city by minute", week, "ms"))
        store.close()
    return figures


def run_long() -> list[Figure]:
    """Measure it with 100 million rows: a week of minutes, about ten minutes to write."""
    rng = np.random.default_rng(1)
    network = grid_network(71, 36, partitions=PARTITIONS)
    minutes = 7 * 1440
    with tempfile.TemporaryDirectory() as folder:
        store = DuckStore(Path(folder) / "store.duckdb", network, pane_ms=MIN)
        taken = []
        hour: list[list[SegmentStates]] = [pane(network, at, rng) for at in range(60)]
        for at in range(minutes):
            states = [replace(state, pane_start_ms=at * MIN, version=at) for state in hour[at % 60]]
            batch = Batch(states=states, areas=[area_indices(network, pane_start_ms=at * MIN)])
            began = time.perf_counter()
            store.write(batch)
            taken.append((time.perf_counter() - began) * 1000)
        end = minutes * MIN
        rows = f"{minutes * len(network.segments) / 1e6:.0f} million rows"
        figures = [
            Figure(f"DuckDB, {rows}: newest state of every segment", _best_ms(store.latest_states), "ms", at_most=5),
            Figure(f"DuckDB, {rows}: one segment, a day of minutes",
                   _best_ms(lambda: store.series(77, end - 1440 * MIN, end)), "ms", at_most=60),
            Figure(f"DuckDB, {rows}: the city, a week of minutes",
                   _best_ms(lambda: store.areas(0, end, area=0)), "ms", at_most=5),
            Figure(f"DuckDB, {rows}: write a pane, 99 %", float(np.percentile(taken, 99)), "ms"),
        ]  # fmt: skip
        store.close()
    return figures
