"""Buses on lines: the current times of links in, what buses' positions tell of segments out.

Buses run fixed ways at a headway and stop on them. They are carried by the traffic of the links they are on and do not
hinder it. Their journeys hold their stops and their slower start, so speeds made of them are too low: their detectors
are of a kind of their own (``bus``), for whoever wants to know.

How a run takes it up: ``lines_of`` once a city, detectors of kind ``bus`` on ``links_of(lines)``
(`simulators.sensorplan.with_plan`), a `Buses` each day, and `Buses.readings` after each interval.

References
----------
Kittelson and others (2013), TCRP Report 165, Transit Capacity and Quality of Service Manual, 3rd edition, chapter 6:
dwell times of 15 s and above with a coefficient of variation of 0.4 to 0.8, typically 0.6.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from citybrain.errors import ConfigError
from citybrain.network import ROAD_CLASSES, Network
from citybrain.records import Readings
from simulators.calendar import Day, local_hours
from simulators.engine import Engine
from simulators.incidents import lognormal
from simulators.probes import journey_readings, steady_normal
from simulators.roads import FloatArray, IntArray, Roads

LongArray = npt.NDArray[np.int64]

WITHOUT_BUSES = ("motorway", "trunk")
_FAR = 0.5, 0.9
"""A line leads to a node that is farther than this share of those that can be reached, but not to the very farthest."""
_STOPS = 16


@dataclass(frozen=True, slots=True)
class BusRules:
    """What buses there are.

    Attributes
    ----------
    lines
        Number of lines; each has a way there and one back.
    headway_min
        Least and greatest time between two buses of a line, min.
    first_hour, last_hour
        Local hours between which buses set out; past midnight below ``first_hour``.
    stop_every_m
        Distance of stops, m.
    dwell_s, dwell_variation
        Mean time at a stop, s; its standard deviation over the mean. Lognormal.
    speed_share
        Free-flow speed of buses over that of cars, above 0 to 1 [judgement: they start slowly].
    """

    lines: int = 8
    headway_min: tuple[float, float] = (6.0, 15.0)
    first_hour: float = 5.5
    last_hour: float = 0.5
    stop_every_m: float = 350.0
    dwell_s: float = 20.0
    dwell_variation: float = 0.6
    speed_share: float = 0.85

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.lines < 0:
            raise ConfigError(f"buses: {self.lines} lines seen, 0 or above allowed")
        if not 0.0 < self.headway_min[0] <= self.headway_min[1]:
            raise ConfigError(f"buses: headway {self.headway_min} min seen, above 0, the lower first, allowed")
        if not 0.0 < self.speed_share <= 1.0:
            raise ConfigError(f"buses: speed share {self.speed_share} seen, above 0 to 1 allowed")
        for name in ("stop_every_m", "dwell_s", "dwell_variation"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"buses: {name} {getattr(self, name)} seen, above 0 allowed")


@dataclass(frozen=True, slots=True)
class BusLine:
    """One direction of a line.

    Attributes
    ----------
    links
        Its way, shape (n,).
    stops
        Stops on each of them, shape (n,).
    headway_s, offset_s
        Time between two buses; when the first sets out after a full headway, s.
    """

    links: IntArray
    stops: IntArray
    headway_s: float
    offset_s: float


def lines_of(network: Network, roads: Roads, rules: BusRules, rng: np.random.Generator) -> tuple[BusLine, ...]:
    """Draw a city's lines: the quickest ways between places far apart, there and back, not on motorways.

    Parameters
    ----------
    network, roads
        The city; one without two places between which a bus can go there and back has no line.
    rules
        How many, and their stops and headways.
    rng
        Draws the ends of the lines.
    """
    barred = np.isin(network.segments.road_class, [ROAD_CLASSES.index(name) for name in WITHOUT_BUSES])
    usable = np.flatnonzero(~barred)
    order = usable[np.argsort(-roads.free_s[usable], kind="stable")]
    quickest = {(int(roads.from_node[link]), int(roads.to_node[link])): int(link) for link in order}
    if not quickest:
        return ()
    ends = np.array(list(quickest))
    time_s = roads.free_s[list(quickest.values())]
    graph = csr_matrix((time_s, (ends[:, 0], ends[:, 1])), shape=(roads.nodes, roads.nodes))
    found: list[BusLine] = []
    for _ in range(rules.lines * _TRIES):
        if len(found) >= 2 * rules.lines:
            break
        start = int(rng.choice(ends[:, 0]))
        there_s, before = dijkstra(graph, indices=start, return_predecessors=True)
        reached = np.flatnonzero(np.isfinite(there_s) & (there_s > 0))
        low, high = np.quantile(there_s[reached], _FAR) if len(reached) else (0.0, 0.0)
        far = reached[(there_s[reached] >= low) & (there_s[reached] <= high)]
        end = int(rng.choice(far)) if len(far) else start
        back_s, after = dijkstra(graph, indices=end, return_predecessors=True)
        if end == start or not np.isfinite(back_s[start]):
            continue
        headway_s = float(rng.uniform(*rules.headway_min)) * 60.0
        for tree, first, last in ((before, start, end), (after, end, start)):
            links = _way(tree, first, last, quickest)
            stops = _stops(roads.length_m[links], rules.stop_every_m)
            found.append(BusLine(links, stops, headway_s, float(rng.uniform(0.0, headway_s))))
    return tuple(found)


def links_of(lines: tuple[BusLine, ...]) -> IntArray:
    """Return the links on which buses go, ascending."""
    return np.unique(np.concatenate([line.links for line in lines])) if lines else np.zeros(0, np.int32)


class _Bus(NamedTuple):
    """A bus on its way: its line, what names its run, its place on the way, when it entered and leaves the link."""

    line: int
    run: int
    place: int
    entered_s: float
    leaves_s: float


class Buses:
    """The buses of one day.

    Parameters
    ----------
    network, roads
        The city; detectors of kind ``bus`` name the segments that are told of.
    lines
        Its lines.
    day
        The day.
    rules
        Stops and speeds.
    seed
        Names the draws of the dwell times.
    """

    def __init__(
        self,
        network: Network,
        roads: Roads,
        lines: tuple[BusLine, ...],
        day: Day,
        *,
        rules: BusRules,
        seed: tuple[int, ...],
    ) -> None:
        self.roads = roads
        self.lines = lines
        self.rules = rules
        self._dwell = lognormal(rules.dwell_s, rules.dwell_s * rules.dwell_variation)
        self._salt = int(np.random.default_rng(seed).integers(0, 2**63))
        self._detector = np.full(len(roads), -1, np.int32)
        bus = np.flatnonzero(network.detectors.kind == "bus").astype(np.int32)
        self._detector[network.detectors.segment[bus]] = bus
        self.departures = _departures(lines, day, rules)
        # The fields of `_Bus`, a row a bus.
        self._bus = np.zeros((0, 3), np.int64)
        self._times = np.zeros((0, 2))
        self._until_s = np.full(1, -1.0)
        self._delay_s, self._left = np.zeros(len(roads)), np.zeros(len(roads), np.int64)

    def readings(self, engine: Engine, *, network: str, source: str, observed_ms: tuple[int, int]) -> Readings:
        """Return what the buses' journeys of an interval tell; parameters as of `journey_readings`."""
        link, seconds = self.journeys(engine)
        known = self._detector[link] >= 0
        return journey_readings(
            self._detector,
            link[known],
            seconds[known],
            self.roads.length_m,
            network=network,
            source=source,
            observed_ms=observed_ms,
        )

    def journeys(self, engine: Engine) -> tuple[LongArray, FloatArray]:
        """Run the buses up to the engine's second; returns the links they left: link, time spent on it in s."""
        now = engine.now_s
        times_s = self._link_times(engine)
        buses = [_Bus(*bus, *times) for bus, times in zip(self._bus.tolist(), self._times.tolist(), strict=True)]
        since, self._until_s[0] = float(self._until_s[0]), now
        for at, line in zip(*self.departures, strict=True):
            if since < at <= now:
                buses.append(_Bus(line, int(at), 0, at, at + self._takes(line, int(at), 0, times_s)))
        found: list[tuple[int, float]] = []
        going = [bus for bus in (self._drive(bus, engine, times_s, found) for bus in buses) if bus is not None]
        self._bus = np.array([bus[:3] for bus in going], dtype=np.int64).reshape(-1, 3)
        self._times = np.array([bus[3:] for bus in going], dtype=np.float64).reshape(-1, 2)
        return np.array([row[0] for row in found], dtype=np.int64), np.array([row[1] for row in found])

    def _drive(self, bus: _Bus, engine: Engine, times_s: FloatArray, found: list[tuple[int, float]]) -> _Bus | None:
        """Drive a bus up to the engine's second and note its journeys; None where it has come to its end."""
        line, run, place, entered_s, leaves_s = bus
        links = self.lines[line].links
        while leaves_s <= engine.now_s and engine.capacity_share[links[place]] > 0.0:
            found.append((int(links[place]), leaves_s - entered_s))
            place, entered_s = place + 1, leaves_s
            if place == len(links):
                return None
            leaves_s = entered_s + self._takes(line, run, place, times_s)
        # On a closed road a bus waits.
        return _Bus(line, run, place, entered_s, max(leaves_s, engine.now_s))

    @property
    def on_road(self) -> int:
        """Buses on their way."""
        return len(self._bus)

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything that changes, as arrays by name."""
        return {name: getattr(self, name) for name in _STATE}

    def load(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take up what `dump` returned for the same network and day."""
        for name in _STATE:
            setattr(self, name, state[name].copy())

    def _link_times(self, engine: Engine) -> FloatArray:
        """Return what each link takes a bus without stops: slower free flow, and the delay of those that just left."""
        delay_s, left = engine.delay_s[: engine.links], engine.left[: engine.links]
        number = left - self._left
        with np.errstate(invalid="ignore", divide="ignore"):
            late_s = np.where(number > 0, (delay_s - self._delay_s) / number, engine.head_delay_s())
        self._delay_s, self._left = delay_s.copy(), left.copy()
        return np.asarray(engine.free_s / self.rules.speed_share + late_s)

    def _takes(self, line: int, run: int, place: int, times_s: FloatArray) -> float:
        """Return how long a bus is on a link: what the traffic takes, and its stops."""
        here = self.lines[line]
        stops = int(here.stops[place])
        if not stops:
            return float(times_s[here.links[place]])
        number = np.arange(stops, dtype=np.int64) + place * _STOPS
        middle, spread = self._dwell
        draws = steady_normal(self._salt + line, np.full(stops, run, np.int64), number)
        return float(times_s[here.links[place]] + np.exp(middle + spread * draws).sum())


_TRIES = 10
_STATE = ("_bus", "_times", "_until_s", "_delay_s", "_left")


def _way(tree: IntArray, first: int, last: int, quickest: dict[tuple[int, int], int]) -> IntArray:
    nodes = [last]
    while nodes[-1] != first:
        nodes.append(int(tree[nodes[-1]]))
    nodes.reverse()
    return np.array([quickest[pair] for pair in itertools.pairwise(nodes)], dtype=np.int32)


def _stops(length_m: FloatArray, every_m: float) -> IntArray:
    """Return the number of stops on each link of a way, at most `_STOPS`."""
    end = np.floor(np.cumsum(length_m) / every_m)
    return np.minimum(np.diff(end, prepend=0.0), _STOPS).astype(np.int32)


def _departures(lines: tuple[BusLine, ...], day: Day, rules: BusRules) -> tuple[list[float], list[int]]:
    """Return when a bus sets out, second of the day, and on which line."""
    _, hour = local_hours(day)
    after = (hour - rules.first_hour) % 24.0
    open_ = after <= (rules.last_hour - rules.first_hour) % 24.0
    found = []
    for number, line in enumerate(lines):
        at = np.arange(line.offset_s, day.seconds, line.headway_s)
        found += [(float(second), number) for second in at[open_[(at // 60).astype(np.int64)]]]
    found.sort()
    return [second for second, _ in found], [number for _, number in found]
