"""Forecasts: speeds and probabilities ahead in, errors by horizon beside those of two simpler ones, reliability out.

Persistence says that the last published speed stays, the typical week that it will be as usual. All three are judged
where all three say something, at the pane that ends at the horizon.

References
----------
Brier (1950), Monthly Weather Review 78(1). Murphy (1973), Journal of Applied Meteorology 12(4) (skill against the
base rate). Reliability diagrams: Wilks (2011), Statistical Methods in the Atmospheric Sciences, 8.4.4.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from citybrain.records import HORIZONS_MIN
from simulators.judgement.panes import Small

WAYS = ("forecast", "persistence", "typical")
GROUPS = ("all", "jam")
BINS = 10
FloatArray = npt.NDArray[np.float64]


@dataclass(slots=True)
class ForecastErrors:
    """Sums of errors, shape (ways, horizons, groups); ``inside`` counts truths within the 10 and 90 % quantiles."""

    n: FloatArray = field(default_factory=lambda: np.zeros((3, len(HORIZONS_MIN), 2)))
    error: FloatArray = field(default_factory=lambda: np.zeros((3, len(HORIZONS_MIN), 2)))
    absolute: FloatArray = field(default_factory=lambda: np.zeros((3, len(HORIZONS_MIN), 2)))
    square: FloatArray = field(default_factory=lambda: np.zeros((3, len(HORIZONS_MIN), 2)))
    inside: FloatArray = field(default_factory=lambda: np.zeros((len(HORIZONS_MIN), 2)))

    def add(
        self,
        horizon: int,
        truth: Small,
        said: tuple[Small, Small, Small],
        quantiles: tuple[Small, Small],
        jam: npt.NDArray[np.bool_],
    ) -> None:
        """Add one forecast of all segments.

        Parameters
        ----------
        horizon
            Index of `HORIZONS_MIN`.
        truth
            Speed that came, km/h, shape (segments,); NaN where nobody drove.
        said
            What each of `WAYS` said, shape (segments,) each; all NaN where there is no such way.
        quantiles
            10 and 90 % quantiles of the forecast.
        jam
            Where it came to level 3 or worse.
        """
        ways = [way for way in range(len(WAYS)) if not np.isnan(said[way]).all()]
        known = ~np.isnan(truth) & ~np.isnan(said[0])
        for way in ways:
            known &= ~np.isnan(said[way])
        within = (truth >= quantiles[0]) & (truth <= quantiles[1])
        for group, mask in enumerate((known, known & jam)):
            self.inside[horizon, group] += (within & mask).sum()
            for way in ways:
                error = (said[way][mask] - truth[mask]).astype(np.float64)
                self.n[way, horizon, group] += len(error)
                self.error[way, horizon, group] += error.sum()
                self.absolute[way, horizon, group] += np.abs(error).sum()
                self.square[way, horizon, group] += (error**2).sum()

    def mae(self, way: str, group: str = "all") -> FloatArray:
        """Return the mean absolute error by horizon, km/h, shape (12,)."""
        return self._mean(self.absolute, way, group)

    def bias(self, way: str, group: str = "all") -> FloatArray:
        """Return the mean error by horizon, km/h, shape (12,)."""
        return self._mean(self.error, way, group)

    def rmse(self, way: str, group: str = "all") -> FloatArray:
        """Return the root mean square error by horizon, km/h, shape (12,)."""
        return np.sqrt(self._mean(self.square, way, group))

    def covered(self, group: str = "all") -> FloatArray:
        """Return the share of truths between the 10 and 90 % quantiles by horizon, which should be 0.8."""
        return _quotient(self.inside[:, GROUPS.index(group)], self.n[0, :, GROUPS.index(group)])

    def _mean(self, sums: FloatArray, way: str, group: str) -> FloatArray:
        at = WAYS.index(way), slice(None), GROUPS.index(group)
        return _quotient(sums[at], self.n[at])


@dataclass(slots=True)
class Reliability:
    """How often what had a probability came, in bins of a tenth: counts, sums of probabilities, and what came."""

    n: FloatArray = field(default_factory=lambda: np.zeros(BINS))
    said: FloatArray = field(default_factory=lambda: np.zeros(BINS))
    came: FloatArray = field(default_factory=lambda: np.zeros(BINS))
    square: float = 0.0

    def add(self, probability: Small, came: npt.NDArray[np.bool_]) -> None:
        """Add probabilities, 0..1, and whether it came; one shape, no NaN."""
        at = np.minimum((probability * BINS).astype(np.int64), BINS - 1).reshape(-1)
        p, outcome = probability.reshape(-1).astype(np.float64), came.reshape(-1).astype(np.float64)
        self.n += np.bincount(at, minlength=BINS)
        self.said += np.bincount(at, weights=p, minlength=BINS)
        self.came += np.bincount(at, weights=outcome, minlength=BINS)
        self.square += float(((p - outcome) ** 2).sum())

    @property
    def count(self) -> int:
        """Number of probabilities."""
        return int(self.n.sum())

    @property
    def rate(self) -> float:
        """Share that came."""
        return float(self.came.sum() / self.n.sum()) if self.count else float("nan")

    @property
    def brier(self) -> float:
        """Brier score: 0 is perfect."""
        return self.square / self.count if self.count else float("nan")

    @property
    def skill(self) -> float:
        """Brier skill score against always saying the share that came: 1 is perfect, 0 no better; NaN if all came."""
        spread = self.rate * (1 - self.rate)
        return 1 - self.brier / spread if self.count and spread else float("nan")

    def points(self) -> tuple[FloatArray, FloatArray]:
        """Return mean probability and share that came of each bin, NaN of an empty one, shape (10,)."""
        return _quotient(self.said, self.n), _quotient(self.came, self.n)

    @property
    def calibration_error(self) -> float:
        """Mean distance of the two over all probabilities (expected calibration error)."""
        said, came = self.points()
        return float(np.nansum(np.abs(said - came) * self.n) / self.n.sum()) if self.count else float("nan")


def _quotient(total: FloatArray, count: FloatArray) -> FloatArray:
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))
