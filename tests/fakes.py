"""Builders of small, real values with plausible defaults. No mocks: what they return is what the program uses."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from citybrain.network import Areas, Detectors, Network, Segments
from citybrain.settings import CitySettings


def grid_network(columns: int = 4, rows: int = 3, *, partitions: int = 2) -> Network:
    """Return a grid of two-way roads with blocks of 0.5 km, one detector a segment.

    ``East Road r`` runs along row r, ``North Road c`` along column c. Segments of a road come in driving direction,
    first eastbound (northbound), then back. Districts are the western and the eastern half.
    """
    east = [(r * columns + c, r * columns + c + 1, f"East Road {r}") for r in range(rows) for c in range(columns - 1)]
    north = [
        (r * columns + c, (r + 1) * columns + c, f"North Road {c}") for c in range(columns) for r in range(rows - 1)
    ]
    ways = [*east, *((b, a, road) for a, b, road in reversed(east)), *north, *((b, a, road) for a, b, road in north)]
    n = len(ways)
    start, end = np.array([w[0] for w in ways]), np.array([w[1] for w in ways])
    lon = -8.61 + 0.00592 * np.stack([start % columns, end % columns])
    lat = 41.15 + 0.00452 * np.stack([start // columns, end // columns])
    district = np.where((start % columns + end % columns) / 2 < (columns - 1) / 2, 1, 2).astype(np.int32)
    return Network(
        Segments(
            id=np.array([f"s{i}" for i in range(n)]),
            road=np.array([w[2] for w in ways]),
            road_class=np.full(n, 2, dtype=np.int32),
            from_node=start.astype(np.int32),
            to_node=end.astype(np.int32),
            length_km=np.full(n, 0.5),
            lanes=np.full(n, 2, dtype=np.int32),
            limit_kmh=np.full(n, 50.0),
            free_flow_kmh=np.full(n, 50.0),
            capacity_vph=np.full(n, 3600.0),
            partition=(np.arange(n) % partitions).astype(np.int32),
            district=district,
            street=district + 2,
            geometry_start=(2 * np.arange(n + 1)).astype(np.int32),
        ),
        Detectors(
            id=np.array([f"d{i}" for i in range(n)]),
            segment=np.arange(n, dtype=np.int32),
            position_m=np.full(n, 250.0),
            lanes=np.full(n, 2, dtype=np.int32),
            kind=np.full(n, "loop"),
        ),
        Areas(
            id=np.array(["city", "west", "east", "west-streets", "east-streets"]),
            name=np.array(["Gridtown", "West", "East", "Streets of West", "Streets of East"]),
            level=np.array([0, 1, 1, 2, 2], dtype=np.int32),
            parent=np.array([-1, 0, 0, 1, 2], dtype=np.int32),
        ),
        np.stack([lon.T.reshape(-1), lat.T.reshape(-1)], axis=1).astype(np.float32),
        "© OpenStreetMap contributors, ODbL",
    )


def city_settings(folder: Path = Path("/nowhere")) -> CitySettings:
    """Return a city with the default settings."""
    return CitySettings(folder=folder, data_folder=folder / "data", name="Gridtown", timezone="Europe/Lisbon")
