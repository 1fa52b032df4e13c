from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from citybrain.errors import ConfigError
from citybrain.network import ROAD_CLASSES, Network
from citybrain.records import Quality, Readings, SpeedKind, decode, encode
from simulators.cameras import Seen, taken
from simulators.engine import EXIT, Engine
from simulators.probes import ProbeRules, Probes, canyons_of
from simulators.roads import FloatArray, IntArray, roads_of
from tests.fakes import corridor_network, grid_network
from tests.simulators.links import departures, every

ALL = ProbeRules(share=1.0)
EXACT = ProbeRules(share=1.0, error_m=0.0, canyon_error_m=0.0)
INTERVAL_S = 30


def test_on_free_links_the_speed_of_probes_is_that_of_free_flow_without_a_bias() -> None:
    speeds = by_link(run(ALL), "speed_kmh")
    assert set(speeds) == set(range(8))
    for link in range(1, 7):
        assert np.mean(speeds[link]) == pytest.approx(90.0, rel=0.01), link
        assert len(speeds[link]) > 50
    assert 0.0 < np.std(speeds[3]) < 8.0, "positions have errors"


def test_without_errors_of_position_a_travel_time_is_what_the_link_takes() -> None:
    for batch in run(EXACT):
        assert batch.travel_time_s == pytest.approx(np.full(len(batch), 20.0), abs=1e-6)


def test_in_a_queue_the_travel_times_of_probes_are_those_of_the_vehicles() -> None:
    truth: list[float] = []
    batches = run(ALL, capacity=(4, 0.5), truth=truth)
    waiting = np.array(by_link(batches, "travel_time_s")[4])
    assert np.mean(truth) > 30.0, "the link is in a queue"
    assert np.mean(waiting) == pytest.approx(np.mean(truth), rel=0.05)


def test_a_share_of_the_vehicles_are_probes() -> None:
    _, probes, engine = road(ProbeRules(share=0.1))
    trips = len(engine.trips)
    assert probes.is_probe.sum() == pytest.approx(trips * 0.1, abs=3 * np.sqrt(trips * 0.09))


def test_each_probe_tells_its_position_at_its_own_interval_of_10_to_30_s() -> None:
    network, probes, engine = road(ALL)
    seen_s: dict[int, set[float]] = {}
    for seen in drive(network, engine, 20):
        probes.journeys(engine, seen)
        for vehicle, instant_s in zip(probes.fixes.vehicle.tolist(), probes.fixes.instant_s.tolist(), strict=True):
            seen_s.setdefault(vehicle, set()).add(round(instant_s, 6))
    gaps = [np.diff(sorted(instants)) for instants in seen_s.values() if len(instants) > 2]
    assert len(gaps) > 50
    assert all(np.ptp(gap) < 1e-3 for gap in gaps), "none is left out"
    assert all(10.0 <= gap[0] <= 30.0 for gap in gaps)
    assert np.ptp([gap[0] for gap in gaps]) > 10.0


def test_positions_have_the_error_of_their_street_and_a_part_of_it_lasts() -> None:
    open_m, narrow_m = (errors(narrow) for narrow in (False, True))
    assert np.concatenate(open_m).std() == pytest.approx(4.0, rel=0.1)
    assert np.concatenate(narrow_m).std() == pytest.approx(18.0, rel=0.1)
    pairs = np.array([(track[0], track[1]) for track in open_m if len(track) > 1])
    assert 0.2 < np.corrcoef(pairs.T)[0, 1] < 0.6


def test_narrow_streets_are_those_among_many_junctions_and_never_a_motorway() -> None:
    wide = grid_network(8, 8)
    assert not canyons_of(wide, roads_of(wide)).any()
    dense = replace(wide, lon_lat=(wide.lon_lat[0] + (wide.lon_lat - wide.lon_lat[0]) / 8).astype(np.float32))
    assert canyons_of(dense, roads_of(dense)).mean() > 0.8
    motorway = np.full(len(dense.segments), ROAD_CLASSES.index("motorway"), np.int32)
    fast = replace(dense, segments=replace(dense.segments, road_class=motorway))
    assert not canyons_of(fast, roads_of(fast)).any()
    nowhere = replace(dense, lon_lat=np.full_like(dense.lon_lat, np.nan))
    assert not canyons_of(nowhere, roads_of(nowhere)).any()


def test_a_reading_of_probes_counts_nobody_and_is_derived() -> None:
    batch = next(batch for batch in run(ALL) if len(batch))
    assert np.isnan(batch.count_veh).all()
    assert np.isnan(batch.occupancy).all()
    assert (batch.quality_flow == Quality.MISSING).all()
    assert (batch.quality_speed == Quality.DERIVED).all()
    assert (batch.speed_kind == SpeedKind.SPACE_MEAN).all()
    assert (np.diff(batch.detector) > 0).all()
    assert batch.speed_kmh * batch.travel_time_s == pytest.approx(np.full(len(batch), 0.5 * 3600))
    again = decode(Readings, encode(batch))
    assert again.detector.tolist() == batch.detector.tolist()


def test_nothing_is_known_of_a_segment_without_a_probe_detector() -> None:
    found = run(ALL, kind=np.where(np.arange(8) == 3, "loop", "probe"))
    assert set(by_link(found, "speed_kmh")) == {0, 1, 2, 4, 5, 6, 7}


def test_every_journey_is_told_once() -> None:
    network, probes, engine = road(ALL)
    told = np.sum(
        [np.bincount(probes.journeys(engine, seen)[0], minlength=8) for seen in drive(network, engine, 130)], axis=0
    )
    trips = len(engine.trips)
    assert engine.arrived == trips
    assert told[2:6].tolist() == [trips] * 4, "where there is a position before and one after"
    assert (told <= trips).all()


def test_a_saved_state_goes_on_to_the_same_readings() -> None:
    network, probes, engine = road(ALL)
    _, other, _ = road(ALL)
    for number, seen in enumerate(drive(network, engine, 20)):
        if number == 10:
            other.load({name: values.copy() for name, values in probes.dump().items()})
        mine = probes.journeys(engine, seen)
        if number >= 10:
            theirs = other.journeys(engine, seen)
            assert [part.tolist() for part in mine] == [part.tolist() for part in theirs]


def test_rules_that_cannot_be_are_refused() -> None:
    for wrong, said in (
        ({"share": 1.1}, r"share 1.1 seen, 0 to 1 allowed"),
        ({"every_s": (30.0, 10.0)}, r"every \(30.0, 10.0\) s seen"),
        ({"error_m": -1.0}, r"errors -1.0"),
    ):
        with pytest.raises(ConfigError, match=said):
            ProbeRules(**wrong)


def road(
    rules: ProbeRules, kind: np.ndarray[tuple[int], np.dtype[np.str_]] | None = None
) -> tuple[Network, Probes, Engine]:
    """Return a road of eight segments of 500 m, 90 km/h, each with a probe detector, and vehicles every 3 s."""
    network = corridor_network(kind="probe")
    if kind is not None:
        network = replace(network, detectors=replace(network.detectors, kind=kind))
    roads = roads_of(network)
    engine = Engine(roads, departures(every(3.0, 3600)))
    return network, Probes(network, roads, engine, rules=rules, seed=(1, 2)), engine


def drive(network: Network, engine: Engine, intervals: int) -> list[Seen]:
    """Run an engine along its road; a list that is filled as it is gone through."""
    return _Driven(engine, np.append(np.arange(len(network.segments)), EXIT).astype(np.int32)[None, :], intervals)  # type: ignore[return-value]


class _Driven:
    def __init__(self, engine: Engine, next_link: IntArray, intervals: int) -> None:
        self.engine, self.next_link, self.left = engine, next_link, intervals

    def __iter__(self) -> _Driven:
        return self

    def __next__(self) -> Seen:
        if not self.left:
            raise StopIteration
        self.left -= 1
        for _ in range(INTERVAL_S):
            self.engine.step(self.next_link)
        return taken(self.engine)


def run(
    rules: ProbeRules,
    *,
    capacity: tuple[int, float] | None = None,
    kind: np.ndarray[tuple[int], np.dtype[np.str_]] | None = None,
    truth: list[float] | None = None,
) -> list[Readings]:
    """Return an hour's readings; with a capacity a link is restricted, and the travel times before it are noted."""
    network, probes, engine = road(rules, kind)
    if capacity:
        engine.restrict(capacity[0] + 1, capacity[1] * 0.5)
    entered: dict[int, float] = {}
    batches = []
    for number, seen in enumerate(drive(network, engine, 120), start=1):
        for link, vehicle, instant_s in zip(*(part.tolist() for part in seen), strict=True):
            if capacity and truth is not None and link == capacity[0] and vehicle in entered:
                truth.append(instant_s - entered[vehicle])
            if capacity and link == capacity[0] - 1:
                entered[vehicle] = instant_s
        end_ms = number * INTERVAL_S * 1000
        batches.append(
            probes.readings(engine, seen, network=network.version, source="p", observed_ms=(end_ms - 30_000, end_ms))
        )
    return batches


def by_link(batches: list[Readings], name: str) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for batch in batches:
        for detector, value in zip(batch.detector.tolist(), getattr(batch, name).tolist(), strict=True):
            found.setdefault(detector, []).append(value)
    return found


def errors(narrow: bool) -> list[FloatArray]:
    """Return the errors of each vehicle's positions, in order of time."""
    network, probes, engine = road(ALL)
    probes._canyon[:] = narrow
    tracks: dict[int, dict[float, float]] = {}
    for seen in drive(network, engine, 100):
        probes.journeys(engine, seen)
        fixes = probes.fixes
        assert (fixes.canyon == narrow).all()
        for vehicle, instant_s, error in zip(fixes.vehicle, fixes.instant_s, fixes.error_m, strict=True):
            tracks.setdefault(int(vehicle), {})[round(float(instant_s), 6)] = float(error)
    return [np.array([track[at] for at in sorted(track)]) for track in tracks.values()]
