"""Backlog: messages of several partitions as they were fetched in, in about the order of their time out.

A client fetches the partitions of a backlog one after another, as it likes: after two hours of absence one was read to
its end before another was begun, and three readings of four were too late by the time of those before them (measured:
557,241 of 735,840, a city of 1,000 segments). What is ahead of a partition that holds more is kept until that one has
come as far, and partitions that are ahead are not read on. Without a backlog nothing is kept.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

from citybrain.records import LongArray

AHEAD_MS = 2 * 60_000
"""How far partitions may lie apart: little of what `streams.ring.SPREAD_MS` allows, the rest is for the senders."""
STALL_S = 10.0
"""A partition that holds more and tells nothing for so long is not waited for: its leader may be away."""
GAP_S = 1.0
"""Looks that are farther apart count as so far: while nobody looked nobody was heard."""
LAST = 9
"""A partition is where the middle one of its last so many messages is: one fast clock does not move it."""


class Chunk(NamedTuple):
    """Messages in the order in which they were read, with partition and record time (ms UTC) of each, shape (n,)."""

    messages: list[Any]
    partition: LongArray
    record_ms: LongArray

    @classmethod
    def empty(cls) -> Chunk:
        """Return no messages."""
        return cls([], np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))

    def some(self, rows: LongArray) -> Chunk:
        """Return the messages of some rows."""
        return Chunk([self.messages[at] for at in rows.tolist()], self.partition[rows], self.record_ms[rows])

    def and_then(self, more: Chunk) -> Chunk:
        """Return these and more."""
        if not self.messages or not more.messages:
            return self if self.messages else more
        arrays = (np.concatenate(both) for both in ((self.partition, more.partition), (self.record_ms, more.record_ms)))
        return Chunk(self.messages + more.messages, *arrays)


class Backlog:
    """Keeps what came too soon.

    Parameters
    ----------
    now_s
        When the partitions were assigned, by any steady clock.
    """

    def __init__(self, now_s: float) -> None:
        self._looked_s, self._clock_s = now_s, 0.0
        self._kept = Chunk.empty()
        self._last_ms: dict[int, list[int]] = {}
        self._heard_s: dict[int, float] = {}
        self.ahead: set[int] = set()
        """Partitions that shall not be read on for now."""

    @property
    def kept(self) -> set[int]:
        """Partitions of which messages are kept."""
        return set(np.unique(self._kept.partition).tolist())

    def due(self, read: Chunk, behind: Collection[int], now_s: float) -> Chunk:
        """Return the messages that may go on, those of a partition in its order.

        Parameters
        ----------
        read
            What was read now; may be empty.
        behind
            Partitions that hold messages beyond it.
        now_s
            By the same clock.
        """
        self._clock_s += min(now_s - self._looked_s, GAP_S)
        self._looked_s = now_s
        self._hear(read)
        limit_ms = min(map(self._at_ms, self.waited_for(behind)), default=2**62) + AHEAD_MS
        self.ahead = {number for number in self._last_ms if self._at_ms(number) > limit_ms}
        self._heard_s |= dict.fromkeys(self.ahead, self._clock_s)
        if not self._kept.messages and read.record_ms.max(initial=0) <= limit_ms:
            return read
        whole = self._kept.and_then(read)
        due = np.zeros(len(whole.messages), dtype=np.bool_)
        for number in np.unique(whole.partition).tolist():
            mine = np.flatnonzero(whole.partition == number)
            # What is followed by something due is due: a partition is never read out of its order.
            least_ms = np.minimum.accumulate(whole.record_ms[mine][::-1])[::-1]
            due[mine[: np.searchsorted(least_ms, limit_ms, "right")]] = True
        self._kept = whole.some(np.flatnonzero(~due))
        return whole.some(np.flatnonzero(due))

    def waited_for(self, behind: Collection[int]) -> list[int]:
        """Return those of the partitions that are behind which tell something, or did not long ago."""
        return [number for number in behind if self._clock_s - self._heard_s.get(number, 0.0) < STALL_S]

    def _hear(self, read: Chunk) -> None:
        for number in np.unique(read.partition).tolist():
            last_ms = read.record_ms[read.partition == number][-LAST:].tolist()
            self._last_ms[number] = [*self._last_ms.get(number, ()), *last_ms][-LAST:]
            self._heard_s[number] = self._clock_s

    def _at_ms(self, number: int) -> int:
        """Return up to which record time a partition was read."""
        last_ms = sorted(self._last_ms.get(number, ()))
        return last_ms[len(last_ms) // 2] if last_ms else -(2**62)
