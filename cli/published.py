"""What a platform published of a run, out of a folder or a store (`cli.recomputed` is the third way).

All give the same: panes of all segments, an hour at a time and in order, and at the end the areas, the steps of
alerts and how late panes were closed, as far as there is any of it. A folder or a store may hold a part of the run: it
is judged from its first pane to its last, and what is missing between them counts as not published.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from citybrain.errors import ConfigError
from citybrain.messages import AlertEvent
from citybrain.network import Network
from citybrain.units import MS_PER_H
from infra.stores.protocol import Store
from simulators.judgement.areas import AreaSeries
from simulators.judgement.health import Spell
from simulators.judgement.judge import ForecastsMade
from simulators.judgement.panes import Panes, empty_panes, within
from streams.results import AREAS_FILE, STATES_FILE

VALUES = ("speed_kmh", "flow_vph", "travel_time_s", "delay_veh_h", "vehicles", "coverage")
AREA_SUMS = ("vkt_veh_km", "vht_veh_h", "vht_free_flow_veh_h")
Hour = tuple[Panes, ForecastsMade | None]


class Published(Protocol):
    """What was published."""

    areas: AreaSeries | None
    steps: list[AlertEvent] | None
    close_after_s: npt.NDArray[np.float64] | None
    verdicts: list[Spell] | None
    """What was said of detectors."""

    def hours(self) -> Iterator[Hour]:
        """Yield the hours of the run in order; the rest is known once they have been taken."""
        ...


class Folder:
    """Results as `citybrain recompute` and ``replay --out`` write them; they hold no alerts.

    Parameters
    ----------
    folder
        Where they are.
    network, pane_ms, span_ms, area_rows
        As in `Recomputed`.
    """

    def __init__(
        self, folder: Path, network: Network, pane_ms: int, span_ms: tuple[int, int], area_rows: npt.NDArray[np.int64]
    ) -> None:
        if not (folder / STATES_FILE).exists():
            raise ConfigError(f"{folder}: no {STATES_FILE} seen, results of `citybrain recompute` or `replay` needed")
        self._folder, self._network, self._pane_ms, self._span = folder, network, pane_ms, span_ms
        starts = pq.read_table(folder / STATES_FILE, columns=["time_start"]).column(0)
        self._held = _held(starts.to_pandas().astype("datetime64[ms, UTC]").astype("int64"), pane_ms)
        self.areas = self._series(area_rows)
        self.steps: list[AlertEvent] | None = None
        self.close_after_s: npt.NDArray[np.float64] | None = None
        self.verdicts: list[Spell] | None = None

    def hours(self) -> Iterator[Hour]:
        """Yield the hours of the run in order."""
        row = {str(name): at for at, name in enumerate(self._network.segments.id)}
        parts = self._parts(row)
        part = next(parts, None)
        for start_ms in range(*self._span, MS_PER_H):
            hour = empty_panes(start_ms, self._pane_ms, MS_PER_H // self._pane_ms, len(self._network.segments))
            while part is not None and part["start_ms"].iloc[0] < hour.end_ms:
                inside = part[(part.start_ms >= start_ms) & (part.start_ms < hour.end_ms)]
                fill(hour, inside)
                if part["start_ms"].iloc[-1] >= hour.end_ms:
                    break
                part = next(parts, None)
            yield within(hour, *self._held), None

    def _parts(self, row: dict[str, int]) -> Iterator[pd.DataFrame]:
        file = pq.ParquetFile(self._folder / STATES_FILE)
        names = [name for name in ("time_start", "segment", *VALUES) if name in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=1 << 18, columns=names):
            frame = batch.to_pandas()
            frame["start_ms"] = frame.time_start.astype("datetime64[ms, UTC]").astype("int64")
            frame["segment"] = frame.segment.astype(str).map(row)
            if frame.segment.isna().any():
                raise ConfigError(f"{self._folder / STATES_FILE}: segments of another network seen")
            frame["segment"] = frame.segment.astype(np.int64)
            yield frame

    def _series(self, area_rows: npt.NDArray[np.int64]) -> AreaSeries | None:
        path = self._folder / AREAS_FILE
        if not path.exists():
            return None
        frame = pq.read_table(path, columns=["time_start", "area", *AREA_SUMS]).to_pandas()
        row = {str(name): at for at, name in enumerate(self._network.areas.id)}
        start_ms = frame.time_start.astype("datetime64[ms, UTC]").astype("int64")
        return _area_series(start_ms, frame.area.astype(str).map(row), frame, area_rows, self._span)


class Stored:
    """What a store holds of the live city or of a replay run.

    Parameters
    ----------
    store, run
        Where, and under which name; empty for the live city.
    network, pane_ms, span_ms, area_rows
        As in `Recomputed`.
    steps
        Steps of the run's alerts.
    """

    def __init__(
        self, store: Store, run: str, network: Network, pane_ms: int, span_ms: tuple[int, int],
        area_rows: npt.NDArray[np.int64], steps: list[AlertEvent] | None,
    ) -> None:  # fmt: skip
        if run and run not in store.runs():
            raise ConfigError(f"--run {run!r} seen, {', '.join(sorted(store.runs())) or 'no run'} in the store")
        self._store, self._run, self._network, self._pane_ms, self._span = store, run, network, pane_ms, span_ms
        frame = store.areas(*span_ms, run=run)
        self._held = _held(frame.time_start_ms, pane_ms)
        self.areas = _area_series(frame.time_start_ms, frame.area, frame, area_rows, span_ms) if len(frame) else None
        self.steps = steps
        self.close_after_s: npt.NDArray[np.float64] | None = None
        self.verdicts: list[Spell] | None = None

    def hours(self) -> Iterator[Hour]:
        """Yield the hours of the run in order."""
        for start_ms in range(*self._span, MS_PER_H):
            hour = empty_panes(start_ms, self._pane_ms, MS_PER_H // self._pane_ms, len(self._network.segments))
            frame = self._store.states(start_ms, hour.end_ms, run=self._run)
            fill(hour, frame.rename(columns={"time_start_ms": "start_ms"}))
            yield within(hour, *self._held), None


def _held(start_ms: pd.Series, pane_ms: int) -> tuple[int, int]:
    """Return from when to when there is something, half-open; nothing of nothing."""
    return (int(start_ms.min()), int(start_ms.max()) + pane_ms) if len(start_ms) else (0, 0)


def fill(hour: Panes, frame: pd.DataFrame) -> None:
    """Put rows (start_ms, segment and values) into the panes of an hour."""
    at = ((frame.start_ms - hour.start_ms) // hour.pane_ms).to_numpy(dtype=np.int64)
    segment = frame.segment.to_numpy(dtype=np.int64)
    for name in VALUES:
        if name in frame:
            getattr(hour, name)[at, segment] = frame[name].to_numpy()
    if "vehicles" not in frame and "density_veh_km" in frame:
        raise ConfigError("results without a column `vehicles` seen, one needed")


def _area_series(
    start_ms: pd.Series, area: pd.Series, frame: pd.DataFrame, rows: npt.NDArray[np.int64], span: tuple[int, int]
) -> AreaSeries | None:
    place = {int(row): at for at, row in enumerate(rows)}
    column = area.map(place)
    kept = (column.notna() & (start_ms >= span[0]) & (start_ms < span[1])).to_numpy()
    if not kept.any():
        return None
    starts, at = np.unique(start_ms.to_numpy()[kept], return_inverse=True)
    place_of = column.to_numpy()[kept].astype(np.int64)
    sums = []
    for name in AREA_SUMS:
        values = np.full((len(starts), len(rows)), np.nan)
        values[at, place_of] = frame[name].to_numpy()[kept]
        sums.append(values)
    return AreaSeries(starts.astype(np.int64), *sums)
