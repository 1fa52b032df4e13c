"""Sums of segments over longer bins: states in, sums out; sums in, means out. Pure; the same for every store.

Means over longer bins are recomputed from sums: speed is VKT / VHT, never a mean of speeds (only where no flow is
known, the length over the mean travel time).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from citybrain.indices import (
    GBT_33171_LEVEL_BREAKS,
    congestion_level,
    delay_time_proportion,
    ratio,
    travel_time_index,
)
from citybrain.network import FloatArray, IntArray, Network
from citybrain.records import LongArray
from citybrain.units import MS_PER_H, S_PER_H
from infra.stores.packing import Columns

SUMS = (
    "panes",
    "flow_panes",
    "flow_vph",
    "speed_panes",
    "pace_h_per_km",
    "occupancy_panes",
    "occupancy",
    "coverage",
    "timed_panes",
    "vkt_veh_km",
    "vht_veh_h",
    "delay_veh_h",
)
"""Columns that add up. ``_panes`` count the panes in which the value next to it was known; timed: VKT and VHT."""


def sums_of_states(rows: Columns, time_start_ms: LongArray, bin_ms: int) -> pd.DataFrame:
    """Return the sums by bin and segment.

    Parameters
    ----------
    rows
        Columns of `citybrain.records.SegmentStates`, one row a segment and pane.
    time_start_ms
        Start of each row's pane, ms UTC.
    bin_ms
        Length of the bins; they start at multiples of it.
    """
    speed, vkt = rows["speed_kmh"], rows["vkt_veh_km"]
    moving = speed > 0
    parts = {
        "panes": np.ones(len(speed)),
        "flow_panes": ~np.isnan(rows["flow_vph"]),
        "flow_vph": rows["flow_vph"],
        "speed_panes": moving,
        "pace_h_per_km": np.divide(1.0, speed, out=np.zeros(len(speed)), where=moving),
        "occupancy_panes": ~np.isnan(rows["occupancy"]),
        "occupancy": rows["occupancy"],
        "coverage": rows["coverage"],
        "timed_panes": ~np.isnan(vkt),
        "vkt_veh_km": vkt,
        "vht_veh_h": rows["vht_veh_h"],
        "delay_veh_h": rows["delay_veh_h"],
    }
    frame = pd.DataFrame({name: np.nan_to_num(np.asarray(part, dtype=np.float64)) for name, part in parts.items()})
    frame["quality"] = rows["quality"]
    frame.insert(0, "segment", rows["segment"])
    frame.insert(0, "time_start_ms", time_start_ms // bin_ms * bin_ms)
    return added(frame)


def added(sums: pd.DataFrame) -> pd.DataFrame:
    """Return one row a bin and segment, by bin, segment."""
    how = dict.fromkeys(SUMS, "sum") | {"quality": "max"}
    return sums.groupby(["time_start_ms", "segment"], as_index=False, sort=True).agg(how)


def means(
    sums: pd.DataFrame, network: Network, pane_ms: int, level_breaks: Sequence[float] = GBT_33171_LEVEL_BREAKS
) -> pd.DataFrame:
    """Return the columns of `citybrain.records.SegmentStates` by bin and segment; missing is NaN."""
    segment: IntArray = sums["segment"].to_numpy(dtype=np.int32)
    of: dict[str, FloatArray] = {name: sums[name].to_numpy(dtype=np.float64) for name in SUMS}
    length_km, free_flow_kmh = network.segments.length_km[segment], network.segments.free_flow_kmh[segment]
    timed = of["timed_panes"] > 0
    vkt, vht, delay = (np.where(timed, of[name], np.nan) for name in ("vkt_veh_km", "vht_veh_h", "delay_veh_h"))
    speed = np.where(vht > 0, ratio(vkt, vht), ratio(of["speed_panes"], of["pace_h_per_km"]))
    vehicles = ratio(of["vht_veh_h"], of["timed_panes"] * (pane_ms / MS_PER_H))
    tti = travel_time_index(speed, free_flow_kmh)
    level = congestion_level(speed, free_flow_kmh, level_breaks)
    level[(of["flow_panes"] > 0) & (of["flow_vph"] == 0) & (level == 0)] = 1  # nobody there: free
    return pd.DataFrame(
        {
            "time_start_ms": sums["time_start_ms"].to_numpy(dtype=np.int64),
            "segment": segment,
            "flow_vph": ratio(of["flow_vph"], of["flow_panes"]),
            "speed_kmh": speed,
            "occupancy": ratio(of["occupancy"], of["occupancy_panes"]),
            "density_veh_km": vehicles / length_km,
            "travel_time_s": length_km / speed * S_PER_H,
            "tti": tti,
            "dtp": delay_time_proportion(tti),
            "vkt_veh_km": vkt,
            "vht_veh_h": vht,
            "vht_free_flow_veh_h": vkt / free_flow_kmh,
            "delay_veh_h": delay,
            "vehicles": vehicles,
            "coverage": ratio(of["coverage"], of["panes"]),
            "level": level,
            "quality": sums["quality"].to_numpy(dtype=np.uint8),
        }
    )
