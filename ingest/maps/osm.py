"""OpenStreetMap extracts in, links out: ways of the wanted classes, cut at junctions, both directions.

Turn restrictions, barriers and times of access are not looked at; a way whose direction changes (``reversible``) is
left out.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import osmium

from citybrain.errors import ConfigError
from citybrain.units import KMH_PER_MPH
from ingest.maps.defaults import DEFAULTS, road_class
from ingest.maps.links import (
    Link,
    Points,
    Progress,
    contracted,
    cut_long,
    largest_part,
    length_km,
    silent,
    without_stubs,
)

ATTRIBUTION = "© OpenStreetMap contributors, ODbL"
MINOR_CLASSES = ("residential", "unclassified", "living_street")
MAIN_CLASSES = ("motorway", "trunk", "primary", "secondary", "tertiary")
Bounds = tuple[float, float, float, float]
"""West, south, east, north, degrees."""

_CLOSED = frozenset({"no", "private", "agricultural", "forestry", "delivery", "emergency", "psv", "bus"})
_WRITTEN_LIMITS = {"urban": 50.0, "rural": 90.0, "trunk": 100.0, "motorway": 120.0, "living_street": 20.0}


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """A way of the map: node numbers, their places, shape (k, 2), and tags."""

    id: int
    nodes: tuple[int, ...]
    points: Points
    tags: dict[str, str]


def read_ways(
    path: Path, *, classes: Iterable[str], bounds: Bounds | None = None, progress: Progress = silent
) -> list[Way]:
    """Read the ways that carry cars, of ``classes``, clipped to ``bounds``.

    Raises
    ------
    ConfigError
        If the file is missing or is no OpenStreetMap file.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file seen, a readable OpenStreetMap file (.osm, .osm.pbf) allowed")
    wanted = frozenset(classes)
    ways: list[Way] = []
    try:
        found = osmium.FileProcessor(str(path)).with_locations().with_filter(osmium.filter.KeyFilter("highway"))
        for thing in found:
            if isinstance(thing, osmium.osm.Way) and thing.tags.get("highway") in wanted:
                ways += _clipped(thing, bounds)
                if len(ways) % 500 == 0:
                    progress("reading ways", len(ways), 0)
    except (RuntimeError, OSError) as error:  # osmium raises RuntimeError for whatever it cannot read
        raise ConfigError(f"{path}: {error} seen, a readable OpenStreetMap file (.osm, .osm.pbf) allowed") from error
    return [way for way in ways if _carries_cars(way.tags)]


def links_of(ways: Iterable[Way], junctions: frozenset[int] = frozenset()) -> list[Link]:
    """Cut ways at junctions and return each direction that may be driven."""
    ways = list(ways)
    uses = Counter(node for way in ways for node in way.nodes)
    cuts = {node for node, times in uses.items() if times > 1} | junctions
    return [link for way in ways for link in _cut(way, cuts)]


def junctions_of(ways: Iterable[Way]) -> frozenset[int]:
    """Return the nodes from which a driver can go on in more than one way."""
    arms: Counter[int] = Counter()
    for way in ways:
        arms.update(way.nodes[1:-1])
        arms.update(way.nodes)  # a node within a way has two arms, an end one
    return frozenset(node for node, count in arms.items() if count > 2)


def imported(
    path: Path,
    *,
    classes: Iterable[str] = MAIN_CLASSES,
    bounds: Bounds | None = None,
    short_km: float = 0.03,
    longest_km: float = 1.0,
    progress: Progress = silent,
) -> list[Link]:
    """Read the connected main roads of an OpenStreetMap file, cut where any road for cars joins them.

    Raises
    ------
    ConfigError
        If the file cannot be read, or holds no connected road of these classes.
    """
    main = frozenset(kind for name in classes for kind in (name, f"{name}_link"))
    every = read_ways(path, classes=[*main, *MINOR_CLASSES], bounds=bounds, progress=progress)
    junctions = junctions_of(every)
    links = largest_part(links_of((way for way in every if way.tags["highway"] in main), junctions))
    progress("joining links", 0, 1)
    for _ in range(2):  # stubs that become one node leave others that can be joined
        links = contracted(without_stubs(links), junctions=junctions, short_km=short_km, longest_km=longest_km)
    links = cut_long(largest_part(links), longest_km=longest_km)
    progress("joining links", 1, 1)
    if not links:
        raise ConfigError(f"{path}: no connected road seen, roads of class {', '.join(sorted(main))} allowed")
    return links


def _clipped(way: osmium.osm.Way, bounds: Bounds | None) -> Iterator[Way]:
    """Yield the runs of a way's nodes that lie within the bounds and have a place."""
    tags = {tag.k: tag.v for tag in way.tags}
    nodes: list[int] = []
    points: list[tuple[float, float]] = []
    for node in [*way.nodes, None]:
        place = (node.location.lon, node.location.lat) if node is not None and node.location.valid() else None
        if node is not None and place is not None and _inside(place, bounds):
            nodes.append(node.ref)
            points.append(place)
            continue
        if len(nodes) > 1:
            yield Way(way.id, tuple(nodes), np.array(points), tags)
        nodes, points = [], []


def _inside(place: tuple[float, float], bounds: Bounds | None) -> bool:
    return bounds is None or (bounds[0] <= place[0] <= bounds[2] and bounds[1] <= place[1] <= bounds[3])


def _carries_cars(tags: dict[str, str]) -> bool:
    if tags.get("area") == "yes" or tags.get("oneway") in ("reversible", "alternating"):
        return False
    access = next((tags[key] for key in ("motorcar", "motor_vehicle", "vehicle", "access") if key in tags), "yes")
    return access not in _CLOSED


def _cut(way: Way, nodes: set[int]) -> Iterator[Link]:
    cuts = [at for at, node in enumerate(way.nodes) if node in nodes or at in (0, len(way.nodes) - 1)]
    for part, (first, last) in enumerate(_without_loops(cuts, way.nodes)):
        points = way.points[first : last + 1]
        length = length_km(points)
        if length == 0:
            continue
        for forward in _directions(way.tags):
            ends = (way.nodes[first], way.nodes[last])
            yield _link(way, f"w{way.id}-{part}{'f' if forward else 'b'}", ends, points, length, forward)


def _without_loops(cuts: list[int], nodes: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Yield stretches between cuts; one that ends where it began is cut once more, in its middle."""
    for first, last in itertools.pairwise(cuts):
        if nodes[first] == nodes[last] and last - first > 1:
            yield first, (first + last) // 2
            yield (first + last) // 2, last
        elif nodes[first] != nodes[last]:
            yield first, last


def _directions(tags: dict[str, str]) -> tuple[bool, ...]:
    """Return True for the way's own direction, False for the opposite one; both for a two-way road."""
    oneway = tags.get("oneway")
    if oneway in ("-1", "reverse"):
        return (False,)
    implied = tags["highway"] == "motorway" or tags.get("junction") in ("roundabout", "circular")
    if oneway in ("yes", "true", "1") or (implied and oneway not in ("no", "false", "0")):
        return (True,)
    return (True, False)


def _link(way: Way, name: str, ends: tuple[int, int], points: Points, length: float, forward: bool) -> Link:
    tags, assumed = way.tags, DEFAULTS[way.tags["highway"]]
    side = "forward" if forward else "backward"
    limit = _limit_kmh(tags.get(f"maxspeed:{side}") or tags.get("maxspeed") or "")
    lanes = _lanes(tags, side) or assumed.lanes
    return Link(
        id=name,
        road=_road(tags),
        road_class=road_class(tags["highway"]),
        from_node=ends[0] if forward else ends[1],
        to_node=ends[1] if forward else ends[0],
        points=points if forward else points[::-1],
        length_km=length,
        lanes=lanes,
        limit_kmh=limit,
        free_flow_kmh=round((assumed.limit_kmh if np.isnan(limit) else limit) * assumed.free_flow_share, 1),
        capacity_vph=lanes * assumed.capacity_vph_per_lane,
    )


def _road(tags: dict[str, str]) -> str:
    """Return the name on the signs: on motorways and trunks the number, elsewhere the street's name.

    Examples
    --------
    >>> _road({"highway": "motorway", "name": "Autoestrada do Norte", "ref": "A1;IP 1"})
    'A 1'
    >>> _road({"highway": "primary", "name": "Rua do Ouro", "ref": "EN 108"}), _road({"highway": "primary_link"})
    ('Rua do Ouro', '')
    """
    name, number = (tags.get(key, "").split(";")[0].strip() for key in ("name", "ref"))
    number = re.sub(r"^([A-Z]+) ?(?=\d)", r"\1 ", number)
    fast = tags["highway"].startswith(("motorway", "trunk"))
    return (number or name) if fast else (name or number)


def _lanes(tags: dict[str, str], side: str) -> int | None:
    both = len(_directions(tags)) == 2
    own, total = _whole(tags.get(f"lanes:{side}", "")), _whole(tags.get("lanes", ""))
    if own is not None:
        return own
    if total is None:
        return None
    return max(1, total // 2) if both else total


def _whole(text: str) -> int | None:
    """Return the least of the numbers in ``2`` or ``2;3``; None where there is none from 1 to 10."""
    numbers = [int(part) for part in re.findall(r"\d+", text)]
    return min(numbers) if numbers and 1 <= min(numbers) <= 10 else None


def _limit_kmh(text: str) -> float:
    """Return the limit that a ``maxspeed`` value says, km/h; NaN where it says none.

    Examples
    --------
    >>> _limit_kmh("50"), _limit_kmh("30 mph"), _limit_kmh("PT:urban"), _limit_kmh("none")
    (50.0, 48.28032, 50.0, nan)
    """
    if number := re.match(r"(\d+(?:\.\d+)?)\s*(mph)?", text):
        limit = float(number[1]) * (KMH_PER_MPH if number[2] else 1.0)
        return limit if 5 <= limit <= 150 else float("nan")
    return _WRITTEN_LIMITS.get(text.split(":")[-1], float("nan"))
