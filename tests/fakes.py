"""Builders of small, real values with plausible defaults. No mocks: what they return is what the program uses."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from citybrain.indices import (
    congestion_level,
    delay_time_proportion,
    ratio,
    traffic_performance_index,
    travel_time_index,
)
from citybrain.messages import AlertEvent, AlertEventType, Severity
from citybrain.network import Areas, Detectors, FloatArray, Network, Segments
from citybrain.records import HORIZONS_MIN, AreaIndices, Forecasts, SegmentStates
from citybrain.settings import CitySettings
from citybrain.typical import AREA_METRICS, BINS, Typical


def grid_network(columns: int = 4, rows: int = 3, *, partitions: int = 2) -> Network:
    """Return a grid of two-way roads with blocks of 0.5 km, one detector a segment.

    ``East Road r`` runs along row r, ``North Road c`` along column c. Segments of a road come in driving direction,
    first eastbound (northbound), then back. Districts are the western and the eastern half.
    """
    east = [(r * columns + c, r * columns + c + 1, f"East Road {r}") for r in range(rows) for c in range(columns - 1)]
    north = [
        (r * columns + c, (r + 1) * columns + c, f"North Road {c}") for c in range(columns) for r in range(rows - 1)
    ]
    ways = [*east, *((b, a, road) for a, b, road in reversed(east)), *north, *((b, a, road) for a, b, road in north)]
    n = len(ways)
    start, end = np.array([w[0] for w in ways]), np.array([w[1] for w in ways])
    lon = -8.61 + 0.00592 * np.stack([start % columns, end % columns])
    lat = 41.15 + 0.00452 * np.stack([start // columns, end // columns])
    district = np.where((start % columns + end % columns) / 2 < (columns - 1) / 2, 1, 2).astype(np.int32)
    return Network(
        Segments(
            id=np.array([f"s{i}" for i in range(n)]),
            road=np.array([w[2] for w in ways]),
            road_class=np.full(n, 2, dtype=np.int32),
            from_node=start.astype(np.int32),
            to_node=end.astype(np.int32),
            length_km=np.full(n, 0.5),
            lanes=np.full(n, 2, dtype=np.int32),
            limit_kmh=np.full(n, 50.0),
            free_flow_kmh=np.full(n, 50.0),
            capacity_vph=np.full(n, 3600.0),
            partition=(np.arange(n) % partitions).astype(np.int32),
            district=district,
            street=district + 2,
            geometry_start=(2 * np.arange(n + 1)).astype(np.int32),
        ),
        Detectors(
            id=np.array([f"d{i}" for i in range(n)]),
            segment=np.arange(n, dtype=np.int32),
            position_m=np.full(n, 250.0),
            lanes=np.full(n, 2, dtype=np.int32),
            kind=np.full(n, "loop"),
        ),
        Areas(
            id=np.array(["city", "west", "east", "west-streets", "east-streets"]),
            name=np.array(["Gridtown", "West", "East", "Streets of West", "Streets of East"]),
            level=np.array([0, 1, 1, 2, 2], dtype=np.int32),
            parent=np.array([-1, 0, 0, 1, 2], dtype=np.int32),
        ),
        np.stack([lon.T.reshape(-1), lat.T.reshape(-1)], axis=1).astype(np.float32),
        "© OpenStreetMap contributors, ODbL",
    )


def city_settings(folder: Path = Path("/nowhere")) -> CitySettings:
    """Return a city with the default settings."""
    return CitySettings(folder=folder, data_folder=folder / "data", name="Gridtown", timezone="Europe/Lisbon")


def segment_states(
    network: Network,
    *,
    partition: int = 0,
    pane_start_ms: int = 0,
    pane_ms: int = 60_000,
    version: int = 1,
    revision: int = 0,
    speed_kmh: float | FloatArray = 40.0,
    flow_vph: float | FloatArray = 600.0,
) -> SegmentStates:
    """Return the states of one partition with these speeds and flows, NaN where not known."""
    segment = network.segments_of(partition)
    n, hours = len(segment), pane_ms / 3_600_000
    speed = np.broadcast_to(np.asarray(speed_kmh, dtype=np.float64), n).copy()
    flow = np.broadcast_to(np.asarray(flow_vph, dtype=np.float64), n).copy()
    length_km, free_flow_kmh = network.segments.length_km[segment], network.segments.free_flow_kmh[segment]
    density = flow / speed
    tti = travel_time_index(speed, free_flow_kmh)
    vkt = np.where(np.isnan(speed), np.nan, flow * length_km * hours)
    vht, vht_free = vkt / speed, vkt / free_flow_kmh
    return SegmentStates(
        network=network.version,
        partition=partition,
        pane_start_ms=pane_start_ms,
        pane_ms=pane_ms,
        version=version,
        revision=revision,
        status="closed",
        segment=segment,
        flow_vph=flow,
        speed_kmh=speed,
        occupancy=density / 100,
        density_veh_km=density,
        travel_time_s=length_km / speed * 3600,
        tti=tti,
        dtp=delay_time_proportion(tti),
        vkt_veh_km=vkt,
        vht_veh_h=vht,
        vht_free_flow_veh_h=vht_free,
        delay_veh_h=np.maximum(0.0, vht - vht_free),
        vehicles=density * length_km,
        coverage=(~np.isnan(speed)).astype(np.float64),
        level=congestion_level(speed, free_flow_kmh),
        quality=np.where(np.isnan(speed), 2, 0).astype(np.uint8),
    )


def area_indices(
    network: Network,
    *,
    pane_start_ms: int = 0,
    pane_ms: int = 60_000,
    version: int = 1,
    speed_kmh: float = 40.0,
    vkt_veh_km: float = 100.0,
) -> AreaIndices:
    """Return indices of all areas: the same in each, with a free-flow speed of 50 km/h."""
    n = len(network.areas)
    vkt, vht, free = np.full(n, vkt_veh_km), np.full(n, vkt_veh_km / speed_kmh), np.full(n, vkt_veh_km / 50)
    tti = np.maximum(1.0, vht / free)
    dtp = delay_time_proportion(tti)
    level = dict.fromkeys((f"level{at}_km" for at in range(6)), np.zeros(n)) | {"level3_km": np.full(n, 2.0)}
    return AreaIndices(
        network=network.version,
        pane_start_ms=pane_start_ms,
        pane_ms=pane_ms,
        version=version,
        revision=0,
        status="closed",
        area=np.arange(n, dtype=np.int32),
        vkt_veh_km=vkt,
        vht_veh_h=vht,
        vht_free_flow_veh_h=free,
        delay_veh_h=np.maximum(0.0, vht - free),
        speed_kmh=ratio(vkt, vht),
        tti=tti,
        dtp=dtp,
        tpi=traffic_performance_index(dtp),
        vehicles=np.full(n, 30.0),
        coverage=np.ones(n),
        length_km=np.full(n, 6.0),
        congested_km=np.full(n, 2.0),
        **level,
    )


def forecasts(
    network: Network,
    *,
    partition: int = 0,
    pane_start_ms: int = 0,
    pane_ms: int = 60_000,
    version: int = 1,
    mean_kmh: float = 40.0,
) -> Forecasts:
    """Return a forecast that says the same for every segment and horizon."""
    segment = network.segments_of(partition)
    mean = np.full((len(segment), len(HORIZONS_MIN)), mean_kmh, dtype=np.float32)
    return Forecasts(
        network=network.version,
        partition=partition,
        pane_start_ms=pane_start_ms,
        pane_ms=pane_ms,
        version=version,
        model="m1",
        segment=segment,
        mean_kmh=mean,
        q10_kmh=mean - 10,
        q50_kmh=mean,
        q90_kmh=mean + 10,
        p_congested=np.full_like(mean, 0.25),
    )


def corridor_network(segments: int = 8, *, partitions: int = 1, kind: str = "loop", typical_km: float = 0.5) -> Network:
    """Return a one-way road of equal segments, 90 km/h and two lanes, with a detector at the end of each.

    With several partitions the road is cut into as many equal pieces.
    """
    n = segments
    lon = -8.61 + typical_km / 83.8 * np.stack([np.arange(n), np.arange(n) + 1], axis=1)
    return Network(
        Segments(
            id=np.array([f"c{i}" for i in range(n)]),
            road=np.full(n, "Ring Road"),
            road_class=np.zeros(n, dtype=np.int32),
            from_node=np.arange(n, dtype=np.int32),
            to_node=np.arange(1, n + 1, dtype=np.int32),
            length_km=np.full(n, typical_km),
            lanes=np.full(n, 2, dtype=np.int32),
            limit_kmh=np.full(n, 90.0),
            free_flow_kmh=np.full(n, 90.0),
            capacity_vph=np.full(n, 4000.0),
            partition=(np.arange(n) * partitions // n).astype(np.int32),
            district=np.ones(n, dtype=np.int32),
            street=np.full(n, 2, dtype=np.int32),
            geometry_start=(2 * np.arange(n + 1)).astype(np.int32),
        ),
        Detectors(
            id=np.array([f"d{i}" for i in range(n)]),
            segment=np.arange(n, dtype=np.int32),
            position_m=np.full(n, typical_km * 1000),
            lanes=np.full(n, 2, dtype=np.int32),
            kind=np.full(n, kind),
        ),
        Areas(
            id=np.array(["city", "all", "ring-road"]),
            name=np.array(["Ringtown", "All", "Ring Road"]),
            level=np.array([0, 1, 2], dtype=np.int32),
            parent=np.array([-1, 0, 1], dtype=np.int32),
        ),
        np.stack([lon.reshape(-1), np.full(2 * n, 41.15)], axis=1).astype(np.float32),
    )


def typical_week(network: Network, *, share: float | FloatArray = 0.9, made_of: str = "simulated") -> Typical:
    """Return a typical week with speeds of ``share`` of free flow: one number, or shape (96,) for every day."""
    by_bin = np.broadcast_to(np.asarray(share, dtype=np.float64), BINS)
    cells = np.broadcast_to(by_bin[None, :, None] * network.segments.free_flow_kmh, (3, BINS, len(network.segments)))
    speed = cells.astype(np.float32)
    area = np.full((len(AREA_METRICS), 3, BINS, len(network.areas)), 1.0, dtype=np.float32)
    flow = np.full_like(speed, 600.0)
    return Typical(network.version, made_of, np.full_like(speed, 75.0), speed, speed * 0.05, flow, area, area * 0.1)


def alert_event(
    network: Network,
    *,
    alert_id: str = "a1",
    sequence: int = 1,
    type: AlertEventType | None = None,  # noqa: A002 - the field's name
    segments: tuple[int, ...] = (0, 1),
    severity: Severity = "major",
    at_ms: int = 1_790_035_200_000,
) -> AlertEvent:
    """Return a step of an alert: the first opens it, others update it."""
    kind: AlertEventType = type or ("alert.opened" if sequence == 1 else "alert.updated")
    updated_ms = at_ms + (sequence - 1) * 300_000
    return AlertEvent(
        network=network.version,
        alert_id=alert_id,
        sequence=sequence,
        type=kind,
        kind="congestion",
        severity=severity,
        segments=segments,
        probability=0.9,
        speed_kmh=12.5,
        expected_kmh=41.0,
        delay_veh_h=7.5 * sequence,
        queue_km=1.0,
        horizon_min=0,
        started_ms=at_ms - 240_000,
        detected_ms=at_ms,
        updated_ms=updated_ms,
        resolved_ms=updated_ms if kind == "alert.resolved" else None,
        reason=("below_typical",),
    )
