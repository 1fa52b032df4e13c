"""What is wrong with detectors: a week's faults drawn, and readings distorted as such faults do.

A fault begins at its onset and lasts to the end of its week; about half of them were there before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from simulators.calendar import on
from simulators.roads import FloatArray, IntArray

FaultKind = Literal["silent", "stuck", "chattering", "biased"]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
_WEIGHTS = (0.4, 0.2, 0.2, 0.2)


@dataclass(frozen=True, slots=True)
class Fault:
    """One detector's fault.

    Attributes
    ----------
    detector
        Index of the detector.
    kind
        ``silent`` (sends nothing), ``stuck`` (repeats one reading), ``chattering`` (counts each vehicle several
        times), ``biased`` (speeds off by a factor).
    onset_ms, end_ms
        Half-open, ms UTC.
    factor
        How strong: of the counts or the speeds.
    """

    detector: int
    kind: FaultKind
    onset_ms: int
    end_ms: int
    factor: float


class FaultPlan:
    """The faults of one week over the detectors that report, in their order."""

    def __init__(self, detectors: IntArray, faults: tuple[Fault, ...]) -> None:
        self.faults = faults
        row = {int(detector): at for at, detector in enumerate(detectors)}
        self._rows = [(row[fault.detector], fault) for fault in faults if fault.detector in row]

    def distort(self, values: dict[str, FloatArray], now_ms: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
        """Change the values of detectors with a fault at an instant, in place; returns which report at all."""
        present = np.ones(len(values["count"]), bool)
        for row, fault in self._rows:
            if not fault.onset_ms <= now_ms < fault.end_ms:
                continue
            if fault.kind == "silent":
                present[row] = False
            elif fault.kind == "stuck":
                values["count"][row] = np.round(3 * fault.factor)
                values["speed"][row] = np.round(20 * fault.factor)
                values["occupancy"][row] = 0.05 * fault.factor
            elif fault.kind == "chattering":
                values["count"][row] = values["count"][row] * np.round(fault.factor + 1) + rng.integers(0, 4)
            else:
                values["speed"][row] *= fault.factor
        return present


def faults_of_week(
    day: date, timezone: str, detectors: IntArray, share: float, rng: np.random.Generator
) -> tuple[Fault, ...]:
    """Draw the faults of the week (Monday to Sunday) that a day lies in.

    Parameters
    ----------
    day, timezone
        A civil date of the week; zone of the city.
    detectors
        Indices of the detectors that may have one.
    share
        Share of them that has one, 0..1.
    rng
        The week's generator.
    """
    monday = day - timedelta(days=day.weekday())
    start, end = on(monday, timezone).start_ms, on(monday + timedelta(days=7), timezone).start_ms
    chosen = np.sort(rng.choice(detectors, round(share * len(detectors)), replace=False))
    kinds = rng.choice(len(FAULT_KINDS), len(chosen), p=_WEIGHTS)
    onset = np.where(rng.random(len(chosen)) < 0.5, 0.0, rng.random(len(chosen)))
    low, high = rng.uniform(0.55, 0.75, len(chosen)), rng.uniform(1.3, 1.7, len(chosen))
    factor = np.where(rng.random(len(chosen)) < 0.5, low, high)
    strong = rng.uniform(1.0, 4.0, len(chosen))
    return tuple(
        Fault(
            detector=int(detector),
            kind=FAULT_KINDS[kind],
            onset_ms=start + int(at * (end - start)) // 1000 * 1000,
            end_ms=end,
            factor=float(factor[i] if FAULT_KINDS[kind] == "biased" else strong[i]),
        )
        for i, (detector, kind, at) in enumerate(zip(chosen, kinds, onset, strict=True))
    )
