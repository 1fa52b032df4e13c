"""One day of the simulated city: trips, incidents and faults in, batches of readings and passages out."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import structlog

from citybrain.network import Network
from citybrain.records import Passages, Readings
from citybrain.settings import SimulatedFeed
from simulators.calendar import Day
from simulators.cameras import Cameras, taken
from simulators.delivery import Delivery
from simulators.edie import MINUTE_S, Measure
from simulators.engine import Engine, Trips
from simulators.faults import Fault, FaultPlan
from simulators.floating import Floating
from simulators.happenings import Air, Happenings, Restriction
from simulators.incidents import Incident
from simulators.roads import Roads
from simulators.routes import EVERY_S, Routes
from simulators.saved import SavedStates, State
from simulators.scenario import Sensing
from simulators.sensors import Loops, readings_of
from simulators.truth import LOCKED_S, TruthFiles

log = structlog.get_logger(__name__)

SAVE_EVERY_S = 3600
_LOCK_CHECK_S = 900
_LOCKS_NAMED = 5
_ALL = -1
_PARTS = ("engine", "routes", "loops", "delivery", "floating")


@dataclass(frozen=True, slots=True)
class Locked:
    """Segments on which nothing has moved for a quarter of an hour.

    Attributes
    ----------
    at_ms
        When it was seen, ms UTC.
    count
        How many there are.
    vehicles
        Vehicles on them.
    segments
        Ids of those with most vehicles.
    """

    at_ms: int
    count: int
    vehicles: int
    segments: tuple[str, ...]


class DayRun:
    """A day that is run second by second; its seconds count from the fill, and it may begin late with empty roads."""

    def __init__(
        self,
        network: Network,
        feed: SimulatedFeed,
        day: Day,
        *,
        roads: Roads,
        routes: Routes,
        trips: Trips,
        incidents: tuple[Incident, ...],
        loops: Loops,
        faults: tuple[Fault, ...],
        noise: tuple[int, ...],
        truth: TruthFiles | None,
        saved: SavedStates | None,
        begin_s: int = 0,
        happenings: Happenings | None = None,
        sensing: Sensing | None = None,
    ) -> None:
        self.network = network
        self.feed = feed
        self.day = day
        self.incidents = incidents
        self.faults = faults
        self.engine = Engine(roads, trips.since(begin_s) if begin_s else trips, start_s=begin_s)
        self.routes = routes
        self.loops = loops
        sensing = sensing or Sensing()
        self.cameras = Cameras(
            network, roads, self.engine, seed=feed.seed, day=day.date, rules=sensing.cameras, there=loops.there
        )
        plan = sensing.plan
        self.floating = Floating(network, roads, self.engine, day, seed=feed.seed, probes=plan.probes, buses=plan.buses)
        self._plan = FaultPlan(loops.detector, faults)
        self.delivery = Delivery(self._plan)
        self._until_ms = day.end_ms
        self._noise = noise
        self._interval_s = int(feed.interval.total_seconds())
        self._truth = truth
        self._measure = Measure(self.engine) if truth else None
        self._saved = saved
        self._restrictions: list[Incident | Restriction] = [*incidents]
        self._restrictions += happenings.restrictions if happenings else ()
        self._weather = happenings.weather if happenings else ()
        self._changes = _changes(day, self._restrictions, self._weather)
        self.marks = happenings.marks if happenings else ()
        self.locked: list[Locked] = []
        if truth:
            blocks = happenings.restrictions if happenings else ()
            truth.day(day, (*incidents, *(one.told(int(roads.lanes[one.segment])) for one in blocks)), faults)

    @property
    def now_ms(self) -> int:
        """The instant that the engine has reached, ms UTC."""
        return self.day.fill_ms + round(self.engine.now_s) * 1000

    def resume(self, from_ms: int) -> None:
        """Take up the newest saved state that is not later than the interval of an instant, if there is one."""
        wanted = (from_ms - self.day.fill_ms) // 1000
        found = self._saved.latest(wanted - wanted % self._interval_s) if self._saved else None
        if found is None:
            return
        second, state = found
        for part in _PARTS:
            prefix = f"{part}."
            values = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            getattr(self, part).load(values)
        self._changes = [change for change in self._changes if change[0] > second]
        if self._truth:
            self._measure = Measure(self.engine)
        log.info("simulation_resumed", date=self.day.date.isoformat(), second=second)

    def batches(self, from_ms: int, until_ms: int | None = None) -> Iterator[Readings | Passages]:
        """Run to the end of the day, or an instant before; yield what intervals that end after one have to tell."""
        self._until_ms = self.day.end_ms if until_ms is None else min(until_ms, self.day.end_ms)
        while self.now_ms < self._until_ms:
            self._run_interval()
            told = self.now_ms > max(from_ms, self.day.start_ms)
            batches = self._reported() if told or self.delivery.remembers else self._unreported()
            batches = batches if told else []
            self._save()
            yield from batches
        log.info("simulated_day_over", arrived=self.engine.arrived, still_on_the_road=self.engine.on_road)

    def step(self) -> None:
        """Run one second."""
        engine = self.engine
        while self._changes and self._changes[0][0] <= engine.now_s:
            self._apply(self._changes.pop(0)[1])
        engine.step(self.routes.next_link)
        second = round(engine.now_s)
        if second % EVERY_S == 0:
            self.routes.update(engine)
        if second % MINUTE_S == 0 and self._truth and self._measure:
            measured = self._measure.since(engine)
            if self.now_ms > self.day.start_ms:
                self._truth.minute(engine, measured, self.now_ms)
        if second % _LOCK_CHECK_S == 0:
            self._look_for_locks()

    def _look_for_locks(self) -> None:
        segments = self.engine.stalled(LOCKED_S)
        if not len(segments):
            return
        waiting = self.engine.on_link[segments]
        worst = segments[np.argsort(-waiting, kind="stable")[:_LOCKS_NAMED]]
        names = tuple(str(name) for name in self.network.segments.id[worst])
        found = Locked(self.now_ms, len(segments), int(waiting.sum()), names)
        self.locked.append(found)
        log.warning("segments_locked", at_ms=found.at_ms, count=found.count, first=list(names))

    def close(self) -> None:
        """Write what is left of the truth."""
        # A generator that nobody closed is closed by the interpreter's end, which can write no more files.
        if self._truth and not sys.is_finalizing():
            self._truth.over(self.engine, self.routes.minutes)

    def _run_interval(self) -> None:
        middle = self._interval_s // 2
        for second in range(1, self._interval_s + 1):
            self.step()
            if second in (middle, self._interval_s):
                self.loops.look(self.engine)

    def _reported(self) -> list[Readings | Passages]:
        """Return what the roadside tells of the interval that has just ended."""
        end_ms = self.now_ms
        rng = np.random.default_rng([*self._noise, round(self.engine.now_s)])
        network, source = self.network.version, self.feed.name
        observed = (end_ms - self._interval_s * 1000, end_ms)
        sample, seen = self.loops.sample(self._interval_s), taken(self.engine)
        readings = readings_of(
            self.loops, sample, self._plan, network=network, source=source, observed_ms=observed, rng=rng
        )
        passages = self.cameras.passages(
            self.engine,
            network=network,
            source=source,
            start_ms=self.day.fill_ms,
            watermark_ms=end_ms,
            rng=rng,
            seen=seen,
        )
        readings = self.delivery.deliver(readings, rng, last=end_ms >= self._until_ms)
        passages = self.delivery.passages(passages, rng)
        floating = self.floating.readings(self.engine, seen, network=network, source=source, observed_ms=observed)
        return [readings, *floating] if passages is None else [readings, passages, *floating]

    def _unreported(self) -> list[Readings | Passages]:
        """Let an interval pass of which nothing is told, and which no later one depends on."""
        end_ms = self.now_ms
        self.loops.sample(self._interval_s)
        self.floating.readings(
            self.engine,
            taken(self.engine),
            network=self.network.version,
            source=self.feed.name,
            observed_ms=(end_ms - self._interval_s * 1000, end_ms),
        )
        return []

    def _save(self) -> None:
        second = round(self.engine.now_s)
        if self._saved and second % SAVE_EVERY_S == 0:
            self._saved.save(second, self._state())

    def _state(self) -> State:
        return {f"{part}.{name}": value for part in _PARTS for name, value in getattr(self, part).dump().items()}

    def _apply(self, segment: int) -> None:
        """Set what goes on leaves of a segment: the worst counts. Weather is on all of them."""
        now_ms = self.now_ms
        if segment == _ALL:
            skies = [air.weather for air in self._weather if air.onset_ms <= now_ms < air.end_ms]
            capacity = min((sky.capacity for sky in skies), default=1.0)
            self.engine.weather(capacity, min((sky.free_flow for sky in skies), default=1.0))
            return
        going = [one for one in self._restrictions if one.segment == segment and one.onset_ms <= now_ms < one.end_ms]
        capacity = min((one.capacity_share for one in going), default=1.0)
        lanes = min((one.lanes_share for one in going), default=1.0)
        self.engine.restrict(segment, capacity, lanes)


def _changes(day: Day, restrictions: Sequence[Incident | Restriction], weather: Sequence[Air]) -> list[tuple[int, int]]:
    """Return the seconds at which something begins or ends, with its segment or `_ALL`, in order."""
    moments = [(at, one.segment) for one in restrictions for at in (one.onset_ms, one.end_ms)]
    moments += [(at, _ALL) for air in weather for at in (air.onset_ms, air.end_ms)]
    return sorted({(max(-(-(at - day.fill_ms) // 1000), 0), segment) for at, segment in moments})
