"""What the map shows: results of the log in, one byte a segment and layer out. Pure arrays of one city.

The newest closed pane of each partition, with open panes laid over it where they already know something.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from citybrain.indices import congestion_level
from citybrain.network import Network
from citybrain.records import HORIZONS_MIN, Forecasts, SegmentStates
from citybrain.settings import CitySettings
from citybrain.typical import Typical
from dashboard.live.frames import Layer

ByteArray = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]

MINUTE_MS = 60_000
FORECAST_LAYERS: dict[Layer, int] = {Layer.LEVEL_15: 15, Layer.LEVEL_30: 30, Layer.LEVEL_60: 60}
FORECAST_KEPT_MS = 15 * MINUTE_MS
"""A forecast made longer ago than this is not shown any more."""
AGAINST_BREAKS = (-0.40, -0.20, -0.10, 0.10)
"""Relative differences to the typical speed that end `Layer.AGAINST_TYPICAL` 1..4; a boundary belongs to the milder."""


@dataclass(slots=True)
class _Partition:
    closed_ms: int = -1
    version: int = -1
    pane_ms: int = MINUTE_MS
    provisional: dict[int, SegmentStates] = field(default_factory=dict)
    forecast_end_ms: int = -1
    restored: bool = False
    """True while it shows what the store held: whatever comes takes its place, even if a feed's clock went back."""


class Layers:
    """The arrays of one city. Not thread-safe: `dashboard.live.city` holds the lock."""

    def __init__(self, network: Network, settings: CitySettings, typical: Typical | None) -> None:
        n = len(network.segments)
        self._network, self._settings = network, settings
        self.typical = typical
        self._partitions: dict[int, _Partition] = {}
        self.closed_level = np.zeros(n, dtype=np.uint8)
        self.closed_speed_kmh = np.full(n, np.nan)
        self.delay_veh_h_per_h = np.zeros(n)
        self.vkt_veh_km = np.zeros(n)
        self.vht_veh_h = np.zeros(n)
        self.vht_free_flow_veh_h = np.zeros(n)
        self.congested_since_ms = np.zeros(n, dtype=np.int64)
        """Start of the pane since which the segment has been at level 3 or worse without a break; 0 where it is not."""
        self._forecast = {layer: np.zeros(n, dtype=np.uint8) for layer in FORECAST_LAYERS}
        self._typical_at: tuple[int, FloatArray] | None = None

    @property
    def closed_end_ms(self) -> int:
        """End of the newest closed pane, ms UTC; 0 before the first."""
        closed = [part for part in self._partitions.values() if part.version >= 0]
        return max((part.closed_ms + part.pane_ms for part in closed), default=0)

    def restore(self, states: SegmentStates) -> None:
        """Show a pane that the store held, unless something came already, until another comes."""
        if states.partition not in self._partitions:
            self.take_states(states)
            self._partitions[states.partition].restored = True

    def use_typical(self, typical: Typical) -> None:
        """Compare with another typical week."""
        self.typical, self._typical_at = typical, None

    def take_states(self, states: SegmentStates) -> bool:
        """Take a pane of one partition; False where it is older than what is shown, and changes nothing."""
        part = self._partitions.setdefault(states.partition, _Partition())
        part.pane_ms = states.pane_ms
        if part.restored:
            part.restored = False
            if states.pane_start_ms < part.closed_ms:
                part.closed_ms, part.version, part.forecast_end_ms = -1, -1, -1
        if states.status == "provisional":
            if states.pane_start_ms <= part.closed_ms:
                return False
            part.provisional[states.pane_start_ms] = states
            return True
        if (states.pane_start_ms, states.version) < (part.closed_ms, part.version):
            return False
        part.closed_ms, part.version = states.pane_start_ms, states.version
        part.provisional = {at: pane for at, pane in part.provisional.items() if at > part.closed_ms}
        self._close(states)
        return True

    def take_forecasts(self, forecasts: Forecasts) -> bool:
        """Take a partition's forecast; False where a newer one is shown."""
        part = self._partitions.setdefault(forecasts.partition, _Partition())
        end_ms = forecasts.pane_start_ms + forecasts.pane_ms
        if end_ms < part.forecast_end_ms:
            return False
        part.forecast_end_ms = end_ms
        free_flow = self._network.segments.free_flow_kmh[forecasts.segment]
        for layer, horizon in FORECAST_LAYERS.items():
            speed = forecasts.q50_kmh[:, HORIZONS_MIN.index(horizon)].astype(np.float64)
            self._forecast[layer][forecasts.segment] = self._level(speed, free_flow)
        return True

    def speed_and_level(self) -> tuple[FloatArray, ByteArray]:
        """Return speed, km/h (NaN not known) and level of every segment now, open panes included."""
        speed, level = self.closed_speed_kmh.copy(), self.closed_level.copy()
        for part in self._partitions.values():
            for _, pane in sorted(part.provisional.items()):
                known = pane.level > 0
                index = pane.segment[known]
                speed[index], level[index] = pane.speed_kmh[known], pane.level[known]
        return speed, level

    def encoded(self, now_ms: int) -> dict[Layer, ByteArray]:
        """Return every layer as bytes; ``now_ms`` is the end of the newest data."""
        speed, level = self.speed_and_level()
        layers = {Layer.LEVEL: level, Layer.AGAINST_TYPICAL: self._against(speed, now_ms), Layer.SPEED: _whole(speed)}
        return {**layers, **self._forecasts_at(now_ms)}

    def kilometres(self, level: ByteArray) -> list[float]:
        """Return the length of the segments at each level 0..5, km, to the metre."""
        lengths = self._network.segments.length_km
        return [round(float(km), 3) for km in np.bincount(level, weights=lengths, minlength=6)]

    def _close(self, states: SegmentStates) -> None:
        at = states.segment
        self.closed_level[at] = states.level
        self.closed_speed_kmh[at] = states.speed_kmh
        self.delay_veh_h_per_h[at] = np.nan_to_num(states.delay_veh_h) * (60 * MINUTE_MS / states.pane_ms)
        self.vkt_veh_km[at] = np.nan_to_num(states.vkt_veh_km)
        self.vht_veh_h[at] = np.nan_to_num(states.vht_veh_h)
        self.vht_free_flow_veh_h[at] = np.nan_to_num(states.vht_free_flow_veh_h)
        since = self.congested_since_ms[at]
        since = np.where((states.level >= 3) & (since == 0), states.pane_start_ms, since)
        # A pane in which nobody measured is no break.
        self.congested_since_ms[at] = np.where((states.level > 0) & (states.level < 3), 0, since)

    def _forecasts_at(self, now_ms: int) -> dict[Layer, ByteArray]:
        shown = {layer: values.copy() for layer, values in self._forecast.items()}
        for partition, part in self._partitions.items():
            if part.forecast_end_ms < now_ms - FORECAST_KEPT_MS:
                for values in shown.values():
                    values[self._network.segments.partition == partition] = 0
        return shown

    def _against(self, speed: FloatArray, now_ms: int) -> ByteArray:
        if self.typical is None:
            return np.zeros(len(speed), dtype=np.uint8)
        minute = now_ms // MINUTE_MS
        if self._typical_at is None or self._typical_at[0] != minute:
            usual = self.typical.segments_at("speed_kmh", minute * MINUTE_MS, self._settings.timezone)
            self._typical_at = (minute, usual.astype(np.float64))
        return against_typical(speed, self._typical_at[1])

    def _level(self, speed: FloatArray, free_flow: FloatArray) -> ByteArray:
        return congestion_level(speed, free_flow, self._settings.thresholds.level_breaks)


def against_typical(speed_kmh: FloatArray, typical_kmh: FloatArray) -> ByteArray:
    """Return how speeds compare with what is usual: 1 much slower .. 4 as usual, 5 faster; 0 where not known.

    Parameters
    ----------
    speed_kmh, typical_kmh
        Speeds, km/h, shape (n,); NaN is unknown.

    Examples
    --------
    >>> against_typical(np.array([29.0, 30, 45, 48, 50, 56, np.nan]), np.full(7, 50.0)).tolist()
    [1, 2, 4, 4, 4, 5, 0]
    """
    # Rounded, because a boundary such as 0.9 x 50 has no exact quotient.
    difference = np.round(speed_kmh / typical_kmh - 1.0, 9)
    slower = np.searchsorted(AGAINST_BREAKS[:3], difference, side="right")
    shown = (1 + slower + (difference > AGAINST_BREAKS[3])).astype(np.uint8)
    shown[~np.isfinite(difference)] = 0
    return shown


def _whole(speed_kmh: FloatArray) -> ByteArray:
    known = np.clip(np.rint(speed_kmh), 1, 255)
    return np.where(np.isnan(known), 0, known).astype(np.uint8)
