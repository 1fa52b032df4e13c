"""Speeds 5 to 60 minutes ahead with quantiles: the typical day plus the damped deviation from it. Arrays in and out.

``speed(t + h) = usual(t + h) + keep(h) * (speed(t) - usual(t))``. How much of a deviation is kept after ``h`` minutes,
and how wrong such forecasts were, is learnt while it runs, from the panes it is given and from nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt

from citybrain.records import HORIZONS_MIN
from citybrain.typical import Typical
from models.errorbook import BANDS, ErrorBook
from models.typical import shrunk

Small = npt.NDArray[np.float32]

MODEL = "damped-1"
"""Version of the method; goes into every forecast."""
MARK_MS = 5 * 60_000
"""Errors are learnt at panes that end on full 5 minutes: as often as horizons are apart, and a fifth of the work."""
KEEP_NOW, FADE_MIN = 0.87, 90.0
"""Prior of ``keep(h) = KEEP_NOW * exp(-h / FADE_MIN)``, tuned on the earlier days of Los-loop and I-5."""
KEEP_WEIGHT = 20.0
"""Weight of that prior, in squared relative deviations summed over segments (about a day of 200 segments)."""
SMOOTH_MIN = 3.5
"""Time constant of the smoothing of the deviation: removes the noise of 1-min panes, hardly touches 5-min ones."""
MEMORY_DAYS = 3.0
"""Half-life of what is learnt."""
CEILING = 1.3
"""A forecast is not above this share of free flow."""
FLOOR_KMH = 3.0


@dataclass(slots=True)
class ForecastMemory:
    """What the forecast remembers of m segments; speeds as shares of free flow.

    Attributes
    ----------
    deviation
        Smoothed departure from the usual speed, shape (m,); NaN where never observed.
    mean, mean_n
        Long mean speed and the minutes behind it, shape (m,): the usual speed where no typical day is known.
    marks
        Deviations at the newest mark and the 12 before it, shape (13, m).
    mark_ms
        Time of the newest mark; -1 before the first.
    xy, xx
        Sums behind ``keep``, shape (12,).
    book
        Errors seen, by horizon and forecast speed.
    """

    deviation: Small
    mean: Small
    mean_n: Small
    marks: Small
    xy: npt.NDArray[np.float64]
    xx: npt.NDArray[np.float64]
    book: ErrorBook
    mark_ms: int = -1


@dataclass(frozen=True, slots=True)
class Ahead:
    """Forecasts of m segments: km/h and probability, shape (m, 12)."""

    mean_kmh: Small
    q10_kmh: Small
    q50_kmh: Small
    q90_kmh: Small
    p_congested: Small


@dataclass(slots=True)
class ForecastModel:
    """The forecast for some segments of a network.

    Attributes
    ----------
    free_flow_kmh
        Free-flow speed, shape (m,).
    congested
        Share of free flow at and below which a segment is congested (level 3).
    timezone
        Zone of the typical days.
    usual
        Typical week of these segments, already drawn towards the mean; None where no typical week is known.
    """

    free_flow_kmh: Small
    congested: float
    timezone: str
    usual: Typical | None = None
    _horizons: Small = field(default_factory=lambda: np.array(HORIZONS_MIN, dtype=np.float32))

    @classmethod
    def of(
        cls,
        free_flow_kmh: npt.NDArray[np.float64],
        segments: npt.NDArray[np.int32],
        *,
        typical: Typical | None,
        timezone: str,
        congested: float,
        pane_ms: int,
    ) -> ForecastModel:
        """Return the model of some ``segments`` of a network; ``free_flow_kmh`` is the network's."""
        usual = None
        if typical is not None:
            days = np.round(typical.n[:, :, segments] * (pane_ms / 900_000), 2)
            # A filled or shipped cell without a count is as good as one day.
            usual = shrunk(typical, segments, np.maximum(days, 1).astype(np.float32))
        return cls(free_flow_kmh[segments].astype(np.float32), congested, timezone, usual)

    def new(self) -> ForecastMemory:
        """Return the memory before the first pane."""
        m, h = len(self.free_flow_kmh), len(HORIZONS_MIN)
        return ForecastMemory(
            deviation=np.full(m, np.nan, dtype=np.float32),
            mean=np.ones(m, dtype=np.float32),
            mean_n=np.full(m, 60.0, dtype=np.float32),
            marks=np.full((h + 1, m), np.nan, dtype=np.float32),
            xy=np.zeros(h),
            xx=np.zeros(h),
            book=ErrorBook.prior(self._horizons),
        )

    def observe(self, memory: ForecastMemory, speed_kmh: npt.NDArray[np.float64], end_ms: int, pane_ms: int) -> None:
        """Take the speeds of the pane that ends at ``end_ms``, shape (m,), NaN where not observed; panes in order."""
        speed = (speed_kmh / self.free_flow_kmh).astype(np.float32)
        known = ~np.isnan(speed)
        minutes = pane_ms / 60_000
        usual = self.usual_at(memory, end_ms)
        if end_ms % MARK_MS == 0:
            self._learn(memory, speed, usual, end_ms)
        gap = speed - usual
        weight = np.float32(1 - np.exp(-minutes / SMOOTH_MIN))
        fade = np.float32(np.exp(-minutes / FADE_MIN))
        smoothed = np.where(np.isnan(memory.deviation), gap, memory.deviation + weight * (gap - memory.deviation))
        memory.deviation = np.where(known, smoothed, memory.deviation * fade).astype(np.float32)
        memory.mean_n = np.minimum(memory.mean_n + known * np.float32(minutes), np.float32(1440))
        memory.mean += np.where(known, (speed - memory.mean) * (np.float32(minutes) / memory.mean_n), np.float32(0))
        if end_ms % MARK_MS == 0:
            memory.marks[0] = memory.deviation

    def ahead(self, memory: ForecastMemory, end_ms: int) -> Ahead:
        """Return the forecasts made at ``end_ms``, the end of the pane that was observed last."""
        usual = np.stack([self.usual_at(memory, end_ms + 60_000 * h) for h in HORIZONS_MIN], axis=1)
        # Never observed, but typical known: the typical day alone.
        known_typical = np.zeros(len(usual), dtype=bool) if self.usual is None else ~np.isnan(self._typical(end_ms))
        start = np.where(np.isnan(memory.deviation) & known_typical, np.float32(0), memory.deviation)
        mean = usual + start[:, None] * self.keep(memory)[None, :]
        return self._spread(memory, mean.astype(np.float32))

    def usual_at(self, memory: ForecastMemory, instant_ms: int) -> Small:
        """Return the usual speed as a share of free flow, shape (m,): the typical day, or the long mean."""
        if self.usual is None:
            return memory.mean
        typical = self._typical(instant_ms)
        return cast(Small, np.where(np.isnan(typical), memory.mean, typical))

    def keep(self, memory: ForecastMemory) -> Small:
        """Return the share of a deviation that is left after each horizon, 0..1, shape (12,)."""
        prior = KEEP_NOW * np.exp(-self._horizons / FADE_MIN)
        share = (memory.xy + KEEP_WEIGHT * prior) / (memory.xx + KEEP_WEIGHT)
        return cast(Small, np.clip(share, 0.0, 1.0).astype(np.float32))

    def _typical(self, instant_ms: int) -> Small:
        assert self.usual is not None, "asked for typical speeds without a typical week"
        typical = self.usual.segments_at("speed_kmh", instant_ms, self.timezone)
        return cast(Small, typical / self.free_flow_kmh)

    def _spread(self, memory: ForecastMemory, mean: Small) -> Ahead:
        band = BANDS.of(mean)
        low, middle, high = memory.book.quantiles(band)
        bias = memory.book.bias(band)
        free = self.free_flow_kmh[:, None]
        floor = np.float32(FLOOR_KMH) / free
        kmh = [np.clip(mean + error, floor, np.float32(CEILING)) * free for error in (bias, low, middle, high)]
        p = memory.book.probability_below(band, np.float32(self.congested) - mean)
        return Ahead(kmh[0], kmh[1], kmh[2], kmh[3], p)

    def _learn(self, memory: ForecastMemory, speed: Small, usual: Small, end_ms: int) -> None:
        """Compare what came with what would have been forecast at each of the last 12 marks."""
        memory.marks = _aged(memory.marks, (end_ms - memory.mark_ms) // MARK_MS)
        memory.mark_ms = end_ms
        past, came = memory.marks[1:], (speed - usual)[None, :]
        known = ~np.isnan(past) & ~np.isnan(came)
        mean = usual + self.keep(memory)[:, None] * past
        fade = 0.5 ** (MARK_MS / (MEMORY_DAYS * 86_400_000))
        memory.xy = memory.xy * fade + np.where(known, past * came, 0).sum(axis=1, dtype=np.float64)
        memory.xx = memory.xx * fade + np.where(known, past * past, 0).sum(axis=1, dtype=np.float64)
        memory.book.fade(fade)
        horizon = np.broadcast_to(np.arange(len(past))[:, None], past.shape)
        memory.book.add(BANDS.of(mean)[known], horizon[known], (speed - mean)[known])


def _aged(marks: Small, passed: int) -> Small:
    """Return the marks ``passed`` places later; row 0 is to be filled."""
    aged = np.full_like(marks, np.nan)
    if 0 < passed < len(marks):
        aged[passed:] = marks[: len(marks) - passed]
    return aged
