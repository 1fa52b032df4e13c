"""The judge: published panes, forecasts, indices and alerts of a run in, as they come; one judgement out.

Memory holds a few hours, however long the run: panes are compared with the truth as they come, forecasts when the hour
after them has come.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from citybrain.messages import AlertEvent
from citybrain.network import AREA_LEVELS, Network
from citybrain.records import HORIZONS_MIN
from citybrain.typical import Typical
from citybrain.units import MS_PER_H
from simulators.judgement.areas import AreaSeries, Members, joined
from simulators.judgement.errors import JAMMED, WHOLE, Errors
from simulators.judgement.events import Events, alarms_of, judge_events
from simulators.judgement.forecasts import ForecastErrors, Reliability
from simulators.judgement.health import Found as FaultsFound
from simulators.judgement.health import Spell, judge_health
from simulators.judgement.panes import Panes, Small, at_speed, longer, within
from simulators.judgement.truthfiles import Trips, TruthFolder, health_of

LONG_MS = 15 * 60_000
"""Panes are also judged in quarters of an hour, where the chance of single vehicles is averaged out."""
SOURCES = ("own", "part", "filled", "typical", "nothing")
SPEED_STEP_KMH, SPEED_CELLS = 2.5, 52
MS_PER_DAY = 24 * MS_PER_H
CALIBRATED_MIN = (15, 30, 60)


@dataclass(frozen=True, slots=True)
class ForecastsMade:
    """Forecasts of all segments made at some instants.

    Attributes
    ----------
    made_ms
        When each was made, the end of its pane, ms UTC, shape (k,).
    mean_kmh, q10_kmh, q90_kmh, p_congested
        As in `citybrain.records.Forecasts`, shape (k, segments, 12).
    """

    made_ms: npt.NDArray[np.int64]
    mean_kmh: Small
    q10_kmh: Small
    q90_kmh: Small
    p_congested: Small


@dataclass(slots=True)
class Judgement:
    """All that was found out; what a run does not have is None.

    Attributes
    ----------
    network, timezone, span_ms, pane_ms
        What was judged.
    panes, quarters
        Errors of segments, pane by pane and in quarters of an hour.
    health
        Names of what detectors had, ``well`` first.
    vkm
        True vehicle-kilometres by `SOURCES` of the published value.
    faulty_panes, used_panes, well_unused_panes
        By kind of fault: panes of segments with one, those of them for which something was published all the same;
        panes without one for which nothing was.
    joint
        Segment-panes by true (rows) and published speed where a segment's own detectors reported, `SPEED_STEP_KMH` a
        cell.
    trips
        What became of the trips that began meanwhile.
    area_rows, area_true, area_seen, area_published
        Rows of the areas; their sums in truth, in truth on the observed segments only, and as published.
    """

    network: Network
    timezone: str
    span_ms: tuple[int, int]
    pane_ms: int
    panes: Errors
    quarters: Errors
    health: tuple[str, ...]
    city: pd.DataFrame
    vkm: dict[str, float]
    faulty_panes: npt.NDArray[np.int64]
    used_panes: npt.NDArray[np.int64]
    well_unused_panes: int
    joint: npt.NDArray[np.int64]
    trips: Trips | None
    area_rows: npt.NDArray[np.int64]
    area_true: AreaSeries
    area_seen: AreaSeries
    area_published: AreaSeries | None = None
    events: Events | None = None
    faults: FaultsFound | None = None
    forecasts: ForecastErrors | None = None
    reliability: dict[str, Reliability] = field(default_factory=dict)
    close_after_s: npt.NDArray[np.float64] | None = None


class Judge:
    """Compares a run with its truth.

    Parameters
    ----------
    network, timezone
        The city.
    truth
        What really happened.
    pane_ms
        Length of the published panes.
    typical
        The typical week that the platform used, if it did.
    """

    def __init__(
        self, network: Network, truth: TruthFolder, *, timezone: str, pane_ms: int, typical: Typical | None = None
    ) -> None:
        self._network, self._truth, self._timezone, self._typical = network, truth, timezone, typical
        self._pane_ms = pane_ms
        self._faults = truth.faults()
        self._health = ("well", *sorted(set(self._faults.kind)))
        table = network.segments
        self._panes = Errors(table.road_class, table.free_flow_kmh, self._health)
        self._quarters = Errors(table.road_class, table.free_flow_kmh, self._health)
        self._vkm = np.zeros(len(SOURCES))
        self._faulty, self._used = np.zeros(len(self._health), np.int64), np.zeros(len(self._health), np.int64)
        self._joint = np.zeros((SPEED_CELLS, SPEED_CELLS), np.int64)
        self._areas = Members(network, np.flatnonzero(network.areas.level <= AREA_LEVELS.index("district")))
        self._area_true: list[AreaSeries] = []
        self._area_seen: list[AreaSeries] = []
        self._span: tuple[int, int] | None = None
        self._waiting: list[ForecastsMade] = []
        self._speeds: dict[int, Small] = {}
        self._forecasts = ForecastErrors()
        self._reliability = {f"{minutes} min": Reliability() for minutes in CALIBRATED_MIN}

    def take(self, published: Panes, forecasts: ForecastsMade | None = None) -> None:
        """Take the next panes as published and the forecasts made in them; only the run's ends may cut a quarter."""
        published = within(published, *self._truth.span_ms)
        if not len(published):
            return
        truth = self._truth.panes(published.start_ms, published.end_ms, self._pane_ms)
        health = health_of(self._faults, self._health, self._network.detectors.segment, truth)
        typical = self._usual(published)
        self._panes.add(truth, published, health, typical)
        self._add_quarters(truth, published, health, typical)
        self._count(truth, published, health, typical)
        self._area_true.append(self._areas.series(truth))
        self._area_seen.append(self._areas.series(truth, only=~np.isnan(published.flow_vph)))
        self._span = (self._span[0] if self._span else published.start_ms, published.end_ms)
        if forecasts is not None and len(forecasts.made_ms):
            self._waiting.append(forecasts)
        for at in range(len(published)):
            self._speeds[published.start_ms + (at + 1) * self._pane_ms] = published.speed_kmh[at]
        self._score(published.end_ms)

    def finish(
        self,
        published: AreaSeries | None = None,
        steps: Sequence[AlertEvent] | None = None,
        close_after_s: npt.NDArray[np.float64] | None = None,
        verdicts: Sequence[Spell] | None = None,
    ) -> Judgement:
        """Return the judgement once all panes have been taken.

        Parameters
        ----------
        published
            Sums of the areas as published, of the rows that `area_rows` names.
        steps
            Steps in the lives of alerts.
        close_after_s
            By how much panes were closed after their end, s.
        verdicts
            What was said of detectors.

        Raises
        ------
        ValueError
            If no pane was taken.
        """
        if self._span is None:
            raise ValueError("no pane of the run's time was published, at least one needed")
        self._score(2**62)
        span = self._span
        city = self._truth.city
        kept = city[(city.minute_ms >= span[0]) & (city.minute_ms < span[1])].reset_index(drop=True)
        return Judgement(
            network=self._network,
            timezone=self._timezone,
            span_ms=span,
            pane_ms=self._pane_ms,
            panes=self._panes,
            quarters=self._quarters,
            health=self._health,
            city=kept,
            vkm=dict(zip(SOURCES, self._vkm.tolist(), strict=True)),
            faulty_panes=self._faulty,
            used_panes=self._used,
            well_unused_panes=int(self._faulty[0] - self._used[0]),
            joint=self._joint,
            trips=self._truth.trips(*span),
            area_rows=self.area_rows,
            area_true=joined(self._area_true),
            area_seen=joined(self._area_seen),
            area_published=published,
            events=None if steps is None else self._events(steps, span),
            faults=None if verdicts is None else self._faults_found(verdicts, span),
            forecasts=self._forecasts if self._forecasts.n.any() else None,
            reliability=self._reliability if self._forecasts.n.any() else {},
            close_after_s=close_after_s,
        )

    @property
    def area_rows(self) -> npt.NDArray[np.int64]:
        """Rows of the areas that are judged: the city and its districts."""
        return self._areas.areas

    def _add_quarters(
        self, truth: Panes, published: Panes, health: npt.NDArray[np.uint8], typical: Panes | None
    ) -> None:
        """Compare the quarters of an hour that lie in some panes wholly."""
        times, km = LONG_MS // self._pane_ms, self._network.segments.length_km
        if times == 1 or LONG_MS % self._pane_ms:
            return
        begin_ms = -(-published.start_ms // LONG_MS) * LONG_MS
        skipped = (begin_ms - published.start_ms) // self._pane_ms
        if len(published) < skipped + times:
            return
        long = [longer(within(panes, begin_ms, panes.end_ms), times, km) for panes in (truth, published)]
        usual = longer(within(typical, begin_ms, typical.end_ms), times, km) if typical else None
        self._quarters.add(long[0], long[1], health[skipped + times - 1 :: times][: len(long[0])], usual)

    def _usual(self, panes: Panes) -> Panes | None:
        if self._typical is None:
            return None
        middles = [panes.start_ms + at * panes.pane_ms + panes.pane_ms // 2 for at in range(len(panes))]
        speed, flow = (
            np.stack([self._typical.segments_at(name, at, self._timezone) for at in middles])
            for name in ("speed_kmh", "flow_vph")
        )
        table = self._network.segments
        return at_speed(panes.start_ms, panes.pane_ms, speed, flow, table.length_km, table.free_flow_kmh)

    def _count(self, truth: Panes, published: Panes, health: npt.NDArray[np.uint8], typical: Panes | None) -> None:
        observed = published.coverage > 0
        told = ~np.isnan(published.speed_kmh) | ~np.isnan(published.flow_vph)
        usual = np.zeros_like(told) if typical is None else ~np.isnan(typical.speed_kmh)
        source = np.where(
            observed, np.where(published.coverage >= WHOLE, 0, 1), np.where(told, 2, np.where(usual, 3, 4))
        )
        vkm = np.nan_to_num(truth.flow_vph) * self._network.segments.length_km * (self._pane_ms / MS_PER_H)
        self._vkm += np.bincount(source.reshape(-1), weights=vkm.reshape(-1), minlength=len(SOURCES))
        has_detector = np.zeros(truth.speed_kmh.shape[1], bool)
        has_detector[self._network.detectors.segment[self._network.detectors.kind != "camera"]] = True
        mine = health[:, has_detector]
        self._faulty += np.bincount(mine.reshape(-1), minlength=len(self._health))
        self._used += np.bincount(mine[(observed | told)[:, has_detector]], minlength=len(self._health))
        both = observed & ~np.isnan(truth.speed_kmh) & ~np.isnan(published.speed_kmh)
        cells = [
            np.minimum(values[both] / SPEED_STEP_KMH, SPEED_CELLS - 1).astype(np.int64)
            for values in (truth.speed_kmh, published.speed_kmh)
        ]
        flat = np.bincount(cells[0] * SPEED_CELLS + cells[1], minlength=SPEED_CELLS**2)
        self._joint += flat.reshape(SPEED_CELLS, SPEED_CELLS)

    def _score(self, until_ms: int) -> None:
        """Judge the forecasts whose last horizon has been published by an instant, and let go of what is past."""
        last_ms = HORIZONS_MIN[-1] * 60_000
        due = [block for block in self._waiting if block.made_ms[-1] + last_ms <= until_ms]
        self._waiting = [block for block in self._waiting if block.made_ms[-1] + last_ms > until_ms]
        for block in due:
            for at, made_ms in enumerate(block.made_ms.tolist()):
                self._score_one(block, at, made_ms)
        oldest = min((int(block.made_ms[0]) for block in self._waiting), default=until_ms)
        self._speeds = {end: speed for end, speed in self._speeds.items() if end >= oldest}

    def _score_one(self, block: ForecastsMade, at: int, made_ms: int) -> None:
        free = self._network.segments.free_flow_kmh
        now = self._speeds.get(made_ms)
        last_ms = made_ms + HORIZONS_MIN[-1] * 60_000
        truth = self._truth.panes(made_ms, last_ms, self._pane_ms).speed_kmh
        for horizon, minutes in enumerate(HORIZONS_MIN):
            end_ms = made_ms + minutes * 60_000
            came = truth[(end_ms - made_ms) // self._pane_ms - 1]
            jam = came <= JAMMED * free
            p = block.p_congested[at, :, horizon]
            if f"{minutes} min" in self._reliability:
                known = ~np.isnan(p) & ~np.isnan(came)
                self._reliability[f"{minutes} min"].add(p[known], jam[known])
            if now is None:
                continue
            usual = np.full_like(now, np.nan)
            if self._typical is not None:
                usual = self._typical.segments_at("speed_kmh", end_ms, self._timezone)
            said = (block.mean_kmh[at, :, horizon], now, usual)
            quantiles = (block.q10_kmh[at, :, horizon], block.q90_kmh[at, :, horizon])
            self._forecasts.add(horizon, came, said, quantiles, jam)

    def _faults_found(self, verdicts: Sequence[Spell], span: tuple[int, int]) -> FaultsFound:
        return judge_health(self._faults, verdicts, span, len(self._network.detectors))

    def _events(self, steps: Sequence[AlertEvent], span: tuple[int, int]) -> Events:
        free = self._network.segments.free_flow_kmh

        def was_jammed(segments: Iterable[int], from_ms: int, to_ms: int) -> bool:
            begin, end = from_ms // self._pane_ms * self._pane_ms, -(-to_ms // self._pane_ms) * self._pane_ms
            rows = list(segments)
            speed = self._truth.panes(begin, end, self._pane_ms).speed_kmh[:, rows]
            return bool((speed <= JAMMED * free[rows]).any())

        incidents = [one for one in self._truth.incidents() if span[0] <= one.onset_ms < span[1]]
        days = (span[1] - span[0]) / MS_PER_DAY
        return judge_events(incidents, alarms_of(steps), self._network, was_jammed, days=days)
