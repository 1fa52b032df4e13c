"""The typical week: what speed, flow and city indices are usual by type of day and quarter of an hour.

Columns in, values for an instant out. It is learnt elsewhere (``models.typical``), shown by the screen and used by the
forecast. Day types are weekday, Saturday, Sunday (and holidays, where a city names them, later).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from citybrain.arrowcolumns import save_table
from citybrain.errors import ModelError

SmallFloats = npt.NDArray[np.float32]

DAY_TYPES = ("weekday", "saturday", "sunday")
BINS = 96
"""Quarters of an hour in a civil day."""
AREA_METRICS = ("tpi", "delay_veh_h_per_h", "speed_kmh", "vehicles", "congested_km")
"""Indices of areas that have a typical value; delay is a rate, vehicle-hours per hour."""


def day_type_and_bin(instant_ms: int, timezone: str) -> tuple[int, float]:
    """Return the type of day (index into `DAY_TYPES`) and the place in the day in bins, 0 to 96, by civil time.

    Examples
    --------
    >>> day_type_and_bin(1_790_000_000_000, "UTC")  # Monday 2026-09-21 14:13:20
    (0, 56.888888888888886)
    """
    local = datetime.fromtimestamp(instant_ms / 1000, UTC).astimezone(ZoneInfo(timezone))
    weekday = local.weekday()
    seconds = local.hour * 3600 + local.minute * 60 + local.second
    return (0 if weekday < 5 else weekday - 4), seconds / 900


@dataclass(frozen=True)
class Typical:
    """A typical week of one network; NaN where nothing is known.

    Attributes
    ----------
    network
        Version of the network whose indices it uses.
    made_of
        Where it comes from, for the screen: ``simulated`` or ``observed``.
    n
        Number of observations behind each cell, shape (3, 96, segments).
    speed_kmh, speed_sd_kmh, flow_vph
        Mean speed, its standard deviation between days, mean flow; shape (3, 96, segments).
    area_mean, area_sd
        Mean and standard deviation of each of `AREA_METRICS` for every area, shape (5, 3, 96, areas).
    """

    network: str
    made_of: str
    n: SmallFloats
    speed_kmh: SmallFloats
    speed_sd_kmh: SmallFloats
    flow_vph: SmallFloats
    area_mean: SmallFloats
    area_sd: SmallFloats

    @cached_property
    def version(self) -> str:
        """First 8 hexadecimal digits of the SHA-256 of the content."""
        digest = hashlib.sha256(self.network.encode())
        for f in fields(self)[2:]:
            digest.update(np.ascontiguousarray(getattr(self, f.name)).tobytes())
        return digest.hexdigest()[:8]

    def segments_at(self, name: str, instant_ms: int, timezone: str) -> SmallFloats:
        """Return ``speed_kmh``, ``speed_sd_kmh``, ``flow_vph`` or ``n`` of every segment at an instant.

        Between the middles of two bins the values are interpolated; where one is unknown the other stands.
        """
        return _between(getattr(self, name), *day_type_and_bin(instant_ms, timezone))

    def area_at(self, metric: str, area: int, instant_ms: int, timezone: str) -> tuple[float, float]:
        """Return mean and standard deviation of an area's index at an instant; NaN where not known."""
        at = AREA_METRICS.index(metric)
        place = day_type_and_bin(instant_ms, timezone)
        one = slice(area, area + 1)
        mean = _between(self.area_mean[at][:, :, one], *place)
        return float(mean[0]), float(_between(self.area_sd[at][:, :, one], *place)[0])

    def save(self, path: Path) -> None:
        """Write it as one compressed Arrow file, small enough to ship.

        Segments' values are rounded to what a quarter of an hour can tell: speeds to 0.5 km/h, deviations to 1 km/h,
        flows to a unit of their square root (a Poisson count's own error is constant on that scale), and the number of
        observations to quarters of an hour of one-minute panes.
        Areas' values keep 8 binary digits, 0.4 %.
        """
        metadata = {"record": "typical", "format": "3", "network": self.network, "made_of": self.made_of}
        names, columns = [], []
        for f in fields(self)[2:]:
            values = getattr(self, f.name)
            metadata[f"shape.{f.name}"] = ",".join(map(str, values.shape))
            packed = _short(values) if f.name.startswith("area") else _pack(f.name, values)
            names.append(f.name)
            columns.append(pa.array([packed.tolist()], pa.list_(pa.from_numpy_dtype(packed.dtype))))
        save_table(pa.table(columns, names=names).replace_schema_metadata(metadata), path)

    @classmethod
    def load(cls, path: Path) -> Typical:
        """Read what `save` wrote.

        Raises
        ------
        ModelError
            If the file is missing or is no typical week of a known format.
        """
        try:
            with pa.OSFile(str(path), "rb") as source:
                table = pa.ipc.open_file(source).read_all()
            meta = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
            if (meta.get("record"), meta.get("format")) != ("typical", "3"):
                raise ModelError(f"{path}: format {meta.get('format')!r} seen, '3' allowed")
            values = {}
            for f in fields(cls)[2:]:
                flat = table.column(f.name)[0].values.to_numpy(zero_copy_only=False)
                shape = tuple(int(part) for part in meta[f"shape.{f.name}"].split(","))
                values[f.name] = _long(flat, shape) if f.name.startswith("area") else _unpack(f.name, flat, shape)
        except (OSError, KeyError, ValueError, pa.ArrowInvalid) as error:
            raise ModelError(f"{path}: cannot be read as a typical week ({error})") from error
        return cls(meta["network"], meta["made_of"], **values)


def _between(cells: SmallFloats, day_type: int, place: float) -> SmallFloats:
    left = int(np.floor(place - 0.5))
    share = np.float32(place - 0.5 - left)
    a, b = cells[day_type, left % BINS], cells[day_type, (left + 1) % BINS]
    mixed = a * (1 - share) + b * share
    known: SmallFloats = np.where(np.isnan(a), b, np.where(np.isnan(b), a, mixed)).astype(np.float32)
    return known


def _short(values: SmallFloats) -> npt.NDArray[np.uint16]:
    """The upper half of each float32, rounded: sign, exponent, 7 binary digits and the hidden one."""
    bits = np.where(np.isnan(values), np.float32(np.nan), values).astype(np.float32).view(np.uint32)
    rounded = np.where(np.isnan(values), bits, bits + np.uint32(0x8000))
    return np.asarray(rounded >> np.uint32(16), dtype=np.uint16).reshape(-1)


def _long(flat: npt.NDArray[np.uint16], shape: tuple[int, ...]) -> SmallFloats:
    return (flat.astype(np.uint32) << np.uint32(16)).view(np.float32).reshape(shape)


_UNKNOWN = np.uint16(65535)
_STEPS_PER_UNIT = {"n": 1 / 15, "speed_kmh": 2.0, "speed_sd_kmh": 1.0, "flow_vph": 1.0}


def _pack(name: str, values: SmallFloats) -> npt.NDArray[np.uint16]:
    """Whole steps as differences along time, which compress three times better."""
    known = np.nan_to_num(values, nan=0.0)
    scaled = np.sqrt(known) if name == "flow_vph" else known
    steps = np.clip(np.round(scaled * _STEPS_PER_UNIT[name]), 0, 65534).astype(np.uint16)
    steps[np.isnan(values)] = _UNKNOWN
    rows = np.diff(steps.reshape(-1, values.shape[-1]), axis=0, prepend=np.uint16(0))
    return np.asarray(rows, dtype=np.uint16).reshape(-1)


def _unpack(name: str, flat: npt.NDArray[np.uint16], shape: tuple[int, ...]) -> SmallFloats:
    steps = np.cumsum(flat.reshape(-1, shape[-1]), axis=0, dtype=np.uint16)
    scaled: SmallFloats = steps.astype(np.float32) / np.float32(_STEPS_PER_UNIT[name])
    values: SmallFloats = np.square(scaled) if name == "flow_vph" else scaled
    values[steps == _UNKNOWN] = np.nan
    return values.reshape(shape)
