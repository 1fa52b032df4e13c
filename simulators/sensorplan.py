"""Where sensors are: a network and a plan in, the same roads with more detectors, or which of its own are there, out.

A run takes it up with `planned`; the platform must be given the network that it returns, since detectors are part of
its version. `kept` is for the other way: fewer detectors than the network has, without another version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

import numpy as np
import numpy.typing as npt

from citybrain.errors import ConfigError
from citybrain.network import JOURNEY_KINDS, ROAD_CLASSES, Detectors, Network, RoadClass
from citybrain.units import M_PER_KM
from simulators.buses import BusLine, BusRules, lines_of, links_of
from simulators.floating import bus_line_rng
from simulators.probes import ProbeRules
from simulators.roads import roads_of

Flags = npt.NDArray[np.bool_]
Site = tuple[str, int, float, int, str]
"""Id, segment, position in m, lanes, kind."""
_PLACES = 7
"""What the draw is for, beside those of `simulators.city`."""


@dataclass(frozen=True, slots=True)
class SensorPlan:
    """What sensors a city has; the defaults add none.

    Attributes
    ----------
    loops, radars, cameras
        Share of the segments of a class of road with one, 0..1; what is there already counts. Cameras follow one
        another along the road, so that journeys can be measured between them.
    per_lane
        Share of the new loops and radars that have a detector over each lane, 0..1.
    single
        Share of the new loops that measure no speed, 0..1.
    probes
        Which vehicles tell their position; None for none. Every segment then has a ``probe`` detector.
    buses
        Which buses there are; None for none. The segments of their lines then have a ``bus`` detector.
    """

    loops: Mapping[RoadClass, float] = field(default_factory=dict)
    radars: Mapping[RoadClass, float] = field(default_factory=dict)
    cameras: Mapping[RoadClass, float] = field(default_factory=dict)
    per_lane: float = 0.0
    single: float = 0.0
    probes: ProbeRules | None = None
    buses: BusRules | None = None

    def __post_init__(self) -> None:
        """Refuse shares that are none and classes that no road has."""
        shares = {"per_lane": self.per_lane, "single": self.single}
        for name in ("loops", "radars", "cameras"):
            for road_class, share in getattr(self, name).items():
                if road_class not in ROAD_CLASSES:
                    raise ConfigError(f"sensors: {name}: {road_class!r} seen, one of {', '.join(ROAD_CLASSES)} allowed")
                shares[f"{name}.{road_class}"] = share
        for name, share in shares.items():
            if not 0.0 <= share <= 1.0:
                raise ConfigError(f"sensors: {name} {share} seen, 0 to 1 allowed")


def planned(network: Network, plan: SensorPlan, seed: int) -> Network:
    """Return a network with the sensors of a plan, the same for the same seed; itself where nothing is missing."""
    lines = lines_of(network, roads_of(network), plan.buses, bus_line_rng(seed)) if plan.buses else ()
    return with_plan(network, plan, np.random.default_rng([seed, _PLACES]), lines=lines)


def with_plan(
    network: Network, plan: SensorPlan, rng: np.random.Generator, *, lines: tuple[BusLine, ...] = ()
) -> Network:
    """Return a network with the sensors of a plan behind its own.

    Parameters
    ----------
    network
        The roads, with few detectors or none.
    plan
        What is to be there.
    rng
        Draws where.
    lines
        The bus lines (`simulators.buses.lines_of`).
    """
    loops, radars, cameras = rng.spawn(3)
    detectors = network.detectors
    counted = _has(network, ~np.isin(detectors.kind, JOURNEY_KINDS))
    sites: list[Site] = []
    for kind, shares, draw in (("loop", plan.loops, loops), ("radar", plan.radars, radars)):
        here = counted.copy() if kind == "loop" else _has(network, detectors.kind == "radar")
        for segment in _chosen(network, shares, here, counted, draw):
            sites += _stations(network, segment, kind, plan, draw)
            counted[segment] = True
    filmed = _has(network, detectors.kind == "camera")
    sites += [_whole(network, segment, "camera") for segment in _in_rows(network, plan.cameras, filmed, cameras)]
    if plan.probes:
        probed = _has(network, detectors.kind == "probe")
        sites += [_whole(network, int(segment), "probe") for segment in np.flatnonzero(~probed)]
    bussed = _has(network, detectors.kind == "bus")
    sites += [_whole(network, int(link), "bus") for link in links_of(lines) if not bussed[link]]
    return replace(network, detectors=_added(detectors, sites)) if sites else network


def kept(network: Network, coverage: Mapping[RoadClass, float], rng: np.random.Generator) -> Flags:
    """Return which detectors are there when a class of road keeps a share of its own, shape (detectors,).

    Parameters
    ----------
    network
        The network.
    coverage
        Share that is kept of the detectors on roads of a class, 0..1; all where it is not named.
    rng
        Draws which.
    """
    found = np.ones(len(network.detectors), bool)
    road_class = network.segments.road_class[network.detectors.segment]
    for number, name in enumerate(ROAD_CLASSES):
        mine = np.flatnonzero(road_class == number)
        order = rng.permutation(len(mine))
        found[mine[order[round(coverage.get(name, 1.0) * len(mine)) :]]] = False
    return found


def _has(network: Network, detector: Flags) -> Flags:
    """Return which segments have one of some detectors."""
    found = np.zeros(len(network.segments), bool)
    found[network.detectors.segment[detector]] = True
    return found


def _chosen(
    network: Network, shares: Mapping[RoadClass, float], here: Flags, taken: Flags, rng: np.random.Generator
) -> list[int]:
    """Draw the segments, not taken, that make up what is missing to the share of each class."""
    found: list[int] = []
    for name, missing in _missing(network, shares, here):
        free = np.flatnonzero((network.segments.road_class == ROAD_CLASSES.index(name)) & ~taken)
        found += rng.permutation(free)[:missing].tolist()
    return sorted(found)


def _missing(network: Network, shares: Mapping[RoadClass, float], here: Flags) -> list[tuple[RoadClass, int]]:
    counts = []
    for name in ROAD_CLASSES:
        mine = network.segments.road_class == ROAD_CLASSES.index(name)
        counts.append((name, max(round(shares.get(name, 0.0) * int(mine.sum())) - int((mine & here).sum()), 0)))
    return counts


def _in_rows(network: Network, shares: Mapping[RoadClass, float], here: Flags, rng: np.random.Generator) -> list[int]:
    """Draw segments that follow one another, as many as are missing to the share of each class."""
    start, follower = network.downstream
    found: list[int] = []
    taken = here.copy()
    for name, missing in _missing(network, shares, here):
        mine = network.segments.road_class == ROAD_CLASSES.index(name)
        begins = rng.permutation(np.flatnonzero(mine)).tolist()
        left, row = missing, -1
        while left:
            if row < 0:
                row = begins.pop()
            elif not taken[row]:
                taken[row], left = True, left - 1
                found.append(row)
            after = follower[start[row] : start[row + 1]]
            after = after[mine[after] & ~taken[after]]
            row = row if not taken[row] else int(after[0]) if len(after) else -1
    return sorted(found)


def _stations(network: Network, segment: int, kind: str, plan: SensorPlan, rng: np.random.Generator) -> list[Site]:
    """Return the detectors of a new place: one over all lanes, or one over each."""
    segments = network.segments
    lanes = int(segments.lanes[segment])
    position_m = round(float(segments.length_km[segment]) * M_PER_KM * rng.uniform(0.2, 0.8), 1)
    each, single = rng.random(2)
    name = "single" if kind == "loop" and single < plan.single else kind
    label = f"{name}-{segments.id[segment]}"
    if lanes == 1 or each >= plan.per_lane:
        return [(label, segment, position_m, lanes, name)]
    return [(f"{label}-{lane}", segment, position_m, 1, name) for lane in range(1, lanes + 1)]


def _whole(network: Network, segment: int, kind: str) -> Site:
    """Return a detector at the end of a segment, of its whole width."""
    segments = network.segments
    position_m = float(segments.length_km[segment]) * M_PER_KM
    return f"{kind}-{segments.id[segment]}", segment, position_m, int(segments.lanes[segment]), kind


def _added(detectors: Detectors, sites: list[Site]) -> Detectors:
    columns = {}
    for f, values in zip(fields(Detectors), zip(*sites, strict=True), strict=True):
        before = getattr(detectors, f.name)
        text = before.dtype.kind == "U"
        added = np.array(values, dtype=np.str_ if text else before.dtype)
        columns[f.name] = np.concatenate([before, added])
    if len(np.unique(columns["id"])) < len(columns["id"]):
        raise ConfigError(
            "sensors: a detector of the same name seen, each name once allowed: the plan was applied before"
        )
    return Detectors(**columns)
