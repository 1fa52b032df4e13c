"""One hour of the demo city for any traffic engine: the same links and the same trips, as a file of arrays.

Trips come in platoons of five, which is what UXsim moves: the same origin, destination and departure within seconds, so
that no engine has another demand. Destinations are single nodes, one a zone. No link is shorter than what is driven in
the five seconds that are UXsim's step for such platoons: shorter ones it cannot have, and ways would differ.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.cases.porto import network
from simulators.engine import Trips
from simulators.roads import Roads, roads_from, roads_of
from simulators.routes import Routes
from simulators.zones import node_positions_km, zones_of

PLATOON = 5
HOUR_S = 3600
ROADS = ("from_node", "to_node", "lanes", "length_m", "speed_ms", "capacity_vps", "discharge_vps", "weight")


def write(path: Path, trips: int, seed: int = 7) -> None:
    """Write the case: links, nodes with their places, and trips between random nodes and zones that can be reached."""
    city = network()
    roads, rng = roads_of(city), np.random.default_rng(seed)
    zones = zones_of(city, roads, rng)
    sinks = zones.sinks[:, :1]
    minutes = Routes(roads, sinks, rng).minutes
    platoons = trips // PLATOON
    origin = rng.choice(np.unique(roads.from_node), 3 * platoons)
    zone = rng.integers(0, len(sinks), 3 * platoons)
    away = np.flatnonzero(np.isfinite(minutes[zone, origin]) & (minutes[zone, origin] > 0.5))[:platoons]
    depart = np.sort(rng.uniform(0, HOUR_S - 60, len(away)))
    columns = {name: getattr(roads, name) for name in ROADS}
    columns["length_m"] = np.maximum(roads.length_m, roads.speed_ms * PLATOON)
    np.savez(
        path, **columns, place_km=node_positions_km(city, roads), sinks=sinks, platoon_depart_s=depart,
        platoon_origin=origin[away], platoon_zone=zone[away],
    )  # fmt: skip


class Case:
    """A case as it was written.

    Attributes
    ----------
    arrays
        Everything by its name in `write`.
    """

    def __init__(self, path: Path) -> None:
        with np.load(path) as stored:
            self.arrays = {name: stored[name] for name in stored.files}

    def roads(self) -> Roads:
        """Return the links for the own engine: no signals, junctions by their discharge."""
        given = {name: self.arrays[name] for name in ROADS[2:]}
        return roads_from(self.arrays["from_node"], self.arrays["to_node"], **given)

    def trips(self) -> Trips:
        """Return single vehicles, a second apart in each platoon, sorted by origin and departure."""
        depart = np.repeat(self.arrays["platoon_depart_s"], PLATOON)
        depart += np.tile(np.arange(PLATOON, dtype=np.float64), len(depart) // PLATOON)
        origin, zone = (np.repeat(self.arrays[f"platoon_{name}"], PLATOON) for name in ("origin", "zone"))
        order = np.lexsort((depart, origin))
        return Trips(depart[order], origin[order].astype(np.int32), zone[order].astype(np.int16))
