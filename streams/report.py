"""Stage `report`: events that somebody reported in, signals out. It keeps nothing: `alert` holds what lasts."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from citybrain.errors import BadRecord
from citybrain.messages import REPORTS, Event, EventKind, Signal, Signals, decode_json, encode_json
from citybrain.network import Network
from citybrain.topics import TopicName
from citybrain.wire import Message, Output
from streams.stage import NOTHING, Results, Stateless

MODEL = "report-1"
NEAR_M = 150.0
"""A position further than this from every segment is refused."""
PROBABILITY: dict[EventKind, float] = {"incident": 1.0, "closure": 1.0, "report": 0.5}
"""How sure a report is. A citizen's counts where it is also slow; planned works are no cause for an alert."""


class ReportStage(Stateless):
    """Turns an event into a signal at its segment; a newer version of the event replaces the signal."""

    name: ClassVar[str] = "report"
    sources: ClassVar[tuple[TopicName, ...]] = ("events",)

    def __init__(self, network: Network) -> None:
        self._network = network
        self._by_id = {str(name): index for index, name in enumerate(network.segments.id)}

    def step(self, state: None, message: Message) -> Results:
        """Return the event's signal."""
        event = decode_json(Event, message.value)
        segment = self._segment(event)
        if event.kind not in PROBABILITY:
            return NOTHING
        if event.ended_ms is not None and event.ended_ms < event.started_ms:
            raise BadRecord("malformed", f"ended_ms {event.ended_ms} seen, {event.started_ms} or later allowed")
        signal = Signal(
            segment=segment,
            kind="incident",
            probability=PROBABILITY[event.kind],
            reason=("reported", event.code) if event.code else ("reported",),
            event=event.id,
            ended_ms=event.ended_ms,
        )
        signals = Signals(
            network=self._network.version,
            partition=REPORTS,
            pane_start_ms=event.started_ms,
            pane_ms=0,
            version=message.offset,
            model=MODEL,
            signals=(signal,),
        )
        return Results([Output("signals", 0, event.id.encode(), encode_json(signals))])

    async def durable(self) -> None:
        """Do nothing: all effects are in Kafka."""

    def _segment(self, event: Event) -> int:
        if event.segment:
            if event.segment not in self._by_id:
                raise BadRecord("malformed", f"segment {event.segment!r} seen, an id of the network allowed")
            return self._by_id[event.segment]
        if event.longitude is None or event.latitude is None:
            raise BadRecord("malformed", f"event {event.id!r}: neither segment nor position seen, one allowed")
        segment, distance_m = nearest_segment(self._network, event.longitude, event.latitude)
        if distance_m > NEAR_M:
            raise BadRecord("malformed", f"{distance_m:.0f} m from the nearest segment seen, {NEAR_M:.0f} m allowed")
        return segment


def nearest_segment(network: Network, longitude: float, latitude: float) -> tuple[int, float]:
    """Return the segment whose line passes nearest and the distance, m; infinite where the network has no map."""
    scale = np.array([111_320 * math.cos(math.radians(latitude)), 110_574])
    points = (network.lon_lat.astype(np.float64) - (longitude, latitude)) * scale
    start = network.segments.geometry_start
    a, b = points[:-1], points[1:]
    along = b - a
    length = np.maximum((along**2).sum(axis=1), 1e-9)
    place = np.clip(-(a * along).sum(axis=1) / length, 0, 1)
    distance = np.hypot(*(a + place[:, None] * along).T)
    # The step from one segment's last point to the next one's first is no road.
    distance[start[1:-1] - 1] = math.inf
    # Whole decimetres: of the two directions of one road the lower index, whatever the last bits say.
    distance = np.round(np.nan_to_num(distance, nan=math.inf, posinf=math.inf), 1)
    at = int(np.argmin(distance))
    return int(np.searchsorted(start, at, side="right")) - 1, float(distance[at])
