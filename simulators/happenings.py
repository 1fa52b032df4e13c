"""What a scenario does to a day: its parts in; restricted segments, weather, faults and trips of that day out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np

from citybrain.clock import epoch_ms
from citybrain.network import Network
from citybrain.units import MS_PER_S
from simulators.calendar import DAY_STARTS, Day
from simulators.crowds import Crowd, Flight, crowd_trips, flight_trips, joined
from simulators.demand import Demand, zone_minutes
from simulators.engine import Trips
from simulators.faults import Fault, planned_fault
from simulators.incidentrates import work_zone_share
from simulators.incidents import Incident, incident_at, remaining_capacity
from simulators.places import Place, segments_at
from simulators.roads import FloatArray, Roads
from simulators.routes import Routes
from simulators.scenario import Closure, Evacuation, Event, PlannedFault, Scenario, Spell, Works
from simulators.weather import Weather
from simulators.zones import node_positions_km


@dataclass(frozen=True, slots=True)
class Restriction:
    """Works or a closure on one segment.

    Attributes
    ----------
    kind
        ``works`` or ``closure``.
    name
        What it is called.
    segment
        Index of the segment.
    onset_ms, end_ms
        Half-open, ms UTC.
    capacity_share, lanes_share
        What is left of the segment's capacity and lanes, 0..1.
    """

    kind: Literal["works", "closure"]
    name: str
    segment: int
    onset_ms: int
    end_ms: int
    capacity_share: float
    lanes_share: float

    def told(self, lanes: int) -> Incident:
        """Return it as the truth tells it, on a segment of so many lanes: its queue is followed like an incident's."""
        closed = lanes - round(lanes * self.lanes_share) if self.capacity_share else lanes
        return Incident(
            self.segment, self.onset_ms, self.end_ms, closed, self.capacity_share, self.lanes_share, self.kind
        )


@dataclass(frozen=True, slots=True)
class Air:
    """Weather of a part of a day, with its kind; instants in ms UTC, half-open."""

    kind: str
    onset_ms: int
    end_ms: int
    weather: Weather


@dataclass(frozen=True, slots=True)
class Mark:
    """Something worth naming in a picture or a report.

    Attributes
    ----------
    kind
        ``incident``, ``works``, ``closure``, ``weather``, ``event`` or ``evacuation``.
    name
        What it is called.
    onset_ms, end_ms
        Half-open, ms UTC.
    segments
        Ids of the segments it is on.
    """

    kind: str
    name: str
    onset_ms: int
    end_ms: int
    segments: tuple[str, ...] = ()


def start_ms(day: Day, clock: str) -> int:
    """Return the instant of a local time on a day, ms UTC; what is before 04:00 is the night after."""
    local = time.fromisoformat(clock)
    date = day.date if local >= DAY_STARTS else day.date + timedelta(days=1)
    instant = epoch_ms(datetime.combine(date, local, ZoneInfo(day.timezone)))
    return min(max(instant, day.start_ms), day.end_ms)


def end_ms(day: Day, clock: str) -> int:
    """Return the instant of an end: 04:00 is the end of the day."""
    return day.end_ms if time.fromisoformat(clock) == DAY_STARTS else start_ms(day, clock)


class Happenings:
    """A scenario's parts on one day of one city.

    Attributes
    ----------
    incidents
        Planned incidents.
    restrictions
        Works and closures, by segment.
    weather
        The day's weather.
    marks
        All of it, in words.
    """

    def __init__(self, scenario: Scenario, day: Day, network: Network, roads: Roads, demand: Demand) -> None:
        self.day = day
        self.network = network
        self.roads = roads
        self.demand = demand
        number = scenario.number_of(day.date)
        today = (0, number)
        self.scenario = replace(
            scenario,
            works=tuple(part for part in scenario.works if part.day in today),
            closures=tuple(part for part in scenario.closures if part.day in today),
            weather=tuple(part for part in scenario.weather if part.day in today),
            events=tuple(part for part in scenario.events if part.day in today),
            evacuations=tuple(part for part in scenario.evacuations if part.day in today),
        )
        self.planned = tuple(part for part in scenario.incidents.planned if part.day in today)
        self.incidents = self._incidents()
        self.restrictions = self._restrictions()
        self.weather = tuple(Air(spell.kind, *self._during(spell), spell.weather) for spell in self.scenario.weather)
        self.marks = self._marks()

    def _during(self, part: Spell | Works | Closure | Event | PlannedFault) -> tuple[int, int]:
        return start_ms(self.day, part.begin), end_ms(self.day, part.end)

    def trips(self, usual: Trips, routes: Routes, rng: np.random.Generator) -> Trips:
        """Return the day's trips with those of its events and evacuations, without those that these prevent."""
        parts = [usual]
        positions = node_positions_km(self.network, self.roads)
        crowds = [self._crowd(event, positions) for event in self.scenario.events]
        parts += [crowd_trips(crowd, self.demand.zones, positions, rng) for crowd in crowds]
        for order in self.scenario.evacuations:
            parts[0] = self._left_undone(parts[0], order, positions, rng)
            minutes = zone_minutes(self.demand.zones, routes.minutes)
            parts.append(flight_trips(self._flight(order, positions), self.demand.zones, minutes, rng))
        return joined(*parts) if len(parts) > 1 else usual

    def incident_factors(self) -> FloatArray:
        """Return how many times as many incidents the weather makes in each minute of the day, from the fill on."""
        minute_ms = self.day.fill_ms + 60_000 * np.arange(self.day.minutes)
        factor = np.ones(len(minute_ms))
        for air in self.weather:
            factor[(air.onset_ms <= minute_ms) & (minute_ms < air.end_ms)] *= air.weather.incidents
        return factor

    def segments(self, place: Place) -> list[int]:
        """Return the segments of a place."""
        return [int(segment) for segment in segments_at(place, self.network, lambda: self.demand.morning_vps)]

    def _incidents(self) -> tuple[Incident, ...]:
        return tuple(
            incident_at(self.roads, segment, start_ms(self.day, plan.at), plan.duration.total_seconds(), plan.lanes)
            for plan in self.planned
            for segment in self.segments(plan.place)
        )

    def _restrictions(self) -> tuple[Restriction, ...]:
        found = []
        for part in self._blocks():
            kind: Literal["works", "closure"] = "works" if isinstance(part, Works) else "closure"
            for segment in self.segments(part.place):
                lanes = int(self.roads.lanes[segment])
                shares = (0.0, 1.0)
                if isinstance(part, Works):
                    shares = _left_by_works(lanes, part.lanes)
                found.append(Restriction(kind, part.name, segment, *self._during(part), *shares))
        return tuple(found)

    def _blocks(self) -> list[Works | Closure]:
        return [*self.scenario.works, *self.scenario.closures]

    def _crowd(self, event: Event, positions: FloatArray) -> Crowd:
        node = int(self.roads.to_node[self.segments(event.place)[0]])
        return Crowd(
            place_km=(float(positions[node, 0]), float(positions[node, 1])),
            cars=round(event.attendance * event.car_share / event.persons_per_car),
            begins_s=self._second(start_ms(self.day, event.begin)),
            ends_s=self._second(end_ms(self.day, event.end)),
            emptied_s=event.emptied_in.total_seconds(),
        )

    def _inside(self, order: Evacuation, positions: FloatArray) -> FloatArray:
        """Return the share of each zone's people that live in the area, 0..1; a gate's never do."""
        zones = self.demand.zones
        middle = positions[self.roads.to_node[self.segments(order.place)[0]]]
        near = np.hypot(*(positions - middle).T) <= order.radius_km
        share = np.bincount(zones.of_node, weights=zones.origin_share * near, minlength=len(zones))
        return np.asarray(np.where(zones.gate_vps > 0, 0.0, share))

    def _flight(self, order: Evacuation, positions: FloatArray) -> Flight:
        zones = self.demand.zones
        people = self._inside(order, positions) * (zones.home + zones.work)
        exact = order.vehicles * people / max(float(people.sum()), 1e-300)
        cars = np.floor(exact).astype(np.int64)
        rest = np.argsort(-(exact - cars), kind="stable")[: order.vehicles - int(cars.sum())]
        cars[rest] += 1
        return Flight(cars, self._second(start_ms(self.day, order.at)), order.left_in.total_seconds())

    def _left_undone(self, usual: Trips, order: Evacuation, positions: FloatArray, rng: np.random.Generator) -> Trips:
        """Leave out what is not driven after the order: a share of all trips, and all into the area."""
        after = usual.depart_s >= self._second(start_ms(self.day, order.at))
        gone = after & (rng.random(len(usual)) >= order.usual_trips)
        gone |= after & (self._inside(order, positions) > 0.5)[usual.zone]
        kind = None if usual.kind is None else usual.kind[~gone]
        return Trips(usual.depart_s[~gone], usual.origin[~gone], usual.zone[~gone], kind)

    def _second(self, instant_ms: int) -> float:
        return (instant_ms - self.day.fill_ms) / MS_PER_S

    def _marks(self) -> tuple[Mark, ...]:
        ids = self.network.segments.id
        marks = [Mark("incident", "", i.onset_ms, i.end_ms, (str(ids[i.segment]),)) for i in self.incidents]
        for part in self._blocks():
            kind = "works" if isinstance(part, Works) else "closure"
            names = tuple(str(ids[segment]) for segment in self.segments(part.place))
            marks.append(Mark(kind, part.name, *self._during(part), names))
        marks += [Mark("weather", air.kind.replace("_", " "), air.onset_ms, air.end_ms) for air in self.weather]
        for event in self.scenario.events:
            names = (str(ids[self.segments(event.place)[0]]),)
            marks.append(Mark("event", event.name, *self._during(event), names))
        for order in self.scenario.evacuations:
            begin = start_ms(self.day, order.at)
            end = min(begin + round(order.left_in.total_seconds()) * MS_PER_S, self.day.end_ms)
            names = (str(ids[self.segments(order.place)[0]]),)
            marks.append(Mark("evacuation", order.name, begin, end, names))
        return tuple(sorted(marks, key=lambda mark: (mark.onset_ms, mark.kind, mark.name)))

    def faults(self) -> tuple[Fault, ...]:
        """Return the planned faults of the day."""
        today = (0, self.scenario.number_of(self.day.date))
        return tuple(
            fault
            for plan in self.scenario.sensors.faults
            if plan.day in today
            for fault in planned_fault(self.network, plan.detector, plan.kind, *self._during(plan), plan.factor)
        )


def _left_by_works(lanes: int, wanted: int) -> tuple[float, float]:
    """Return the shares of capacity and lanes that works leave; on a single lane directions take turns."""
    if lanes == 1:
        return remaining_capacity(1, 1), 0.5
    closed = min(wanted, lanes - 1)
    return work_zone_share(lanes, closed), 1.0 - closed / lanes
