"""A made-up day of a real network: results as the streams would send them, for tests and pictures of the screen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, cast
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from citybrain.indices import (
    congestion_level,
    delay_time_proportion,
    traffic_performance_index,
    travel_time_index,
)
from citybrain.messages import AlertEvent, AlertEventType, AlertKind, Severity, Signal, Signals
from citybrain.network import Network
from citybrain.records import HORIZONS_MIN, AreaIndices, Forecasts, Readings, SegmentStates, Status
from citybrain.typical import AREA_METRICS, BINS, DAY_TYPES, Typical, day_type_and_bin
from dashboard.live.geometry import plane

FloatArray = npt.NDArray[np.float64]
MINUTE_MS = 60_000
FLOW_PER_LANE = {0: 1300.0, 1: 1100.0, 2: 650.0, 3: 480.0, 4: 300.0, 5: 120.0, 6: 700.0, 7: 150.0}
MODEL = "generated"


def peak(place: float) -> float:
    """Return how busy a quarter of the day is, 0..1: two peaks."""
    hour = place / 4
    morning, evening = np.exp(-(((hour - 8.5) / 1.3) ** 2)), np.exp(-(((hour - 18.2) / 1.6) ** 2))
    noon = 0.35 * np.exp(-(((hour - 13) / 2.5) ** 2))
    return float(np.clip(0.05 + 0.85 * morning + 0.95 * evening + noon, 0, 1))


@dataclass(frozen=True)
class GeneratedCity:
    """Traffic that follows the hour and some hot spots; ``seed`` decides where they are."""

    network: Network
    timezone: str = "Europe/Lisbon"
    seed: int = 7
    unknown_share: float = 0.02

    @cached_property
    def heat(self) -> FloatArray:
        """How much a segment suffers at the peak, 0..1: near hot spots and on busy roads."""
        rng = np.random.default_rng(self.seed)
        laid = plane(self.network)
        span = np.ptp(laid.middle, axis=0).max() + 1
        heat = np.full(len(laid.middle), 0.12)
        for at in rng.integers(0, len(laid.middle), 9):
            away = np.hypot(*(laid.middle - laid.middle[at]).T)
            side = 1.0 if rng.random() < 0.4 else (laid.heading @ rng.normal(size=2) > 0) * 1.0
            heat += side * rng.uniform(0.35, 0.8) * np.exp(-((away / (span * rng.uniform(0.025, 0.06))) ** 2))
        return np.clip(heat * rng.uniform(0.75, 1.2, len(heat)), 0, 0.9)

    def speed_kmh(self, instant_ms: int, noise: float = 0.03) -> FloatArray:
        """Return speeds at an instant, km/h; NaN where nobody measures."""
        place = day_type_and_bin(instant_ms, self.timezone)[1]
        rng = np.random.default_rng([self.seed, instant_ms // MINUTE_MS])
        busy = peak(place) * (1 + 0.25 * np.sin(place))
        ratio = 1 - self.heat * busy - 0.06 * peak(place) + rng.normal(0, noise, len(self.heat))
        speed = self.network.segments.free_flow_kmh * np.clip(ratio, 0.07, 1.05)
        speed[np.random.default_rng(self.seed).random(len(speed)) < self.unknown_share] = np.nan
        return cast(FloatArray, speed)

    def states(self, start_ms: int, *, status: Status = "closed", version: int = 0) -> list[SegmentStates]:
        """Return the states of all partitions in the minute that starts at ``start_ms``."""
        segments = self.network.segments
        place = day_type_and_bin(start_ms, self.timezone)[1]
        lanes = segments.lanes * np.array([FLOW_PER_LANE[int(kind)] for kind in segments.road_class])
        speed = self.speed_kmh(start_ms)
        flow = np.where(np.isnan(speed), np.nan, lanes * (0.1 + 0.75 * peak(place)))
        vkt = flow * segments.length_km / 60
        vht, free = vkt / speed, vkt / segments.free_flow_kmh
        tti = travel_time_index(speed, segments.free_flow_kmh)
        columns = {
            "flow_vph": flow,
            "speed_kmh": speed,
            "occupancy": flow / speed / segments.lanes * 0.006,
            "density_veh_km": flow / speed,
            "travel_time_s": 3600 * segments.length_km / speed,
            "tti": tti,
            "dtp": delay_time_proportion(tti),
            "vkt_veh_km": vkt,
            "vht_veh_h": vht,
            "vht_free_flow_veh_h": free,
            "delay_veh_h": np.maximum(0, vht - free),
            "vehicles": flow / speed * segments.length_km,
            "coverage": np.where(np.isnan(speed), 0.0, 1.0),
        }
        level = congestion_level(speed, segments.free_flow_kmh)
        out = []
        for partition in range(self.network.partitions):
            own = self.network.segments_of(partition)
            out.append(
                SegmentStates(
                    self.network.version,
                    partition,
                    start_ms,
                    MINUTE_MS,
                    version,
                    -1 if status == "provisional" else 0,
                    status,
                    own,
                    **{name: column[own] for name, column in columns.items()},
                    level=level[own],
                    quality=np.zeros(len(own), np.uint8),
                )
            )
        return out

    def areas(self, states: list[SegmentStates], *, version: int = 0) -> AreaIndices:
        """Return the indices of all areas, from the states' sums."""
        network, n = self.network, len(self.network.areas)
        at = np.concatenate([each.segment for each in states])
        level = np.concatenate([each.level for each in states])
        length = network.segments.length_km[at]

        def total(values: FloatArray) -> FloatArray:
            values = np.nan_to_num(values)
            out = np.bincount(network.segments.district[at], values, n).astype(float)
            out += np.bincount(network.segments.street[at], values, n)
            out[0] = values.sum()
            return cast(FloatArray, out)

        def column(name: str) -> FloatArray:
            return total(np.concatenate([getattr(each, name) for each in states]))

        vkt, vht, free = column("vkt_veh_km"), column("vht_veh_h"), column("vht_free_flow_veh_h")
        with np.errstate(divide="ignore", invalid="ignore"):
            tti = np.maximum(1.0, vht / free)
            speed = vkt / vht
        dtp = delay_time_proportion(tti)
        km = [total(length * (level == each)) for each in range(6)]
        return AreaIndices(
            network.version, states[0].pane_start_ms, MINUTE_MS, version, 0, "closed", np.arange(n, dtype=np.int32),
            vkt, vht, free, column("delay_veh_h"), speed, tti, dtp, traffic_performance_index(dtp), column("vehicles"),
            total(length * (level > 0)) / np.maximum(total(length), 1e-9), total(length), km[3] + km[4] + km[5],
            km[0], km[1], km[2], km[3], km[4], km[5],
        )  # fmt: skip

    def forecasts(self, start_ms: int, *, version: int = 0) -> list[Forecasts]:
        """Return forecasts made at the end of the minute that starts at ``start_ms``: the truth, with a fan."""
        end_ms = start_ms + MINUTE_MS
        ahead = np.stack([self.speed_kmh(end_ms + h * MINUTE_MS, noise=0.0) for h in HORIZONS_MIN], axis=1)
        width = np.array(HORIZONS_MIN) ** 0.5 * 0.03
        congested = (ahead / self.network.segments.free_flow_kmh[:, None] < 0.5).astype(np.float32)
        quantiles: dict[str, Any] = {
            "mean_kmh": ahead,
            "q10_kmh": ahead * (1 - width),
            "q50_kmh": ahead,
            "q90_kmh": ahead * (1 + width),
            "p_congested": np.clip(congested, 0.05, 0.9),
        }
        out = []
        for partition in range(self.network.partitions):
            own = self.network.segments_of(partition)
            parts = {name: values[own].astype(np.float32) for name, values in quantiles.items()}
            out.append(Forecasts(self.network.version, partition, start_ms, MINUTE_MS, version, MODEL, own, **parts))
        return out

    def signals(self, start_ms: int, expected: int = 6) -> Signals:
        """Return early warnings for the segments that suffer most among those still well."""
        speed = self.speed_kmh(start_ms, noise=0.0)
        free = self.network.segments.free_flow_kmh
        well = np.flatnonzero((speed / free > 0.5) & (self.network.segments.road != ""))
        likely = well[np.argsort(-self.heat[well])][: expected * 3]
        odds = np.linspace(0.86, 0.37, len(likely))
        why = (("queue_downstream", "trend_down"), ("near_capacity",), ("below_typical", "typical_peak"))
        signals = tuple(
            Signal(
                segment=int(i), kind="congestion_expected", probability=float(p), speed_kmh=round(float(speed[i]), 1),
                expected_kmh=round(float(free[i]) * 0.9, 1), horizon_min=(5, 10, 15)[k % 3], reason=why[k % 3],
            )
            for k, (i, p) in enumerate(zip(likely, odds, strict=True))
        )  # fmt: skip
        return Signals(
            network=self.network.version, partition=0, pane_start_ms=start_ms, pane_ms=MINUTE_MS, version=1,
            model=MODEL, signals=signals,
        )  # fmt: skip

    def readings(self, until_ms: int, silent: int = 12) -> Readings:
        """Return what all detectors but the last few saw in the half minute before ``until_ms``."""
        detectors = self.network.detectors
        n = max(1, len(detectors) - silent)
        index = np.arange(n, dtype=np.int32)
        speed: FloatArray = self.speed_kmh(until_ms)[detectors.segment[:n]]
        count = (np.arange(n) % 20 + 1).astype(np.float64)
        missing, fine = np.full(n, np.nan), np.zeros(n, np.uint8)
        return Readings(
            self.network.version, "simulated", until_ms, until_ms, index, np.full(n, until_ms - 30_000),
            np.full(n, until_ms), count, missing, speed, missing, missing, fine, fine, fine, fine,
            fine,
        )  # fmt: skip

    @cached_property
    def typical(self) -> Typical:
        """Return a typical week that is a little better than the day."""
        n, areas = len(self.network.segments), len(self.network.areas)
        free = self.network.segments.free_flow_kmh
        speed = np.empty((len(DAY_TYPES), BINS, n), np.float32)
        area_mean = np.full((len(AREA_METRICS), len(DAY_TYPES), BINS, areas), np.nan, np.float32)
        midnight = local_instant_ms(self.timezone, 2026, 11, 24, 0, 0)
        for quarter in range(BINS):
            speed[:, quarter] = free * np.clip(1 - 0.8 * self.heat * peak(quarter), 0.1, 1)
            one = self.areas(self.states(midnight + quarter * 15 * MINUTE_MS))
            rows = (one.tpi, one.delay_veh_h * 60, one.speed_kmh, one.vehicles, one.congested_km)
            for row, (values, usual) in enumerate(zip(rows, (0.82, 0.85, 1.05, 0.97, 0.8), strict=True)):
                area_mean[row, :, quarter] = values * usual
        sd = (np.abs(area_mean) * 0.09).astype(np.float32)
        flow = np.full_like(speed, 500)
        return Typical(
            self.network.version, "simulated", np.full_like(speed, 20), speed, speed * 0.08, flow, area_mean, sd
        )

    def alert(
        self, segments: list[int], kind: AlertKind, severity: Severity, at_ms: int, *, minutes: int = 4,
        step: AlertEventType = "alert.opened", sequence: int = 1, name: str | None = None,
    ) -> AlertEvent:  # fmt: skip
        """Return one step of an alert that was detected ``minutes`` before ``at_ms``."""
        detected = at_ms - minutes * MINUTE_MS
        speed = float(np.nanmean(self.speed_kmh(at_ms)[segments]))
        return AlertEvent(
            network=self.network.version, alert_id=name or f"{kind}-{segments[0]}", sequence=sequence, type=step,
            kind=kind, severity=severity, segments=tuple(segments), probability=0.93, speed_kmh=speed,
            expected_kmh=float(self.network.segments.free_flow_kmh[segments[0]]), delay_veh_h=86.2,
            queue_km=float(self.network.segments.length_km[segments].sum()),
            horizon_min=15 if "expected" in kind else 0,
            started_ms=detected - 2 * MINUTE_MS, detected_ms=detected, updated_ms=at_ms,
            resolved_ms=at_ms if step == "alert.resolved" else None,
            reason=("cleared",) if step == "alert.resolved" else ("free_downstream", "sudden_drop"),
        )  # fmt: skip


def local_instant_ms(timezone: str, year: int, month: int, day: int, hour: int, minute: int) -> int:
    """Return an instant given in civil time, ms UTC."""
    return int(datetime(year, month, day, hour, minute, tzinfo=ZoneInfo(timezone)).timestamp() * 1000)
