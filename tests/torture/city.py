"""The scratch city: a plan in, a city folder out, with a small grid of roads and settings suited to short runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from citybrain.network import Detectors, Network
from tests.fakes import grid_network
from tests.torture.plan import Plan

ENDPOINTS = ("control-room", "duty-unit")
_CITY = """\
name = "Gridtown"
timezone = "{timezone}"
archive_keep = "400d"

[time]
pane = "1min"
reorder = "10s"
lateness = "2min"
source_idle = "60s"
skew = "5min"
checkpoint = "{checkpoint}s"

[limits]
shortest_vehicle_m = 0.0  # occupancies are drawn, and belong to no vehicles

[thresholds]
open_after = "2min"
close_after = "2min"
update_every = "2min"

[store]
kind = "{store}"
"""
_HOOK = """
[[webhooks]]
name = "{name}"
url = "{url}"
secret_file = "{name}.secret"
"""


def network_of(plan: Plan) -> Network:
    """Return roads of uneven length, width and speed; every third segment has a detector in each lane."""
    rng = np.random.default_rng([plan.seed, 1])
    grid = grid_network(plan.columns, plan.rows, partitions=plan.partitions)
    n = len(grid.segments)
    segments = replace(
        grid.segments,
        length_km=np.round(rng.uniform(0.25, 0.9, n), 3),
        lanes=rng.integers(1, 4, n).astype(np.int32),
        free_flow_kmh=np.round(rng.uniform(48, 82, n), 1),
    )
    lanes = np.where(np.arange(n) % 3 == 0, segments.lanes, 1)
    segment = np.repeat(np.arange(n, dtype=np.int32), lanes)
    covers = np.where(np.arange(n) % 3 == 0, 1, segments.lanes)[segment].astype(np.int32)
    detectors = Detectors(
        id=np.array([f"d{i}" for i in range(len(segment))]),
        segment=segment,
        position_m=np.full(len(segment), 100.0),
        lanes=covers,
        kind=np.full(len(segment), "loop"),
    )
    return replace(grid, segments=segments, detectors=detectors)


def make_city(folder: Path, plan: Plan, *, timezone: str, hook: str, store: str = "") -> Network:
    """Write ``city.toml`` and the network into a new folder; ``store`` is what follows in its ``[store]``."""
    folder.mkdir(parents=True)
    network = network_of(plan)
    network.save(folder / "network.arrow")
    hooks = "".join(_HOOK.format(name=name, url=f"{hook}/{name}") for name in ENDPOINTS)
    text = _CITY.format(timezone=timezone, store=plan.store, checkpoint=plan.checkpoint_s) + store + hooks
    (folder / "city.toml").write_text(text, "utf-8")
    return network
