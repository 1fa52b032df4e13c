"""Roll-up: what partitions contribute to areas in, the indices of streets, districts and the city out.

A contribution replaces the one of the same partition and pane if it is newer; it is never added to it. A pane is told
first when every partition has closed it or a later one; revisions follow once a checkpoint. Ratios are derived from
the totals, never averaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from citybrain.errors import BadRecord, ConfigError
from citybrain.indices import delay_time_proportion, ratio, traffic_performance_index
from citybrain.network import Network
from citybrain.records import AreaIndices, AreaPartials, LongArray, Status, decode, encode
from citybrain.settings import CitySettings, TimeSettings
from citybrain.topics import TopicName
from citybrain.units import VHT_SCALE, VKT_SCALE
from streams.measures import LEVELS, MM_PER_KM, VEHICLES_SCALE, length_by_area_mm
from streams.panes import MOST_PANES
from streams.ring import Times
from streams.snapshot import packed, unpacked
from streams.stage import NOTHING, Message, Output, Results

FORMAT = 1
SUMS = ("vkt", "vht", "vht_free_flow", "delay", "vehicles", "observed_mm", *(f"level{at}_mm" for at in LEVELS[1:]))


@dataclass(slots=True)
class Pane:
    """What is known of one pane: by partition the newest contribution and its bytes; who revised it last."""

    parts: dict[int, tuple[AreaPartials, bytes]] = field(default_factory=dict)
    revised: int = 0
    changed_by: int = -1
    dirty: bool = False


@dataclass(slots=True)
class Totals:
    """The panes of a city, by start; the newest first close of each partition; the newest pane that was told."""

    panes: dict[int, Pane] = field(default_factory=dict)
    newest_ms: dict[int, int] = field(default_factory=dict)
    told_ms: int = -1


class _Blob(msgspec.Struct, array_like=True):
    format: int
    network: str
    told_ms: int
    newest_ms: dict[int, int]
    panes: list[tuple[int, int, int, bool, list[bytes]]]


class Rollup:
    """The stage ``rollup``."""

    name = "rollup"
    sources: tuple[TopicName, ...] = ("area-partials",)
    keeps_state = True

    def __init__(self, network: Network, time: TimeSettings) -> None:
        self.network = network
        times = Times.of(time)
        self._reach_ms = times.capacity * times.pane_ms
        self._keep_ms = 2 * self._reach_ms
        self._length_mm = length_by_area_mm(network)
        # A partition without detectors has nothing to say, and may never be heard of.
        self._awaited = frozenset(np.unique(network.detector_partition).tolist())

    @classmethod
    def of(cls, network: Network, settings: CitySettings) -> Rollup:
        """Return the stage of a city."""
        return cls(network, settings.time)

    def new(self, partition: int) -> Totals:
        """Return totals without a pane."""
        return Totals()

    def dump(self, state: Totals) -> bytes:
        """Return the totals as bytes."""
        panes = [
            (start, pane.revised, pane.changed_by, pane.dirty, [pane.parts[part][1] for part in sorted(pane.parts)])
            for start, pane in sorted(state.panes.items())
        ]
        newest = dict(sorted(state.newest_ms.items()))
        raw = msgspec.msgpack.encode(_Blob(FORMAT, self.network.version, state.told_ms, newest, panes))
        return packed(raw)

    def load(self, partition: int, blob: bytes) -> Totals:
        """Return the totals that were dumped; raises `ConfigError` on another format or network."""
        way_out = "remove the topic citybrain.snapshots-rollup to begin anew (results stay)"
        try:
            read = msgspec.msgpack.decode(unpacked(blob), type=_Blob)
        except (OSError, ValueError, msgspec.DecodeError) as error:
            raise ConfigError(f"snapshot of `rollup` cannot be read ({error}): {way_out}") from error
        seen, allowed = (read.format, read.network), (FORMAT, self.network.version)
        if seen != allowed:
            raise ConfigError(f"snapshot of `rollup`: format, network {seen} seen, {allowed} allowed; {way_out}")
        totals = Totals({}, read.newest_ms, read.told_ms)
        for start, revised, changed_by, dirty, values in read.panes:
            parts = [(decode(AreaPartials, value), value) for value in values]
            totals.panes[start] = Pane({p.partition: (p, value) for p, value in parts}, revised, changed_by, dirty)
        return totals

    def step(self, state: Totals, message: Message) -> Results:
        """Take one contribution; tell the panes that are complete with it."""
        partials = decode(AreaPartials, message.value)
        if partials.network != self.network.version:
            raise BadRecord("network_version", f"{partials.network} seen, {self.network.version} allowed")
        if not 0 <= partials.partition < self.network.partitions:
            raise BadRecord(
                "malformed", f"partition {partials.partition} seen, 0..{self.network.partitions - 1} allowed"
            )
        start = partials.pane_start_ms
        if start < state.told_ms - self._keep_ms:
            return NOTHING
        pane = state.panes.setdefault(start, Pane())
        before = pane.parts.get(partials.partition)
        if before is not None and before[0].version >= partials.version:
            return NOTHING
        pane.parts[partials.partition] = partials, message.value
        if start <= state.told_ms:
            pane.dirty, pane.revised, pane.changed_by = True, pane.revised + 1, message.offset
        if partials.revision == 0:
            state.newest_ms[partials.partition] = max(start, state.newest_ms.get(partials.partition, start))
        return Results(list(self._complete(state, message.offset)))

    def flush(self, state: Totals) -> Results:
        """Return the revisions since the last checkpoint."""
        dirty = [(start, pane) for start, pane in sorted(state.panes.items()) if pane.dirty]
        for _, pane in dirty:
            pane.dirty = False
        return Results([self._tell(start, pane, pane.changed_by) for start, pane in dirty]) if dirty else NOTHING

    def provisional(self, state: Totals) -> Sequence[Output]:
        """Nothing is shown of incomplete panes."""
        return ()

    async def durable(self) -> None:
        """Nothing is kept outside Kafka."""

    def _complete(self, state: Totals, offset: int) -> Iterator[Output]:
        """Tell, oldest first, the panes that no partition will close any more; forget the oldest."""
        all_ms = min((state.newest_ms.get(partition, -1) for partition in self._awaited), default=-1)
        waiting = sorted(start for start in state.panes if start > state.told_ms)
        for nth, start in enumerate(waiting):
            if start > all_ms and len(waiting) - nth <= MOST_PANES:
                break
            yield self._tell(start, state.panes[start], offset)
            state.told_ms = start
        # So far back no partition revises any more: what is not told yet is told now, and is final.
        for start in sorted(start for start in state.panes if start < state.told_ms - self._reach_ms):
            pane = state.panes[start]
            if pane.dirty:
                pane.dirty = False
                yield self._tell(start, pane, pane.changed_by)
            if start < state.told_ms - self._keep_ms:
                del state.panes[start]

    def _tell(self, start_ms: int, pane: Pane, version: int) -> Output:
        parts = [part for part, _ in pane.parts.values()]
        revised = [part for part in parts if part.revision > 0]
        status: Status = "final" if revised and all(part.status == "final" for part in revised) else "closed"
        pane_ms = parts[0].pane_ms
        indices = self._indices(dict(zip(SUMS, self._total(parts), strict=True)))
        record = AreaIndices(self.network.version, start_ms, pane_ms, version, pane.revised, status, **indices)  # type: ignore[arg-type]
        return Output("area-indices", 0, str(start_ms).encode(), encode(record), start_ms + pane_ms)

    def _total(self, parts: Sequence[AreaPartials]) -> LongArray:
        """Return the sums of all areas over the partitions, shape (len(SUMS), areas)."""
        total = np.zeros((len(SUMS), len(self._length_mm)), dtype=np.int64)
        area = np.concatenate([part.area for part in parts])
        if len(area):
            sums = np.array([np.concatenate([getattr(part, name) for part in parts]) for name in SUMS])
            order = np.argsort(area, kind="stable")
            area = area[order]
            starts = np.flatnonzero(np.concatenate([[True], area[1:] != area[:-1]]))
            total[:, area[starts]] = np.add.reduceat(sums.take(order, axis=1), starts, axis=1)
        return total

    def _indices(self, total: dict[str, LongArray]) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
        vkt, vht, free = total["vkt"] / VKT_SCALE, total["vht"] / VHT_SCALE, total["vht_free_flow"] / VHT_SCALE
        tti = np.maximum(1.0, ratio(vht, free))
        dtp = delay_time_proportion(tti)
        known = [total[f"level{at}_mm"] for at in LEVELS[1:]]
        levels = [self._length_mm - sum(known), *known]
        return {
            "area": np.arange(len(self._length_mm), dtype=np.int32),
            "vkt_veh_km": vkt,
            "vht_veh_h": vht,
            "vht_free_flow_veh_h": free,
            "delay_veh_h": total["delay"] / VHT_SCALE,
            "speed_kmh": ratio(vkt, vht),
            "tti": tti,
            "dtp": dtp,
            "tpi": traffic_performance_index(dtp),
            "vehicles": total["vehicles"] / VEHICLES_SCALE,
            "coverage": np.nan_to_num(
                ratio(total["observed_mm"].astype(np.float64), self._length_mm.astype(np.float64))
            ),
            "length_km": self._length_mm / MM_PER_KM,
            "congested_km": np.sum(levels[3:], axis=0) / MM_PER_KM,
            **{f"level{at}_km": levels[at] / MM_PER_KM for at in LEVELS},
        }
