"""A SUMO network in, links and detectors out: an edge is a link of the same id, on the map where SUMO says it lies.

Also where the detectors of a simulation are, for a city that was made from another map. Turning lanes, signals and
internal edges of junctions are not taken.

References
----------
SUMO documentation, "SUMO Road Networks", "Geo-Coordinates", "Induction Loops Detectors (E1)", "Lanearea Detectors
(E2)".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from citybrain.errors import ConfigError, FeedError
from citybrain.network import Detectors
from citybrain.units import KMH_PER_MS
from ingest.maps.defaults import DEFAULTS, road_class
from ingest.maps.detectors import Listed, table_of
from ingest.maps.links import M_PER_DEGREE, Link, Points
from ingest.maps.utm import degrees
from ingest.sumo.rows import PROBE
from ingest.xmltags import Tag, tags

CARS = frozenset({"all", "passenger", "private"})
_LOOPS = ("e1Detector", "inductionLoop")
_AREAS = ("e2Detector", "laneAreaDetector")
_UTM = re.compile(r"\+proj=utm\b.*\+zone=(\d+)")


@dataclass(slots=True)
class Edge:
    """One edge as its file has it; lengths m, speed m/s, ``shape`` in the file's metres, of the lane in the middle."""

    id: str
    begin: str
    end: str
    kind: str
    name: str
    lengths_m: list[float] = field(default_factory=list)
    speeds_ms: list[float] = field(default_factory=list)
    shapes: list[Points] = field(default_factory=list)

    @property
    def shape(self) -> Points:
        """Line of the lane in the middle."""
        return self.shapes[len(self.shapes) // 2]


@dataclass(frozen=True, slots=True)
class Detector:
    """A detector of an additional file: its edge, m from its start (from its end if below 0), and its kind as ours."""

    id: str
    edge: str
    position_m: float
    kind: str


@dataclass(slots=True)
class SumoNet:
    """The edges that cars may use, in the file's order, and how its metres become degrees."""

    path: Path
    edges: dict[str, Edge]
    projection: str
    offset_m: Points

    @property
    def georeferenced(self) -> bool:
        """False where the network lies nowhere on Earth."""
        return self.projection != "!"

    def degrees(self, metres: Points) -> Points:
        """Return longitude and latitude; without a projection those around 0, 0."""
        if not self.georeferenced:
            return metres / M_PER_DEGREE
        zone = _UTM.search(self.projection)
        if zone is None:
            raise ConfigError(f"{self.path}: projParameter {self.projection!r} seen, '+proj=utm ...' or '!' allowed")
        return degrees(metres - self.offset_m, int(zone[1]), south="+south" in self.projection)


def files_of_config(path: Path) -> tuple[Path, list[Path]]:
    """Return the network and the additional files that a ``.sumocfg`` names; a ``.net.xml`` itself has none of these.

    Raises
    ------
    ConfigError
        If it names no network.
    """
    if path.suffix != ".sumocfg":
        return path, []
    named: dict[str, str] = {}
    for tag in _tags(path):
        for name in ("net-file", "additional-files"):
            if tag.name in (name, name.removesuffix("s")) or (tag.name in ("n", "a") and name[0] == tag.name):
                named[name] = tag.attributes.get("value") or tag.attributes.get("v", "")
    if not named.get("net-file"):
        raise ConfigError(f"{path}: no net-file seen, one allowed")
    more = [name.strip() for name in named.get("additional-files", "").split(",") if name.strip()]
    return path.parent / named["net-file"], [path.parent / name for name in more]


def read_net(path: Path) -> SumoNet:
    """Read a network (``.net.xml``, also ``.gz``).

    Raises
    ------
    ConfigError
        If the file cannot be read so, or no car can drive anywhere.
    """
    net = SumoNet(path, {}, "!", np.zeros(2))
    edge: Edge | None = None
    for tag in _tags(path, "net"):
        at = tag.attributes
        try:
            if tag.name == "location":
                net.projection = at["projParameter"]
                net.offset_m = _numbers(at["netOffset"])
            elif tag.name == "edge":
                edge = None if "function" in at and at["function"] != "normal" else _edge(at)
            elif tag.name == "lane" and edge is not None and _for_cars(at):
                edge.lengths_m.append(float(at["length"]))
                edge.speeds_ms.append(float(at["speed"]))
                edge.shapes.append(np.array([_numbers(place)[:2] for place in at["shape"].split()]))
                net.edges[edge.id] = edge
        except (KeyError, ValueError) as error:
            raise ConfigError(f"{path}:{tag.line}: <{tag.name}>: {error!r} seen, a SUMO network allowed") from error
    if not net.edges:
        raise ConfigError(f"{path}: no edge that cars may use seen, at least one allowed")
    return net


def links_of(net: SumoNet, *, default_class: str = "primary") -> list[Link]:
    """Return a link an edge; class, free-flow speed and capacity follow from its type, limit and lanes.

    ``default_class`` is the class of an edge whose type names none, as in ``highway.primary``.
    """
    nodes: dict[str, int] = {}
    links = []
    for edge in net.edges.values():
        kind = edge.kind.rpartition("highway.")[2]
        assumed = DEFAULTS[kind if kind in DEFAULTS else default_class]
        lanes, limit_kmh = len(edge.lengths_m), max(edge.speeds_ms) * KMH_PER_MS
        links.append(
            Link(
                id=edge.id,
                road=edge.name,
                road_class=road_class(kind if kind in DEFAULTS else default_class),
                from_node=nodes.setdefault(edge.begin, len(nodes)),
                to_node=nodes.setdefault(edge.end, len(nodes)),
                points=net.degrees(edge.shape),
                length_km=max(edge.lengths_m) / 1000,
                lanes=lanes,
                limit_kmh=limit_kmh,
                free_flow_kmh=limit_kmh * assumed.free_flow_share,
                capacity_vph=lanes * assumed.capacity_vph_per_lane,
            )
        )
    return links


def read_detectors(paths: Sequence[Path]) -> list[Detector]:
    """Return the E1 and E2 detectors of additional files: loops, and radars in the middle of their area."""
    found = []
    for path in paths:
        for tag in _tags(path):
            if tag.name in (*_LOOPS, *_AREAS):
                try:
                    found.append(_detector(tag))
                except (KeyError, ValueError) as error:
                    raise ConfigError(
                        f"{path}:{tag.line}: <{tag.name}>: {error!r} seen, id, lane and pos in m allowed"
                    ) from error
    return found


def detectors_on(links: Sequence[Link], detectors: Sequence[Detector], *, probes: bool) -> tuple[Detectors, list[str]]:
    """Put detectors onto the links of the same network, and a probe on each of these where ``probes`` is set.

    Returns
    -------
    tuple[Detectors, list[str]]
        The detectors, and in plain words those whose edge is none of the links.
    """
    at = {link.id: number for number, link in enumerate(links)}
    rows, lost = [], []
    for detector in detectors:
        if detector.edge not in at:
            lost.append(f"detector {detector.id} is left out: edge {detector.edge!r} seen, one for cars allowed")
            continue
        length_m = links[at[detector.edge]].length_km * 1000
        rows.append((detector.id, at[detector.edge], _inside(detector.position_m, length_m), 1, detector.kind))
    if probes:
        middle = [(PROBE + link.id, n, link.length_km * 500, link.lanes, "probe") for n, link in enumerate(links)]
        rows += middle
    return table_of(rows), lost


def listed(net: SumoNet, detectors: Sequence[Detector], *, probes: bool) -> list[Listed]:
    """Return where detectors are on Earth and which way they look, for `detectors.snapped` onto another map.

    Raises
    ------
    ConfigError
        If the network lies nowhere.
    """
    if not net.georeferenced:
        raise ConfigError(f"{net.path}: no projection seen, one that puts its detectors onto a map allowed")
    known = [detector for detector in detectors if detector.edge in net.edges]
    places = [(d.id, net.edges[d.edge], d.position_m, 1, d.kind) for d in known]
    if probes:
        places += [(PROBE + e.id, e, max(e.lengths_m) / 2, len(e.lengths_m), "probe") for e in net.edges.values()]
    return [_placed(net, *place) for place in places]


def _placed(net: SumoNet, name: str, edge: Edge, position_m: float, lanes: int, kind: str) -> Listed:
    line, length_m = edge.shape, max(edge.lengths_m)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    # The length of a lane may differ from that of its line.
    place = _inside(position_m, length_m) / length_m * along[-1]
    ends = np.clip([place - 5, place, place + 5], 0, along[-1])
    before, here, after = np.stack([np.interp(ends, along, line[:, axis]) for axis in (0, 1)], axis=1)
    lon, lat = net.degrees(here[np.newaxis])[0]
    bearing = np.degrees(np.arctan2(*(after - before))) % 360
    return Listed(name, float(lon), float(lat), float(bearing), lanes, kind)


def _inside(position_m: float, length_m: float) -> float:
    return float(min(max(position_m + (length_m if position_m < 0 else 0.0), 0.0), length_m))


def _edge(attributes: dict[str, str]) -> Edge:
    return Edge(
        attributes["id"], attributes["from"], attributes["to"], attributes.get("type", ""), attributes.get("name", "")
    )


def _for_cars(lane: dict[str, str]) -> bool:
    if "allow" in lane:
        return bool(CARS & set(lane["allow"].split()))
    return not {"all", "passenger"} & set(lane.get("disallow", "").split())


def _detector(tag: Tag) -> Detector:
    lane = tag.attributes["lane"] if "lane" in tag.attributes else tag.attributes["lanes"].split()[0]
    position_m = float(tag.attributes.get("pos", 0.0))
    if tag.name in _AREAS:
        length_m = float(tag.attributes.get("length", 0.0))
        end_m = float(tag.attributes.get("endPos", position_m + length_m))
        return Detector(tag.attributes["id"], lane.rpartition("_")[0], (position_m + end_m) / 2, "radar")
    return Detector(tag.attributes["id"], lane.rpartition("_")[0], position_m, "loop")


def _numbers(text: str) -> Points:
    return np.array([float(part) for part in text.split(",")])


def _tags(path: Path, root: str = "") -> Iterator[Tag]:
    """Yield the tags of a file; one that is no such file is a mistake of the command, not of a feed."""
    try:
        found = tags(path)
        first = next(found)
        if root and first.name != root:
            raise ConfigError(f"{path}: <{first.name}> seen, <{root}> allowed")
        yield first
        yield from found
    except FeedError as error:
        raise ConfigError(str(error)) from error
