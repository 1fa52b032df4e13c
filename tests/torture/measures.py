"""Measures of the reference: its whole sums in, the rows that a store must hold of segments and of areas out.

The definitions are those of PeMS and GB/T 33171-2016 (docs/architecture.md): flow over the lanes, space-mean speed,
VKT = flow x length x time, VHT = VKT / speed, delay against free flow; areas add up whole numbers and derive the rest.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

from citybrain.network import Network
from citybrain.settings import CitySettings
from tests.torture.reference import HOUR_MS, NAN, Expected, Place, Sums

VKT, VHT, VEHICLES, MM = 10**9, 10**12, 10**6, 10**6
NO_VEHICLE, MISSING = 1, 2
TPI_AT = ((0.0, 0.0), (0.3, 2.0), (0.5, 4.0), (0.6, 6.0), (0.7, 8.0), (1.0, 10.0))
"""GB/T 33171, appendix C: DTP and the index there, straight lines in between."""

State = dict[str, float]


def states_of(expected: Expected, network: Network, city: CitySettings) -> dict[Place, State]:
    """Return by (segment, pane start) the row that the store must hold; also where nothing was observed."""
    found: dict[Place, State] = {}
    lanes = [0] * len(network.segments)
    for segment, covered in zip(network.detectors.segment.tolist(), network.detectors.lanes.tolist(), strict=True):
        lanes[segment] += covered
    for partition, (first_ms, last_ms) in expected.panes.items():
        for segment in network.segments_of(partition).tolist():
            for pane_ms in range(first_ms, last_ms + 1, city.time.pane_ms):
                sums = expected.sums.get((segment, pane_ms), Sums())
                found[segment, pane_ms] = _state(sums, segment, lanes[segment], network, city)
    return found


def _state(sums: Sums, segment: int, detector_lanes: int, network: Network, city: CitySettings) -> State:
    table, pane_ms = network.segments, city.time.pane_ms
    length_km, free_kmh = float(table.length_km[segment]), float(table.free_flow_kmh[segment])
    lane_flow = _quotient(sums.vehicles / 10**9, sums.flow / HOUR_MS)
    flow = lane_flow * float(table.lanes[segment])
    if sums.vehicles_with_speed > 0:
        speed = _quotient(sums.vehicles_with_speed / 10**9, sums.pace_of_vehicles / 10**11)
    else:
        speed = _quotient(sums.speed / 1000, sums.pace_of_time / 10**9)
    empty, known = flow == 0, not math.isnan(speed)
    density = 0.0 if empty else flow / speed
    vkt = flow * length_km * (pane_ms / HOUR_MS) if empty or known else NAN
    vht = 0.0 if empty else vkt / speed
    free = vkt / free_kmh
    tti = max(1.0, free_kmh / speed) if known else NAN
    level = _level(speed, free_kmh, city) if known else 0
    quality = max(sums.quality, NO_VEHICLE if empty and not known else 0)
    return {
        "flow_vph": flow,
        "speed_kmh": speed,
        "occupancy": _quotient(sums.occupancy / 10**9, sums.occupied / 1000),
        "density_veh_km": density,
        "travel_time_s": length_km / speed * 3600 if known else NAN,
        "tti": tti,
        "dtp": 1.0 - 1.0 / tti,
        "vkt_veh_km": vkt,
        "vht_veh_h": vht,
        "vht_free_flow_veh_h": free,
        "delay_veh_h": NAN if math.isnan(vht - free) else max(0.0, vht - free),
        "vehicles": density * length_km,
        "coverage": min(1.0, sums.observed / (detector_lanes * pane_ms)) if detector_lanes else 0.0,
        "level": 1 if empty and level == 0 else level,
        "quality": quality if sums.observed else MISSING,
    }


def _quotient(a: float, b: float) -> float:
    return a / b if b > 0 else NAN


def _level(speed: float, free_kmh: float, city: CitySettings) -> int:
    return 1 + sum(round(speed / free_kmh, 9) <= limit for limit in city.thresholds.level_breaks)


def areas_of(states: dict[Place, State], network: Network) -> dict[Place, State]:
    """Return by (area, pane start) the row that the store must hold."""
    table = network.segments
    total: dict[Place, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    length_mm = [round(float(km) * MM) for km in table.length_km]
    lengths: dict[int, int] = defaultdict(int)
    belongs = [sorted({0, int(table.district[s]), int(table.street[s])} - {-1}) for s in range(len(table))]
    for segment, areas in enumerate(belongs):
        for area in areas:
            lengths[area] += length_mm[segment]
    for (segment, pane_ms), state in states.items():
        share = {
            "vkt": _whole(state["vkt_veh_km"], VKT),
            "vht": _whole(state["vht_veh_h"], VHT),
            "free": _whole(state["vht_free_flow_veh_h"], VHT),
            "delay": _whole(state["delay_veh_h"], VHT),
            "vehicles": _whole(state["vehicles"], VEHICLES),
            "observed": _whole(state["coverage"], length_mm[segment]),
            f"level{int(state['level'])}": length_mm[segment],
        }
        for area in belongs[segment]:
            for name, value in share.items():
                total[area, pane_ms][name] += value
    return {place: _area(sums, lengths[place[0]]) for place, sums in total.items()}


def _whole(value: float, scale: int) -> int:
    return 0 if math.isnan(value) else round(value * scale)


def _area(sums: dict[str, int], length_mm: int) -> State:
    vkt, vht, free = sums["vkt"] / VKT, sums["vht"] / VHT, sums["free"] / VHT
    tti = max(1.0, _quotient(vht, free)) if free > 0 else NAN
    dtp = 1.0 - 1.0 / tti
    levels = [0, *(sums[f"level{at}"] for at in range(1, 6))]
    levels[0] = length_mm - sum(levels)
    return {
        "vkt_veh_km": vkt,
        "vht_veh_h": vht,
        "vht_free_flow_veh_h": free,
        "delay_veh_h": sums["delay"] / VHT,
        "speed_kmh": _quotient(vkt, vht),
        "tti": tti,
        "dtp": dtp,
        "tpi": _index(dtp),
        "vehicles": sums["vehicles"] / VEHICLES,
        "coverage": sums["observed"] / length_mm,
        "length_km": length_mm / MM,
        "congested_km": sum(levels[3:]) / MM,
        **{f"level{at}_km": levels[at] / MM for at in range(6)},
    }


def _index(dtp: float) -> float:
    for (a, low), (b, high) in itertools.pairwise(TPI_AT):
        if a <= dtp <= b:
            return round(low + (dtp - a) / (b - a) * (high - low), 12)
    return NAN
