"""Builders of small road layouts with round numbers, and a loop that runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from simulators.engine import EXIT, Engine, Trips
from simulators.roads import FloatArray, IntArray, Roads, roads_from


def chain(
    lengths_m: Sequence[float],
    capacities_vps: Sequence[float],
    *,
    lanes: Sequence[int] | None = None,
    speed_ms: float = 20.0,
) -> Roads:
    """Return links one after the other: link i leads from node i to node i + 1."""
    n = len(lengths_m)
    return roads_from(
        np.arange(n, dtype=np.int32),
        np.arange(1, n + 1, dtype=np.int32),
        length_m=np.array(lengths_m, dtype=float),
        speed_ms=np.full(n, speed_ms),
        lanes=np.array(lanes if lanes is not None else [1] * n, dtype=np.int32),
        capacity_vps=np.array(capacities_vps, dtype=float),
    )


def at_random(rng: np.random.Generator, nodes: int, links: int) -> Roads:
    """Return a ring of nodes with links across it, of any length, speed, width and capacity."""
    from_node = np.concatenate([np.arange(nodes), rng.integers(0, nodes, links - nodes)]).astype(np.int32)
    to_node = np.concatenate([(np.arange(nodes) + 1) % nodes, rng.integers(0, nodes, links - nodes)]).astype(np.int32)
    return roads_from(
        from_node,
        to_node,
        length_m=rng.uniform(2, 400, links),
        speed_ms=rng.uniform(5, 30, links),
        lanes=rng.integers(1, 5, links).astype(np.int32),
        capacity_vps=rng.uniform(0.1, 2.4, links),
    )


def along(roads: Roads) -> IntArray:
    """Return next links of one zone at the end of a chain."""
    return np.append(np.arange(len(roads)), EXIT).astype(np.int32)[None, :]


def departures(depart_s: FloatArray, origin: int = 0) -> Trips:
    """Return trips from one node to zone 0."""
    n = len(depart_s)
    return Trips(np.sort(depart_s), np.full(n, origin, np.int32), np.zeros(n, np.int16))


def every(headway_s: float, until_s: float, start_s: float = 0.0) -> FloatArray:
    """Return instants at a constant headway."""
    return np.arange(start_s, until_s, headway_s)


def run(
    engine: Engine, next_link: IntArray, seconds: int, each: Callable[[Engine], None] | None = None
) -> tuple[FloatArray, FloatArray]:
    """Run an engine and return the cumulative counts after every second: entered and left, shape (seconds, links)."""
    entered, left = [], []
    for _ in range(seconds):
        if each:
            each(engine)
        engine.step(next_link)
        entered.append(engine.entered[: engine.links].copy())
        left.append(engine.left[: engine.links].copy())
    return np.array(entered, dtype=float), np.array(left, dtype=float)
