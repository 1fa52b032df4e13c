"""Aggregate: readings in, the state of every segment by pane out (and what partitions contribute to areas).

Event time only. A pane closes when the watermark passes its end plus the reorder allowance: that first close is
caused by one message and is the same bytes in every replay. Until the lateness has passed, readings still revise it:
a revision is told once a checkpoint, and once more as final when the lateness has passed. A pane that was never
revised is final as it was closed: nothing more is sent for it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from citybrain.errors import BadRecord, Reason
from citybrain.messages import DeadLetter
from citybrain.network import JOURNEY_KINDS, Network
from citybrain.records import DetectorHealth, Readings, SegmentStates, Status, Verdict, decode, encode
from citybrain.settings import CitySettings, Limits, Thresholds, TimeSettings
from citybrain.topics import TopicName
from streams.clean import Clean, Fault, Rules, clean, dead_letter
from streams.health import left_out
from streams.intervals import Intervals
from streams.measures import Edition, Roads, area_partials, segment_states
from streams.ring import SPREAD_MS, Ring, Source, Times
from streams.roster import BoolArray
from streams.snapshot import dump, load
from streams.stage import NOTHING, Message, Output, Results
from streams.sums import FIELDS, Field, additions

OLDEST_START_MS = 7 * 86_400_000
"""A first batch may begin so far before its newest reading; what is older comes from a clock that was never set."""
MOST_SOURCES = 256
"""Feeds remembered in a partition; of more, the one that was silent longest is forgotten."""


class Aggregate:
    """The stage ``aggregate``."""

    name = "aggregate"
    sources: tuple[TopicName, ...] = ("readings",)
    keeps_state = True

    def __init__(self, network: Network, time: TimeSettings, limits: Limits, thresholds: Thresholds) -> None:
        self.network = network
        self.times = Times.of(time)
        parts = range(network.partitions)
        self._rules = Rules.of(network, limits, time, thresholds)
        self._roads = [Roads.of(network, part, thresholds.level_breaks, thresholds.speed_floor_kmh) for part in parts]
        kinds = network.detectors.kind
        own = [self._rules[part].rosters.posts.detectors(part) for part in parts]
        self._detectors = [mine.astype(np.int32) for mine in own]
        self._speaking = [~np.isin(kinds[mine], JOURNEY_KINDS) for mine in own]
        self._shortest_m = limits.shortest_vehicle_m
        self._settings = hashlib.sha256(repr(self.times).encode()).hexdigest()[:8]

    @classmethod
    def of(cls, network: Network, settings: CitySettings) -> Aggregate:
        """Return the stage of a city."""
        return cls(network, settings.time, settings.limits, settings.thresholds)

    def new(self, partition: int) -> Ring:
        """Return a ring without readings."""
        segments, detectors = len(self._roads[partition].segment), len(self._detectors[partition])
        return Ring.empty(partition, self.times.capacity, segments, detectors)

    def dump(self, state: Ring) -> bytes:
        """Return the ring as bytes."""
        return dump(state, self.network.version, self._settings, self.times)

    def load(self, partition: int, blob: bytes) -> Ring:
        """Return the ring that was dumped; raises `ConfigError` on another format, network or setting of time."""
        shape = (self.times.capacity, FIELDS, len(self._roads[partition].segment))
        return load(blob, partition, self.network.version, self._settings, shape, len(self._detectors[partition]))

    def step(self, state: Ring, message: Message) -> Results:
        """Count one batch, then let the time it tells pass."""
        readings = decode(Readings, message.value)
        if readings.network != self.network.version:
            raise BadRecord("network_version", f"{readings.network} seen, {self.network.version} allowed")
        rules = self._rules[state.partition]
        rows, refused = clean(readings, rules, message)
        source = self._heard(state, readings, rows, message)
        outputs: list[Output] = []
        state.offset = message.offset
        counted, before = 0, state.open
        not_believed: Counter[str] = Counter()
        if state.base < 0 and (len(rows.row) or source.watermark_ms > 0):
            state.start(self._first_pane(rows, source), self.times)
        for part in self._in_reach(state, rows, outputs, message):
            kept, more = self._new(state, source, part, readings, message)
            refused += more
            counted += len(kept.row)
            verdict = state.health.take(kept, self._shortest_m)
            if verdict is not None and np.count_nonzero(verdict):
                not_believed += left_out(verdict)
                kept = kept.without(verdict != Verdict.WELL)
            for addition in additions(kept, rules.rosters, self.times.pane_ms):
                state.add(addition, message.offset)
        if state.base >= 0:
            outputs += self._pass(state, self._watermark(state), message.offset, None)
        if state.open != before:
            outputs += self._health(state, message.offset)
        return Results(outputs, refused, (readings.source, counted - not_believed.total()), tuple(not_believed.items()))

    def flush(self, state: Ring) -> Results:
        """Return the revisions since the last checkpoint."""
        outputs: list[Output] = []
        for pane in range(state.base, state.open) if state.dirty.any() else ():
            slot = state.slot(pane)
            if state.dirty[slot]:
                state.dirty[slot] = False
                outputs += self._tell(state, pane, int(state.changed_by[slot]), int(state.revised[slot]), "closed")
        return Results(outputs) if outputs else NOTHING

    def provisional(self, state: Ring) -> Sequence[Output]:
        """Return the newest open pane, if it changed; segments not seen in it yet show the pane before."""
        panes = state.held(state.open, state.end) if state.fresh else []
        if not panes:
            return ()
        state.fresh = False
        newest, slot = panes[-1], state.slot(panes[-1])
        sums, told = state.sums[slot], state.told[slot]
        if state.holds(newest - 1):
            before = state.slot(newest - 1)
            unseen = sums[Field.OBSERVED_LANE_MS] == 0
            sums = np.where(unseen, state.sums[before], sums)
            told = np.where(unseen, state.told[before], told)
        edition = Edition(newest, self.times.pane_ms, state.offset, -1, "provisional")
        states = segment_states(sums, told, self._roads[state.partition], edition)
        key = str(state.partition).encode()
        return (Output("live-states", state.partition, key, encode(states), states.pane_start_ms + states.pane_ms),)

    async def durable(self) -> None:
        """Nothing is kept outside Kafka."""

    def _heard(self, state: Ring, readings: Readings, rows: Clean, message: Message) -> Source:
        """Note that a source spoke, and what its clock shows."""
        source = state.sources.get(readings.source)
        if source is None:
            if len(state.sources) >= MOST_SOURCES:
                del state.sources[min(state.sources, key=lambda name: (state.sources[name].spoke_ms, name))]
            seen = Intervals.none(self._rules[state.partition].rosters.detectors)
            source = state.sources[readings.source] = Source(0, message.record_ms, seen)
        clock_ms = readings.watermark_ms
        if clock_ms > message.record_ms + self.times.skew_ms:
            # A feed misled by one bad clock: believe the readings that were accepted.
            clock_ms = int(rows.to_ms.max(initial=0))
        # Nothing that was observed by now was observed later: a fast clock closes no pane before its time.
        source.watermark_ms = max(source.watermark_ms, min(clock_ms, message.record_ms))
        source.spoke_ms = max(source.spoke_ms, message.record_ms)
        return source

    def _watermark(self, state: Ring) -> int:
        """Return the least clock of the sources that are not silent, never less than before."""
        now_ms = max(source.spoke_ms for source in state.sources.values())
        silent = [n for n, source in state.sources.items() if now_ms - source.spoke_ms > self.times.idle_ms]
        clocks = [s.watermark_ms for n, s in state.sources.items() if n not in silent and s.watermark_ms > 0]
        least = min(clocks, default=0)
        return max(state.watermark_ms, least, max(clocks, default=0) - SPREAD_MS)

    def _first_pane(self, rows: Clean, source: Source) -> int:
        """Return the pane to begin with: that of the earliest reading, unless it is absurdly old."""
        newest_ms = max(source.watermark_ms, int(rows.to_ms.max(initial=0)))
        oldest_ms = min(newest_ms, int(rows.from_ms.min(initial=newest_ms)))
        return max(oldest_ms, newest_ms - OLDEST_START_MS) // self.times.pane_ms

    def _in_reach(self, state: Ring, rows: Clean, outputs: list[Output], message: Message) -> Iterator[Clean]:
        """Cut rows by what the ring can hold, oldest first, and move it on in between."""
        if not len(rows.row):
            return
        pane_ms, capacity = self.times.pane_ms, self.times.capacity
        rosters = self._rules[state.partition].rosters
        while True:
            reach_ms = (state.base + capacity) * pane_ms
            if rows.end_ms <= reach_ms:
                yield rows
                return
            near = rows.to_ms <= reach_ms
            if near.any():
                yield rows.where(near, rosters)
                rows = rows.where(~near, rosters)
            ahead = (int(rows.to_ms.min()) - 1) // pane_ms
            least_ms = (ahead - capacity + 1) * pane_ms + self.times.reorder_ms + self.times.lateness_ms
            first = int(rows.from_ms.min()) // pane_ms
            outputs += self._pass(state, least_ms, message.offset, first)

    def _new(
        self, state: Ring, source: Source, rows: Clean, readings: Readings, message: Message
    ) -> tuple[Clean, list[DeadLetter]]:
        """Return the rows that are neither too late nor counted already, and the dead letters of the others."""
        refused: list[DeadLetter] = []
        horizon_ms = state.horizon_ms(self.times)
        rules = self._rules[state.partition]

        def keep(bad: BoolArray, reason: Reason, allowed: str) -> Clean:
            mask = np.zeros(len(readings), dtype=np.bool_)
            mask[rows.row[bad]] = True
            fault = Fault(reason, mask, "observed_from_ms", readings.observed_from_ms, allowed)
            refused.append(dead_letter(readings, rules, message, fault, mask))
            return rows.where(~bad, rules.rosters)

        if rows.begin_ms < horizon_ms:
            rows = keep(rows.from_ms < horizon_ms, "late", f"from {horizon_ms} on (panes before are final)")
        if len(rows.row) and not self._follow(source, rows):
            new = source.seen.take(rows.roster.position, rows.from_ms, rows.to_ms, horizon_ms)
            if not new.all():
                rows = keep(~new, "duplicate", "each instant once a detector and source")
        return rows, refused

    @staticmethod
    def _follow(source: Source, rows: Clean) -> bool:
        """Count each row after its detector's last one, if that is what they all are."""
        stamps = rows.span_ms or (rows.from_ms, rows.to_ms)
        return rows.roster.once and source.seen.follow(rows.roster.position, *stamps)

    def _pass(self, state: Ring, watermark_ms: int, offset: int, ahead: int | None) -> list[Output]:
        """Let event time pass up to the watermark: close panes, then let go of those that are final."""
        if watermark_ms <= state.watermark_ms:
            return []
        state.watermark_ms = watermark_ms
        outputs: list[Output] = []
        for pane in self._closing(state, self.times.closed_before(watermark_ms), ahead):
            outputs += self._tell(state, pane, offset, 0, "closed")
            state.shown = pane
        state.open = max(state.open, self.times.closed_before(watermark_ms))
        base = self.times.final_before(watermark_ms)
        for pane in range(state.base, min(base, state.end)):
            revised = int(state.revised[state.slot(pane)])
            if revised:
                outputs += self._tell(state, pane, offset, revised, "final")
            state.clear(pane)
        state.base = max(state.base, base)
        return outputs

    def _closing(self, state: Ring, limit: int, ahead: int | None) -> Iterator[int]:
        """Yield the panes to close, ascending; a long time without any reading is left out."""
        filled = state.held(state.open, limit)
        later = [*state.held(limit, state.end), *([] if ahead is None else [ahead])]
        begin = state.open
        for end in (*filled, limit):
            following = end if end < limit else min(later, default=None)
            empty = end - begin if following is None else following - state.shown - 1
            if empty < self.times.gap:
                yield from range(begin, end)
            if end < limit:
                yield end
            begin = end + 1

    def _tell(self, state: Ring, pane: int, version: int, revision: int, status: Status) -> Iterable[Output]:
        """Return the results of one pane: states of segments, contributions to areas."""
        slot, roads = state.slot(pane), self._roads[state.partition]
        if state.holds(pane):
            sums, told = state.sums[slot], state.told[slot]
        else:
            sums, told = np.zeros_like(state.sums[0]), np.zeros_like(state.told[0])
        states = segment_states(sums, told, roads, Edition(pane, self.times.pane_ms, version, revision, status))
        return self._outputs(states, roads)

    def _health(self, state: Ring, version: int) -> Iterable[Output]:
        """Return which detectors are not well, if that has changed."""
        part, at_ms = state.partition, state.open * self.times.pane_ms
        heard = [source.seen.run_to for source in state.sources.values()]
        news = state.health.news(state.watermark_ms, self.times.pane_ms, self._speaking[part], heard)
        if news is None:
            return
        verdict, since_ms = news
        bad = np.flatnonzero(verdict)
        columns = self._detectors[part][bad], verdict[bad], since_ms[bad]
        record = DetectorHealth(self.network.version, part, at_ms, version, *columns)
        yield Output("detector-health", part, str(part).encode(), encode(record), at_ms)

    @staticmethod
    def _outputs(states: SegmentStates, roads: Roads) -> Iterable[Output]:
        key = f"{states.partition}/{states.pane_start_ms}".encode()
        end_ms = states.pane_start_ms + states.pane_ms
        yield Output("segment-states", states.partition, key, encode(states), end_ms)
        yield Output("area-partials", 0, key, encode(area_partials(states, roads)), end_ms)
