"""The typical week, learnt: frames of the store, or the records of an offline run in; `citybrain.typical.Typical` out.

It does not read stores and does not know what a holiday is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from citybrain.errors import ModelError
from citybrain.network import Network
from citybrain.typical import AREA_METRICS, BINS, DAY_TYPES, SmallFloats, Typical

NEIGHBOUR_BINS = 4
"""A cell without observations takes the nearest known one within so many quarters of an hour (judgement)."""
SD_BINS = 2
"""Standard deviations between days are pooled over so many quarters on either side: a week has few days."""
_OTHER_DAYS = ((1, 2), (2, 0), (1, 0))
"""Which days stand in for a type of day that was never seen: a Saturday is more like a Sunday than like a Monday."""

Array = npt.NDArray[np.float64]


def learn(segments: pd.DataFrame, areas: pd.DataFrame, network: Network, made_of: str) -> Typical:
    """Return the typical week from the frames of a store, gaps filled from neighbouring bins and types of day.

    Parameters
    ----------
    segments
        Columns segment, day_type, bin, n, speed_kmh, speed_sd_kmh, flow_vph (`Store.typical`).
    areas
        Columns area, day_type, bin, n, and mean and ``_sd`` of each of `AREA_METRICS` (`Store.typical_areas`).
    network
        The network whose indices the frames use.
    made_of
        ``observed`` or ``simulated``.

    Returns
    -------
    Typical
        Filled cells have n = 0; NaN where nothing is known at all.
    """
    count, at = len(network.segments), _index(segments, "segment", len(network.segments))
    shape = (len(DAY_TYPES), BINS, count)
    n = _dense(segments, "n", at, shape)
    area_at = _index(areas, "area", len(network.areas))
    area_shape = (len(DAY_TYPES), BINS, len(network.areas))
    return assembled(
        network.version,
        made_of,
        np.nan_to_num(n),
        [_dense(segments, name, at, shape) for name in ("speed_kmh", "speed_sd_kmh", "flow_vph")],
        np.stack([_dense(areas, metric, area_at, area_shape) for metric in AREA_METRICS]),
        np.stack([_dense(areas, f"{metric}_sd", area_at, area_shape) for metric in AREA_METRICS]),
    )


def blend(prior: Typical, learnt: Typical) -> Typical:
    """Return a week of both, each cell weighted by its number of observations.

    A shipped (simulated) week so fades as the store fills; it calls itself ``observed`` once most observations are.

    Raises
    ------
    ModelError
        If they belong to different networks.
    """
    if prior.network != learnt.network:
        raise ModelError(f"typical weeks of networks {prior.network} and {learnt.network}: one network allowed")
    share = _share(prior.n, learnt.n)
    cells = _share(prior.n.sum(axis=2), learnt.n.sum(axis=2))[None, :, :, None]
    mixed_sd = _mix(np.square(prior.speed_sd_kmh), np.square(learnt.speed_sd_kmh), share)
    return Typical(
        prior.network,
        learnt.made_of if learnt.n.sum() > prior.n.sum() else prior.made_of,
        prior.n + learnt.n,
        _mix(prior.speed_kmh, learnt.speed_kmh, share),
        np.sqrt(mixed_sd),
        _mix(prior.flow_vph, learnt.flow_vph, share),
        _mix(prior.area_mean, learnt.area_mean, cells),
        np.sqrt(_mix(np.square(prior.area_sd), np.square(learnt.area_sd), cells)),
    )


def shrunk(typical: Typical, segments: npt.NDArray[np.int32], days: SmallFloats) -> Typical:
    """Return the week of some segments with speeds drawn towards the segment's mean of that day type.

    A typical value from few days is itself noisy; the best linear use of ``d`` days keeps ``d / (d + 1)`` of the
    departure from the mean (measured on Los-loop and I-5: kept 0.48 for one day, 0.66 for two, 0.85 for three).

    Parameters
    ----------
    typical
        The week of the whole network.
    segments
        Segments to keep, shape (m,).
    days
        Number of days behind each cell, shape (3, 96, m).
    """
    part = of_segments(typical, segments)
    speed, keep = part.speed_kmh, (days / (days + 1)).astype(np.float32)
    mean = _nanmean(speed.astype(np.float64), axis=1)[:, None, :].astype(np.float32)
    return replace(part, speed_kmh=mean + keep * (speed - mean))


def of_segments(typical: Typical, segments: npt.NDArray[np.int32]) -> Typical:
    """Return the week of some segments only; areas stay."""
    names = ("n", "speed_kmh", "speed_sd_kmh", "flow_vph")
    return replace(typical, **{name: getattr(typical, name)[:, :, segments] for name in names})


def assembled(network: str, made_of: str, n: Array, cells: list[Array], area_mean: Array, area_sd: Array) -> Typical:
    """Return the week of raw cells (n; speed, its sd, flow; areas), spread pooled and gaps filled; NaN is unknown."""
    speed, sd, flow = cells
    return Typical(
        network,
        made_of,
        n.astype(np.float32),
        _filled(speed).astype(np.float32),
        _filled(_pooled_sd(sd)).astype(np.float32),
        _filled(flow).astype(np.float32),
        np.stack([_filled(metric) for metric in area_mean]).astype(np.float32),
        np.stack([_filled(_pooled_sd(metric)) for metric in area_sd]).astype(np.float32),
    )


def _index(frame: pd.DataFrame, column: str, size: int) -> tuple[npt.NDArray[np.intp], ...]:
    at = tuple(frame[name].to_numpy(dtype=np.intp) for name in ("day_type", "bin", column))
    for name, values, limit in zip(("day_type", "bin", column), at, (len(DAY_TYPES), BINS, size), strict=True):
        if len(values) and (values.min() < 0 or values.max() >= limit):
            raise ModelError(f"{name} {values.min()}..{values.max()} seen, 0..{limit - 1} allowed")
    return at


def _dense(frame: pd.DataFrame, name: str, at: tuple[npt.NDArray[np.intp], ...], shape: tuple[int, int, int]) -> Array:
    cells = np.full(shape, np.nan)
    cells[at] = frame[name].to_numpy(dtype=np.float64)
    return cells


def _filled(cells: Array) -> Array:
    """Fill unknown cells: the nearest bins of the same day first (mean of both sides), then another type of day."""
    known = cells.copy()
    for distance in range(1, NEIGHBOUR_BINS + 1):
        missing = np.isnan(known)
        if not missing.any():
            return known
        near = _nanmean(np.stack([np.roll(cells, distance, axis=1), np.roll(cells, -distance, axis=1)]), axis=0)
        known[missing] = near[missing]
    same_day = known.copy()
    for day, others in enumerate(_OTHER_DAYS):
        for other in others:
            known[day] = np.where(np.isnan(known[day]), same_day[other], known[day])
    return known


def _pooled_sd(sd: Array) -> Array:
    around = np.stack([np.roll(np.square(sd), shift, axis=1) for shift in range(-SD_BINS, SD_BINS + 1)])
    return np.sqrt(_nanmean(around, axis=0))


def _nanmean(values: Array, axis: int) -> Array:
    """Mean of what is known, NaN (and no warning) where nothing is."""
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0.0).sum(axis=axis), known.sum(axis=axis)
    return cast(Array, np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))


def _share(prior_n: SmallFloats, learnt_n: SmallFloats) -> SmallFloats:
    """Weight of the learnt week; where neither counts anything the prior stands."""
    total = prior_n + learnt_n
    return cast(SmallFloats, np.divide(learnt_n, total, out=np.zeros_like(total), where=total > 0))


def _mix(prior: SmallFloats, learnt: SmallFloats, share: SmallFloats) -> SmallFloats:
    mixed = prior * (1 - share) + learnt * share
    known: SmallFloats = np.where(np.isnan(prior), learnt, np.where(np.isnan(learnt), prior, mixed)).astype(np.float32)
    return known
