"""The hour of ``benchmarks.cases.cityhour`` in UXsim's C++ engine; `benchmarks.peers.hour.arguments` says how.

Its own settings but for the renewal of routes, every 5 min as in City Brain, or never where they are fixed. The wave
speed of its links is that of a reaction time of 1 s for all; capacities at both ends are those of the case.
"""

from __future__ import annotations

from argparse import Namespace

import numpy as np

from benchmarks.peers.hour import HOUR_S, Told, arguments

PLATOON = 5
JAM_VEH_M_PER_LANE = 0.143
ROUTES_S = 300
NOISE = 0.01
"""Of a link's time in the search for ways: UXsim's own."""


def main(asked: Namespace) -> None:
    """Build the world, then run it: the run is measured."""
    from uxsim import World

    told = Told(asked.flows)
    with np.load(asked.case) as stored:
        a = {name: stored[name] for name in stored.files}
    world = World(
        name="", deltan=PLATOON, reaction_time=1, duo_update_time=2 * HOUR_S if asked.fixed else ROUTES_S,
        duo_noise=0.0 if asked.fixed else NOISE, print_mode=0, save_mode=0, show_mode=0,
        tmax=HOUR_S, random_seed=asked.seed, vehicle_logging_timestep_interval=-1, cpp=True,
    )  # fmt: skip
    for number, (x, y) in enumerate((a["place_km"] * 1000).tolist()):
        world.addNode(str(number), x, y)
    rows = zip(*(a[name].tolist() for name in ("from_node", "to_node", "lanes", "length_m", "speed_ms")), strict=True)
    for link, (begin, end, lanes, length, speed) in enumerate(rows):
        world.addLink(
            f"l{link}", str(begin), str(end), length, free_flow_speed=speed,
            jam_density_per_lane=JAM_VEH_M_PER_LANE, number_of_lanes=lanes, merge_priority=float(a["weight"][link]),
            capacity_out=float(a["discharge_vps"][link]), capacity_in=float(a["capacity_vps"][link]),
        )  # fmt: skip
    goal = a["sinks"][a["platoon_zone"], 0]
    for depart, origin, destination in zip(a["platoon_depart_s"], a["platoon_origin"], goal, strict=True):
        world.addVehicle(str(origin), str(destination), float(depart))
    world.finalize_scenario()
    told.measure(lambda: world.exec_simulation(until_t=HOUR_S))
    left = np.array([link.cum_departure[-1] if len(link.cum_departure) else 0 for link in world.LINKS], np.float64)
    arrived = sum(vehicle.state == "end" for vehicle in world.VEHICLES.values())
    told.tell(left, arrived * PLATOON)


if __name__ == "__main__":
    main(arguments())
