"""What becomes of messages on their way: readings as measured in, as they arrive out.

Clocks that are wrong, lines that are down and then send all at once, readings that come twice or overtake one another
(`simulators.faults`). What is under way is held here, and is part of a saved state.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from citybrain.records import Passages, Readings
from simulators.faults import FAULT_KINDS, FaultPlan

LongArray = npt.NDArray[np.int64]

_COLUMNS = {f.name: np.dtype(_of) for f in fields(Readings) if (_of := {
    "IntArray": np.int32, "LongArray": np.int64, "FloatArray": np.float64, "ByteArray": np.uint8,
}.get(str(f.type)))}  # fmt: skip
_MINUTE_MS = 60_000


class Delivery:
    """The way of one day's readings.

    Parameters
    ----------
    plan
        The faults.
    """

    def __init__(self, plan: FaultPlan) -> None:
        self._plan = plan
        self._held: dict[str, npt.NDArray[Any]] = {name: np.zeros(0, of) for name, of in _COLUMNS.items()}
        self._release_ms = np.zeros(0, np.int64)

    @property
    def remembers(self) -> bool:
        """Whether what arrives depends on earlier intervals: then none may be left out."""
        late = [FAULT_KINDS.index(kind) for kind in ("late_burst", "duplicates", "out_of_order")]
        return bool(np.isin(self._plan.kind, late).any())

    def deliver(self, readings: Readings, rng: np.random.Generator, *, last: bool = False) -> Readings:
        """Return what arrives with a batch: earlier readings that were held up first.

        Parameters
        ----------
        readings
            What was measured, by ascending detector; returned as it is where nothing is wrong.
        rng
            Draws what comes twice and what is overtaken.
        last
            True for a day's last batch: all that is still under way arrives.
        """
        now_ms = readings.watermark_ms
        release_ms, twice = self._delays(readings, now_ms, rng)
        readings = self._clocks(readings, now_ms)
        if release_ms is None and not len(twice) and not len(self._release_ms):
            return readings
        due = np.full(len(readings), now_ms) if release_ms is None else release_ms
        interval_ms = readings.observed_to_ms[twice] - readings.observed_from_ms[twice]
        due = np.concatenate([self._release_ms, due, now_ms + interval_ms])
        columns: dict[str, Any] = {
            name: np.concatenate([self._held[name], value, value[twice]])
            for name in _COLUMNS
            for value in (getattr(readings, name),)
        }
        out = (due <= now_ms) | last
        self._held = {name: value[~out] for name, value in columns.items()}
        self._release_ms = due[~out]
        arrived: dict[str, Any] = {name: value[out] for name, value in columns.items()}
        return replace(readings, **arrived)

    def passages(self, passages: Passages | None, rng: np.random.Generator) -> Passages | None:
        """Return what arrives of a camera's passages; None where nothing does."""
        plan = self._plan
        if passages is None or not len(plan.row):
            return passages
        now_ms = passages.watermark_ms
        passed_ms = passages.passed_ms.copy()
        for kind in ("drifting", "wrong_zone"):
            at = plan.going(kind, now_ms)
            for fault, shift_ms in zip(at, plan.shift_ms(at, kind, now_ms), strict=True):
                passed_ms[passages.camera == plan.detector[fault]] += shift_ms
        kept = ~np.isin(passages.camera, plan.detector[plan.going("silent", now_ms)])
        share = np.zeros(len(kept))
        for fault in plan.going("duplicates", now_ms):
            share[passages.camera == plan.detector[fault]] = plan.factor[fault]
        times = kept * (1 + (rng.random(len(kept)) < share))
        row = np.repeat(np.arange(len(kept)), times)
        if not len(row):
            return None
        columns = ("camera", "plate", "lane", "vehicle_class", "speed_kmh")
        taken = {name: getattr(passages, name)[row] for name in columns}
        return replace(passages, passed_ms=passed_ms[row], **taken)

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """Return what is under way, as arrays by name."""
        return {**self._held, "release_ms": self._release_ms}

    def load(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take up what `dump` returned."""
        self._held = {name: state[name] for name in _COLUMNS}
        self._release_ms = state["release_ms"]

    def _clocks(self, readings: Readings, now_ms: int) -> Readings:
        """Return readings with the stamps that wrong clocks give them."""
        shift_ms = np.zeros(len(readings), np.int64)
        for kind in ("drifting", "wrong_zone"):
            at, row = self._at(readings, self._plan.going(kind, now_ms))
            np.add.at(shift_ms, row, self._plan.shift_ms(at, kind, now_ms))
        if not shift_ms.any():
            return readings
        return replace(
            readings,
            observed_from_ms=readings.observed_from_ms + shift_ms,
            observed_to_ms=readings.observed_to_ms + shift_ms,
        )

    def _delays(
        self, readings: Readings, now_ms: int, rng: np.random.Generator
    ) -> tuple[LongArray | None, npt.NDArray[np.int64]]:
        """Return when each row arrives, None where all do at once; and the rows that come once more."""
        plan = self._plan
        down, down_row = self._at(readings, plan.going("late_burst", now_ms))
        late, late_row = self._at(readings, plan.going("out_of_order", now_ms))
        again, again_row = self._at(readings, plan.going("duplicates", now_ms))
        twice = again_row[rng.random(len(again)) < plan.factor[again]] if len(again) else again_row
        if not len(down) and not len(late):
            return None, twice
        due = np.full(len(readings), now_ms)
        interval_ms = readings.observed_to_ms[late_row] - readings.observed_from_ms[late_row]
        due[late_row] += interval_ms * rng.integers(0, np.round(plan.factor[late]).astype(np.int64) + 1)
        due[down_row] = np.maximum(due[down_row], _up_again(plan, down, now_ms))
        return due, twice

    def _at(self, readings: Readings, at: LongArray) -> tuple[LongArray, LongArray]:
        """Return those of some faults whose detector has a row in the readings, and that row."""
        if not len(at) or not len(readings):
            return at[:0], at[:0]
        detector = self._plan.detector[at]
        row = np.minimum(np.searchsorted(readings.detector, detector), len(readings) - 1)
        there = readings.detector[row] == detector
        return at[there], row[there]


def _up_again(plan: FaultPlan, at: LongArray, now_ms: int) -> LongArray:
    """Return when lines that are down are up again: at the end of their outage, or of the fault."""
    onset_ms, end_ms = plan.onset_ms[at], plan.end_ms[at]
    outage_ms = np.rint(plan.factor[at] * _MINUTE_MS).astype(np.int64)
    outage_ms = np.where(outage_ms > 0, outage_ms, end_ms - onset_ms)
    # A reading that is ready in the very moment in which the line is up again goes with the burst.
    number = np.maximum(-(-(now_ms - onset_ms) // outage_ms), 1)
    return np.asarray(np.minimum(onset_ms + number * outage_ms, end_ms))
