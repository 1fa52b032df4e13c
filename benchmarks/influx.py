"""The InfluxDB store with 10,000 segments in four partitions, and DuckDB beside it: writing a minute, asking.

A real server on this machine, on the same cores. Speeds are random to the last bit and every segment is measured, so
times and sizes are upper bounds. `run` asks after four hours of panes, `run_long` after a day of them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.figure import Figure, Skipped, repeated
from benchmarks.store import MIN, PARTITIONS, pane
from infra.stores.duckdb import DuckStore
from infra.stores.protocol import Batch, Store
from tests.fakes import area_indices, grid_network
from tests.infra.influx import InfluxProcess, influx_store, influxd_path

START = 1_790_035_200_000
WRITES = 30
"""Of the last minutes' writes the median is told."""
DUCK = "DuckDB, the same rows"


def run() -> list[Figure]:
    """Measure after four hours of panes."""
    return _measured(4)


def run_long() -> list[Figure]:
    """Measure after a day of panes."""
    return _measured(24)


def _measured(hours: int) -> list[Figure]:
    program = influxd_path()
    if program is None:
        raise Skipped("no influxd on the PATH or in ~/.cache/influxd-2.7.12: InfluxDB 2.7 is needed")
    network = grid_network(71, 36, partitions=PARTITIONS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "server").mkdir()
        server = InfluxProcess(program, folder / "server")
        server.start()
        try:
            server.set_up()
            stores = {
                "influx": influx_store(server, folder / "city", network),
                "duck": DuckStore(folder / "store.duckdb", network, pane_ms=MIN),
            }
            taken = _fill(stores, hours)
            figures = _figures(stores, taken, hours, len(network.segments))
            for store in stores.values():
                store.close()
        finally:
            server.stop()
        size = sum(path.stat().st_size for path in (folder / "server").rglob("*") if path.is_file())
        figures.append(Figure(f"InfluxDB: bytes a segment and minute after {hours} h, roll-ups included",
                              size / (hours * 60 * len(network.segments)), "B"))  # fmt: skip
    return figures


def _fill(stores: dict[str, Store], hours: int) -> dict[str, list[float]]:
    """Write minute after minute, as it would be live; returns the time of the last writes, ms."""
    network = grid_network(71, 36, partitions=PARTITIONS)
    rng = np.random.default_rng(1)
    taken: dict[str, list[float]] = {name: [] for name in stores}
    for at in range(START // MIN, START // MIN + hours * 60):
        batch = Batch(states=pane(network, at, rng), areas=[area_indices(network, pane_start_ms=at * MIN)])
        for name, store in stores.items():
            taken[name].append(_ms(partial(store.write, batch)))
    return {name: times[-WRITES:] for name, times in taken.items()}


def _figures(stores: dict[str, Store], taken: dict[str, list[float]], hours: int, segments: int) -> list[Figure]:
    span = START, START + hours * 60 * MIN
    told = f"after {hours} h"
    questions: list[tuple[str, float | None, Callable[[Store], object]]] = [
        (f"InfluxDB: newest state of {segments:,} segments, {told}", 500.0, lambda store: store.latest_states()),
        (f"InfluxDB: a segment's {hours} h by minute", 100.0, lambda store: store.series(77, *span)),
        (f"InfluxDB: a segment's {hours} h by 5 min", None, lambda store: store.series(77, *span, step_ms=5 * MIN)),
        (f"InfluxDB: 40 segments, {hours} h by 5 min", None,
         lambda store: store.heatmap(list(range(40)), *span, step_ms=5 * MIN)),
        (f"InfluxDB: top 20 of 15 min, {told}", None, lambda store: store.ranking(span[1] - 15 * MIN, span[1])),
    ]  # fmt: skip
    figures = [
        repeated(
            f"InfluxDB: a minute of {segments:,} segments written", taken["influx"], "ms", at_most=1000.0,
            peer=DUCK, peer_value=float(np.median(taken["duck"])),
        ),
    ]  # fmt: skip
    for name, limit, ask in questions:
        times = {which: [_ms(partial(ask, store)) for _ in range(5)] for which, store in stores.items()}
        beside = float(np.median(times["duck"]))
        figures.append(repeated(name, times["influx"], "ms", at_most=limit, peer=DUCK, peer_value=beside))
    return figures


def _ms(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000
