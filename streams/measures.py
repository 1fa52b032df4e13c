"""Measures: the integer sums of one pane in, states of segments and partial sums of areas out. Pure.

The definitions are those of PeMS and GB/T 33171-2016: VKT = flow x length x time, VHT = VKT / speed, delay =
max(0, VHT - VHT at free flow); areas add these up and derive their ratios from the totals (``streams.rollup``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from citybrain.indices import congestion_level, delay_time_proportion, ratio, travel_time_index
from citybrain.network import AREA_LEVELS, JOURNEY_KINDS, FloatArray, IntArray, Network
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
ROUNDING = 1e-6
"""What rounding may take from a mean of speeds that are all at the floor, and more: such a mean is left as it is."""
LEVELS = range(6)
SUMS = ("vkt", "vht", "vht_free_flow", "delay", "vehicles", "observed_mm", "length_mm")
"""What an area adds up, in the order in which it is measured here."""


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
        Lanes of the segment's detectors: what full coverage is, each ms. Cameras and probes count only where there is
        nothing else, since they measure journeys, not every vehicle.
    areas
        Rows of the areas it touches, ascending, shape (a,).
    order, starts
        Areas add up ``values[order]`` from ``starts`` on: segments by area, one level after the other.
    level_of_order
        Place of level 0 of the area of each of ``order``, among the levels of all areas.
    length_of_order_mm
        Length of the segment of each of ``order``.
    scales
        What makes a whole number of each of `SUMS` but the last, shape (6, segments).
    level_breaks, floor_kmh
        Speed ratios that end levels 1..4; the least speed that is told.
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
    level_of_order: IndexArray
    length_of_order_mm: FloatArray
    scales: FloatArray
    level_breaks: tuple[float, ...]
    floor_kmh: float

    @classmethod
    def of(cls, network: Network, partition: int, level_breaks: tuple[float, ...], floor_kmh: float = 0.0) -> Roads:
        """Return the roads of one partition."""
        segment, table = network.segments_of(partition), network.segments
        area = np.concatenate([np.zeros_like(segment), table.district[segment], table.street[segment]])
        # An area may stand for two levels of a small city: a segment counts in it once.
        member = np.tile(np.arange(len(segment)), len(AREA_LEVELS))
        pairs = np.unique(np.stack([area, member])[:, area >= 0], axis=1)
        areas, starts, area_of_order = np.unique(pairs[0], return_index=True, return_inverse=True)
        length_mm = np.rint(table.length_km[segment] * MM_PER_KM).astype(np.int64)
        scales = np.array([VKT_SCALE, VHT_SCALE, VHT_SCALE, VHT_SCALE, VEHICLES_SCALE, 1], dtype=np.float64)
        return cls(
            network.version,
            partition,
            segment,
            table.length_km[segment],
            length_mm,
            table.lanes[segment].astype(np.float64),
            table.free_flow_kmh[segment],
            _expected_lanes(network)[segment],
            areas.astype(np.int32),
            pairs[1],
            starts,
            area_of_order * len(LEVELS),
            length_mm[pairs[1]].astype(np.float64),
            scales[:, None] * np.where(np.arange(6)[:, None] == 5, length_mm, 1),
            level_breaks,
            floor_kmh,
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
    journey = np.isin(detectors.kind, JOURNEY_KINDS)
    counting = np.bincount(detectors.segment[~journey], weights=detectors.lanes[~journey], minlength=n)
    journeys = np.bincount(detectors.segment[journey], weights=detectors.lanes[journey], minlength=n)
    return np.where(counting > 0, counting, journeys)


@dataclass(frozen=True, slots=True)
class Edition:
    """Which edition of a pane's result: see `citybrain.records.SegmentStates`."""

    pane: int
    pane_ms: int
    version: int
    revision: int
    status: Status


_UNITS = np.array(
    [
        {
            Field.OBSERVED_LANE_MS: 1,
            Field.FLOW_LANE_MS: MS_PER_H,
            Field.VEHICLES: VEH_SCALE,
            Field.VEHICLES_WITH_SPEED: VEH_SCALE,
            Field.PACE_OF_VEHICLES: VEH_H_PER_KM_SCALE,
            Field.SPEED_LANE_MS: MS_PER_S,
            Field.PACE_OF_TIME: PACE_S_SCALE,
            Field.OCCUPANCY_LANE_MS: MS_PER_S,
            Field.OCCUPANCY: OCCUPANCY_S_SCALE,
        }[field]
        for field in Field
    ],
    dtype=np.float64,
)[:, None]
"""What each sum is divided by: hours for lanes that are counted in, else seconds, vehicles, and so on."""
_MEASURED = np.array([Field.VEHICLES, Field.VEHICLES_WITH_SPEED, Field.SPEED_LANE_MS, Field.OCCUPANCY])
_OVER = np.array([Field.FLOW_LANE_MS, Field.PACE_OF_VEHICLES, Field.PACE_OF_TIME, Field.OCCUPANCY_LANE_MS])
"""Flow a lane, speed of vehicles, speed of time and occupancy are quotients of these."""


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
    of = sums / _UNITS
    hours = edition.pane_ms / MS_PER_H
    per_lane, of_vehicles, of_time, occupancy = _ratio(of.take(_MEASURED, axis=0), of.take(_OVER, axis=0))
    flow = per_lane * roads.lanes
    # Of the counted vehicles the space-mean speed, else that of the time in which a speed was measured.
    with_speed = of[Field.VEHICLES_WITH_SPEED]
    whole = np.count_nonzero(with_speed) == len(with_speed)
    speed = of_vehicles if whole else np.where(with_speed > 0, of_vehicles, of_time)
    empty = flow == 0
    density, vkt = flow / speed, flow * roads.length_km * hours
    stood = of_vehicles < (1.0 - ROUNDING) * roads.floor_kmh
    queues = bool(np.count_nonzero(stood))
    if queues:
        # Slower than any vehicle was measured: some stood while nobody passed. As many as stand lose their time; only
        # the speed is told no lower than the floor.
        alone = _ratio(of[Field.PACE_OF_VEHICLES], of[Field.FLOW_LANE_MS]) * roads.lanes
        density = np.where(stood, np.where(with_speed > 0, ratio(flow, of_vehicles), alone), density)
        speed = np.where(stood & ~(speed >= roads.floor_kmh), roads.floor_kmh, speed)
        empty &= ~stood
    level = congestion_level(speed, roads.free_flow_kmh, roads.level_breaks)
    observed = of[Field.OBSERVED_LANE_MS]
    quality = told.copy()
    if np.count_nonzero(empty):
        # Nobody there, nobody delayed: free, though without a speed.
        density[empty] = 0.0
        level[empty & (level == 0)] = 1
        quality = np.maximum(
            quality, np.where(empty & np.isnan(speed), Quality.NO_VEHICLE, Quality.OK).astype(np.uint8)
        )
    vkt[np.isnan(speed) & ~empty] = np.nan
    vht = vkt / speed
    vht[empty] = 0.0
    if queues:
        vht[stood] = (density * roads.length_km * hours)[stood]
    free = vkt / roads.free_flow_kmh
    tti = travel_time_index(speed, roads.free_flow_kmh)
    quality[observed == 0] = Quality.MISSING
    expected = roads.expected_lanes * edition.pane_ms
    coverage = np.divide(observed, expected, out=np.zeros_like(observed), where=expected > 0)
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
        coverage=np.minimum(1.0, coverage),
        level=level,
        quality=quality,
    )


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Return quotients of sums, NaN where the denominator is 0; most often it is nowhere."""
    if np.count_nonzero(denominator) == denominator.size:
        return numerator / denominator
    return ratio(numerator, denominator)


def area_partials(states: SegmentStates, roads: Roads) -> AreaPartials:
    """Return what the partition contributes to the areas it touches, as integers."""
    measured = np.array(
        [
            states.vkt_veh_km,
            states.vht_veh_h,
            states.vht_free_flow_veh_h,
            states.delay_veh_h,
            states.vehicles,
            states.coverage,
        ]
    )
    measured *= roads.scales
    np.rint(measured, out=measured)
    np.copyto(measured, 0.0, where=np.isnan(measured))
    values = np.empty((len(SUMS), len(roads.segment)), dtype=np.int64)
    values[:-1] = measured
    values[-1] = roads.length_mm
    sums = np.add.reduceat(values.take(roads.order, axis=1), roads.starts, axis=1)
    # Lengths are far below 2**53 mm: bincount's floats are exact.
    by_level = np.bincount(
        roads.level_of_order + states.level.take(roads.order),
        weights=roads.length_of_order_mm,
        minlength=len(roads.areas) * len(LEVELS),
    )
    levels = by_level.reshape(-1, len(LEVELS)).T.astype(np.int64, order="C")
    return AreaPartials(
        network=states.network,
        partition=states.partition,
        pane_start_ms=states.pane_start_ms,
        pane_ms=states.pane_ms,
        version=states.version,
        revision=states.revision,
        status=states.status,
        area=roads.areas,
        **dict(zip(SUMS, sums, strict=True)),
        **{f"level{at}_mm": levels[at] for at in LEVELS},
    )
