"""Edie's sums of a minute: an engine's counts in; kilometres, hours, delays and queues of every segment out.

Speeds, flows and densities follow from total distance and total time of all vehicles in the minute, from where each of
them was at its ends. A queue is what Newell's rule says: whoever could be further on at free flow, were there room.

References
----------
Edie (1963), Discussion of traffic stream measurements and definitions, 2nd ISTTT. Newell (1993), Transportation
Research B 27(4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulators.engine import Engine
from simulators.roads import FloatArray

LongArray = npt.NDArray[np.int64]

MINUTE_S = 60
QUEUED_S = 2.0
"""Later than free flow by more than this is queued: capacity alone keeps vehicles apart by up to that."""


@dataclass(frozen=True, slots=True)
class Minute:
    """Sums of one minute and queues at its end; arrays have shape (links,).

    Attributes
    ----------
    distance_m, time_s
        Vehicle-metres, vehicle-seconds.
    left
        Vehicles that left.
    late_s
        By how much those that left were later than at free flow, together.
    queue_veh, queue_m
        Vehicles in the queue at the segment's end, and how far it reaches back.
    """

    distance_m: FloatArray
    time_s: FloatArray
    left: LongArray
    late_s: FloatArray
    queue_veh: LongArray
    queue_m: FloatArray


@dataclass(frozen=True, slots=True)
class Standing:
    """Where every vehicle on the road is, in the order of links and on each from its head; shape (vehicles,).

    Attributes
    ----------
    link, position_m
        Its link, and metres from the link's start.
    queued
        True where the queue, not free flow, decides.
    """

    link: LongArray
    position_m: FloatArray
    queued: npt.NDArray[np.bool_]


class Measure:
    """Turns the engine's cumulative sums into those of intervals."""

    def __init__(self, engine: Engine) -> None:
        self._before = _sums(engine, standing(engine))

    def since(self, engine: Engine) -> Minute:
        """Return the sums since the last call."""
        now = standing(engine)
        sums = _sums(engine, now)
        distance, time_s, left, late = (new - old for new, old in zip(sums, self._before, strict=True))
        self._before = sums
        queue_veh = np.bincount(now.link[now.queued], minlength=engine.links)
        tail = np.zeros(engine.links)
        length = engine.roads.length_m
        np.maximum.at(tail, now.link[now.queued], (length[now.link] - now.position_m)[now.queued])
        # The last one in the queue needs its own place, too.
        place = length / engine.room_veh(np.arange(engine.links))
        return Minute(
            np.maximum(distance, 0.0),
            np.maximum(time_s, 0.0),
            left.astype(np.int64),
            np.maximum(late, 0.0),
            queue_veh,
            np.minimum(tail + place * (queue_veh > 0), length),
        )


def _sums(engine: Engine, now: Standing) -> tuple[FloatArray, ...]:
    left = engine.left[: engine.links].astype(np.float64)
    inside = np.bincount(now.link, weights=now.position_m, minlength=engine.links)
    return left * engine.roads.length_m + inside, engine.time_spent_s(), left, engine.delay_s[: engine.links].copy()


def standing(engine: Engine) -> Standing:
    """Return where every vehicle on the road is.

    Those under way are where free flow has taken them. Those in a queue stand at its density: with ``m`` vehicles gone
    in the last ``W = L / w``, the ``S - m`` that then fill the segment, where ``S`` like those on it would fill it.
    """
    counts = engine.on_link
    link = np.repeat(np.arange(engine.links), counts)
    rank = np.arange(len(link)) - np.repeat(np.cumsum(counts) - counts, counts)
    start, size = engine.slots(link)
    entry = engine.entry_s[start + (engine.left[link] + rank) % size]
    roads = engine.roads
    room = np.maximum(engine.room_veh(np.arange(engine.links)) - _gone_lately(engine), 1.0)
    since = engine.now_s - entry
    queued = np.maximum(1.0 - rank / room[link], 0.0)
    late = since - queued * engine.free_s[link] > QUEUED_S
    share = np.minimum(np.minimum(since / engine.free_s[link], 1.0), queued)
    return Standing(link, roads.length_m[link] * np.maximum(share, 0.0), late)


def _gone_lately(engine: Engine) -> LongArray:
    """Return how many vehicles left each link in its last wave time, counted where its head is late only."""
    gone = np.zeros(engine.links, np.int64)
    going = np.flatnonzero(engine.head_delay_s() > 0)
    start, size = engine.slots(np.arange(engine.links))
    since = engine.now_s - engine.roads.wave_s
    while len(going):
        number = engine.left[going] - gone[going] - 1
        later = engine.exit_s[start[going] + number % size[going]] > since[going]
        later &= (number >= 0) & (gone[going] < size[going])
        going = going[later]
        gone[going] += 1
    return gone
