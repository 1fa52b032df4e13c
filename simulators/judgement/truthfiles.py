"""The truth of a run: its folder in, minutes as dense panes, incidents with their queues, and faults out."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from citybrain.errors import ConfigError
from citybrain.network import Network
from citybrain.units import MS_PER_H
from simulators.edie import MINUTE_S
from simulators.judgement.panes import Panes, empty_panes, longer

MINUTE_MS = MINUTE_S * 1000
_HOURS_KEPT = 4
_COLUMNS = ("minute_ms", "segment", "flow_vph", "density_veh_km", "speed_kmh", "travel_time_s", "delay_veh_h")
_CITY = ("minute_ms", "on_road_veh", "waiting_veh", "vkt_veh_km", "vht_veh_h", "vht_free_flow_veh_h")
_TRIPS = ("depart_ms", "arrive_ms", "delay_s")
_QUEUES = ("day", "incident", "segments")
_INCIDENTS = ("kind", "segment", "onset_ms", "end_ms", "furthest_m", "queue_gone_ms")
_FAULTS = ("detector", "kind", "onset_ms", "end_ms")


@dataclass(frozen=True, slots=True)
class TrueIncident:
    """What happened: on which segment, half-open in ms UTC, how far its queue reached, over which segments.

    ``gone_ms`` is when its queue was gone, the end where there was none; ``kind`` as in `simulators.incidents`.
    """

    segment: int
    onset_ms: int
    end_ms: int
    gone_ms: int
    furthest_m: float
    queue: frozenset[int]
    kind: str = "incident"

    @property
    def to_find(self) -> bool:
        """Whether it is for the platform to find: works are known, and rubbernecking is another one's shadow."""
        return self.kind in ("incident", "closure")


@dataclass(frozen=True, slots=True)
class Trips:
    """Trips that began in a span: how many, how many of them arrived in the run, minutes and lost minutes of these."""

    begun: int
    arrived: int
    mean_min: float
    lost_min: float


class TruthFolder:
    """Reads what `simulators.truth` wrote.

    Raises
    ------
    ConfigError
        If the folder holds no truth, or one with other columns.
    """

    def __init__(self, folder: Path, network: Network) -> None:
        self.folder = folder
        self._length_km = network.segments.length_km
        self._hours = {_hour_ms(path): path for path in sorted(folder.glob("segments-*.parquet"))}
        cities = sorted(folder.glob("city-*.parquet"))
        if not self._hours or not cities:
            missing = "city" if self._hours else "segments"
            raise ConfigError(f"{folder}: no {missing}-*.parquet seen, the truth of a simulated run needed")
        self.city = pd.concat([_read(path, _CITY).to_pandas() for path in cities])
        self.span_ms = int(self.city.minute_ms.iloc[0]), int(self.city.minute_ms.iloc[-1]) + MINUTE_MS
        self._read: OrderedDict[int, Panes] = OrderedDict()

    def panes(self, from_ms: int, to_ms: int, pane_ms: int) -> Panes:
        """Return the panes from one instant to another, NaN where the run does not reach.

        Raises
        ------
        ConfigError
            If panes are not whole minutes.
        """
        if pane_ms % MINUTE_MS:
            raise ConfigError(
                f"pane of {pane_ms / 1000:g} s seen, whole minutes allowed: the truth is known by minutes"
            )
        minutes = empty_panes(from_ms, MINUTE_MS, (to_ms - from_ms) // MINUTE_MS, len(self._length_km))
        for hour_ms in range(from_ms // MS_PER_H * MS_PER_H, to_ms, MS_PER_H):
            hour = self._hour(hour_ms)
            if hour is None:
                continue
            begin, end = max(hour.start_ms, from_ms), min(hour.end_ms, to_ms)
            into = slice((begin - from_ms) // MINUTE_MS, (end - from_ms) // MINUTE_MS)
            of = slice((begin - hour_ms) // MINUTE_MS, (end - hour_ms) // MINUTE_MS)
            for name in _VALUES:
                getattr(minutes, name)[into] = getattr(hour, name)[of]
        return minutes if pane_ms == MINUTE_MS else longer(minutes, pane_ms // MINUTE_MS, self._length_km)

    def incidents(self) -> list[TrueIncident]:
        """Return the incidents that began in the run, and what else closed lanes, by their onset."""
        queues = [_read(path, _QUEUES).to_pandas() for path in sorted(self.folder.glob("queues-*.parquet"))]
        by_incident: dict[tuple[str, int], set[int]] = {}
        for part in queues:
            for day, incident, segments in zip(part.day, part.incident, part.segments, strict=True):
                by_incident.setdefault((day, int(incident)), set()).update(int(s) for s in segments)
        found = []
        for path in sorted(self.folder.glob("incidents-*.parquet")):
            for row, one in enumerate(_read(path, _INCIDENTS).to_pylist()):
                if self.span_ms[0] <= one["onset_ms"] < self.span_ms[1]:
                    queue = frozenset(by_incident.get((_stamp(path), row), ()))
                    gone = max(one["end_ms"], one["queue_gone_ms"] or 0)
                    about = one["segment"], one["onset_ms"], one["end_ms"], gone, one["furthest_m"], queue, one["kind"]
                    found.append(TrueIncident(*about))
        return sorted(found, key=lambda one: (one.onset_ms, one.segment))

    def trips(self, from_ms: int, to_ms: int) -> Trips | None:
        """Return what became of the trips that began between two instants; None where none did or none are told."""
        begun, arrived, minutes, lost = 0, 0, 0.0, 0.0
        for path in sorted(self.folder.glob("trips-*.parquet")):
            part = _read(path, _TRIPS).to_pandas()
            part = part[(part.depart_ms >= from_ms) & (part.depart_ms < to_ms)]
            over = part[part.arrive_ms.notna()]
            begun, arrived = begun + len(part), arrived + len(over)
            minutes += float((over.arrive_ms - over.depart_ms).sum()) / MINUTE_MS
            lost += float(over.delay_s.sum()) / MINUTE_S
        return Trips(begun, arrived, minutes / max(arrived, 1), lost / max(arrived, 1)) if begun else None

    def faults(self) -> pd.DataFrame:
        """Return the faults of detectors: detector, kind, onset_ms, end_ms; a week's once."""
        parts = [_read(path, _FAULTS).to_pandas() for path in sorted(self.folder.glob("faults-*.parquet"))]
        if not parts:
            return pd.DataFrame({name: [] for name in _FAULTS})
        whole: pd.DataFrame = pd.concat(parts, ignore_index=True)
        return whole.drop_duplicates(ignore_index=True)

    def _hour(self, hour_ms: int) -> Panes | None:
        if hour_ms not in self._read:
            path = self._hours.get(hour_ms)
            if path is None:
                return None
            self._read[hour_ms] = self._dense(path, hour_ms)
            if len(self._read) > _HOURS_KEPT:
                self._read.popitem(last=False)
        return self._read[hour_ms]

    def _dense(self, path: Path, hour_ms: int) -> Panes:
        """Return an hour; a segment without a row in a minute of the run had no traffic then."""
        table = _read(path, _COLUMNS)
        column = {name: table.column(name).to_numpy() for name in _COLUMNS}
        hour = empty_panes(hour_ms, MINUTE_MS, 60, len(self._length_km))
        row, segment = (column["minute_ms"] - hour_ms) // MINUTE_MS, column["segment"]
        seen = (self.city.minute_ms.to_numpy() - hour_ms) // MINUTE_MS
        seen = seen[(seen >= 0) & (seen < 60)]
        for values, empty in (
            (hour.flow_vph, 0.0),
            (hour.delay_veh_h, 0.0),
            (hour.vehicles, 0.0),
            (hour.coverage, 1.0),
        ):
            values[seen] = empty
        for name in ("flow_vph", "speed_kmh", "travel_time_s", "delay_veh_h"):
            getattr(hour, name)[row, segment] = column[name]
        hour.vehicles[row, segment] = column["density_veh_km"] * self._length_km[segment]
        return hour


_VALUES = ("speed_kmh", "flow_vph", "travel_time_s", "delay_veh_h", "vehicles", "coverage")


def _read(path: Path, columns: tuple[str, ...]) -> pa.Table:
    """Return some columns of a file of the truth.

    Raises
    ------
    ConfigError
        If it lacks one, or is no such file.
    """
    try:
        file: Any = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ConfigError(f"{path}: a file of the truth needed ({error})") from error
    with file:
        seen = file.schema_arrow.names
        if missing := [name for name in columns if name not in seen]:
            raise ConfigError(
                f"{path}: columns {', '.join(seen)} seen, {', '.join(missing)} needed too: "
                "the run is of another version of `citybrain simulate`, run its scenario again"
            )
        return file.read(columns=list(columns))


def _stamp(path: Path) -> str:
    return path.stem.split("-", 1)[1]


def _hour_ms(path: Path) -> int:
    return round(datetime.strptime(_stamp(path), "%Y%m%dT%H").replace(tzinfo=UTC).timestamp() * 1000)


def health_of(
    faults: pd.DataFrame, kinds: tuple[str, ...], segment_of: npt.NDArray[np.int32], panes: Panes
) -> npt.NDArray[np.uint8]:
    """Return what the detectors of each segment have in each pane, an index of ``kinds``; 0 is well, the worst counts.

    Parameters
    ----------
    faults
        As `TruthFolder.faults` returns them.
    kinds
        ``well`` and the kinds of faults, the worst last.
    segment_of
        Segment of each detector.
    panes
        Whose times and segments.
    """
    found = np.zeros(panes.speed_kmh.shape, np.uint8)
    for detector, kind, onset, end in faults.itertuples(index=False):
        first = max(-(-(onset - panes.start_ms) // panes.pane_ms), 0) if onset > panes.start_ms else 0
        last = min((end - panes.start_ms) // panes.pane_ms, len(panes))
        if first < last:
            column = found[first:last, segment_of[detector]]
            np.maximum(column, kinds.index(kind), out=column)
    return found
