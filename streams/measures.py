"""Measures: the integer sums of one pane in, states of segments and partial sums of areas out. Pure.

The definitions are those of PeMS and GB/T 33171-2016: VKT = flow x length x time, VHT = VKT / speed, delay =
max(0, VHT - VHT at free flow); areas add these up and derive their ratios from the totals (``streams.rollup``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from citybrain.indices import congestion_level, delay_time_proportion, ratio, travel_time_index
from citybrain.network import AREA_LEVELS, FloatArray, IntArray, Network
from citybrain.records import AreaPartials, ByteArray, LongArray, Quality, SegmentStates, Status
from citybrain.units import (
    MS_PER_H,
    MS_PER_S,
    OCCUPANCY_S_SCALE,
    PACE_S_SCALE,
    S_PER_H,
    VEH_H_PER_KM_SCALE,
    VEH_SCALE,
    VHT_SCALE,
    VKT_SCALE,
)
from streams.sums import Field

IndexArray = npt.NDArray[np.intp]

VEHICLES_SCALE = 10**6
MM_PER_KM = 10**6
LEVELS = range(6)


@dataclass(frozen=True, slots=True)
class Roads:
    """What the measures need to know of the segments of one partition; arrays have shape (segments of it,).

    Attributes
    ----------
    network, partition
        Version of the network, and the partition.
    segment
        Segment index, ascending.
    length_km, length_mm, lanes, free_flow_kmh
        As in the network.
    expected_lane_ms
        Lanes of the segment's detectors: what full coverage is, each ms. Cameras count only where there is nothing
        else, since they measure journeys, not every vehicle.
    areas
        Rows of the areas it touches, ascending, shape (a,).
    order, starts
        Areas add up ``values[order]`` from ``starts`` on: segments by area, one level after the other.
    area_of_order
        Position in ``areas`` of each of ``order``.
    level_breaks
        Speed ratios that end levels 1..4.
    """

    network: str
    partition: int
    segment: IntArray
    length_km: FloatArray
    length_mm: LongArray
    lanes: FloatArray
    free_flow_kmh: FloatArray
    expected_lanes: FloatArray
    areas: IntArray
    order: IndexArray
    starts: IndexArray
    area_of_order: IndexArray
    level_breaks: tuple[float, ...]

    @classmethod
    def of(cls, network: Network, partition: int, level_breaks: tuple[float, ...]) -> Roads:
        """Return the roads of one partition."""
        segment, table = network.segments_of(partition), network.segments
        area = np.concatenate([np.zeros_like(segment), table.district[segment], table.street[segment]])
        # An area may stand for two levels of a small city: a segment counts in it once.
        member = np.tile(np.arange(len(segment)), len(AREA_LEVELS))
        pairs = np.unique(np.stack([area, member])[:, area >= 0], axis=1)
        areas, starts, area_of_order = np.unique(pairs[0], return_index=True, return_inverse=True)
        return cls(
            network.version,
            partition,
            segment,
            table.length_km[segment],
            np.rint(table.length_km[segment] * MM_PER_KM).astype(np.int64),
            table.lanes[segment].astype(np.float64),
            table.free_flow_kmh[segment],
            _expected_lanes(network)[segment],
            areas.astype(np.int32),
            pairs[1],
            starts,
            area_of_order,
            level_breaks,
        )


def length_by_area_mm(network: Network) -> LongArray:
    """Return the length of the segments of every area, mm, shape (areas,)."""
    length = np.zeros(len(network.areas), dtype=np.int64)
    for partition in range(network.partitions):
        roads = Roads.of(network, partition, ())
        length[roads.areas] += np.add.reduceat(roads.length_mm[roads.order], roads.starts)
    return length


def _expected_lanes(network: Network) -> FloatArray:
    detectors, n = network.detectors, len(network.segments)
    camera = detectors.kind == "camera"
    counting = np.bincount(detectors.segment[~camera], weights=detectors.lanes[~camera], minlength=n)
    cameras = np.bincount(detectors.segment[camera], weights=detectors.lanes[camera], minlength=n)
    return np.where(counting > 0, counting, cameras)


@dataclass(frozen=True, slots=True)
class Edition:
    """Which edition of a pane's result: see `citybrain.records.SegmentStates`."""

    pane: int
    pane_ms: int
    version: int
    revision: int
    status: Status


def segment_states(sums: LongArray, told: ByteArray, roads: Roads, edition: Edition) -> SegmentStates:
    """Return the state of the partition's segments.

    Parameters
    ----------
    sums
        Sums of the pane, shape (fields, segments of the partition).
    told
        Worst quality that a source told, shape (segments of the partition,).
    roads, edition
        The partition; which edition it is.
    """
    of = sums.astype(np.float64)
    hours = edition.pane_ms / MS_PER_H
    vehicles_per_lane_h = ratio(of[Field.VEHICLES] / VEH_SCALE, of[Field.FLOW_LANE_MS] / MS_PER_H)
    flow = vehicles_per_lane_h * roads.lanes
    speed = _speed(of)
    occupancy = ratio(of[Field.OCCUPANCY] / OCCUPANCY_S_SCALE, of[Field.OCCUPANCY_LANE_MS] / MS_PER_S)
    empty = flow == 0
    density = np.where(empty, 0.0, flow / speed)
    vkt = np.where(empty | ~np.isnan(speed), flow * roads.length_km * hours, np.nan)
    vht = np.where(empty, 0.0, vkt / speed)
    free = vkt / roads.free_flow_kmh
    tti = travel_time_index(speed, roads.free_flow_kmh)
    level = congestion_level(speed, roads.free_flow_kmh, roads.level_breaks)
    # Nobody there, nobody delayed: free, though without a speed.
    level[empty & (level == 0)] = 1
    expected = roads.expected_lanes * edition.pane_ms
    observed = of[Field.OBSERVED_LANE_MS]
    quality = np.maximum(told, np.where(empty & np.isnan(speed), Quality.NO_VEHICLE, Quality.OK).astype(np.uint8))
    quality[observed == 0] = Quality.MISSING
    return SegmentStates(
        network=roads.network,
        partition=roads.partition,
        pane_start_ms=edition.pane * edition.pane_ms,
        pane_ms=edition.pane_ms,
        version=edition.version,
        revision=edition.revision,
        status=edition.status,
        segment=roads.segment,
        flow_vph=flow,
        speed_kmh=speed,
        occupancy=occupancy,
        density_veh_km=density,
        travel_time_s=roads.length_km / speed * S_PER_H,
        tti=tti,
        dtp=delay_time_proportion(tti),
        vkt_veh_km=vkt,
        vht_veh_h=vht,
        vht_free_flow_veh_h=free,
        delay_veh_h=np.maximum(0.0, vht - free),
        vehicles=density * roads.length_km,
        coverage=np.minimum(1.0, np.divide(observed, expected, out=np.zeros_like(observed), where=expected > 0)),
        level=level,
        quality=quality,
    )


def _speed(of: FloatArray) -> FloatArray:
    """Return the space-mean speed: of the counted vehicles, else of the time in which a speed was measured."""
    with_speed = of[Field.VEHICLES_WITH_SPEED]
    of_vehicles = ratio(with_speed / VEH_SCALE, of[Field.PACE_OF_VEHICLES] / VEH_H_PER_KM_SCALE)
    of_time = ratio(of[Field.SPEED_LANE_MS] / MS_PER_S, of[Field.PACE_OF_TIME] / PACE_S_SCALE)
    return np.where(with_speed > 0, of_vehicles, of_time)


def area_partials(states: SegmentStates, roads: Roads) -> AreaPartials:
    """Return what the partition contributes to the areas it touches, as integers."""
    values = np.stack(
        [
            _whole(states.vkt_veh_km, VKT_SCALE),
            _whole(states.vht_veh_h, VHT_SCALE),
            _whole(states.vht_free_flow_veh_h, VHT_SCALE),
            _whole(states.delay_veh_h, VHT_SCALE),
            _whole(states.vehicles, VEHICLES_SCALE),
            roads.length_mm,
            _whole(states.coverage, roads.length_mm),
        ]
    )
    sums = np.add.reduceat(values[:, roads.order], roads.starts, axis=1)
    names = ("vkt", "vht", "vht_free_flow", "delay", "vehicles", "length_mm", "observed_mm")
    columns = dict(zip(names, sums, strict=True))
    # Lengths are far below 2**53 mm: bincount's floats are exact.
    by_level = np.bincount(
        roads.area_of_order * len(LEVELS) + states.level[roads.order],
        weights=roads.length_mm[roads.order],
        minlength=len(roads.areas) * len(LEVELS),
    ).reshape(-1, len(LEVELS))
    levels = {f"level{at}_mm": np.ascontiguousarray(by_level[:, at]).astype(np.int64) for at in LEVELS}
    return AreaPartials(
        network=states.network,
        partition=states.partition,
        pane_start_ms=states.pane_start_ms,
        pane_ms=states.pane_ms,
        version=states.version,
        revision=states.revision,
        status=states.status,
        area=roads.areas,
        **columns,
        **levels,
    )


def _whole(values: FloatArray, scale: int | LongArray) -> LongArray:
    return np.rint(np.where(np.isnan(values), 0.0, values) * scale).astype(np.int64)
