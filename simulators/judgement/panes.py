"""Panes: segments' values over some panes as arrays of one shape, of the truth or as published; longer ones of them."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from citybrain.units import MS_PER_H, S_PER_H

Small = npt.NDArray[np.float32]
LongArray = npt.NDArray[np.int64]
METRICS = ("speed_kmh", "flow_vph", "travel_time_s", "delay_veh_h")


@dataclass(frozen=True, slots=True)
class Panes:
    """Values of all segments in panes that follow one another; arrays have shape (panes, segments), missing is NaN.

    Attributes
    ----------
    start_ms, pane_ms
        Start of the first pane, ms UTC, and the length of each.
    speed_kmh, flow_vph, travel_time_s, delay_veh_h, vehicles
        As in `citybrain.records.SegmentStates`.
    coverage
        Share observed, 0..1; of the truth 1.
    """

    start_ms: int
    pane_ms: int
    speed_kmh: Small
    flow_vph: Small
    travel_time_s: Small
    delay_veh_h: Small
    vehicles: Small
    coverage: Small

    def __len__(self) -> int:
        """Return the number of panes."""
        return len(self.speed_kmh)

    @property
    def end_ms(self) -> int:
        """End of the last pane, ms UTC."""
        return self.start_ms + len(self) * self.pane_ms


def empty_panes(start_ms: int, pane_ms: int, count: int, segments: int) -> Panes:
    """Return panes in which nothing is known."""

    def missing() -> Small:
        return np.full((count, segments), np.nan, dtype=np.float32)

    nothing = np.zeros((count, segments), dtype=np.float32)
    return Panes(start_ms, pane_ms, missing(), missing(), missing(), missing(), missing(), nothing)


def within(panes: Panes, from_ms: int, to_ms: int) -> Panes:
    """Return those that lie in [from, to) wholly."""
    first = max(-(-(from_ms - panes.start_ms) // panes.pane_ms), 0)
    last = max(min((to_ms - panes.start_ms) // panes.pane_ms, len(panes)), first)
    if (first, last) == (0, len(panes)):
        return panes
    columns = {f.name: getattr(panes, f.name)[first:last] for f in fields(Panes)[2:]}
    return Panes(panes.start_ms + first * panes.pane_ms, panes.pane_ms, **columns)


def longer(panes: Panes, times: int, length_km: npt.NDArray[np.float64]) -> Panes:
    """Return panes that are ``times`` as long, the last ones that do not fill one left out.

    Flow is the mean, speed total distance over total time, delay the sum, travel time that at the mean speed where the
    speed is known; a value is known where it is in half of the panes.

    Parameters
    ----------
    panes, times
        What is put together, and how many at a time.
    length_km
        Length of each segment, shape (segments,).
    """
    count = len(panes) // times
    shape = (count, times, panes.speed_kmh.shape[1])

    def parts(values: Small) -> Small:
        return values[: count * times].reshape(shape)

    flow, delay = parts(panes.flow_vph), parts(panes.delay_veh_h)
    vehicles = parts(panes.vehicles)
    known = ~np.isnan(flow) & ~np.isnan(vehicles)
    distance = (np.where(known, flow, 0).sum(axis=1) * length_km).astype(np.float32)
    time = np.where(known, vehicles, 0).sum(axis=1)
    mean_flow = _mean_known(flow, times)
    mean_speed = np.divide(distance, time, out=np.full_like(time, np.nan), where=time > 0)
    mean_speed[np.isnan(mean_flow)] = np.nan
    moving = np.where(mean_speed > 0, mean_speed, np.nan)
    return Panes(
        panes.start_ms,
        panes.pane_ms * times,
        mean_speed,
        mean_flow,
        (length_km / moving * S_PER_H).astype(np.float32),
        _mean_known(delay, times) * np.float32(times),
        _mean_known(vehicles, times),
        parts(panes.coverage).mean(axis=1),
    )


def _mean_known(values: Small, times: int) -> Small:
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    total = np.where(known, values, np.float32(0)).sum(axis=1)
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count * 2 >= times)
    return np.asarray(mean, dtype=np.float32)


def at_speed(
    start_ms: int,
    pane_ms: int,
    speed_kmh: Small,
    flow_vph: Small,
    length_km: npt.NDArray[np.float64],
    free_kmh: npt.NDArray[np.float64],
) -> Panes:
    """Return panes at some speed and flow, the rest by the platform's definitions (PeMS), not observed."""
    speed = np.where(speed_kmh > 0, speed_kmh, np.nan)
    vehicles = flow_vph * length_km / speed
    lost_h = np.maximum(vehicles - flow_vph * length_km / free_kmh, 0.0) * (pane_ms / MS_PER_H)
    return Panes(
        start_ms,
        pane_ms,
        speed_kmh,
        flow_vph,
        (length_km / speed * S_PER_H).astype(np.float32),
        lost_h.astype(np.float32),
        vehicles.astype(np.float32),
        np.zeros_like(speed_kmh),
    )
