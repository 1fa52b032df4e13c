"""A city's settings and network in, what is wrong with them in plain words out.

Whether the files can be read at all is `citybrain.cityfile`; how the machine fares is ``citybrain doctor``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from citybrain.errors import ConfigError, ModelError
from citybrain.network import AREA_LEVELS, Network
from citybrain.settings import CitySettings, SumoFeed, TableFeed
from citybrain.typical import Typical
from ingest.tables import files_of

UNBALANCED = 0.10
"""A partition further from the mean than this share is told of."""
FEW_DETECTORS = 0.5
"""Below this share of segments with a detector the map will be mostly grey."""
SHORT_KM = 0.005
LONG_KM = 10.0

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about a city: an error stops it from working, a warning makes it worse, a note is good to know."""

    severity: Severity
    text: str


def findings(city: CitySettings, network: Network, data: Path | None = None) -> list[Finding]:
    """Return what is wrong with a city, the worst first.

    Parameters
    ----------
    city, network
        The city.
    data
        What ``{data}`` stands for in table feeds; feeds that need it are not looked at without.
    """
    found = [
        *_rows(network),
        *_values(network),
        *_connection(network),
        *_detectors(network),
        *_partitions(network),
        *_areas(network),
        *_feeds(city, network, data),
        *_webhooks(city, network),
        *_typical(city, network),
    ]
    rank = {"error": 0, "warning": 1, "note": 2}
    return sorted(found, key=lambda finding: rank[finding.severity])


def _rows(network: Network) -> Iterator[Finding]:
    segments, detectors, areas = network.segments, network.detectors, network.areas
    for what, ids in (("segment", segments.id), ("detector", detectors.id), ("area", areas.id)):
        names, times = np.unique(ids, return_counts=True)
        if len(repeated := names[times > 1]):
            yield Finding("error", f"{len(repeated)} {what} ids stand for more than one {what}, such as {repeated[0]}")
    if len(segments) == 0:
        yield Finding("error", "the network has no segment")
    if lost := int(np.sum((detectors.segment < 0) | (detectors.segment >= len(segments)))):
        yield Finding("error", f"{_many(lost, 'detector')} on no segment")
    outside = (segments.district < 0) | (segments.district >= len(areas))
    if lost := int(np.sum(outside | (segments.street < 0) | (segments.street >= len(areas)))):
        yield Finding("error", f"{_many(lost, 'segment')} in no area")
    if len(segments.geometry_start) != len(segments) + 1 or segments.geometry_start[-1] != len(network.lon_lat):
        yield Finding("error", "the geometry does not fit the segments: import the network again")


def _values(network: Network) -> Iterator[Finding]:
    s = network.segments
    tests = (
        ("error", ~(s.length_km > 0), s.length_km, "km long, above 0 allowed"),
        ("warning", (s.length_km > 0) & (s.length_km < SHORT_KM), s.length_km, f"km long, under {SHORT_KM:g} km"),
        ("warning", s.length_km > LONG_KM, s.length_km, f"km long, over {LONG_KM:g} km: a jam in it has no place"),
        ("error", ~(s.free_flow_kmh > 0), s.free_flow_kmh, "km/h free-flow speed, above 0 allowed"),
        ("warning", s.free_flow_kmh > 160, s.free_flow_kmh, "km/h free-flow speed: absurd for a road"),
        ("warning", (s.free_flow_kmh > 0) & (s.free_flow_kmh < 10), s.free_flow_kmh, "km/h free-flow speed: a walk"),
        ("warning", (s.limit_kmh < 5) | (s.limit_kmh > 150), s.limit_kmh, "km/h limit: absurd for a road"),
        ("error", s.lanes < 1, s.lanes, "lanes, at least 1 allowed"),
        ("warning", s.lanes > 10, s.lanes, "lanes: absurd in one direction"),
        ("warning", s.capacity_vph <= 0, s.capacity_vph, "veh/h capacity, above 0 allowed"),
        ("warning", s.capacity_vph > 3000.0 * s.lanes, s.capacity_vph, "veh/h capacity: over 3,000 veh/h a lane"),
    )
    for severity, wrong, values, words in tests:
        if len(at := np.flatnonzero(wrong)):
            which = "1 segment" if len(at) == 1 else f"{len(at)} segments"
            text = f"{which}, {'' if len(at) == 1 else 'such as '}{s.id[at[0]]}: {values[at[0]]:g} {words}"
            yield Finding("error" if severity == "error" else "warning", text)


def _connection(network: Network) -> Iterator[Finding]:
    s = network.segments
    if len(s) == 0:
        return
    nodes, ends = np.unique(np.concatenate([s.from_node, s.to_node]), return_inverse=True)
    start, end = ends[: len(s)], ends[len(s) :]
    graph = coo_array((np.ones(len(s)), (start, end)), shape=(len(nodes), len(nodes)))
    for connection, words in (("weak", "do not touch"), ("strong", "cannot all be reached from one another")):
        parts, part = connected_components(graph, directed=True, connection=connection)
        inside = part[start] == part[end]
        if not inside.any():
            yield Finding("note", "the network is a one-way road: no place can be reached again")
        elif apart := len(s) - int(np.bincount(part[start][inside]).max()):
            where = f"{apart} of {len(s)} segments outside the largest"
            yield Finding("warning", f"the network is in {parts} parts that {words}: {where}")
            return  # parts that do not touch cannot be reached either


def _detectors(network: Network) -> Iterator[Finding]:
    segments, detectors = network.segments, network.detectors
    good = (detectors.segment >= 0) & (detectors.segment < len(segments))
    at = detectors.segment[good]
    share = len(np.unique(at)) / max(len(segments), 1)
    if share < FEW_DETECTORS:
        yield Finding("warning", f"{share:.0%} of the segments have a detector: the others stay grey on the map")
    beyond = detectors.position_m[good] > segments.length_km[at] * 1000 + 1
    if wrong := int(np.sum(beyond | (detectors.position_m[good] < 0))):
        yield Finding("error", f"{_many(wrong, 'detector')} beyond the end of the segment")
    if wrong := int(np.sum((detectors.lanes[good] < 1) | (detectors.lanes[good] > segments.lanes[at]))):
        yield Finding("warning", f"{_many(wrong, 'detector')} on more lanes than the road has, or on none")


def _partitions(network: Network) -> Iterator[Finding]:
    sizes = np.bincount(network.segments.partition, minlength=1)
    if len(empty := np.flatnonzero(sizes == 0)):
        yield Finding("error", f"partition {empty[0]} of {len(sizes)} has no segment")
        return
    worst = sizes[np.argmax(np.abs(sizes - sizes.mean()))]
    if abs(worst - sizes.mean()) > max(UNBALANCED * sizes.mean(), 5):
        listed = ", ".join(str(size) for size in sizes)
        yield Finding("warning", f"the partitions are unbalanced: {listed} segments; import the network again")


def _areas(network: Network) -> Iterator[Finding]:
    areas, segments = network.areas, network.segments
    if len(areas) == 0 or areas.level[0] != 0 or areas.parent[0] != -1 or np.any(areas.parent[1:] < 0):
        yield Finding("error", "the first area is not the city that all others lie in")
        return
    used = {0, *segments.district.tolist(), *segments.street.tolist()}
    if empty := [str(areas.name[row]) for row in range(len(areas)) if row not in used]:
        yield Finding("warning", f"{_many(len(empty), 'area')} empty, such as {empty[0]}")
    for row in np.flatnonzero(areas.parent >= np.arange(len(areas))):
        yield Finding("error", f"area {areas.id[row]} comes before the area it lies in")
    if network.areas_regular:
        districts = int(np.sum(areas.level == AREA_LEVELS.index("district")))
        yield Finding("note", f"the {districts} districts are a regular division, made for want of borders")


def _feeds(city: CitySettings, network: Network, data: Path | None) -> Iterator[Finding]:
    if not (city.tables or city.simulated or city.sumo or city.json_edge):
        yield Finding("error", "no feed: no table, simulated or SUMO one in city.toml, and json_edge is false")
    if city.simulated and not len(network.detectors):
        yield Finding("error", "the simulated city has no detector to report: import again with --detectors by-class")
    segments = set(network.segments.id.tolist())
    for name in (script.segment for simulated in city.simulated for script in simulated.scripted):
        if name not in segments:
            yield Finding("error", f"a scripted incident is on segment {name!r}, which the network does not have")
    for sumo in city.sumo:
        if sumo.config and not (city.folder / sumo.config).is_file():
            yield Finding("error", f"feed {sumo.name}: {sumo.config} seen, a .sumocfg that is there allowed")
    read: list[TableFeed | SumoFeed] = [*city.tables, *(sumo for sumo in city.sumo if sumo.files)]
    for feed in read:
        if feed.interval > city.limits.interval:
            seen, most = (f"{span.total_seconds():g} s" for span in (feed.interval, city.limits.interval))
            yield Finding("error", f"feed {feed.name}: every reading will be refused: interval {seen}, limit {most}")
        if "{data}" in feed.files and data is None:
            yield Finding("note", f"feed {feed.name} is not looked at: {feed.files} needs --data")
            continue
        try:
            files = files_of(feed, city.folder, data)
        except ConfigError as error:
            yield Finding("error", str(error))
        else:
            if isinstance(feed, TableFeed):
                yield from _table(feed, files[0], network)


def _table(feed: TableFeed, file: Path, network: Network) -> Iterator[Finding]:
    """Look into the first file of a feed."""
    try:
        columns, detectors = _peek(file, feed.detector_column)
    except (OSError, pa.ArrowException) as error:
        yield Finding("error", f"feed {feed.name}: {file} cannot be read ({error})")
        return
    mapped = [mapping.column for mapping in feed.metrics.values()]
    wanted = [feed.detector_column, feed.time_column, *mapped, *feed.keep_where]
    if missing := [name for name in wanted if name not in columns]:
        yield Finding("error", f"feed {feed.name}: {file.name} has no column {missing[0]!r}, but {', '.join(columns)}")
        return
    unknown = sorted(detectors - set(network.detectors.id.tolist()))
    if len(unknown) == len(detectors):
        yield Finding("error", f"feed {feed.name}: none of its {len(detectors)} detectors is in the network")
    elif unknown:
        text = f"{len(unknown)} of its {len(detectors)} detectors are not in the network, such as {unknown[0]}"
        yield Finding("warning", f"feed {feed.name}: {text}")


def _peek(file: Path, detector_column: str) -> tuple[list[str], set[str]]:
    """Return the names of a table's columns and the detectors of its first million bytes or first row group."""
    if file.suffix == ".parquet":
        parquet = pq.ParquetFile(file)
        columns = parquet.schema_arrow.names
        if detector_column not in columns or parquet.num_row_groups == 0:
            return columns, set()
        return columns, {str(name) for name in parquet.read_row_group(0, [detector_column])[0].unique().to_pylist()}
    as_text = pacsv.ConvertOptions(column_types={detector_column: pa.string()})
    with pa.input_stream(str(file), compression="detect") as stream:
        batch = pacsv.open_csv(stream, convert_options=as_text).read_next_batch()
    columns = batch.schema.names
    return columns, set(batch.column(detector_column).unique().to_pylist()) if detector_column in columns else set()


def _webhooks(city: CitySettings, network: Network) -> Iterator[Finding]:
    known = set(network.areas.id.tolist())
    for hook in city.webhooks:
        if unknown := [name for name in hook.districts if name not in known]:
            yield Finding("warning", f"webhook {hook.name}: {unknown[0]!r} is no area of this city")


def _typical(city: CitySettings, network: Network) -> Iterator[Finding]:
    path = city.folder / city.typical_file if city.typical_file else city.learnt_typical_path
    if not path.exists():
        if city.typical_file:
            yield Finding("error", f"{path.name} is named in city.toml and not there: `citybrain typical` makes it")
        else:
            yield Finding("note", "no typical week: forecasts start from free flow until one is learnt")
        return
    try:
        typical = Typical.load(path)
    except ModelError as error:
        yield Finding("error", str(error))
        return
    if typical.network != network.version:
        yield Finding(
            "error", f"{path.name} is for network {typical.network}, the city's is {network.version}: make it again"
        )


def _many(count: int, what: str) -> str:
    return f"1 {what} is" if count == 1 else f"{count} {what}s are"
