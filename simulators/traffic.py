"""What drives and what rules it: a network and rules in, the roads of the engine out.

The one call that switches signals, trucks and the capacity drop on; without them the roads are as `roads_of` has them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from citybrain.network import ROAD_CLASSES, Network
from simulators.engine import Trips
from simulators.roads import Roads, roads_of
from simulators.signals import SignalRules, with_signals
from simulators.vehicles import VehicleRules, kinds_of

QUEUE_DISCHARGE_LOSS = 0.07
"""Share of a motorway's capacity that is lost once there is a queue (HCM 6th edition, chapter 12: 7 % on average, 2 to
20 % in the literature; Cassidy and Bertini 1999, Transportation Research B 33(1): 4 to 10 %)."""


@dataclass(frozen=True, slots=True)
class TrafficRules:
    """What a run can switch on; the defaults are roads that share time on average, cars alone, and no loss.

    Attributes
    ----------
    signals
        Signals at junctions of main roads.
    vehicles
        Which vehicles there are.
    capacity_drop
        Share of a motorway's capacity that is lost while a queue stands before it, 0 to 0.5;
        `QUEUE_DISCHARGE_LOSS` is what is usual.
    """

    signals: SignalRules = field(default_factory=SignalRules)
    vehicles: VehicleRules = field(default_factory=VehicleRules)
    capacity_drop: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a loss that no road has."""
        if not 0.0 <= self.capacity_drop <= 0.5:
            raise ValueError(f"capacity_drop: {self.capacity_drop} seen, 0 to 0.5 allowed")


FULL = TrafficRules(SignalRules(enabled=True), VehicleRules(truck_share=0.05), QUEUE_DISCHARGE_LOSS)
"""Everything on, with usual values."""


def roads_under(network: Network, rules: TrafficRules) -> Roads:
    """Return the traffic parameters of a network's segments with what the rules switch on."""
    roads = with_signals(roads_of(network), network, rules.signals)
    if rules.capacity_drop == 0.0:
        return roads
    motorway = network.segments.road_class == ROAD_CLASSES.index("motorway")
    return replace(roads, capacity_drop=np.where(motorway, rules.capacity_drop, 0.0))


def vehicles_under(trips: Trips, rules: TrafficRules, rng: np.random.Generator) -> Trips:
    """Return the trips with a class each."""
    return replace(trips, kind=kinds_of(len(trips), rules.vehicles, rng))
