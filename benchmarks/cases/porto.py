"""Mornings of the simulated demo city through the real aggregation, without a broker: panes of all segments out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, time
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from citybrain.network import Network
from citybrain.records import Readings, SegmentStates, decode, encode
from citybrain.settings import Limits, SimulatedFeed, Thresholds, TimeSettings
from citybrain.wire import Message
from simulators.city import SimulatedCity
from simulators.incidents import Scripted
from streams.aggregate import Aggregate

TIMEZONE = "Europe/Lisbon"
DEMO = SimulatedFeed(trips=505_000, truck_share=0.05, capacity_drop=0.07)
"""As cities/porto/city.toml has it, with detectors that lie and without what it scripts."""
_ROWS = (
    "detector",
    "observed_from_ms",
    "observed_to_ms",
    "count_veh",
    "flow_vph",
    "speed_kmh",
    "occupancy",
    "travel_time_s",
    "speed_kind",
    "quality_flow",
    "quality_speed",
    "quality_occupancy",
    "quality_travel_time",
)


@dataclass(frozen=True, slots=True)
class Morning:
    """First closes of one morning in order of panes and partitions, and when the first pane starts."""

    states: list[SegmentStates]
    start_ms: int

    def column(self, name: str, segments: int) -> npt.NDArray[np.float64]:
        """Return one column of all segments, shape (panes, segments)."""
        panes = max(s.pane_start_ms for s in self.states) - self.start_ms
        values = np.full((panes // 60_000 + 1, segments), np.nan)
        for states in self.states:
            values[(states.pane_start_ms - self.start_ms) // 60_000, states.segment] = getattr(states, name)
        return values


def network() -> Network:
    return Network.load(Path(__file__).resolve().parents[2] / "cities" / "porto" / "network.arrow")


def morning(
    city: Network, day: date, *, hours: tuple[int, int] = (5, 11), scripted: tuple[Scripted, ...] = ()
) -> Morning:
    """Run one morning of the simulated city, local hours."""
    start_ms, end_ms = (int(datetime.combine(day, time(hour), ZoneInfo(TIMEZONE)).timestamp() * 1000) for hour in hours)
    stage = Aggregate(city, TimeSettings(), Limits(), Thresholds())
    rings, states = [stage.new(p) for p in range(city.partitions)], list[SegmentStates]()
    for number, batch in enumerate(SimulatedCity(city, DEMO, TIMEZONE, scripted=scripted).batches(start_ms)):
        if batch.watermark_ms > end_ms:
            break
        if isinstance(batch, Readings):
            for partition, ring in enumerate(rings):
                value = encode(_part(batch, city, partition))
                message = Message("readings", partition, number, batch.received_ms, b"", value)
                for output in stage.step(ring, message).outputs:
                    if output.topic == "segment-states":
                        states.append(decode(SegmentStates, output.value))
    first = [s for s in states if s.revision == 0 and s.pane_start_ms >= start_ms]
    return Morning(sorted(first, key=lambda s: (s.pane_start_ms, s.partition)), start_ms)


def _part(batch: Readings, city: Network, partition: int) -> Readings:
    mine = city.detector_partition[batch.detector] == partition
    return replace(batch, **{name: getattr(batch, name)[mine] for name in _ROWS})
