"""Ring: sums added by pane in, a bounded ring of panes out; what is open, closed and revised, and the log's time.

This is the state that ``aggregate`` keeps of one source partition: arrays and the rules of time (`Times`), no records.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from citybrain.records import ByteArray, LongArray
from citybrain.settings import TimeSettings
from streams.health import Health
from streams.intervals import Intervals
from streams.sums import FIELDS, Additions

BoolArray = npt.NDArray[np.bool_]

SPREAD_MS = 15 * 60_000
"""How far sources may lie apart in event time; who is further behind holds nothing back. It bounds the ring."""
GAP_MS = 60 * 60_000
"""A longer time without any reading is left out, instead of being told pane by pane."""


@dataclass(frozen=True, slots=True)
class Times:
    """How event time is cut, in whole ms; derived from `citybrain.settings.TimeSettings`.

    ``capacity`` is the number of panes in the ring; ``gap`` the number of empty panes that are left out as one.
    """

    pane_ms: int
    reorder_ms: int
    lateness_ms: int
    idle_ms: int
    skew_ms: int
    capacity: int
    gap: int

    @classmethod
    def of(cls, time: TimeSettings) -> Times:
        """Return the settings in ms."""
        pane, reorder, lateness, idle, skew = (
            int(span.total_seconds() * 1000)
            for span in (time.pane, time.reorder, time.lateness, time.source_idle, time.skew)
        )
        capacity = -(-(SPREAD_MS + reorder + lateness) // pane) + 2
        return cls(pane, reorder, lateness, idle, skew, capacity, max(3, GAP_MS // pane))

    def closed_before(self, watermark_ms: int) -> int:
        """Return the first pane that is still open at this watermark."""
        return (watermark_ms - self.reorder_ms) // self.pane_ms

    def final_before(self, watermark_ms: int) -> int:
        """Return the first pane that may still be revised at this watermark."""
        return (watermark_ms - self.reorder_ms - self.lateness_ms) // self.pane_ms


@dataclass(slots=True)
class Source:
    """What is known of one feed in one partition: its clock, when it last spoke, what it reported."""

    watermark_ms: int
    spoke_ms: int
    seen: Intervals


@dataclass(slots=True)
class Ring:
    """The panes of one partition.

    Attributes
    ----------
    partition
        Source partition.
    sums, told
        Sums and worst told quality of each pane, shapes (capacity, `FIELDS`, segments) and (capacity, segments).
    filled
        Which slots hold readings, shape (capacity,); the slot of pane k is ``k % capacity``.
    revised
        How many messages changed a pane after its close, shape (capacity,).
    changed_by
        Offset of the last message that did so, shape (capacity,).
    dirty
        Revised, and not yet told, shape (capacity,).
    base, open
        First pane that is not final; first that was not closed. ``base`` is -1 before the first message.
    first, shown
        First and last pane that were told.
    watermark_ms
        Event time up to which all is thought to be here.
    offset
        Last offset applied.
    sources
        Feeds by name.
    health
        What is remembered of the detectors.
    fresh
        Changed since it was last shown provisionally (not kept in dumps).
    """

    partition: int
    sums: LongArray
    told: ByteArray
    filled: BoolArray
    revised: LongArray
    changed_by: LongArray
    dirty: BoolArray
    health: Health
    base: int = -1
    open: int = 0
    first: int = 0
    shown: int = 0
    watermark_ms: int = 0
    offset: int = -1
    sources: dict[str, Source] = field(default_factory=dict)
    fresh: bool = False

    @classmethod
    def empty(cls, partition: int, capacity: int, segments: int, detectors: int) -> Ring:
        """Return a ring without readings."""
        return cls(
            partition,
            np.zeros((capacity, FIELDS, segments), dtype=np.int64),
            np.zeros((capacity, segments), dtype=np.uint8),
            np.zeros(capacity, dtype=np.bool_),
            np.zeros(capacity, dtype=np.int64),
            np.zeros(capacity, dtype=np.int64),
            np.zeros(capacity, dtype=np.bool_),
            Health.none(detectors),
        )

    @property
    def end(self) -> int:
        """First pane that the ring cannot hold."""
        return self.base + len(self.filled)

    def slot(self, pane: int) -> int:
        """Return the place of a pane in the ring."""
        return pane % len(self.filled)

    def holds(self, pane: int) -> bool:
        """Return whether the pane has readings."""
        return self.base <= pane < self.end and bool(self.filled[self.slot(pane)])

    def held(self, from_pane: int, to_pane: int) -> list[int]:
        """Return the panes of a range that have readings, ascending."""
        panes = range(max(from_pane, self.base), min(to_pane, self.end))
        return [pane for pane in panes if self.filled[self.slot(pane)]]

    def horizon_ms(self, times: Times) -> int:
        """Return the instant before which no reading is accepted any more."""
        return self.base * times.pane_ms

    def start(self, pane: int, times: Times) -> None:
        """Begin with a pane: those within the lateness before it may still be revised."""
        start_ms = pane * times.pane_ms
        self.base = (start_ms - times.reorder_ms - times.lateness_ms) // times.pane_ms
        self.watermark_ms = self.base * times.pane_ms + times.reorder_ms + times.lateness_ms
        self.open, self.first, self.shown = pane, pane, pane - 1

    def add(self, more: Additions, offset: int) -> None:
        """Add to a pane of the ring; a closed one becomes dirty."""
        slot = self.slot(more.pane)
        block, columns = self.sums[slot], more.columns
        first, last = int(columns[0]), int(columns[-1])
        if last - first == len(columns) - 1:
            block[:, first : last + 1] += more.sums
        else:
            block[:, columns] = block.take(columns, axis=1) + more.sums
        if more.quality is not None:
            self.told[slot, columns] = np.maximum(self.told[slot, columns], more.quality)
        self.filled[slot] = True
        self.fresh = True
        if more.pane < self.open:
            self._revise(more.pane, offset)
            # Earlier than anything told: the panes up to there are told too, as they would have been in order.
            for pane in range(more.pane + 1, self.first):
                self._revise(pane, offset)
            self.first = min(self.first, more.pane)

    def _revise(self, pane: int, offset: int) -> None:
        slot = self.slot(pane)
        self.dirty[slot] = True
        # Counted by message, not by reading or checkpoint: the same in every replay.
        self.revised[slot] += self.changed_by[slot] != offset or not self.revised[slot]
        self.changed_by[slot] = offset

    def clear(self, pane: int) -> None:
        """Let go of a final pane."""
        slot = self.slot(pane)
        if self.filled[slot]:
            self.sums[slot] = 0
            self.told[slot] = 0
        self.filled[slot] = self.dirty[slot] = False
        self.revised[slot] = self.changed_by[slot] = 0
