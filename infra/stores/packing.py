"""Packing: result records in, the Arrow columns that a store keeps out, and back, bit for bit.

Most columns of a state follow from flow, speed and the road. What follows exactly is kept as null, which costs nothing
(measured: 15 instead of 110 bytes a row of 10,000 busy segments); what does not is kept as it is. So nothing is lost,
whatever formula the writer used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from citybrain.indices import delay_time_proportion, ratio, traffic_performance_index, travel_time_index
from citybrain.network import Network
from citybrain.records import AreaIndices, FloatArray, SegmentStates
from citybrain.units import MS_PER_H, S_PER_H

Columns = dict[str, npt.NDArray[Any]]
Predict = Callable[[Mapping[str, npt.NDArray[Any]]], dict[str, FloatArray]]


@dataclass(frozen=True, slots=True)
class Packing:
    """Which columns are kept, and how the others follow from them.

    Attributes
    ----------
    record
        The record that is kept; unpacked columns come in its order.
    index
        Name of the column that says which segment or area a row is of.
    kept, codes
        Floating-point columns and small whole numbers that are always kept.
    derived
        Columns that are kept only where they differ from ``predict``.
    predict
        Kept columns in, derived columns out.
    """

    record: type[SegmentStates | AreaIndices]
    index: str
    kept: tuple[str, ...]
    codes: tuple[str, ...]
    derived: tuple[str, ...]
    predict: Predict

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns, in the order in which they are stored."""
        return (self.index, *self.kept, *self.codes, *self.derived)

    def sql(self) -> str:
        """Return the columns with their types, for a CREATE TABLE."""
        types = {self.index: "INTEGER", **dict.fromkeys(self.codes, "UTINYINT")}
        return ", ".join(f"{name} {types.get(name, 'DOUBLE')}" for name in self.columns)

    def pack(self, records: Sequence[object]) -> dict[str, pa.Array]:
        """Return the rows of all records as Arrow columns."""
        given: Columns = {name: np.concatenate([getattr(record, name) for record in records]) for name in self.columns}
        expected = self.predict(given)
        packed: dict[str, pa.Array] = {self.index: pa.array(given[self.index])}
        packed |= {name: pa.array(given[name], from_pandas=True) for name in self.kept}
        packed |= {name: pa.array(given[name]) for name in self.codes}
        return packed | {name: _surprises(given[name], expected[name]) for name in self.derived}

    def unpack(self, table: pa.Table) -> Columns:
        """Return the columns of stored rows, in the record's order."""
        rows: Columns = {name: table.column(name).to_numpy() for name in (self.index, *self.kept, *self.codes)}
        expected = self.predict(rows)
        for name in self.derived:
            column = table.column(name)
            if column.null_count == len(column):
                rows[name] = expected[name]
            else:
                rows[name] = np.where(column.is_null().to_numpy(), expected[name], column.to_numpy())
        return {f.name: rows[f.name] for f in fields(self.record) if f.name in rows}


def _surprises(given: FloatArray, expected: FloatArray) -> pa.Array:
    """Null where the value is the expected one, the value (NaN too) where it is not."""
    same = (given == expected) | (np.isnan(given) & np.isnan(expected))
    return pa.nulls(len(given), pa.float64()) if same.all() else pa.array(given, mask=same)


def state_packing(network: Network, pane_ms: int) -> Packing:
    """Return how states of segments are kept; the formulas are those of the aggregate stage."""
    length, free_flow, hours = network.segments.length_km, network.segments.free_flow_kmh, pane_ms / MS_PER_H

    def predict(rows: Mapping[str, npt.NDArray[Any]]) -> dict[str, FloatArray]:
        flow, speed = rows["flow_vph"], rows["speed_kmh"]
        length_km, free_flow_kmh = length[rows["segment"]], free_flow[rows["segment"]]
        empty = flow == 0
        with np.errstate(divide="ignore", invalid="ignore"):
            density = np.where(empty, 0.0, flow / speed)
            vkt = np.where(empty | ~np.isnan(speed), flow * length_km * hours, np.nan)
            vht = np.where(empty, 0.0, vkt / speed)
            free = vkt / free_flow_kmh
            tti = travel_time_index(speed, free_flow_kmh)
            travel_time = length_km / speed * S_PER_H
        return {
            "density_veh_km": density,
            "travel_time_s": travel_time,
            "tti": tti,
            "dtp": delay_time_proportion(tti),
            "vkt_veh_km": vkt,
            "vht_veh_h": vht,
            "vht_free_flow_veh_h": free,
            "delay_veh_h": np.maximum(0.0, vht - free),
            "vehicles": density * length_km,
        }

    derived = ("density_veh_km", "travel_time_s", "tti", "dtp", "vkt_veh_km", "vht_veh_h", "vht_free_flow_veh_h")
    return Packing(
        SegmentStates,
        "segment",
        ("flow_vph", "speed_kmh", "occupancy", "coverage"),
        ("level", "quality"),
        (*derived, "delay_veh_h", "vehicles"),
        predict,
    )


def _predicted_areas(rows: Mapping[str, npt.NDArray[Any]]) -> dict[str, FloatArray]:
    tti = np.maximum(1.0, ratio(rows["vht_veh_h"], rows["vht_free_flow_veh_h"]))
    dtp = delay_time_proportion(tti)
    return {
        "speed_kmh": ratio(rows["vkt_veh_km"], rows["vht_veh_h"]),
        "tti": tti,
        "dtp": dtp,
        "tpi": traffic_performance_index(dtp),
        "congested_km": rows["level3_km"] + rows["level4_km"] + rows["level5_km"],
    }


AREAS = Packing(
    AreaIndices,
    "area",
    (
        *("vkt_veh_km", "vht_veh_h", "vht_free_flow_veh_h", "delay_veh_h", "vehicles", "coverage", "length_km"),
        *(f"level{at}_km" for at in range(6)),
    ),
    (),
    ("speed_kmh", "tti", "dtp", "tpi", "congested_km"),
    _predicted_areas,
)
