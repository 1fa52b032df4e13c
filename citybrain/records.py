"""Wire records as columns: dataclasses of numpy arrays in, Arrow IPC streams out, and back.

A message is one Arrow IPC stream with one record batch. Its schema metadata names the record, its version and the
network version, and holds the scalars of the batch; a column whose values are all missing is left out. Missing is NaN.
Records that are not columns (signals, alerts, dead letters) are in ``citybrain.messages``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any, Literal, TypeVar, cast

import numpy as np
import numpy.typing as npt

from citybrain.arrow import Codec, Column
from citybrain.errors import BadRecord

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]
ByteArray = npt.NDArray[np.uint8]

RECORD_VERSION = 1
HORIZONS_MIN: tuple[int, ...] = tuple(range(5, 65, 5))
"""Forecast horizons, minutes after the end of the pane."""


class Quality(IntEnum):
    """What is known of one metric of a reading. No vehicle is not standstill."""

    OK = 0
    NO_VEHICLE = 1
    MISSING = 2
    SOURCE_ERROR = 3
    IMPLAUSIBLE = 4
    IMPUTED_BY_SOURCE = 5
    DERIVED = 6
    STALE = 7


class Verdict(IntEnum):
    """What is wrong with a detector, as far as its own readings tell."""

    WELL = 0
    STUCK = 1
    """It repeats one reading."""
    LOCKED = 2
    """It is covered all the time, and nobody passes."""
    OVERCOUNTING = 3
    """It counts more vehicles than its occupancy and speeds have room for."""
    SILENT = 4
    """Nothing has been heard of it."""


class SpeedKind(IntEnum):
    """How the source averages speeds."""

    UNKNOWN = 0
    TIME_MEAN = 1
    SPACE_MEAN = 2


Status = Literal["provisional", "closed", "final"]
"""A pane is open and published for the screen only, closed (may be revised), or final."""


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """What detectors of one source and one partition saw; without rows it is a heartbeat.

    Attributes
    ----------
    network
        Version of the network whose detector indices are used.
    source
        Name of the feed, as in ``city.toml``.
    received_ms
        When the feed was received, ms UTC; also the Kafka record time.
    watermark_ms
        The feed's clock: the latest ``observed_to`` it has sent to anyone, ms UTC.
    detector
        Detector index, shape (n,); all arrays below have that shape.
    observed_from_ms, observed_to_ms
        Half-open interval of observation, ms UTC.
    count_veh, flow_vph
        Vehicles counted in the interval; flow, veh/h. Over the lanes that the detector covers.
    speed_kmh
        Mean speed, km/h.
    occupancy
        Share of the interval in which the loop was covered, 0..1.
    travel_time_s
        Travel time over the segment, s.
    speed_kind
        `SpeedKind` of ``speed_kmh``.
    quality_flow, quality_speed, quality_occupancy, quality_travel_time
        `Quality` of each metric.
    """

    network: str
    source: str
    received_ms: int
    watermark_ms: int
    detector: IntArray
    observed_from_ms: LongArray
    observed_to_ms: LongArray
    count_veh: FloatArray
    flow_vph: FloatArray
    speed_kmh: FloatArray
    occupancy: FloatArray
    travel_time_s: FloatArray
    speed_kind: ByteArray
    quality_flow: ByteArray
    quality_speed: ByteArray
    quality_occupancy: ByteArray
    quality_travel_time: ByteArray

    def __len__(self) -> int:
        """Return the number of readings."""
        return len(self.detector)

    def take(self, rows: npt.NDArray[Any] | slice) -> Readings:
        """Return some rows: places, or which to keep."""
        columns: dict[str, Any] = {name: getattr(self, name)[rows] for name in _COLUMNS_OF_READINGS}
        return replace(self, **columns)

    @classmethod
    def joined(cls, parts: Sequence[Readings]) -> Readings:
        """Return the rows of several batches, one after another; the rest is that of the first."""
        names = _COLUMNS_OF_READINGS
        columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return replace(parts[0], **columns)


_COLUMNS_OF_READINGS = tuple(f.name for f in fields(Readings) if f.type not in ("str", "int"))


@dataclass(frozen=True, slots=True, eq=False)
class SegmentStates:
    """State of the segments of one partition in one pane; arrays have shape (segments of the partition,).

    Attributes
    ----------
    network, partition
        Version of the network; the partition that owns the segments.
    pane_start_ms, pane_ms
        Start of the half-open pane, ms UTC, and its length.
    version
        Offset in ``readings`` of the message that caused this result: the newest wins.
    revision
        0 for the first close, then counting; -1 for a provisional result.
    status
        See `Status`.
    segment
        Segment index, ascending.
    flow_vph, speed_kmh, occupancy, density_veh_km
        Carriageway flow, space-mean speed, mean occupancy, density; NaN where not observed.
    travel_time_s, tti, dtp
        Travel time, travel time index (at least 1), delay time proportion (0..1).
    vkt_veh_km, vht_veh_h, vht_free_flow_veh_h, delay_veh_h
        Vehicle-kilometres, vehicle-hours, the same at free flow, and delay, in the pane.
    vehicles
        Mean number of vehicles on the segment.
    coverage
        Observed share of detector-lanes times time, 0..1; 0 is not observed.
    level
        1 (free) to 5 (severe), GB/T 33171; 0 is not known.
    quality
        Worst `Quality` that contributed.
    """

    network: str
    partition: int
    pane_start_ms: int
    pane_ms: int
    version: int
    revision: int
    status: Status
    segment: IntArray
    flow_vph: FloatArray
    speed_kmh: FloatArray
    occupancy: FloatArray
    density_veh_km: FloatArray
    travel_time_s: FloatArray
    tti: FloatArray
    dtp: FloatArray
    vkt_veh_km: FloatArray
    vht_veh_h: FloatArray
    vht_free_flow_veh_h: FloatArray
    delay_veh_h: FloatArray
    vehicles: FloatArray
    coverage: FloatArray
    level: ByteArray
    quality: ByteArray


@dataclass(frozen=True, slots=True, eq=False)
class AreaPartials:
    """What one partition contributes to every area in one pane: integers, so that sums do not depend on the split.

    Arrays have shape (areas that the partition touches,). Scales are in ``citybrain.units``; lengths in mm.

    Attributes
    ----------
    network, partition, pane_start_ms, pane_ms, version, revision, status
        As in `SegmentStates`.
    area
        Row of the area.
    vkt, vht, vht_free_flow, delay
        Sums in ``VKT_SCALE`` and ``VHT_SCALE`` units over segments with flow and speed.
    vehicles
        Mean number of vehicles, 1e-6 vehicles.
    length_mm, observed_mm
        Length of its segments; the same weighted by their coverage.
    level0_mm .. level5_mm
        Length by level; level 0 is not known.
    """

    network: str
    partition: int
    pane_start_ms: int
    pane_ms: int
    version: int
    revision: int
    status: Status
    area: IntArray
    vkt: LongArray
    vht: LongArray
    vht_free_flow: LongArray
    delay: LongArray
    vehicles: LongArray
    length_mm: LongArray
    observed_mm: LongArray
    level0_mm: LongArray
    level1_mm: LongArray
    level2_mm: LongArray
    level3_mm: LongArray
    level4_mm: LongArray
    level5_mm: LongArray


@dataclass(frozen=True, slots=True, eq=False)
class AreaIndices:
    """Indices of all areas in one pane, derived from total sums; arrays have shape (areas,).

    Attributes
    ----------
    network, pane_start_ms, pane_ms, version, revision, status
        As in `SegmentStates`; ``version`` is the offset in ``area-partials``.
    area
        Row of the area.
    vkt_veh_km, vht_veh_h, vht_free_flow_veh_h, delay_veh_h
        Sums over the pane.
    speed_kmh, tti, dtp, tpi
        VKT / VHT; max(1, VHT / free-flow VHT); 1 - 1 / TTI; 0..10 from DTP (GB/T 33171 appendix C). NaN without flow.
    vehicles
        Mean number of vehicles on the area's segments.
    coverage
        Observed share of the length, 0..1.
    length_km, congested_km
        Length of all segments; of those at level 3 or worse.
    level0_km .. level5_km
        Length by level; level 0 is not known.
    """

    network: str
    pane_start_ms: int
    pane_ms: int
    version: int
    revision: int
    status: Status
    area: IntArray
    vkt_veh_km: FloatArray
    vht_veh_h: FloatArray
    vht_free_flow_veh_h: FloatArray
    delay_veh_h: FloatArray
    speed_kmh: FloatArray
    tti: FloatArray
    dtp: FloatArray
    tpi: FloatArray
    vehicles: FloatArray
    coverage: FloatArray
    length_km: FloatArray
    congested_km: FloatArray
    level0_km: FloatArray
    level1_km: FloatArray
    level2_km: FloatArray
    level3_km: FloatArray
    level4_km: FloatArray
    level5_km: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Forecasts:
    """Speeds ahead for the segments of one partition, made at the close of a pane.

    Attributes
    ----------
    network, partition, pane_start_ms, pane_ms, version
        As in `SegmentStates`; the forecast is made for ``pane_start_ms + pane_ms`` + each of `HORIZONS_MIN`.
    model
        Version of the model and of the typical profile that it used.
    segment
        Segment index, shape (m,).
    mean_kmh, q10_kmh, q50_kmh, q90_kmh
        Forecast speed and its quantiles, shape (m, 12), NaN where nothing is known.
    p_congested
        Probability of level 3 or worse, 0..1, shape (m, 12).
    """

    network: str
    partition: int
    pane_start_ms: int
    pane_ms: int
    version: int
    model: str
    segment: IntArray
    mean_kmh: npt.NDArray[np.float32]
    q10_kmh: npt.NDArray[np.float32]
    q50_kmh: npt.NDArray[np.float32]
    q90_kmh: npt.NDArray[np.float32]
    p_congested: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Passages:
    """Vehicles that cameras of one source saw leave; arrays have shape (n,).

    Attributes
    ----------
    network, source, received_ms, watermark_ms
        As in `Readings`.
    camera
        Detector index of the camera.
    passed_ms
        Instant of the passage, ms UTC.
    plate
        Pseudonym: a keyed hash made at the edge, key rotated daily. A raw plate never reaches Kafka.
    lane, vehicle_class
        Lane counted from the kerb, 0 unknown; class code, 0 unknown.
    speed_kmh
        Spot speed, km/h.
    """

    network: str
    source: str
    received_ms: int
    watermark_ms: int
    camera: IntArray
    passed_ms: LongArray
    plate: LongArray
    lane: ByteArray
    vehicle_class: ByteArray
    speed_kmh: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class DetectorHealth:
    """Detectors of one partition that are not well, all of them: it replaces what was told before.

    Arrays have shape (n,); without rows all are well.

    Attributes
    ----------
    network, partition
        As in `SegmentStates`.
    at_ms
        Event time up to which they were judged, ms UTC.
    version
        Offset in ``readings`` of the message that caused it.
    detector
        Detector index, ascending.
    verdict
        `Verdict`. Readings of all but silent ones are left out of the segments' states.
    since_ms
        Since when, ms UTC.
    """

    network: str
    partition: int
    at_ms: int
    version: int
    detector: IntArray
    verdict: ByteArray
    since_ms: LongArray


ColumnRecord = Readings | SegmentStates | AreaPartials | AreaIndices | Forecasts | Passages | DetectorHealth
R = TypeVar("R", Readings, SegmentStates, AreaPartials, AreaIndices, Forecasts, Passages, DetectorHealth)

RECORD_NAMES: dict[type[ColumnRecord], str] = {
    Readings: "readings",
    SegmentStates: "segment-states",
    AreaPartials: "area-partials",
    AreaIndices: "area-indices",
    Forecasts: "forecasts",
    Passages: "passages",
    DetectorHealth: "detector-health",
}

_DTYPE: dict[str, npt.DTypeLike] = {
    "FloatArray": np.float64,
    "IntArray": np.int32,
    "LongArray": np.int64,
    "ByteArray": np.uint8,
    "npt.NDArray[np.float32]": np.float32,
}
_PARSE: dict[str, type[str] | type[int]] = {"str": str, "int": int, "Status": str}
_WIDTH: dict[type[Any], int] = {Forecasts: len(HORIZONS_MIN)}


@dataclass(frozen=True, slots=True)
class _Form:
    """How records of one kind are written; scalars come before arrays in each of them."""

    texts: dict[str, str]
    scalars: tuple[tuple[str, type[str] | type[int]], ...]
    arrays: tuple[str, ...]
    codec: Codec

    @classmethod
    def of(cls, kind: type[ColumnRecord]) -> _Form:
        types = {f.name: cast(str, f.type) for f in fields(kind)}
        width = _WIDTH.get(kind, 1)
        columns = [
            Column(n, np.dtype(_DTYPE[t]), 1 if n == "segment" else width) for n, t in types.items() if t in _DTYPE
        ]
        return cls(
            {"record": RECORD_NAMES[kind], "record_version": str(RECORD_VERSION)},
            tuple((name, _PARSE[of]) for name, of in types.items() if of in _PARSE),
            tuple(column.name for column in columns),
            Codec(columns),
        )


_FORMS: dict[type[ColumnRecord], _Form] = {kind: _Form.of(kind) for kind in RECORD_NAMES}


def encode(record: ColumnRecord) -> bytes:
    """Return the record as an Arrow IPC stream with one batch."""
    form = _FORMS[type(record)]
    texts = form.texts | {name: str(getattr(record, name)) for name, _ in form.scalars}
    return form.codec.write([getattr(record, name) for name in form.arrays], texts)


def decode(kind: type[R], value: bytes | memoryview) -> R:
    """Read one record of the given kind; its arrays cannot be written to.

    Raises
    ------
    BadRecord
        ``malformed`` if the bytes are no such record, of another version, or a column is missing or ill-typed.
    """
    form = _FORMS[kind]
    try:
        schema, texts = form.codec.open(value)
        expected = form.texts["record"], form.texts["record_version"]
        seen = texts.get("record"), texts.get("record_version")
        if seen != expected:
            raise BadRecord("malformed", f"record {seen} seen, {expected} allowed")
        values: list[Any] = [_scalar(texts, name, parse) for name, parse in form.scalars]
        values += form.codec.read(value, schema)
    except ValueError as error:
        raise BadRecord("malformed", str(error)) from error
    return kind(*values)


def _scalar(texts: dict[str, str], name: str, parse: type[str] | type[int]) -> str | int:
    try:
        return parse(texts[name])
    except (KeyError, ValueError) as error:
        raise ValueError(f"{name}: {texts.get(name)!r} seen, {parse.__name__} allowed") from error
