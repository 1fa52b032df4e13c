"""Journeys from one camera to the next: passages in, travel times over segments out. Arrays and dicts, no I/O."""

from __future__ import annotations

from statistics import median

import msgspec

from citybrain.network import Network
from citybrain.units import M_PER_KM, MS_PER_S
from models.roads import downstream

FORGET_MS = 20 * 60_000
"""A plate that was not seen for so long is forgotten: it stopped, turned off or was misread."""
MOST_PLATES = 500_000
"""Bound of the memory; the oldest are forgotten first."""
RECENT = 9
"""Travel times behind the median of a segment."""
TIMES_MEDIAN, BESIDE_MEDIAN_S = 3.0, 20.0
"""A travel time above so many medians (and some seconds) is a stop on the way, not traffic."""
TOP_SHARE = 2.0
"""A mean speed above so many times free flow is a misread plate."""


class Journeys(msgspec.Struct):
    """Memory: where and when each plate was seen last, and the newest travel times of each segment.

    ``recent`` keeps what was refused too, so that a jam is believed once most vehicles are in it.
    """

    last: dict[int, tuple[int, int]]
    recent: dict[int, list[float]]
    pruned_ms: int = 0


class CameraMap:
    """Which cameras follow which: the camera of a segment and those of the segments it leads into."""

    def __init__(self, network: Network) -> None:
        segments, detectors = network.segments, network.detectors
        self._segment = detectors.segment.tolist()
        self._position_m = detectors.position_m.tolist()
        self._length_m = (segments.length_km * M_PER_KM).tolist()
        self._free_ms = (segments.free_flow_kmh / 3.6).tolist()
        self._after = {segment: frozenset(downstream(network, segment)) for segment in set(self._segment)}

    def travel_time_s(self, memory: Journeys, camera: int, passed_ms: int, plate: int) -> float | None:
        """Return the travel time over the camera's segment if the plate came from the one before it, else None.

        Passages of one plate must come in order of time; a passage older than the last one is ignored.
        """
        before = memory.last.get(plate)
        if before is not None and before[1] >= passed_ms:
            return None
        # Taken out first, so that the dict stays in order of the newest sight.
        memory.last.pop(plate, None)
        memory.last[plate] = (camera, passed_ms)
        if before is None or passed_ms - before[1] > FORGET_MS:
            return None
        start, end = self._segment[before[0]], self._segment[camera]
        if end not in self._after[start]:
            return None
        driven_m = self._length_m[start] - self._position_m[before[0]] + self._position_m[camera]
        seconds = (passed_ms - before[1]) / MS_PER_S * (self._length_m[end] / driven_m) if driven_m > 0 else 0.0
        return seconds if self._plausible(memory, end, seconds) else None

    def _plausible(self, memory: Journeys, segment: int, seconds: float) -> bool:
        if seconds * self._free_ms[segment] * TOP_SHARE < self._length_m[segment]:
            return False
        recent = memory.recent.setdefault(segment, [])
        usual = median(recent) if len(recent) >= RECENT // 2 else seconds
        recent.append(seconds)
        del recent[:-RECENT]
        return seconds <= TIMES_MEDIAN * usual + BESIDE_MEDIAN_S


def forget(memory: Journeys, now_ms: int) -> None:
    """Drop plates not seen for long; once a minute of ``now_ms``, the feed's clock."""
    if now_ms - memory.pruned_ms >= 60_000:
        memory.pruned_ms = now_ms
        memory.last = {plate: at for plate, at in memory.last.items() if at[1] > now_ms - FORGET_MS}
    for plate in list(memory.last)[: max(len(memory.last) - MOST_PLATES, 0)]:
        del memory.last[plate]
