"""The simulated city as a feed: a network and settings in, what its roadside would send out, day after day.

The same network, seed and day give the same bytes, however late in the day one begins: every day starts from empty
roads at night, and every draw depends on the seed, the day and what it is for, never on what was drawn before.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from datetime import date, time, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import structlog

from citybrain import __version__
from citybrain.errors import ConfigError
from citybrain.landuse import LandUse
from citybrain.network import Network
from citybrain.records import Passages, Readings
from citybrain.settings import SimulatedFeed
from simulators.calendar import Day, day_of, on
from simulators.day import SAVE_EVERY_S, DayRun
from simulators.demand import Factors, demand_of
from simulators.factorfile import load_factors, zone_places_km
from simulators.faults import faults_of_week, partners_of
from simulators.happenings import Happenings
from simulators.incidentrates import exposure_of, incidents_by_rate
from simulators.incidents import Incident, Scripted, busy_main_road, incidents_of
from simulators.routes import Routes
from simulators.saved import SavedStates
from simulators.scenario import Scenario
from simulators.scenariofile import City, read_scenario
from simulators.sensorplan import SensorPlan, kept, planned
from simulators.sensors import Loops
from simulators.signals import SignalRules
from simulators.traffic import TrafficRules, roads_under, vehicles_under
from simulators.truth import TruthFiles
from simulators.vehicles import VehicleRules
from simulators.zones import node_positions_km, zones_of

log = structlog.get_logger(__name__)

_CITY, _TRIPS, _INCIDENTS, _FAULTS, _NOISE, _EVENTS, _VEHICLES = range(7)
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
        scenario: Scenario | None = None,
    ) -> None:
        named = feed.scenario if scenario is None else ""
        self.scenario = read_scenario(named).scenario if named else scenario or Scenario("")
        feed = told(feed, self.scenario)
        seconds = feed.interval.total_seconds()
        if seconds < 2 or seconds % 1 or 3600 % seconds:
            raise ConfigError(f"interval: {seconds:g} s seen, whole seconds from 2 that divide an hour allowed")
        if not len(network.segments):
            raise ConfigError("simulated city: a network without segments seen, at least one allowed")
        if missing := len(with_sensors(network, feed, self.scenario).detectors) - len(network.detectors):
            raise ConfigError(
                f"sensors.plan: {missing:,} detectors that the network does not have seen, a network with them needed "
                "(citybrain scenario network)"
            )
        self.network = network
        self.feed = feed
        self.timezone = timezone
        self.scripted = scripted
        self.traffic = self.scenario.traffic or traffic_of(feed)
        self.roads = roads_under(network, self.traffic)
        rng = np.random.default_rng([feed.seed, _CITY])
        land = LandUse.load(Path(feed.land_use)) if feed.land_use else None
        self.zones = zones_of(network, self.roads, rng, land)
        self._taste_seed = [feed.seed, _CITY, 1]
        self.demand = demand_of(self.roads, self.zones, self.routes(), feed.trips, self.scenario.demand)
        if feed.calibration:
            self.demand = self.demand.times(self._calibrated(Path(feed.calibration)))
        if named:
            read_scenario(named, self.places)
        self._truth = TruthFiles(truth_folder, self.zones.of_node) if truth_folder else None
        self._state_folder = state_folder
        self._warm_up = warm_up

    def _calibrated(self, path: Path) -> Factors:
        places = zone_places_km(self.zones, node_positions_km(self.network, self.roads))
        return load_factors(path, self.network.version, self.zones, places)

    @property
    def places(self) -> City:
        """What a scenario's places are looked up in."""
        return City(self.network, lambda: self.demand.morning_vps)

    def write_truth_to(self, folder: Path) -> None:
        """Write the truth of the days that begin from now on to another folder."""
        self._truth = TruthFiles(folder, self.zones.of_node)

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

    def happenings(self, day: Day) -> Happenings:
        """Return what the scenario does to a day."""
        return Happenings(self.scenario, day, self.network, self.roads, self.demand)

    def run_of(self, day: Day, begin_s: int = 0) -> DayRun:
        """Return a day of the city, not yet begun; with ``begin_s`` it begins late."""
        seed, ordinal = self.feed.seed, day.date.toordinal()
        happenings, routes = self.happenings(day), self.routes()
        usual = self.demand.of_day(self._like(day), np.random.default_rng([seed, _TRIPS, ordinal]))
        trips = happenings.trips(usual, routes, np.random.default_rng([seed, _EVENTS, ordinal]))
        if self.traffic.vehicles.truck_share:
            trips = vehicles_under(trips, self.traffic, np.random.default_rng([seed, _VEHICLES, ordinal]))
        incidents = self._incidents(day, happenings)
        loops = Loops(self.network, self.roads, there=self._there())
        week = day.date - timedelta(days=day.date.weekday())
        faults = faults_of_week(
            week,
            self.timezone,
            loops.detector,
            self.feed.faulty_share,
            np.random.default_rng([seed, _FAULTS, week.toordinal()]),
            rules=self.scenario.sensors.drawn,
            partners=partners_of(self.network),
        )
        log.info("simulated_day", date=day.date.isoformat(), trips=len(trips), incidents=len(incidents))
        return DayRun(
            self.network,
            self.feed,
            day,
            roads=self.roads,
            routes=routes,
            trips=trips,
            incidents=incidents,
            loops=loops,
            faults=(*faults, *happenings.faults()),
            noise=(seed, _NOISE, ordinal),
            truth=self._truth,
            saved=self._saved(day.date, begin_s),
            begin_s=begin_s,
            happenings=happenings,
            sensing=self.scenario.sensors,
        )

    def _incidents(self, day: Day, happenings: Happenings) -> tuple[Incident, ...]:
        """Draw the day's incidents, in a scenario at a rate per vehicle-km, and add those that are to happen."""
        rng = np.random.default_rng([self.feed.seed, _INCIDENTS, day.date.toordinal()])
        by_rate = bool(self.scenario.title) and self.scenario.incidents.per_day is None
        per_day = 0.0 if by_rate else self.feed.incidents_per_day
        drawn = incidents_of(self.network, self.roads, day, per_day=per_day, scripted=self.scripted, rng=rng)
        if by_rate:
            drawn += incidents_by_rate(
                self.network,
                self.roads,
                day,
                exposure_of(self.roads, self.demand.morning_vps, self._like(day)),
                rules=self.scenario.incidents.rate,
                rng=rng,
                weather=happenings.incident_factors(),
            )
        together = (*drawn, *happenings.incidents)
        return tuple(sorted(together, key=lambda incident: (incident.onset_ms, incident.segment)))

    def _there(self) -> npt.NDArray[np.bool_] | None:
        """Return which detectors are there; None for all."""
        coverage = self.scenario.sensors.coverage
        return kept(self.network, coverage, np.random.default_rng([self.feed.seed, _CITY, 2])) if coverage else None

    def _like(self, day: Day) -> Day:
        """Return the day that one is driven like: the scenario's own where there is one."""
        return replace(day, date=self.scenario.like(day.date)) if self.scenario.title else day

    def routes(self) -> Routes:
        """Return ways at free flow, with the tastes of the drivers of this city."""
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
            self.scenario,
            self.traffic,
            self.demand.purpose_level,  # a calibration's, which its file's name does not tell
        )
        return SavedStates(self._state_folder, repr(fits))


def with_sensors(network: Network, feed: SimulatedFeed, scenario: Scenario) -> Network:
    """Return the network with the sensors that a scenario plans; itself where it plans none, or all are there."""
    plan = scenario.sensors.plan
    return network if plan == SensorPlan() else planned(network, plan, told(feed, scenario).seed)


def traffic_of(feed: SimulatedFeed) -> TrafficRules:
    """Return what drives and what rules it by a feed's settings."""
    return TrafficRules(SignalRules(enabled=feed.signals), VehicleRules(feed.truck_share), feed.capacity_drop)


def told(feed: SimulatedFeed, scenario: Scenario) -> SimulatedFeed:
    """Return a feed's settings with what a scenario says in their place."""
    per_day, sensors = scenario.incidents.per_day, scenario.sensors
    return replace(
        feed,
        seed=feed.seed if scenario.seed is None else scenario.seed,
        trips=scenario.demand.trips or feed.trips,
        incidents_per_day=feed.incidents_per_day if per_day is None else per_day,
        interval=sensors.interval or feed.interval,
        faulty_share=feed.faulty_share if sensors.faulty_share is None else sensors.faulty_share,
    )
