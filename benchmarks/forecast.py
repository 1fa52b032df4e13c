"""Forecast against real loops: error beside last value and time of day, coverage of the band, calibration.

Los-loop: typical day from Thursday, Friday and Monday, judged on Tuesday. I-5: from Thursday and Friday, judged on
Wednesday. Constants of the method (`models.forecast`, `models.typical.shrunk`) were chosen with all days of these two
in view. I-405 was never looked at while they were: typical from ten weekdays, judged on the five after.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.figure import Figure
from citybrain.typical import Typical
from citybrain.units import KMH_PER_MPH
from models.forecast import Ahead, ForecastModel

Array = npt.NDArray[np.float64]
PANE_MS, PANES = 300_000, 288
CONGESTED = 0.5
DAY_MS = 86_400_000
MONDAY_MS = 1_789_948_800_000


@dataclass(frozen=True, slots=True)
class Days:
    """Days of one data set in order, each (288, sensors) km/h, NaN unknown; which are typical, warm up, are judged."""

    name: str
    days: list[Array]
    typical: tuple[int, ...]
    warm: tuple[int, ...]
    judged: tuple[int, ...]


def data() -> Path:
    return Path(os.environ.get("CITYBRAIN_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def los_loop() -> Days:
    frame = pd.read_csv(data() / "los_loop" / "speed_mph_train1612.csv.gz")
    speed = frame.iloc[:, 1:].to_numpy(dtype=np.float64) * KMH_PER_MPH
    return Days("Los-loop", _days(speed), (0, 1, 4), (1, 2, 3, 4), (5,))


def pems_i5() -> Days:
    return Days("I-5", i5_days("speed"), (0, 1), (0, 1), (2,))


def i5_days(column: str) -> list[Array]:
    frame = pd.read_csv(data() / "pems_i5" / "I5N_train_detector_states_3days.csv.gz")
    stations = frame.sort_values("milepost")["station_id"].unique()
    return _days(
        frame.pivot(index="timestamp", columns="station_id", values=column)[stations].to_numpy(dtype=np.float64)
    )


def i405() -> Days:
    """15 weekdays from 10:00 to 20:55; stations whose values are all imputed are left out."""
    frame = pd.read_csv(data() / "pems_i405n_2019" / "days01-15.csv.gz", parse_dates=["ts"])
    observed = frame.groupby("VDS")["pct_observed"].transform("max") > 0
    table = frame[observed].pivot(index="ts", columns="VDS", values="speed_mph") * KMH_PER_MPH
    days = []
    midnight = pd.DatetimeIndex(table.index).normalize()
    for day in midnight.unique():
        rows, stamps = table[midnight == day], pd.date_range(day, periods=PANES, freq="5min")
        days.append(rows.reindex(stamps).to_numpy(dtype=np.float64))
    return Days("I-405", days, tuple(range(10)), tuple(range(10)), tuple(range(10, 15)))


def typical_of(days: list[Array]) -> Typical:
    """The typical week of some days (all of one type here)."""
    fives = np.ma.masked_invalid(np.stack([day.reshape(-1, 3, day.shape[1]) for day in days]))
    quarters = fives.mean(axis=2).mean(axis=0).filled(np.nan)
    speed = np.tile(quarters[None], (3, 1, 1)).astype(np.float32)
    area = np.full((5, 3, 96, 1), np.nan, dtype=np.float32)
    n = np.full_like(speed, 3.0 * len(days))
    return Typical("benchmark", "observed", n, speed, np.full_like(speed, 5.0), np.full_like(speed, np.nan), area, area)


def free_flow(days: list[Array]) -> Array:
    return np.nanpercentile(np.concatenate(days), 95, axis=0)


def run() -> list[Figure]:
    figures = []
    for case in (los_loop(), pems_i5(), i405()):
        figures += _judge(case)
    return [*figures, *_speed()]


def _judge(case: Days) -> list[Figure]:
    train = [case.days[i] for i in case.typical]
    free, typical = free_flow(train), typical_of(train)
    memory, ahead = _model(free, typical).new(), list[Ahead]()
    for number, day in enumerate((*case.warm, *case.judged)):
        # A typical day that has seen the day it is used on would make the errors look smaller than they are.
        model = _model(free, typical_of([case.days[i] for i in case.typical if i != day]))
        for row, speed in enumerate(case.days[day]):
            end_ms = MONDAY_MS + number * DAY_MS + (row + 1) * PANE_MS
            model.observe(memory, speed, end_ms, PANE_MS)
            if day in case.judged:
                ahead.append(model.ahead(memory, end_ms))
    came = np.concatenate([case.days[i] for i in case.judged])
    by_time = np.tile(np.repeat(typical.speed_kmh[0].astype(np.float64), 3, axis=0), (len(case.judged), 1))
    return [figure for h in (15, 30, 60) for figure in _figures(case.name, h, ahead, came, by_time, free)]


def _figures(name: str, minutes: int, ahead: list[Ahead], came: Array, by_time: Array, free: Array) -> list[Figure]:
    steps, column = minutes // 5, minutes // 5 - 1
    truth, last = came[steps:], came[:-steps]
    made = ahead[: len(truth)]
    known = ~np.isnan(truth) & ~np.isnan(last) & ~np.isnan(by_time[steps : steps + len(truth)])
    threshold = np.broadcast_to(CONGESTED * free, truth.shape)[known]
    by_time, truth, last = by_time[steps : steps + len(truth)][known], truth[known], last[known]

    def of(field: str) -> Array:
        return np.stack([getattr(one, field)[:, column] for one in made]).astype(np.float64)[known]

    ours, tod = _rmse(of("mean_kmh"), truth), _rmse(by_time, truth)
    peer = f"last value {_rmse(last, truth):.2f}, time of day {tod:.2f}"
    inside = (truth >= of("q10_kmh")) & (truth <= of("q90_kmh"))
    jam, p = truth <= threshold, of("p_congested")
    brier, base = float(np.mean((p - jam) ** 2)), float(jam.mean())
    gap = max(abs(float(p[at].mean() - jam[at].mean())) for at in _bins(p))
    return [
        Figure(f"{name}, {minutes} min ahead: RMSE", ours, "km/h", "below both", peer),
        Figure(f"{name}, {minutes} min ahead: 10-90 % band holds", float(inside.mean()), "share", "0.80"),
        Figure(
            f"{name}, {minutes} min ahead: Brier skill", 1 - brier / (base * (1 - base)), "share", "", f"{brier:.4f}"
        ),
        Figure(f"{name}, {minutes} min ahead: worst calibration bin", gap, "share", "below 0.1"),
    ]


def _bins(p: Array) -> list[npt.NDArray[np.bool_]]:
    """Bins of the probability with at least 200 forecasts."""
    at = np.digitize(p, [0.05, 0.2, 0.4, 0.6, 0.8])
    return [at == one for one in range(6) if (at == one).sum() >= 200]


def _speed(segments: int = 5000) -> list[Figure]:
    rng = np.random.default_rng(1)
    free = np.full(segments, 90.0)
    model = _model(free, typical_of([np.full((PANES, segments), 80.0)]))
    memory, panes, began = model.new(), 60, time.perf_counter()
    for pane in range(panes):
        end_ms = MONDAY_MS + (pane + 1) * 60_000
        model.observe(memory, 80 + rng.normal(0, 10, segments), end_ms, 60_000)
        model.ahead(memory, end_ms)
    return [Figure("forecast of 5,000 segments", (time.perf_counter() - began) / panes * 1e3, "ms/pane", "below 10")]


def _model(free: Array, typical: Typical) -> ForecastModel:
    segments = np.arange(len(free), dtype=np.int32)
    return ForecastModel.of(free, segments, typical=typical, timezone="UTC", congested=CONGESTED, pane_ms=PANE_MS)


def _days(speed: Array) -> list[Array]:
    return [speed[at : at + PANES] for at in range(0, len(speed), PANES)]


def _rmse(forecast: Array, truth: Array) -> float:
    return float(np.sqrt(np.mean((forecast - truth) ** 2)))
