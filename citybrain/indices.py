"""Traffic indices: speeds, flows and lengths in, standard indices out. Pure arrays.

One algebra (reference: GB/T 33171-2016 as quoted, PeMS, FHWA): with ``t`` the travel time and ``tf`` the one at free
flow, TTI = max(1, t / tf), DTP = 1 - 1 / TTI. Ratios of areas are recomputed from sums, never averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
ByteArray = npt.NDArray[np.uint8]

GBT_33171_LEVEL_BREAKS = (0.70, 0.50, 0.40, 0.30)
GBT_33171_TPI_DTP = (0.0, 0.3, 0.5, 0.6, 0.7, 1.0)
GBT_33171_TPI = (0.0, 2.0, 4.0, 6.0, 8.0, 10.0)


def travel_time_index(speed_kmh: FloatArray, free_flow_kmh: FloatArray) -> FloatArray:
    """Return the travel time index, how many times longer a trip takes than at free flow.

    Parameters
    ----------
    speed_kmh
        Space-mean speed, km/h, shape (n,); NaN or not above 0 is unknown.
    free_flow_kmh
        Free-flow speed, km/h, shape (n,).

    Returns
    -------
    FloatArray
        TTI, at least 1, shape (n,); NaN where the speed is unknown.

    References
    ----------
    GB/T 33171-2016, 7.2.2: a speed above free flow counts as free flow.

    Examples
    --------
    >>> travel_time_index(np.array([24.0, 80.0, np.nan]), np.array([60.0, 60.0, 60.0]))
    array([2.5, 1. , nan])
    """
    known = np.where(speed_kmh > 0, speed_kmh, np.nan)
    return np.maximum(1.0, free_flow_kmh / known)


def delay_time_proportion(tti: FloatArray) -> FloatArray:
    """Return the share of the travel time that is delay, ``1 - 1 / TTI``.

    Parameters
    ----------
    tti
        Travel time index, at least 1, shape (n,).

    Returns
    -------
    FloatArray
        DTP, 0..1, shape (n,); NaN where TTI is.

    Examples
    --------
    >>> delay_time_proportion(np.array([2.5, 1.0]))
    array([0.6, 0. ])
    """
    return 1.0 - 1.0 / tti


def congestion_level(
    speed_kmh: FloatArray, free_flow_kmh: FloatArray, breaks: Sequence[float] = GBT_33171_LEVEL_BREAKS
) -> ByteArray:
    """Return the level of congestion, 1 (free) to 5 (severe), by the ratio of speed to free-flow speed.

    Parameters
    ----------
    speed_kmh
        Space-mean speed, km/h, shape (n,); NaN is unknown.
    free_flow_kmh
        Free-flow speed, km/h, shape (n,).
    breaks
        Ratios that end levels 1..4, descending; a boundary belongs to the worse level.

    Returns
    -------
    ByteArray
        Level 1..5, shape (n,); 0 where the speed is unknown.

    References
    ----------
    GB/T 33171-2016, relative five states: 70, 50, 40 and 30 % of free flow.

    Examples
    --------
    >>> speeds = np.array([42.01, 42, 30.01, 30, 24.01, 24, 18.01, 18, 0])
    >>> congestion_level(speeds, np.full(9, 60.0)).tolist()
    [1, 2, 2, 3, 3, 4, 4, 5, 5]
    """
    # Rounded, because a boundary such as 0.7 x 67 has no exact double.
    ratio = np.round(speed_kmh / free_flow_kmh, 9)
    level = np.ones(ratio.shape, dtype=np.uint8)
    for limit in breaks:
        level += ratio <= limit
    level[np.isnan(ratio)] = 0
    return level


def traffic_performance_index(dtp: FloatArray) -> FloatArray:
    """Return the traffic performance index, 0 (free) to 10, from the delay time proportion.

    Parameters
    ----------
    dtp
        Delay time proportion, 0..1, shape (n,).

    Returns
    -------
    FloatArray
        TPI, 0..10, shape (n,); NaN where DTP is.

    Notes
    -----
    The standard gives bands; the straight line inside a band is this project's convention.

    References
    ----------
    GB/T 33171-2016, appendix C.

    Examples
    --------
    >>> traffic_performance_index(np.array([0.55, 0.6, 0.85, 0.0, 1.0, np.nan]))
    array([ 5.,  6.,  9.,  0., 10., nan])
    """
    return np.round(np.interp(dtp, GBT_33171_TPI_DTP, GBT_33171_TPI), 12)


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Return the quotient, NaN where the denominator is 0 or either is missing; shape of the arguments.

    Examples
    --------
    >>> ratio(np.array([1.0, 1.0]), np.array([2.0, 0.0]))
    array([0.5, nan])
    """
    missing = np.full(np.shape(numerator), np.nan)
    return cast(FloatArray, np.divide(numerator, denominator, out=missing, where=denominator > 0))
