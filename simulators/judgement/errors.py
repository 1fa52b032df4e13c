"""Errors of segments: published values against the truth, summed by kind of road, coverage, traffic and detector.

A value is compared where both are known. Sums of all cells are kept, so that any group is exact: nothing is averaged
twice.

References
----------
Bias, MAE, RMSE, MAPE: Hyndman and Koehler (2006), International Journal of Forecasting 22(4). GEH: UK TAG unit M3.1
(2020), table 2; travel times within 15 %: the same, table 3. Levels of traffic: GB/T 33171-2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from citybrain.network import ROAD_CLASSES
from simulators.judgement.panes import METRICS, Panes, Small

COVERAGES = ("own", "part", "filled", "typical")
"""Where a published value comes from: detectors of the segment that reported all the time, some of it; no detector of
its own, filled by the platform; not published, the typical week stands in its place."""
STATES = ("free", "dense", "jam")
"""By true speed against free flow: above 70 %, above 50 %, down to 0 (levels 1, 2 and 3 to 5)."""
WHOLE = 0.95
"""Coverage from which a segment counts as observed all the time."""
FREE, JAMMED = 0.7, 0.5
SPEED_SHARE, SPEED_KMH = 0.10, 5.0
TIME_SHARE, GEH_MOST, DELAY_SHARE, DELAY_VEH_H = 0.15, 5.0, 0.20, 0.05
_LEAST = {"speed_kmh": 1.0, "flow_vph": 120.0, "travel_time_s": 0.1, "delay_veh_h": 0.05}
"""Truth from which a relative error means something: two vehicles in a minute, three vehicle-minutes of delay."""
_SUMS = ("n", "error", "absolute", "square", "relative_n", "relative", "within", "truth")


@dataclass(frozen=True, slots=True)
class Score:
    """Errors of one metric in one group, published less true; NaN where nothing was compared.

    Attributes
    ----------
    n
        Values compared.
    truth
        Mean of the truth.
    bias, mae, rmse
        In the metric's unit.
    mape
        Mean absolute error as a share of the truth, where the truth is large enough.
    within
        Share within the bounds of the metric (`within_bounds`).
    """

    n: int
    truth: float
    bias: float
    mae: float
    rmse: float
    mape: float
    within: float


def within_bounds(metric: str, truth: Small, published: Small) -> npt.NDArray[np.bool_]:
    """Return whether each value is near enough.

    Speeds within 10 % or 5 km/h, flows with GEH below 5, travel times within 15 %, delays within 20 % or 0.05 veh h.
    """
    error = np.abs(published - truth)
    if metric == "flow_vph":
        with np.errstate(invalid="ignore", divide="ignore"):
            geh = np.sqrt(2 * error**2 / (published + truth))
        return np.asarray(np.nan_to_num(geh) < GEH_MOST)
    bound = {
        "speed_kmh": np.maximum(SPEED_SHARE * truth, SPEED_KMH),
        "travel_time_s": TIME_SHARE * truth,
        "delay_veh_h": np.maximum(DELAY_SHARE * truth, DELAY_VEH_H),
    }[metric]
    return np.asarray(error <= bound)


@dataclass(slots=True)
class Errors:
    """Sums of errors in cells of (metric, road class, coverage, state, health), to which hours are added.

    Parameters
    ----------
    road_class, free_flow_kmh
        Of each segment, shape (segments,).
    health
        Names of what a segment's detector may have; the first one is well.
    """

    road_class: npt.NDArray[np.int32]
    free_flow_kmh: npt.NDArray[np.float64]
    health: Sequence[str] = ("well",)
    _sums: npt.NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        """Begin with empty sums."""
        self._sums = np.zeros((len(_SUMS), len(METRICS), *self._shape))

    @property
    def _shape(self) -> tuple[int, ...]:
        return len(ROAD_CLASSES), len(COVERAGES), len(STATES), len(self.health)

    def add(self, truth: Panes, published: Panes, health: npt.NDArray[np.uint8], typical: Panes | None = None) -> None:
        """Add what was published of some panes, or stands in for it.

        Parameters
        ----------
        truth, published
            The same panes of the same segments.
        health
            What the segment's detector has, an index of ``health``, shape (panes, segments).
        typical
            The typical week, judged where nothing was published.
        """
        cells = self._cells(truth, health)
        told = published.coverage > 0
        source = np.where(told, np.where(published.coverage >= WHOLE, 0, 1), 2)
        nothing = np.isnan(published.speed_kmh) & np.isnan(published.flow_vph) & ~told
        for at, metric in enumerate(METRICS):
            self._put(at, metric, cells + source * self._step(1), getattr(truth, metric), getattr(published, metric))
            if typical is not None:
                stands = np.where(nothing, getattr(typical, metric), np.nan)
                self._put(at, metric, cells + 3 * self._step(1), getattr(truth, metric), stands)

    def score(self, metric: str, **group: str) -> Score:
        """Return the errors of a metric in a group such as ``road_class="motorway", state="jam"``.

        What stands in for values that were not published counts only where ``coverage="typical"`` asks for it.
        """
        names = dict(zip(_AXES, (ROAD_CLASSES, COVERAGES, STATES, tuple(self.health)), strict=True))
        if unknown := group.keys() - names.keys():
            raise ValueError(f"group {sorted(unknown)} seen, {sorted(names)} allowed")
        chosen = [
            slice(None) if axis not in group else slice(at := values.index(group[axis]), at + 1)
            for axis, values in names.items()
        ]
        if "coverage" not in group:
            chosen[1] = slice(0, 3)
        cells = self._sums[:, METRICS.index(metric)]
        return _score(cells[(slice(None), *chosen)].reshape(len(_SUMS), -1).sum(axis=1))

    def _step(self, axis: int) -> int:
        return int(np.prod(self._shape[axis + 1 :]))

    def _cells(self, truth: Panes, health: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        ratio = truth.speed_kmh / self.free_flow_kmh
        state = np.where(ratio <= JAMMED, 2, np.where(ratio <= FREE, 1, 0))
        return np.asarray(self.road_class * self._step(0) + state * self._step(2) + health, dtype=np.int64)

    def _put(self, at: int, metric: str, cell: npt.NDArray[np.int64], truth: Small, published: Small) -> None:
        known = ~np.isnan(truth) & ~np.isnan(published)
        if metric in ("flow_vph", "delay_veh_h"):
            known &= (truth > 0) | (published > 0)
        true, told, where = truth[known].astype(np.float64), published[known].astype(np.float64), cell[known]
        error = told - true
        large = true >= _LEAST[metric]
        relative = np.divide(np.abs(error), true, out=np.zeros_like(error), where=large)
        near = within_bounds(metric, truth[known], published[known])
        values = (None, error, np.abs(error), error**2, large, relative, near, true)
        size = int(np.prod(self._shape))
        for row, value in enumerate(values):
            added = np.bincount(where, weights=value, minlength=size)
            self._sums[row, at] += added.reshape(self._shape)


_AXES = ("road_class", "coverage", "state", "health")


def _score(sums: npt.NDArray[np.float64]) -> Score:
    of = dict(zip(_SUMS, sums.tolist(), strict=True))
    n = of["n"]
    if not n:
        return Score(0, *[float("nan")] * 6)
    mape = of["relative"] / of["relative_n"] if of["relative_n"] else float("nan")
    return Score(
        int(n),
        of["truth"] / n,
        of["error"] / n,
        of["absolute"] / n,
        float(np.sqrt(of["square"] / n)),
        mape,
        of["within"] / n,
    )
