"""Intervals of observation in, which of them are new out: a detector's time is counted once.

One `Intervals` belongs to one source. In the common case (a detector's reading follows its last one) two arrays are
compared; readings out of order are held against the few disjoint intervals that the detector reported lately.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LongArray = npt.NDArray[np.int64]
IndexArray = npt.NDArray[np.intp]
BoolArray = npt.NDArray[np.bool_]

NEVER = np.int64(-(2**62))
MOST_KEPT = 64
"""Disjoint intervals kept a detector; a detector with more gaps within the lateness forgets the oldest."""


@dataclass(slots=True)
class Intervals:
    """What detectors reported lately: a newest run of intervals without a gap, and older disjoint ones.

    Attributes
    ----------
    run_from, run_to
        The newest run of each detector, ms; `NEVER` before the first reading; shape (detectors,).
    old_from, old_to
        Older disjoint intervals, `NEVER` where free; shape (detectors, kept).
    floor
        Before this instant nothing is known any more, so nothing is accepted; shape (detectors,).
    """

    run_from: LongArray
    run_to: LongArray
    old_from: LongArray
    old_to: LongArray
    floor: LongArray

    @classmethod
    def none(cls, detectors: int) -> Intervals:
        """Return the memory of detectors that have reported nothing."""
        run, old = (detectors,), (detectors, 1)
        return cls(*(np.full(shape, NEVER) for shape in (run, run, old, old, run)))

    def take(self, detector: IndexArray, from_ms: LongArray, to_ms: LongArray, horizon_ms: int) -> BoolArray:
        """Return which readings are new, and remember those.

        Parameters
        ----------
        detector
            Detector of each reading, in the order of arrival, shape (n,).
        from_ms, to_ms
            Half-open intervals, shape (n,).
        horizon_ms
            Nothing before this instant is asked for again: such intervals are forgotten.

        Returns
        -------
        BoolArray
            False where the interval overlaps one that was counted, shape (n,).
        """
        once = bool((detector[1:] > detector[:-1]).all())
        if once and self.follow(detector, from_ms, to_ms):
            return np.ones(len(detector), dtype=np.bool_)
        if once:
            return self._take_distinct(detector, from_ms, to_ms, horizon_ms)
        return self._take_mixed(detector, from_ms, to_ms, horizon_ms)

    def follow(self, detector: IndexArray, from_ms: LongArray | int, to_ms: LongArray | int) -> bool:
        """Take readings of distinct detectors if each begins where its detector's last one ended; else take none."""
        if not (self.run_to.take(detector) == from_ms).all():
            return False
        self.run_to[detector] = to_ms
        return True

    def _take_distinct(self, det: IndexArray, from_ms: LongArray, to_ms: LongArray, horizon_ms: int) -> BoolArray:
        """Take readings of as many detectors."""
        start, end = self.run_from[det], self.run_to[det]
        new = from_ms >= end
        follows = new & (from_ms == end)
        self.run_to[det[follows]] = to_ms[follows]
        jumps = new & ~follows
        if jumps.any():
            at = det[jumps]
            begun = end[jumps] > horizon_ms
            self._keep(at[begun], start[jumps][begun], end[jumps][begun], horizon_ms)
            self.run_from[at], self.run_to[at] = from_ms[jumps], to_ms[jumps]
        before = np.flatnonzero(~new & (to_ms <= start) & (from_ms >= self.floor[det]))
        if len(before):
            at, first, last = det[before], from_ms[before], to_ms[before]
            clash = ((self.old_from[at] < last[:, None]) & (self.old_to[at] > first[:, None])).any(axis=1)
            at, first, last, before = at[~clash], first[~clash], last[~clash], before[~clash]
            new[before] = True
            joins = last == start[before]
            self.run_from[at[joins]] = first[joins]
            self._keep(at[~joins], first[~joins], last[~joins], horizon_ms)
        return new

    def _keep(self, det: IndexArray, from_ms: LongArray, to_ms: LongArray, horizon_ms: int) -> None:
        """Remember one older interval of each of these distinct detectors."""
        if not len(det):
            return
        ends = self.old_to[det]
        slot = ends.argmin(axis=1)
        oldest = ends[np.arange(len(det)), slot]
        if (oldest > horizon_ms).any() and self.old_to.shape[1] < MOST_KEPT:
            more = np.full_like(self.old_to, NEVER)
            self.old_from, self.old_to = np.hstack([self.old_from, more]), np.hstack([self.old_to, more])
            self._keep(det, from_ms, to_ms, horizon_ms)
            return
        # A detector with too many gaps: forget its oldest interval, and accept nothing before its end.
        self.floor[det] = np.maximum(self.floor[det], np.where(oldest > horizon_ms, oldest, NEVER))
        self.old_from[det, slot], self.old_to[det, slot] = from_ms, to_ms

    def _take_mixed(self, det: IndexArray, from_ms: LongArray, to_ms: LongArray, horizon_ms: int) -> BoolArray:
        """Take readings of which several may be of one detector.

        Readings of a detector that follow one another are taken as one run, so that a batch with an hour of every
        detector costs one round, not one for each reading.
        """
        order = np.lexsort((from_ms, det))
        d, f, t = det[order], from_ms[order], to_ms[order]
        same = d[1:] == d[:-1]
        if not (same & (f[1:] < t[:-1])).any():
            starts = np.flatnonzero(np.concatenate([[True], ~(same & (f[1:] == t[:-1]))]))
            ends = np.concatenate([starts[1:], [len(d)]])
            taken = self._take_rounds(d[starts], f[starts], t[ends - 1], horizon_ms)
            new = np.repeat(taken, ends - starts)
            # A run of several readings clashes as a whole: ask again one by one.
            again = np.flatnonzero(np.repeat(~taken & (ends - starts > 1), ends - starts))
            if len(again):
                new[again] = self._take_rounds(d[again], f[again], t[again], horizon_ms)
        else:
            new = self._take_rounds(d, f, t, horizon_ms)
        result = np.empty(len(det), dtype=np.bool_)
        result[order] = new
        return result

    def _take_rounds(self, det: IndexArray, from_ms: LongArray, to_ms: LongArray, horizon_ms: int) -> BoolArray:
        """Take readings sorted by detector: first the first of each detector, then the second, and so on."""
        starts = np.flatnonzero(np.concatenate([[True], det[1:] != det[:-1]]))
        place = np.arange(len(det)) - np.repeat(starts, np.diff(np.concatenate([starts, [len(det)]])))
        new = np.zeros(len(det), dtype=np.bool_)
        for nth in range(int(place.max(initial=-1)) + 1):
            rows = np.flatnonzero(place == nth)
            new[rows] = self._take_distinct(det[rows], from_ms[rows], to_ms[rows], horizon_ms)
        return new

    def forget(self, horizon_ms: int) -> None:
        """Drop what lies before an instant, so that a dump depends on nothing older."""
        gone = self.old_to <= horizon_ms
        self.old_from[gone] = NEVER
        self.old_to[gone] = NEVER
        self.floor[self.floor <= horizon_ms] = NEVER
        width = max(1, int((self.old_to != NEVER).sum(axis=1).max(initial=0)))
        if width < self.old_to.shape[1]:
            newest = np.argsort(-self.old_to, axis=1, kind="stable")[:, :width]
            self.old_from = np.take_along_axis(self.old_from, newest, axis=1)
            self.old_to = np.take_along_axis(self.old_to, newest, axis=1)
