"""One day of the simulated city: trips, incidents and faults in, batches of readings and passages out."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import structlog

from citybrain.network import Network
from citybrain.records import Passages, Readings
from citybrain.settings import SimulatedFeed
from simulators.calendar import Day
from simulators.cameras import Cameras, taken
from simulators.engine import Engine, Trips
from simulators.faults import Fault, FaultPlan
from simulators.incidents import Incident
from simulators.roads import Roads
from simulators.routes import EVERY_S, Routes
from simulators.saved import SavedStates, State
from simulators.sensors import Loops, readings_of
from simulators.truth import LOCKED_S, MINUTE_S, Measure, TruthFiles

log = structlog.get_logger(__name__)

SAVE_EVERY_S = 3600
_LOCK_CHECK_S = 900
_PARTS = ("engine", "routes", "loops")


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
    ) -> None:
        self.network = network
        self.feed = feed
        self.day = day
        self.incidents = incidents
        self.faults = faults
        self.engine = Engine(roads, trips.since(begin_s) if begin_s else trips, start_s=begin_s)
        self.routes = routes
        self.loops = loops
        self.cameras = Cameras(network, roads, self.engine, seed=feed.seed, day=day.date)
        self._plan = FaultPlan(loops.detector, faults)
        self._noise = noise
        self._interval_s = int(feed.interval.total_seconds())
        self._truth = truth
        self._measure = Measure(self.engine) if truth else None
        self._saved = saved
        self._changes = _changes(day, incidents)
        if truth:
            truth.day(day, incidents, faults)

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

    def batches(self, from_ms: int) -> Iterator[Readings | Passages]:
        """Run to the end of the day; yield what intervals that end after an instant have to tell."""
        while self.now_ms < self.day.end_ms:
            self._run_interval()
            if self.now_ms > max(from_ms, self.day.start_ms):
                batches = self._reported()
            else:
                batches = []
                self.loops.sample(self._interval_s)
                taken(self.engine)
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
        if second % _LOCK_CHECK_S == 0 and len(locked := engine.stalled(LOCKED_S)):
            names = self.network.segments.id[locked[:5]].tolist()
            log.warning("segments_locked", at_ms=self.now_ms, count=len(locked), first=names)

    def close(self) -> None:
        """Write what is left of the truth."""
        # A generator that nobody closed is closed by the interpreter's end, which can write no more files.
        if self._truth and not sys.is_finalizing():
            self._truth.flush()

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
        name = {"network": self.network.version, "source": self.feed.name}
        observed = (end_ms - self._interval_s * 1000, end_ms)
        sample = self.loops.sample(self._interval_s)
        readings = readings_of(self.loops, sample, self._plan, observed_ms=observed, rng=rng, **name)
        passages = self.cameras.passages(self.engine, start_ms=self.day.fill_ms, watermark_ms=end_ms, rng=rng, **name)
        return [readings] if passages is None else [readings, passages]

    def _save(self) -> None:
        second = round(self.engine.now_s)
        if self._saved and second % SAVE_EVERY_S == 0:
            self._saved.save(second, self._state())

    def _state(self) -> State:
        return {f"{part}.{name}": value for part in _PARTS for name, value in getattr(self, part).dump().items()}

    def _apply(self, segment: int) -> None:
        """Set what the incidents that are going on leave of a segment: the worst counts."""
        going = [i for i in self.incidents if i.segment == segment and i.onset_ms <= self.now_ms < i.end_ms]
        capacity = min((incident.capacity_share for incident in going), default=1.0)
        lanes = min((incident.lanes_share for incident in going), default=1.0)
        self.engine.restrict(segment, capacity, lanes)


def _changes(day: Day, incidents: tuple[Incident, ...]) -> list[tuple[int, int]]:
    """Return the seconds at which something begins or ends, with its segment, in order."""
    moments = [(at, incident.segment) for incident in incidents for at in (incident.onset_ms, incident.end_ms)]
    return sorted((max(-(-(at - day.fill_ms) // 1000), 0), segment) for at, segment in moments)
