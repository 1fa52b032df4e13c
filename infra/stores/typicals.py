"""What is usual: sums in, mean and deviation between days by type of day out. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
import pyarrow as pa

from citybrain.indices import delay_time_proportion, ratio, traffic_performance_index
from citybrain.network import FloatArray
from citybrain.typical import AREA_METRICS, BINS, DAY_TYPES, day_type_and_bin
from citybrain.units import MS_PER_H

QUARTER_MS = 900_000


def quarters(from_ms: int, to_ms: int, timezone: str) -> dict[int, int]:
    """Return for each quarter of an hour (since 1970) in the interval its cell, ``day_type * 96 + bin``, by civil time.

    Examples
    --------
    >>> quarters(0, 1_800_000, "Europe/Lisbon")  # Thursday 01:00 and 01:15
    {0: 4, 1: 5}
    """
    found = {}
    for quarter in range(from_ms // QUARTER_MS, -(-to_ms // QUARTER_MS)):
        day_type, place = day_type_and_bin(quarter * QUARTER_MS, timezone)
        found[quarter] = day_type * BINS + int(place)
    return found


@dataclass(slots=True)
class _Moments:
    """Count, mean and squared deviations of one quantity, one day after the other (Welford), shape (cells, items)."""

    n: FloatArray
    mean: FloatArray
    squares: FloatArray

    @classmethod
    def empty(cls, items: int) -> _Moments:
        return cls(*(np.zeros((len(DAY_TYPES) * BINS, items)) for _ in range(3)))

    def add(self, cell: int, value: FloatArray) -> None:
        """Add one value an item to a cell; NaN is no observation."""
        known = ~np.isnan(value)
        self.n[cell] += known
        step = np.where(known, value - self.mean[cell], 0.0)
        self.mean[cell] += step / np.maximum(self.n[cell], 1)
        self.squares[cell] += np.where(known, step * (value - self.mean[cell]), 0.0)

    def means(self) -> FloatArray:
        """Return the means, NaN where nothing was seen."""
        return np.where(self.n > 0, self.mean, np.nan)

    def deviations(self) -> FloatArray:
        """Return the standard deviations between days, NaN where less than two were seen."""
        return cast(FloatArray, np.sqrt(ratio(self.squares, np.maximum(self.n - 1, 0))))


class SegmentWeek:
    """Gathers the usual speed and flow of segments, quarter after quarter."""

    SUMS = ("flow_panes", "flow_vph", "speed_panes", "pace_h_per_km", "vkt_veh_km", "vht_veh_h")
    """Columns of `infra.stores.sums` that it needs."""

    def __init__(self, segments: int) -> None:
        self._segments = segments
        self._speed, self._flow = _Moments.empty(segments), _Moments.empty(segments)

    def add(self, sums: pa.Table, cell_of: dict[int, int]) -> None:
        """Add sums by ``time_start_ms`` and ``segment``, of whole quarters of an hour: see `quarters`."""
        for cell, of in _by_quarter(sums, "segment", self._segments, self.SUMS, cell_of):
            timed = ratio(of["vkt_veh_km"], of["vht_veh_h"])
            self._speed.add(cell, np.where(np.isnan(timed), ratio(of["speed_panes"], of["pace_h_per_km"]), timed))
            self._flow.add(cell, ratio(of["flow_vph"], of["flow_panes"]))

    def frame(self) -> pd.DataFrame:
        """Return segment, day_type, bin, n (days with a speed or a flow), speed_kmh, speed_sd_kmh, flow_vph."""
        columns = {
            "n": np.maximum(self._speed.n, self._flow.n),
            "speed_kmh": self._speed.means(),
            "speed_sd_kmh": self._speed.deviations(),
            "flow_vph": self._flow.means(),
        }
        return _frame("segment", columns)


class AreaWeek:
    """Gathers the usual indices of areas, quarter after quarter."""

    SUMS = (
        *("panes", "vkt_veh_km", "vht_veh_h", "vht_free_flow_veh_h", "delay_veh_h", "vehicles"),
        *("level3_km", "level4_km", "level5_km"),
    )
    """Columns of `citybrain.records.AreaIndices` that it needs, and ``panes``, which is 1 in each."""

    def __init__(self, areas: int, pane_ms: int) -> None:
        self._areas, self._pane_h = areas, pane_ms / MS_PER_H
        self._of = {name: _Moments.empty(areas) for name in AREA_METRICS}

    def add(self, panes: pa.Table, cell_of: dict[int, int]) -> None:
        """Add panes by ``time_start_ms`` and ``area``, of whole quarters of an hour: see `quarters`."""
        for cell, of in _by_quarter(panes, "area", self._areas, self.SUMS, cell_of):
            tti = np.maximum(1.0, ratio(of["vht_veh_h"], of["vht_free_flow_veh_h"]))
            congested_km = of["level3_km"] + of["level4_km"] + of["level5_km"]
            self._of["tpi"].add(cell, traffic_performance_index(delay_time_proportion(tti)))
            self._of["delay_veh_h_per_h"].add(cell, ratio(of["delay_veh_h"], of["panes"] * self._pane_h))
            self._of["speed_kmh"].add(cell, ratio(of["vkt_veh_km"], of["vht_veh_h"]))
            self._of["vehicles"].add(cell, ratio(of["vehicles"], of["panes"]))
            self._of["congested_km"].add(cell, ratio(congested_km, of["panes"]))

    def frame(self) -> pd.DataFrame:
        """Return area, day_type, bin, n and of each metric its mean and ``_sd``."""
        columns = {"n": np.maximum.reduce([moments.n for moments in self._of.values()])}
        for name, moments in self._of.items():
            columns |= {name: moments.means(), f"{name}_sd": moments.deviations()}
        return _frame("area", columns)


def _by_quarter(
    rows: pa.Table, index: str, items: int, names: Sequence[str], cell_of: dict[int, int]
) -> Iterator[tuple[int, dict[str, FloatArray]]]:
    """Add up the rows by quarter of an hour and item; a sum of nothing is 0."""
    if not rows.num_rows:
        return
    first = min(cell_of)
    quarter = rows.column("time_start_ms").to_numpy() // QUARTER_MS - first
    code = quarter * items + rows.column(index).to_numpy()
    shape = len(cell_of), items
    total = {
        name: np.bincount(code, np.nan_to_num(rows.column(name).to_numpy()), shape[0] * shape[1]).reshape(shape)
        for name in names
    }
    for at in np.unique(quarter).tolist():
        yield cell_of[first + at], {name: values[at] for name, values in total.items()}


def _frame(index: str, columns: dict[str, FloatArray]) -> pd.DataFrame:
    cell, item = np.nonzero(columns["n"])
    keys = {index: item.astype(np.int32), "day_type": cell // BINS, "bin": cell % BINS}
    frame = pd.DataFrame(keys | {name: values[cell, item] for name, values in columns.items()})
    return frame.sort_values([index, "day_type", "bin"]).reset_index(drop=True)
