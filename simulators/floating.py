"""Those who move and tell where they are: probe vehicles and buses of one day in, their batches out.

The network decides: probes are known where it has detectors of kind ``probe``, buses where it has those of kind ``bus``
(`simulators.sensorplan.with_plan`); without them there is nothing here and nothing is watched.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from citybrain.network import Network
from citybrain.records import Readings
from simulators.buses import Buses, BusRules, lines_of
from simulators.calendar import Day
from simulators.cameras import Seen
from simulators.engine import Engine
from simulators.probes import ProbeRules, Probes
from simulators.roads import Roads

_LINES, _BUSES, _PROBES = range(3)


class Floating:
    """Probes and buses of one day.

    Parameters
    ----------
    network, roads, engine, day
        The city, its traffic and the day.
    seed
        Of the city: it draws the bus lines, which are the same every day; with the day it draws the rest.
    probes, buses
        Rules.
    """

    def __init__(
        self,
        network: Network,
        roads: Roads,
        engine: Engine,
        day: Day,
        *,
        seed: int,
        probes: ProbeRules | None = None,
        buses: BusRules | None = None,
    ) -> None:
        ordinal = day.date.toordinal()
        kinds = set(network.detectors.kind.tolist())
        self.probes: Probes | None = None
        self.buses: Buses | None = None
        if "probe" in kinds:
            self.probes = Probes(network, roads, engine, rules=probes or ProbeRules(), seed=(seed, _PROBES, ordinal))
        if "bus" in kinds:
            rules = buses or BusRules()
            lines = lines_of(network, roads, rules, bus_line_rng(seed))
            self.buses = Buses(network, roads, lines, day, rules=rules, seed=(seed, _BUSES, ordinal))

    def readings(
        self, engine: Engine, seen: Seen, *, network: str, source: str, observed_ms: tuple[int, int]
    ) -> list[Readings]:
        """Return the batches of an interval, each of a source of its own: none, or one of probes, one of buses.

        Parameters
        ----------
        engine, seen
            The traffic, and who left its links in the interval (`simulators.cameras.taken`).
        network, source
            Version of the network; name of the feed, from which those of the two are made.
        observed_ms
            The interval, ms UTC, half-open. To be called for each interval of a day, told or not.
        """
        found = []
        if self.probes:
            name = f"{source}-probes"
            found.append(self.probes.readings(engine, seen, network=network, source=name, observed_ms=observed_ms))
        if self.buses:
            name = f"{source}-buses"
            found.append(self.buses.readings(engine, network=network, source=name, observed_ms=observed_ms))
        return found

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything that changes, as arrays by name."""
        state: dict[str, npt.NDArray[Any]] = {}
        for name, part in (("probes", self.probes), ("buses", self.buses)):
            if part:
                state |= {f"{name}.{key}": values for key, values in part.dump().items()}
        return state

    def load(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take up what `dump` returned for the same network and day."""
        for name, part in (("probes", self.probes), ("buses", self.buses)):
            if part:
                prefix = f"{name}."
                part.load({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})


def bus_line_rng(seed: int) -> np.random.Generator:
    """Return what draws a city's bus lines: give it to `lines_of` for the plan of the sensors, too."""
    return np.random.default_rng([seed, _LINES])
