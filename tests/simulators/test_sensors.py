from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import numpy.typing as npt
import pytest

from citybrain.network import Detectors, Network
from citybrain.records import Quality, Readings, SpeedKind
from simulators.engine import EXIT, Engine
from simulators.faults import Fault, FaultPlan, faults_of_week
from simulators.roads import FloatArray, roads_of
from simulators.sensors import EFFECTIVE_LENGTH_M, LOOP_M, RADAR_MISSED, Loops, passed_at, readings_of
from simulators.vehicles import CAR, KINDS, TRUCK
from tests.fakes import grid_network
from tests.simulators.links import along, chain, departures, every, run


def test_at_both_ends_of_a_link_a_loop_counts_what_the_engine_counts() -> None:
    roads = chain([700.0, 300.0], [0.5, 0.2])
    engine = Engine(roads, departures(every(2.5, 1500)))
    link = np.array([0, 0, 1, 1], np.int32)
    place = np.array([0.0, 1.0, 0.0, 1.0])
    for _ in range(1800):
        engine.step(along(roads))
        passed, _ = passed_at(engine, link, place)
        assert passed.tolist() == [engine.entered[0], engine.left[0], engine.entered[1], engine.left[1]]


def test_between_the_ends_every_vehicle_is_counted_once() -> None:
    roads = chain([700.0, 300.0], [0.5, 0.2])
    engine = Engine(roads, departures(every(2.5, 1500)))
    places = np.linspace(0, 1, 8)
    before = np.zeros(8, np.int64)
    for _ in range(4000):
        engine.step(along(roads))
        passed, _ = passed_at(engine, np.zeros(8, np.int32), places)
        assert (passed >= before).all()
        assert (np.diff(passed) <= 0).all(), "nobody passes a place before those upstream of it"
        before = passed
    assert before.tolist() == [600] * 8


def test_in_a_queue_a_loop_shows_the_density_and_speed_of_the_diagram() -> None:
    network, engine, loops = _one_road()
    engine.restrict(1, 0.1)
    readings = [_interval(network, engine, loops) for _ in range(60)]
    flow = 0.1 * engine.roads.capacity_vps[1]
    wave_ms = 500.0 / engine.roads.wave_s[0]
    density = engine.roads.jam_veh_m[0] - flow / wave_ms
    late = readings[-20:]
    assert sum(reading.count_veh[0] for reading in late) == pytest.approx(flow * 600, rel=0.02)
    assert np.mean([reading.occupancy[0] for reading in late]) == pytest.approx(
        density * EFFECTIVE_LENGTH_M / 2, rel=0.03
    )
    speed_kmh = 3600 * 20 / sum(3600 / reading.speed_kmh[0] for reading in late) / 1000 * 1000
    assert speed_kmh == pytest.approx(flow / density * 3.6, rel=0.25)


def test_at_free_flow_a_loop_shows_the_free_speed_and_little_occupancy() -> None:
    network, engine, loops = _one_road(headway_s=4.0)
    readings = [_interval(network, engine, loops) for _ in range(40)][5:]
    assert np.mean([reading.speed_kmh[0] for reading in readings]) == pytest.approx(50.0, rel=0.03)
    assert sum(reading.count_veh[0] for reading in readings) == pytest.approx(35 * 7.5, abs=1)
    assert np.mean([reading.occupancy[0] for reading in readings]) == pytest.approx(
        0.25 / (50 / 3.6) * EFFECTIVE_LENGTH_M / 2, rel=0.05
    )


def test_in_bad_weather_a_loop_shows_the_lower_free_speed() -> None:
    network, engine, loops = _one_road(headway_s=4.0)
    engine.weather(0.9, 0.8)
    readings = [_interval(network, engine, loops) for _ in range(40)][5:]
    assert np.mean([reading.speed_kmh[0] for reading in readings]) == pytest.approx(40.0, rel=0.03)
    assert sum(reading.count_veh[0] for reading in readings) == pytest.approx(35 * 7.5, abs=1)


def test_without_vehicles_the_count_is_0_and_the_speed_is_missing_not_0() -> None:
    network, engine, loops = _one_road(headway_s=1e6)
    reading = _interval(network, engine, loops)
    empty = reading.count_veh == 0
    assert empty.any()
    assert np.isnan(reading.speed_kmh[empty]).all()
    assert (reading.occupancy[empty] == 0).all()
    assert (reading.quality_speed[empty] == Quality.NO_VEHICLE).all()
    assert (reading.quality_flow == Quality.OK).all()


def test_a_reading_arrives_two_seconds_after_its_interval_and_moves_the_watermark() -> None:
    network, engine, loops = _one_road()
    reading = _interval(network, engine, loops)
    assert reading.received_ms == 30_000 + 2_000
    assert reading.watermark_ms == 30_000
    assert (reading.observed_from_ms == 0).all()
    assert (reading.observed_to_ms == 30_000).all()
    assert (reading.flow_vph == reading.count_veh * 120).all()
    assert (reading.speed_kind == SpeedKind.TIME_MEAN).all()


def test_a_loop_over_one_of_two_lanes_counts_about_half() -> None:
    network, engine, loops = _one_road(detector_lanes=1)
    counts = sum(_interval(network, engine, loops).count_veh[0] for _ in range(100))
    assert counts == pytest.approx(engine.entered[0] / 2, rel=0.12)


@pytest.mark.parametrize("kind", ["camera", "probe", "bus"])
def test_what_measures_journeys_is_no_loop(kind: str) -> None:
    network = grid_network()
    kinds = np.where(np.arange(len(network.detectors)) == 3, kind, "loop")
    loops = Loops(replace(network, detectors=replace(network.detectors, kind=kinds)), roads_of(network))
    assert 3 not in loops.detector
    assert len(loops.detector) == len(network.detectors) - 1


def test_a_loop_over_all_lanes_counts_every_vehicle_without_error() -> None:
    network, engine, loops = _one_road()
    counted = np.sum([_interval(network, engine, loops).count_veh for _ in range(100)], axis=0)
    passed, _ = passed_at(engine, loops.link, loops.place)
    assert counted.tolist() == passed.tolist()
    assert passed[0] > 2000


def test_loops_over_each_lane_share_the_vehicles_without_remainder() -> None:
    network, engine, loops = _lanes(3)
    assert loops.beside.tolist() == [-1, 0, 1]
    counts = np.array([_interval(network, engine, loops).count_veh for _ in range(100)])
    assert (counts.sum(axis=1) == counts.sum(axis=1).round()).all()
    assert counts.sum() == passed_at(engine, loops.link[:1], loops.place[:1])[0][0]
    assert counts.sum(axis=0) == pytest.approx(counts.sum() / 3, rel=0.08)


def test_a_single_loop_counts_and_is_covered_but_measures_no_speed() -> None:
    network, engine, loops = _one_road(kind="single")
    readings = [_interval(network, engine, loops) for _ in range(20)][5:]
    assert all(np.isnan(reading.speed_kmh).all() for reading in readings)
    busy = [reading for reading in readings if reading.count_veh[0] > 0]
    assert busy
    assert all(reading.quality_speed[0] == Quality.MISSING for reading in busy)
    assert all(reading.occupancy[0] > 0 for reading in busy)


def test_a_radar_misses_a_small_share_of_the_vehicles() -> None:
    network, engine, loops = _one_road(kind="radar")
    counted = sum(_interval(network, engine, loops).count_veh[0] for _ in range(120))
    passed = passed_at(engine, loops.link[:1], loops.place[:1])[0][0]
    spread = np.sqrt(passed * RADAR_MISSED * (1 - RADAR_MISSED))
    assert counted == pytest.approx(passed * (1 - RADAR_MISSED), abs=3 * spread)
    assert counted < passed


def test_trucks_cover_a_loop_for_longer_than_cars() -> None:
    seen = []
    for kind in (CAR, TRUCK):
        network, engine, loops = _one_road(headway_s=6.0, truck_share=float(kind))
        readings = [_interval(network, engine, loops) for _ in range(60)][10:]
        seen.append(np.mean([reading.occupancy[0] for reading in readings]))
    lengths = [KINDS[kind].length_m + LOOP_M for kind in (CAR, TRUCK)]
    assert seen[1] / seen[0] == pytest.approx(lengths[1] / lengths[0], rel=0.03)


def test_in_a_queue_of_trucks_a_loop_shows_the_density_of_those_on_its_link() -> None:
    network, engine, loops = _one_road(truck_share=1.0)
    engine.restrict(1, 0.6)
    readings, on_link = [], []
    for _ in range(60):
        readings.append(_interval(network, engine, loops))
        on_link.append(engine.on_link[0])
    density = np.mean(on_link[-20:]) / engine.roads.length_m[0]
    assert np.mean([reading.occupancy[0] for reading in readings[-20:]]) == pytest.approx(
        density * (KINDS[TRUCK].length_m + LOOP_M) / 2, rel=0.04
    )


def test_only_the_detectors_that_are_there_report() -> None:
    network = grid_network()
    there = np.arange(len(network.detectors)) % 2 == 0
    assert Loops(network, roads_of(network), there=there).detector.tolist() == np.flatnonzero(there).tolist()


def test_what_a_chattering_loop_counts_on_an_empty_road_has_no_speed_and_says_so() -> None:
    network, engine, loops = _one_road(headway_s=1e6)
    fault = Fault(detector=0, kind="chattering", onset_ms=0, end_ms=10**9, factor=3.0)
    readings = [_interval(network, engine, loops, (fault,)) for _ in range(6)]
    seen = [(r.count_veh[0] > 0, np.isnan(r.speed_kmh[0]), r.quality_speed[0]) for r in readings]
    assert (True, True, Quality.MISSING) in seen
    assert (True, True, Quality.NO_VEHICLE) not in seen


@pytest.mark.parametrize("kind", ["silent", "stuck", "chattering", "biased"])
def test_a_fault_shows_from_its_onset_on_and_only_at_its_detector(kind: str) -> None:
    detectors = np.arange(5, dtype=np.int32)
    fault = Fault(detector=2, kind=kind, onset_ms=1000, end_ms=9000, factor=1.5)  # type: ignore[arg-type]
    plan = FaultPlan(detectors, (fault,))
    sound = {"count": np.full(5, 6.0), "speed": np.full(5, 50.0), "occupancy": np.full(5, 0.04)}

    def seen(now_ms: int) -> tuple[dict[str, FloatArray], npt.NDArray[np.bool_]]:
        values = {name: column.copy() for name, column in sound.items()}
        return values, plan.distort(values, now_ms, np.random.default_rng(1))

    for now_ms in (999, 9000):
        values, present = seen(now_ms)
        assert present.all()
        assert all((values[name] == sound[name]).all() for name in sound)
    values, present = seen(1000)
    assert present.tolist() == [True, True, kind != "silent", True, True]
    others = [0, 1, 3, 4]
    assert all((values[name][others] == sound[name][others]).all() for name in sound)
    if kind == "chattering":
        assert values["count"][2] >= 12
    if kind == "biased":
        assert values["speed"][2] == 75.0
    if kind == "stuck":
        assert [values[name][2] for name in sound] == [seen(5000)[0][name][2] for name in sound]
        assert values["count"][2] != 6.0


def test_a_weeks_faults_are_the_share_asked_for_and_the_same_for_each_of_its_days() -> None:
    detectors = np.arange(1000, dtype=np.int32)
    monday, sunday = (
        faults_of_week(day, "Europe/Lisbon", detectors, 0.05, np.random.default_rng(3))
        for day in (date(2026, 11, 16), date(2026, 11, 22))
    )
    assert monday == sunday
    assert len(monday) == 50
    assert {fault.kind for fault in monday} == {"silent", "stuck", "chattering", "biased"}
    assert all(fault.onset_ms < fault.end_ms for fault in monday)


def _one_road(
    headway_s: float = 1.2, detector_lanes: int = 2, kind: str = "loop", truck_share: float = 0.0
) -> tuple[Network, Engine, Loops]:
    """Return a grid of which only two links in a row are driven on."""
    network = grid_network(columns=3, rows=2)
    count = len(network.detectors)
    network = replace(
        network,
        detectors=replace(network.detectors, lanes=np.full(count, detector_lanes, np.int32), kind=np.full(count, kind)),
    )
    roads = roads_of(network)
    trips = departures(every(headway_s, 4000, start_s=0.0 if headway_s < 1000 else 3999.0))
    if truck_share:
        trips = replace(trips, kind=np.full(len(trips), TRUCK, np.int8))
    return network, Engine(roads, trips), Loops(network, roads)


def _lanes(lanes: int) -> tuple[Network, Engine, Loops]:
    """Return the same road with so many lanes and a detector over each at one place of its first link."""
    network = grid_network(columns=3, rows=2)
    network = replace(
        network,
        segments=replace(network.segments, lanes=np.full(len(network.segments), lanes, np.int32)),
        detectors=Detectors(
            id=np.array([f"d0-{lane}" for lane in range(lanes)]),
            segment=np.zeros(lanes, np.int32),
            position_m=np.full(lanes, 250.0),
            lanes=np.ones(lanes, np.int32),
            kind=np.full(lanes, "loop"),
        ),
    )
    roads = roads_of(network)
    return network, Engine(roads, departures(every(1.2, 4000))), Loops(network, roads)


def _interval(network: Network, engine: Engine, loops: Loops, faults: tuple[Fault, ...] = ()) -> Readings:
    next_link = np.full((1, engine.roads.nodes), EXIT, np.int32)
    next_link[0, :2] = [0, 1]
    for _ in range(2):
        run(engine, next_link, 15)
        loops.look(engine)
    return readings_of(
        loops,
        loops.sample(30.0),
        FaultPlan(loops.detector, faults),
        network=network.version,
        source="simulated",
        observed_ms=(round(engine.now_s) * 1000 - 30_000, round(engine.now_s) * 1000),
        rng=np.random.default_rng(round(engine.now_s)),
    )
