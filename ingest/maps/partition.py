"""Places of segments in, partition of each out: neighbours together, sizes alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from citybrain.network import IntArray


def bisected(places: npt.NDArray[np.float64], parts: int) -> IntArray:
    """Split places into ``parts`` of equal size, each time across the longer side.

    Places that are the same to a decimetre (the two directions of a road) stay together, which may make a part larger
    or smaller by a few.

    Parameters
    ----------
    places
        Metres east and north of anywhere, shape (n, 2).
    parts
        Number of parts, at least 1; no more than there are places.

    Returns
    -------
    IntArray
        Part of each place, from 0, shape (n,).

    Examples
    --------
    >>> bisected(np.array([[0.0, 0.0], [10.0, 0.0], [1.0, 0.0], [11.0, 0.0]]), 2)
    array([0, 1, 0, 1], dtype=int32)
    """
    part = np.zeros(len(places), dtype=np.int32)
    _split(np.round(places, 1), np.arange(len(places)), 0, parts, part)
    return part


def _split(
    places: npt.NDArray[np.float64], chosen: npt.NDArray[np.int64], first: int, parts: int, out: IntArray
) -> None:
    if parts <= 1 or len(chosen) <= 1:
        out[chosen] = first
        return
    axis = int(np.argmax(np.ptp(places[chosen], axis=0)))
    order = chosen[np.lexsort((places[chosen, 1 - axis], places[chosen, axis]))]
    left = parts // 2
    cut = _between_places(places[order], round(len(order) * left / parts))
    _split(places, order[:cut], first, left, out)
    _split(places, order[cut:], first + left, parts - left, out)


def _between_places(ordered: npt.NDArray[np.float64], cut: int) -> int:
    """Return the nearest cut that does not divide equal places; ``cut`` itself where all are equal."""
    borders = np.flatnonzero(np.any(np.diff(ordered, axis=0) != 0, axis=1)) + 1
    return int(borders[np.argmin(np.abs(borders - cut))]) if len(borders) else cut
