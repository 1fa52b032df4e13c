"""How wrong forecasts have been: errors in, quantiles and probabilities out. Speeds are shares of free flow.

Errors are counted by horizon and by the band of the forecast itself (a forecast of free flow errs downwards, one of a
jam upwards), so that a quantile or a probability is that of the forecasts that looked the same: calibrated by count,
without a shape assumed. Old counts fade.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

Small = npt.NDArray[np.float32]
Band = npt.NDArray[np.intp]

BINS = 96
WIDTH = 0.02
"""Width of an error bin; errors beyond ±0.96 of free flow count as that."""
PRIOR_COUNT = 100.0
"""Weight of the prior shape in each cell, in errors."""


@dataclass(frozen=True, slots=True)
class Bands:
    """Bands of the forecast speed; ``edges`` ascending."""

    edges: Small

    def of(self, mean: Small) -> Band:
        """Return the band of each forecast; of an unknown one the last."""
        return np.searchsorted(self.edges, mean, side="right")

    def __len__(self) -> int:
        """Return the number of bands."""
        return len(self.edges) + 1


BANDS = Bands(np.array([0.25, 0.35, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0], np.float32))


@dataclass(slots=True)
class ErrorBook:
    """Decayed counts of errors, shape (bands, horizons, `BINS`)."""

    counts: npt.NDArray[np.float64]
    _cumulated: npt.NDArray[np.float64] | None = None

    @classmethod
    def prior(cls, horizons_min: Small) -> ErrorBook:
        """Return a book that expects Laplace errors, wider ahead and where a jam is forecast.

        The scales are those seen on the earlier days of Los-loop and I-5.
        """
        middle = np.concatenate([[1.1], (BANDS.edges[1:] + BANDS.edges[:-1]) / 2, [1.1]])
        middle[0] = 0.2
        scale = (0.02 + 0.0005 * horizons_min)[None, :] * np.where(middle < 0.9, 2.5, 1.0)[:, None]
        centre = (np.arange(BINS) + 0.5) * WIDTH - BINS * WIDTH / 2
        shape = np.exp(-np.abs(centre)[None, None, :] / scale[:, :, None])
        return cls(PRIOR_COUNT * shape / shape.sum(axis=2, keepdims=True))

    def fade(self, share: float) -> None:
        """Keep ``share`` of every count."""
        self.counts *= share
        self._cumulated = None

    def add(self, band: Band, horizon: Band, error: Small) -> None:
        """Count errors; three arrays of one shape (k,), no NaN."""
        at = np.clip(((error + BINS * WIDTH / 2) / WIDTH).astype(np.intp), 0, BINS - 1)
        flat = (band * self.counts.shape[1] + horizon) * BINS + at
        self.counts += np.bincount(flat, minlength=self.counts.size).reshape(self.counts.shape)
        self._cumulated = None

    def quantiles(self, band: Band, shares: tuple[float, float, float] = (0.1, 0.5, 0.9)) -> list[Small]:
        """Return the error below which each share lies, for forecasts of shape (m, horizons)."""
        share = self._cdf()
        found = []
        for wanted in shares:
            right = np.argmax(share >= wanted, axis=2)
            below = np.take_along_axis(share, (right - 1)[:, :, None], axis=2)[:, :, 0]
            above = np.take_along_axis(share, right[:, :, None], axis=2)[:, :, 0]
            error = (right - 1 + (wanted - below) / (above - below)) * WIDTH - BINS * WIDTH / 2
            found.append(_of_cells(error.astype(np.float32), band))
        return found

    def bias(self, band: Band) -> Small:
        """Return the mean error of such forecasts, shape (m, horizons)."""
        centre = (np.arange(BINS) + 0.5) * WIDTH - BINS * WIDTH / 2
        return _of_cells((self.counts @ centre / self.counts.sum(axis=2)).astype(np.float32), band)

    def probability_below(self, band: Band, margin: Small) -> Small:
        """Return the probability that the error is at most ``margin``, 0..1, both of shape (m, horizons)."""
        share = self._cdf().astype(np.float32).reshape(-1)
        place = np.clip((margin + np.float32(BINS * WIDTH / 2)) / np.float32(WIDTH), 0, BINS - 1e-3).astype(np.float32)
        left = np.nan_to_num(place).astype(np.intp)
        row = (band * self.counts.shape[1] + np.arange(self.counts.shape[1])) * (BINS + 1) + left
        below = share[row]
        return cast(Small, (below + (share[row + 1] - below) * (place - left)).astype(np.float32))

    def _cdf(self) -> npt.NDArray[np.float64]:
        if self._cumulated is None:
            total = np.cumsum(self.counts, axis=2)
            zero = np.zeros((*total.shape[:2], 1))
            self._cumulated = np.concatenate([zero, total], axis=2) / total[:, :, -1:]
        return self._cumulated


def _of_cells(cells: Small, band: Band) -> Small:
    return cells[band, np.arange(cells.shape[1])]
