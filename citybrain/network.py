"""A road network: columns in, columns out; stored as one Arrow file and named by the hash of its content.

It does not import maps (``ingest.maps``) and does not judge a city (``ingest.citycheck``).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from citybrain.arrowcolumns import numpy_column, save_table
from citybrain.errors import ConfigError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]
StrArray = npt.NDArray[np.str_]

RoadClass = Literal["motorway", "trunk", "primary", "secondary", "tertiary", "residential", "link", "other"]
ROAD_CLASSES: tuple[RoadClass, ...] = get_args(RoadClass)

AreaLevel = Literal["city", "district", "street"]
AREA_LEVELS: tuple[AreaLevel, ...] = get_args(AreaLevel)

JOURNEY_KINDS = ("camera", "probe", "bus")
"""Kinds of detectors that measure journeys and do not count every vehicle."""


@dataclass(frozen=True, slots=True)
class Segments:
    """Directed road segments, one row each; the row number is the segment's index on the wire.

    Attributes
    ----------
    id
        Name that outlives an import, such as ``w123-2f`` or a station number.
    road
        Road name as signposted; empty where it has none.
    road_class
        Index into `ROAD_CLASSES`.
    from_node, to_node
        Node numbers; a segment leads from the first to the second.
    length_km
        Length, km, above 0.
    lanes
        Number of lanes in this direction, at least 1.
    limit_kmh
        Speed limit, km/h; NaN where not known.
    free_flow_kmh
        Free-flow speed, km/h, above 0.
    capacity_vph
        Capacity of the whole carriageway, veh/h; NaN where not known.
    partition
        Kafka partition that owns the segment.
    district, street
        Row of its area of that level in `Areas`; every segment lies in the one city.
    geometry_start
        Offsets into ``lon_lat``, shape (n + 1,): segment i has points start[i]..start[i+1].
    """

    id: StrArray
    road: StrArray
    road_class: IntArray
    from_node: IntArray
    to_node: IntArray
    length_km: FloatArray
    lanes: IntArray
    limit_kmh: FloatArray
    free_flow_kmh: FloatArray
    capacity_vph: FloatArray
    partition: IntArray
    district: IntArray
    street: IntArray
    geometry_start: IntArray

    def __len__(self) -> int:
        """Return the number of segments."""
        return len(self.id)


@dataclass(frozen=True, slots=True)
class Detectors:
    """Detectors, one row each; the row number is the detector's index on the wire.

    Attributes
    ----------
    id
        The operator's name of it.
    segment
        Index of the segment it measures.
    position_m
        Metres from the segment's start.
    lanes
        Number of lanes it covers: all of the segment's for a whole-carriageway station, 1 for a lane detector.
    kind
        ``loop``, ``single`` (a loop that measures no speed), ``radar``, ``station``; `JOURNEY_KINDS`: ``camera``,
        ``probe`` (journeys of a share of all vehicles), ``bus`` (of buses, whose stops are in them).
    """

    id: StrArray
    segment: IntArray
    position_m: FloatArray
    lanes: IntArray
    kind: StrArray

    def __len__(self) -> int:
        """Return the number of detectors."""
        return len(self.id)


@dataclass(frozen=True, slots=True)
class Areas:
    """Areas, one row each; row 0 is the city. ``level`` indexes `AREA_LEVELS`; ``parent`` is a row, -1 for the city."""

    id: StrArray
    name: StrArray
    level: IntArray
    parent: IntArray

    def __len__(self) -> int:
        """Return the number of areas."""
        return len(self.id)


@dataclass(frozen=True)
class Network:
    """Segments, detectors and areas of one city, with the geometry and the source's attribution."""

    segments: Segments
    detectors: Detectors
    areas: Areas
    lon_lat: npt.NDArray[np.float32]
    """Points of all segments in driving direction, degrees WGS 84, shape (p, 2); NaN where a road has no map."""
    attribution: str = ""
    areas_regular: bool = False
    """True where the areas are a regular division, made for want of polygons."""

    @cached_property
    def version(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the content."""
        digest = hashlib.sha256()
        for name, column in _columns(self).items():
            digest.update(name.encode())
            digest.update("\0".join(column).encode() if column.dtype.kind == "U" else column.tobytes())
        return digest.hexdigest()[:12]

    @cached_property
    def partitions(self) -> int:
        """Number of partitions its segments are spread over."""
        return int(self.segments.partition.max(initial=0)) + 1

    def segments_of(self, partition: int) -> IntArray:
        """Return the indices of the segments that ``partition`` owns, ascending, shape (m,)."""
        return np.flatnonzero(self.segments.partition == partition).astype(np.int32)

    @cached_property
    def detector_partition(self) -> IntArray:
        """Partition of each detector, shape (detectors,)."""
        return self.segments.partition[self.detectors.segment]

    @cached_property
    def downstream(self) -> tuple[IntArray, IntArray]:
        """Neighbours as compressed rows: segment i leads into ``index[start[i]:start[i + 1]]``."""
        by_start = np.argsort(self.segments.from_node, kind="stable").astype(np.int32)
        first = np.searchsorted(self.segments.from_node[by_start], self.segments.to_node, side="left")
        last = np.searchsorted(self.segments.from_node[by_start], self.segments.to_node, side="right")
        count = last - first
        start = np.concatenate([[0], np.cumsum(count)]).astype(np.int32)
        offset = np.arange(start[-1]) - np.repeat(start[:-1], count)
        return start, by_start[np.repeat(first, count) + offset]

    def save(self, path: Path) -> None:
        """Write the network as one compressed Arrow file."""
        metadata = {"attribution": self.attribution, "areas_regular": str(int(self.areas_regular)), "format": "1"}
        columns = _columns(self)
        rows = {name: [pa.array(column)] for name, column in columns.items()}
        table = pa.table({name: pa.array([row[0].tolist()], pa.list_(row[0].type)) for name, row in rows.items()})
        save_table(table.replace_schema_metadata(metadata), path)

    @classmethod
    def load(cls, path: Path) -> Network:
        """Read what `save` wrote.

        Raises
        ------
        ConfigError
            If the file is missing or is no network of a known format.
        """
        try:
            with pa.OSFile(str(path), "rb") as source:
                table = pa.ipc.open_file(source).read_all()
        except (OSError, pa.ArrowInvalid) as error:
            raise ConfigError(f"{path}: cannot be read as a road network ({error})") from error
        metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        if metadata.get("format") != "1":
            raise ConfigError(f"{path}: network format {metadata.get('format')!r} seen, '1' allowed")
        column = {name: numpy_column(table.column(name)[0].values) for name in table.column_names}
        try:
            return cls(
                Segments(**{f.name: column[f"segments.{f.name}"] for f in fields(Segments)}),
                Detectors(**{f.name: column[f"detectors.{f.name}"] for f in fields(Detectors)}),
                Areas(**{f.name: column[f"areas.{f.name}"] for f in fields(Areas)}),
                column["lon_lat"].reshape(-1, 2),
                metadata["attribution"],
                metadata["areas_regular"] == "1",
            )
        except KeyError as error:
            raise ConfigError(f"{path}: no column {error} seen, a whole road network allowed") from error


def _columns(network: Network) -> dict[str, npt.NDArray[np.generic]]:
    columns: dict[str, npt.NDArray[np.generic]] = {}
    for prefix, part in (("segments", network.segments), ("detectors", network.detectors), ("areas", network.areas)):
        for f in fields(part):
            columns[f"{prefix}.{f.name}"] = np.ascontiguousarray(getattr(part, f.name))
    columns["lon_lat"] = np.ascontiguousarray(network.lon_lat).reshape(-1)
    return columns
