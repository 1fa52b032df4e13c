"""A scenario: everything that a run of the simulated city depends on beside the road network, as frozen records.

A scenario speaks of days by number (1 is the first; 0 is every day) and of times by the civil clock. A day runs from
04:00 to 04:00, so that ``01:30`` is the night after. It speaks of places in words that fit any city (`Place`). It
reads no file (``scenariofile``) and knows no network (``places``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta

from citybrain.network import RoadClass
from simulators.cameras import CameraRules
from simulators.demand import DemandRules
from simulators.faults import FaultKind, FaultRules
from simulators.incidentrates import IncidentRules
from simulators.places import Place
from simulators.sensorplan import SensorPlan
from simulators.traffic import TrafficRules
from simulators.weather import BY_KIND, Weather, WeatherKind

PERSONS_PER_CAR = 2.4
"""Those who go home from an event together [judgement: leisure trips, more than the 1.6 of all trips]."""
CAR_SHARE = 0.45
"""Share of an event's visitors that come by car [judgement]."""


@dataclass(frozen=True, slots=True)
class Spell:
    """Weather of some hours, in the whole city.

    Attributes
    ----------
    kind
        What it is, as in `weather`.
    begin, end
        Local times.
    day
        Number of the day; 0 is every day.
    capacity, free_flow
        Share of the capacity and of the free-flow speed that is left, above 0 to 1; as the kind has it where not given.
    incidents
        Times as many incidents; as the kind has it where not given.
    """

    kind: WeatherKind
    begin: str
    end: str
    day: int = 0
    capacity: float | None = None
    free_flow: float | None = None
    incidents: float | None = None

    @property
    def weather(self) -> Weather:
        """What it leaves of the roads."""
        usual = BY_KIND[self.kind]
        return Weather(
            usual.capacity if self.capacity is None else self.capacity,
            usual.free_flow if self.free_flow is None else self.free_flow,
            usual.incidents if self.incidents is None else self.incidents,
        )


@dataclass(frozen=True, slots=True)
class PlannedIncident:
    """An incident that is to happen.

    Attributes
    ----------
    place
        Where; of several segments it closes lanes on each.
    at
        Local time of its onset.
    duration
        How long it lasts; it ends before the day does.
    lanes
        Lanes that it closes.
    day
        Number of the day; 0 is every day.
    """

    place: Place
    at: str
    duration: timedelta = timedelta(minutes=30)
    lanes: int = 1
    day: int = 0


@dataclass(frozen=True, slots=True)
class Incidents:
    """Incidents: those drawn and those planned.

    Attributes
    ----------
    per_day
        Mean number on an ordinary weekday; where it is not given the rate says it.
    rate
        How many there are per vehicle-km, and what they are like.
    planned
        Those that are to happen.
    """

    per_day: float | None = None
    rate: IncidentRules = field(default_factory=IncidentRules)
    planned: tuple[PlannedIncident, ...] = ()


@dataclass(frozen=True, slots=True)
class Works:
    """Road works: lanes closed from one time of day to another.

    Attributes
    ----------
    place
        Where.
    begin, end
        Local times.
    lanes
        Lanes closed; one is left at least.
    day
        Number of the day; 0 is every day.
    name
        What it is called.
    """

    place: Place
    begin: str
    end: str
    lanes: int = 1
    day: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class Closure:
    """A road closed to all from one time of day to another; drivers know of it.

    Attributes
    ----------
    place
        Where.
    begin, end
        Local times.
    day
        Number of the day; 0 is every day.
    name
        What it is called.
    """

    place: Place
    begin: str
    end: str
    day: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """People come to a place before something begins and leave it when it is over.

    Attributes
    ----------
    name
        What it is called.
    place
        Where; cars park at the end of the segment.
    attendance
        Visitors.
    begin, end
        Local times at which it begins and is over.
    day
        Number of the day; 0 is every day.
    car_share
        Share of the visitors that come by car, 0..1.
    persons_per_car
        Visitors in a car.
    emptied_in
        Nine in ten cars have set off so long after the end.
    """

    name: str
    place: Place
    attendance: int
    begin: str
    end: str
    day: int = 0
    car_share: float = CAR_SHARE
    persons_per_car: float = PERSONS_PER_CAR
    emptied_in: timedelta = timedelta(minutes=50)


@dataclass(frozen=True, slots=True)
class Evacuation:
    """A part of the city is left by car, through the gates of the city or to its other parts.

    Attributes
    ----------
    name
        What it is called.
    place
        Its middle.
    radius_km
        How far it reaches.
    vehicles
        Cars that leave.
    at
        Local time of the order.
    left_in
        Nine in ten have set off so long after it.
    day
        Number of the day.
    usual_trips
        Share of the usual trips of the whole city that are still made after the order, 0..1.
    """

    name: str
    place: Place
    radius_km: float
    vehicles: int
    at: str
    left_in: timedelta = timedelta(hours=2)
    day: int = 1
    usual_trips: float = 0.5


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """A fault that one detector is to have.

    Attributes
    ----------
    detector
        Id of the detector.
    kind
        What is wrong.
    begin, end
        Local times.
    day
        Number of the day; 0 is every day.
    factor
        How strong; its unit depends on the kind (`faults.Fault`).
    """

    detector: str
    kind: FaultKind
    begin: str
    end: str
    day: int = 0
    factor: float = 1.5


@dataclass(frozen=True, slots=True)
class Sensing:
    """What the roadside is.

    Attributes
    ----------
    interval
        Reporting interval of the loops; None leaves it to the city.
    faulty_share
        Share of the detectors with a drawn fault, 0..1; None leaves it to the city.
    coverage
        Share of the network's detectors of a road class that are there, 0..1; 1 where it is not named.
    drawn
        Which faults are drawn.
    cameras
        How well cameras read.
    plan
        Sensors beside those of the network: loops, radars, cameras, probes and buses. What they are known by is part of
        the network, so a run with a plan has a network of its own (`simulators.sensorplan.planned`).
    faults
        Faults that are to happen.
    """

    interval: timedelta | None = None
    faulty_share: float | None = None
    coverage: dict[RoadClass, float] = field(default_factory=dict)
    drawn: FaultRules = field(default_factory=FaultRules)
    cameras: CameraRules = field(default_factory=CameraRules)
    plan: SensorPlan = field(default_factory=SensorPlan)
    faults: tuple[PlannedFault, ...] = ()


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario; its defaults are an ordinary day of the city as its settings say.

    Attributes
    ----------
    title
        A few words.
    description
        A paragraph: what happens and what to look at.
    city
        City folder, relative to the file; empty where the command names it.
    seed
        Seed of every random draw; None leaves it to the city.
    first
        Civil date of the first day.
    days
        Number of days.
    holidays
        Dates that are driven like a Sunday.
    traffic
        Signals, trucks and the capacity drop; None leaves them to the city.
    demand, weather, incidents, works, closures, events, evacuations, sensors
        See the records.
    """

    title: str
    description: str = ""
    city: str = ""
    seed: int | None = None
    first: date = date(2026, 3, 10)
    days: int = 1
    holidays: tuple[date, ...] = ()
    demand: DemandRules = field(default_factory=DemandRules)
    traffic: TrafficRules | None = None
    weather: tuple[Spell, ...] = ()
    incidents: Incidents = field(default_factory=Incidents)
    works: tuple[Works, ...] = ()
    closures: tuple[Closure, ...] = ()
    events: tuple[Event, ...] = ()
    evacuations: tuple[Evacuation, ...] = ()
    sensors: Sensing = field(default_factory=Sensing)

    def number_of(self, day: date) -> int:
        """Return the number, from 1, of a day; before and after the scenario its days repeat."""
        return (day - self.first).days % self.days + 1

    def like(self, day: date) -> date:
        """Return the scenario's own date that a day is driven like."""
        return self.first + timedelta(days=self.number_of(day) - 1)
