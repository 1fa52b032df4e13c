"""Vehicle classes: rules in, the class of every trip out, and what a class asks of the road.

Cars and trucks share lanes and keep their order: what differs is the time a vehicle takes at a bottleneck and the room
it takes in a queue. Lower speeds of trucks, gradients and lanes that trucks may not use are not represented.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Kind:
    """A class of vehicles.

    Attributes
    ----------
    name
        What it is called.
    length_m
        Bumper to bumper, m.
    cars
        Passenger-car equivalents: how many cars' headways it takes.
    places
        How many cars' places it takes in a queue.
    """

    name: str
    length_m: float
    cars: float
    places: int


KINDS = (Kind("car", 4.5, 1.0, 1), Kind("truck", 12.0, 2.0, 2))
"""Equivalents: HCM 6th edition, 2.0 for a heavy vehicle in level terrain (exhibit 12-25); 2.0 at signals, too (HCM
2010, chapter 18). Places: a car takes 7 m of a queue (`simulators.roads`), so a truck with its gap takes two of them.
Lengths: a truck between a single-unit truck of 9.1 m and a small semi-trailer of 13.9 m (AASHTO 2011, A Policy on
Geometric Design, table 2-1b); a car 4.5 m [judgement]."""
CAR, TRUCK = range(2)


@dataclass(frozen=True, slots=True)
class VehicleRules:
    """Which vehicles there are.

    Attributes
    ----------
    truck_share
        Share of the trips that trucks make, 0..1. HCM's default for urban streets is 0.03, for freeways 0.05 to 0.12.
    """

    truck_share: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a share that is none."""
        if not 0.0 <= self.truck_share <= 1.0:
            raise ValueError(f"truck_share: {self.truck_share} seen, 0 to 1 allowed")


def kinds_of(trips: int, rules: VehicleRules, rng: np.random.Generator) -> npt.NDArray[np.int8] | None:
    """Return the class of each trip as a row of `KINDS`; None where all are cars, and then nothing is drawn.

    Examples
    --------
    >>> kinds_of(4, VehicleRules(), np.random.default_rng(1)) is None
    True
    >>> kinds_of(1000, VehicleRules(0.1), np.random.default_rng(1)).mean().round(1)
    np.float64(0.1)
    """
    if rules.truck_share == 0.0:
        return None
    return np.where(rng.random(trips) < rules.truck_share, TRUCK, CAR).astype(np.int8)
