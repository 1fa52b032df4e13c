"""The simulated city as a feed: a network and settings in, what its roadside would send out, day after day.

The same network, seed and day give the same bytes, however late in the day one begins: every day starts from empty
roads at night, and every draw depends on the seed, the day and what it is for, never on what was drawn before.
"""

from __future__ import annotations

from collections.abc import Generator
from datetime import date, time, timedelta
from pathlib import Path

import numpy as np
import structlog

from citybrain import __version__
from citybrain.errors import ConfigError
from citybrain.network import Network
from citybrain.records import Passages, Readings
from citybrain.settings import SimulatedFeed
from simulators.calendar import Day, day_of, on
from simulators.day import SAVE_EVERY_S, DayRun
from simulators.demand import demand_of
from simulators.faults import faults_of_week
from simulators.incidents import Scripted, busy_main_road, incidents_of
from simulators.roads import roads_of
from simulators.routes import Routes
from simulators.saved import SavedStates
from simulators.sensors import Loops
from simulators.truth import TruthFiles
from simulators.zones import zones_of

log = structlog.get_logger(__name__)

_CITY, _TRIPS, _INCIDENTS, _FAULTS, _NOISE = range(5)
"""What a draw is for: together with seed and day it names the generator."""


class SimulatedCity:
    """A city whose truth is known.

    Parameters
    ----------
    network
        The road network with its detectors.
    feed
        Seed, trips, interval, incidents, faults.
    timezone
        IANA zone of the city.
    truth_folder
        Where the truth is written; None writes none.
    scripted
        Incidents that happen besides the drawn ones.
    state_folder
        Where the state is saved every hour, so that a restart need not run the day from its start; None saves none.
    warm_up
        The first day is begun at most an hour and this long before what is asked for, with empty roads, so that a city
        that is started in the evening need not run its whole day first. None runs it from its start: only then is a
        day the same however late one begins.

    Raises
    ------
    ConfigError
        If the network has no segment, or the interval is not whole seconds that divide an hour.
    """

    def __init__(
        self,
        network: Network,
        feed: SimulatedFeed,
        timezone: str,
        *,
        truth_folder: Path | None = None,
        scripted: tuple[Scripted, ...] = (),
        state_folder: Path | None = None,
        warm_up: timedelta | None = None,
    ) -> None:
        seconds = feed.interval.total_seconds()
        if seconds < 2 or seconds % 1 or 3600 % seconds:
            raise ConfigError(f"interval: {seconds:g} s seen, whole seconds from 2 that divide an hour allowed")
        if not len(network.segments):
            raise ConfigError("simulated city: a network without segments seen, at least one allowed")
        self.network = network
        self.feed = feed
        self.timezone = timezone
        self.scripted = scripted
        self.roads = roads_of(network)
        rng = np.random.default_rng([feed.seed, _CITY])
        self.zones = zones_of(network, self.roads, rng)
        self._taste_seed = [feed.seed, _CITY, 1]
        self.demand = demand_of(self.roads, self.zones, self._routes(), feed.trips)
        self._truth = TruthFiles(truth_folder) if truth_folder else None
        self._state_folder = state_folder
        self._warm_up = warm_up

    def batches(self, from_ms: int) -> Generator[Readings | Passages, None, None]:
        """Yield the readings of the whole network, one batch an interval, and passages where there are cameras.

        Parameters
        ----------
        from_ms
            Instant to begin at, ms UTC; the day until then is run without a word. The first batch is of the interval
            that ends after it. The batches never end; ``received_ms`` never falls. Close the generator to have the
            truth of the hour that has begun written.
        """
        day = day_of(from_ms, self.timezone)
        run = self.run_of(day, self._begin_s(day, from_ms))
        run.resume(from_ms)
        while True:
            try:
                yield from run.batches(from_ms)
            finally:
                run.close()
            day = on(day.date + timedelta(days=1), self.timezone)
            del run  # or two days would be in memory
            run = self.run_of(day)

    def shown_incident(self, at: time, duration: timedelta = timedelta(minutes=25)) -> Scripted:
        """Return an incident on a busy main road, for a demonstration; give it to a new city as ``scripted``.

        Parameters
        ----------
        at
            Local time of its onset.
        duration
            How long it lasts.
        """
        segment = busy_main_road(self.network, self.roads, self.demand.morning_vps)
        return Scripted(segment, at, duration.total_seconds())

    def _begin_s(self, day: Day, from_ms: int) -> int:
        """Return the whole hour, in seconds of the day, at which a day is begun that is first needed at ``from_ms``."""
        if self._warm_up is None:
            return 0
        needed_s = (from_ms - day.fill_ms) // 1000 - self._warm_up.total_seconds()
        return max(0, int(needed_s) // SAVE_EVERY_S * SAVE_EVERY_S)

    def run_of(self, day: Day, begin_s: int = 0) -> DayRun:
        """Return a day of the city, not yet begun; with ``begin_s`` it begins late."""
        seed, ordinal = self.feed.seed, day.date.toordinal()
        trips = self.demand.of_day(day, np.random.default_rng([seed, _TRIPS, ordinal]))
        incidents = incidents_of(
            self.network,
            self.roads,
            day,
            per_day=self.feed.incidents_per_day,
            scripted=self.scripted,
            rng=np.random.default_rng([seed, _INCIDENTS, ordinal]),
        )
        loops = Loops(self.network, self.roads)
        week = day.date - timedelta(days=day.date.weekday())
        faults = faults_of_week(
            week,
            self.timezone,
            loops.detector,
            self.feed.faulty_share,
            np.random.default_rng([seed, _FAULTS, week.toordinal()]),
        )
        log.info("simulated_day", date=day.date.isoformat(), trips=len(trips), incidents=len(incidents))
        return DayRun(
            self.network,
            self.feed,
            day,
            roads=self.roads,
            routes=self._routes(),
            trips=trips,
            incidents=incidents,
            loops=loops,
            faults=faults,
            noise=(seed, _NOISE, ordinal),
            truth=self._truth,
            saved=self._saved(day.date, begin_s),
            begin_s=begin_s,
        )

    def _routes(self) -> Routes:
        return Routes(self.roads, self.zones.sinks, np.random.default_rng(self._taste_seed))

    def _saved(self, day: date, begin_s: int) -> SavedStates | None:
        if self._state_folder is None:
            return None
        feed = self.feed
        fits = (
            __version__,
            self.network.version,
            feed.seed,
            feed.trips,
            feed.incidents_per_day,
            day,
            self.scripted,
            begin_s,
        )
        return SavedStates(self._state_folder, repr(fits))
