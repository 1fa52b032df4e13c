from __future__ import annotations

from dataclasses import fields, replace
from datetime import date, datetime, time, timedelta
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow.parquet as pq
import pytest

from citybrain.clock import epoch_ms
from citybrain.errors import ConfigError
from citybrain.network import Detectors, Network, Segments
from citybrain.records import Passages, Readings, encode
from citybrain.settings import ScriptedIncident, SimulatedFeed
from simulators.calendar import day_of, on
from simulators.cameras import day_key, pseudonym
from simulators.city import SimulatedCity, with_sensors
from simulators.incidents import Scripted, scripted_of
from simulators.probes import ProbeRules
from simulators.scenario import Scenario, Sensing
from simulators.sensorplan import SensorPlan
from simulators.signals import SignalRules
from simulators.traffic import TrafficRules
from simulators.vehicles import VehicleRules
from tests.fakes import grid_network

LISBON = "Europe/Lisbon"
GRID = grid_network(columns=5, rows=4)
FEED = SimulatedFeed(trips=60_000, incidents_per_day=0.0, faulty_share=0.0)


def at(clock: str, day: str = "2026-11-17") -> int:
    return epoch_ms(datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=ZoneInfo(LISBON)))


def city(network: Network = GRID, feed: SimulatedFeed = FEED, **more: object) -> SimulatedCity:
    return SimulatedCity(network, feed, LISBON, **more)  # type: ignore[arg-type]


def test_what_the_city_says_of_its_traffic_holds_where_a_scenario_says_nothing() -> None:
    feed = replace(FEED, signals=True, truck_share=0.5, capacity_drop=0.07)
    assert city().traffic == TrafficRules()
    own = TrafficRules(SignalRules(enabled=True), VehicleRules(0.5), 0.07)
    assert city(feed=feed).traffic == own
    assert city(feed=feed, scenario=Scenario("A day")).traffic == own
    assert city(feed=feed, scenario=Scenario("A day", traffic=TrafficRules())).traffic == TrafficRules()
    kind = city(feed=feed).run_of(day_of(at("12:00"), LISBON)).engine.trips.kind
    assert kind is not None
    assert kind.mean() == pytest.approx(0.5, abs=0.02)


def test_a_plan_whose_sensors_the_network_does_not_have_is_refused() -> None:
    plan = SensorPlan(probes=ProbeRules())
    scenario = Scenario("A day", sensors=Sensing(plan=plan))
    with pytest.raises(ConfigError, match=r"sensors\.plan: \d+ detectors that the network does not have seen"):
        city(scenario=scenario)
    assert city(with_sensors(GRID, FEED, scenario), scenario=scenario).network.detectors.kind[-1] == "probe"


def between(simulated: SimulatedCity, begin_ms: int, first_ms: int, end_ms: int) -> list[Readings | Passages]:
    found = []
    for batch in simulated.batches(begin_ms):
        if batch.watermark_ms > end_ms:
            break
        if batch.watermark_ms > first_ms:
            found.append(batch)
    return found


def encoded(batches: list[Readings | Passages]) -> list[bytes]:
    return [encode(batch) for batch in batches]


def with_cameras(network: Network, *segments: int) -> Network:
    cameras = np.isin(network.detectors.segment, segments)
    return replace(network, detectors=replace(network.detectors, kind=np.where(cameras, "camera", "loop")))


def corridor(n: int = 12) -> Network:
    """Return a road in one direction that has no map."""
    own = {"from_node", "to_node", "geometry_start"}
    segments = {f.name: getattr(GRID.segments, f.name)[:n] for f in fields(GRID.segments) if f.name not in own}
    detectors = {f.name: getattr(GRID.detectors, f.name)[:n] for f in fields(GRID.detectors)}
    node = np.arange(n, dtype=np.int32)
    return replace(
        GRID,
        segments=Segments(**segments, from_node=node, to_node=node + 1, geometry_start=np.zeros(n + 1, np.int32)),
        detectors=Detectors(**detectors),
        lon_lat=np.zeros((0, 2), np.float32),
    )


def test_whoever_begins_later_in_the_day_sees_the_same_bytes() -> None:
    network = with_cameras(GRID, 3, 9)
    feed = replace(FEED, incidents_per_day=300.0, faulty_share=0.1)
    early = between(city(network, feed), at("05:00"), at("05:50"), at("06:00"))
    late = between(city(network, feed), at("05:50"), at("05:50"), at("06:00"))
    assert {type(batch) for batch in late} == {Readings, Passages}
    assert encoded(early) == encoded(late)


def test_a_run_resumed_from_its_saved_state_sees_the_same_bytes(tmp_path: Path) -> None:
    feed = replace(FEED, incidents_per_day=300.0)
    first = between(city(feed=feed, state_folder=tmp_path), at("05:20"), at("05:40"), at("05:45"))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["second-003600.npz", "second-007200.npz"]
    again = city(feed=feed, state_folder=tmp_path)
    run = again.run_of(day_of(at("05:40"), LISBON))
    run.resume(at("05:40"))
    assert run.now_ms == at("05:30"), "the day is not run from its start"
    assert encoded(between(again, at("05:40"), at("05:40"), at("05:45"))) == encoded(first)


def test_a_city_that_is_begun_late_soon_carries_the_traffic_of_that_hour() -> None:
    def counted(simulated: SimulatedCity) -> float:
        quarter = between(simulated, at("11:45"), at("11:45"), at("12:00"))
        return sum(float(batch.count_veh.sum()) for batch in quarter if isinstance(batch, Readings))

    whole, late = counted(city()), counted(city(warm_up=timedelta(hours=1)))
    assert whole > 1000
    assert late == pytest.approx(whole, rel=0.03)


def test_a_city_that_is_begun_late_has_the_batches_of_its_next_day_as_always() -> None:
    days = [
        encoded(between(simulated, at("02:00"), at("04:10", "2026-11-17"), at("04:20", "2026-11-17")))
        for simulated in (city(), city(warm_up=timedelta(hours=1)))
    ]
    assert days[0] == days[1]


def test_a_state_of_another_seed_or_a_broken_file_is_left_alone(tmp_path: Path) -> None:
    between(city(state_folder=tmp_path), at("04:35"), at("04:35"), at("04:36"))
    other = city(feed=replace(FEED, seed=2), state_folder=tmp_path).run_of(day_of(at("04:40"), LISBON))
    other.resume(at("04:40"))
    assert other.engine.now_s == 0
    (tmp_path / "second-003600.npz").write_bytes(b"no state")
    same = city(state_folder=tmp_path).run_of(day_of(at("04:40"), LISBON))
    same.resume(at("04:40"))
    assert same.engine.now_s == 0


def test_another_seed_and_another_day_are_another_traffic() -> None:
    minute = at("05:00"), at("05:00"), at("05:02")
    here = encoded(between(city(), *minute))
    assert here != encoded(between(city(feed=replace(FEED, seed=2)), *minute))
    later = [instant + 86_400_000 for instant in minute]
    tomorrow = between(city(), later[0], later[1], later[2])
    assert [b.count_veh.tolist() for b in tomorrow if isinstance(b, Readings)] != [
        b.count_veh.tolist() for b in between(city(), *minute) if isinstance(b, Readings)
    ]


def test_days_follow_one_another_without_a_gap_or_a_repeat() -> None:
    small = grid_network(columns=2, rows=2)
    feed = replace(FEED, trips=300, interval=timedelta(seconds=60))
    batches = [b for b in islice(city(small, feed).batches(at("03:57")), 6) if isinstance(b, Readings)]
    ends = [batch.watermark_ms for batch in batches]
    assert ends == [at("03:57") + 60_000 * k for k in range(1, 7)]
    assert all(len(batch) == len(small.detectors) for batch in batches)


def test_what_loops_count_is_what_truly_passed(tmp_path: Path) -> None:
    simulated = city(truth_folder=tmp_path)
    counted = np.zeros(len(GRID.segments))
    batches = simulated.batches(at("06:00"))
    for batch in batches:
        if batch.watermark_ms > at("07:00"):
            break
        assert isinstance(batch, Readings)
        np.add.at(counted, GRID.detectors.segment[batch.detector], batch.count_veh)
    batches.close()
    hour = pq.read_table(tmp_path / "segments-20261117T06.parquet").to_pandas()
    left = np.zeros(len(GRID.segments))
    total = hour.groupby("segment").left_veh.sum()
    left[total.index] = total
    assert counted.sum() > 5000
    # What was between the loop and the end of the segment when the hour began or ended.
    assert np.abs(counted - left).max() <= 0.25 * 0.143 * 2 * 1000 / 2


def test_the_truth_adds_up_and_knows_edies_speed(tmp_path: Path) -> None:
    between(city(truth_folder=tmp_path), at("06:30"), at("06:30"), at("08:00"))
    minutes = pq.read_table(tmp_path / "city-20261117T07.parquet").to_pandas()
    assert len(minutes) == 60
    assert (minutes.vht_veh_h >= minutes.vht_free_flow_veh_h * 0.999).all()
    np.testing.assert_allclose(
        minutes.vht_veh_h.sum(), minutes.on_road_veh.mean(), rtol=0.02, err_msg="an hour of vehicles is vehicle-hours"
    )
    segments = pq.read_table(tmp_path / "segments-20261117T07.parquet").to_pandas()
    assert (segments.speed_kmh <= 50.001).all()
    moving = segments[segments.flow_vph > 0]
    np.testing.assert_allclose(moving.flow_vph, moving.density_veh_km * moving.speed_kmh, rtol=0.2)
    per_minute = segments.groupby("minute_ms").apply(
        lambda g: float((g.density_veh_km * 0.5).sum()), include_groups=False
    )
    np.testing.assert_allclose(per_minute.to_numpy(), minutes.vht_veh_h * 60, rtol=1e-4)


def test_a_scripted_incident_slows_the_road_before_it_and_stands_in_the_truth(tmp_path: Path) -> None:
    feed = replace(FEED, trips=85_000)
    script = Scripted(6, time(7, 5), 1500.0, lanes_blocked=2)

    def speed_before_it(scripted: tuple[Scripted, ...]) -> float:
        simulated = city(corridor(), feed, scripted=scripted, truth_folder=tmp_path / str(len(scripted)))
        found = between(simulated, at("07:00"), at("07:15"), at("07:30"))
        return float(np.nanmean([b.speed_kmh[5] for b in found if isinstance(b, Readings)]))

    assert speed_before_it(()) > 45
    assert speed_before_it((script,)) < 20
    incidents = pq.read_table(tmp_path / "1" / "incidents-20261117.parquet").to_pylist()
    assert [(row["segment"], row["onset_ms"], row["capacity_share"]) for row in incidents] == [(6, at("07:05"), 0.05)]


def test_the_incident_to_show_is_on_a_main_road_with_a_detector() -> None:
    shown = city().shown_incident(time(7, 5))
    assert shown.segment in GRID.detectors.segment
    assert shown.duration_s == 1500.0


def test_scripted_incidents_of_the_settings_are_all_checked_at_once() -> None:
    good = replace(FEED, scripted=(ScriptedIncident("s3", "07:04", timedelta(minutes=20)),))
    assert scripted_of(GRID, good) == (Scripted(3, time(7, 4), 1200.0, 1),)
    bad = replace(FEED, scripted=(ScriptedIncident("s999", "07:04"), ScriptedIncident("s1", "7 o'clock")))
    with pytest.raises(ConfigError) as error:
        scripted_of(GRID, bad)
    assert "'s999' seen" in str(error.value)
    assert '"7 o\'clock" seen' in str(error.value)


def test_cameras_know_a_vehicle_again_on_the_same_day_and_never_on_the_next() -> None:
    network = with_cameras(GRID, *range(16))
    found = between(city(network), at("07:00"), at("07:00"), at("07:10"))
    passages = [batch for batch in found if isinstance(batch, Passages)]
    plates = np.concatenate([batch.plate for batch in passages])
    _, times = np.unique(plates, return_counts=True)
    assert (times >= 2).sum() > 50
    assert pseudonym("AA-00-AA", day_key(1, date(2026, 11, 17))) == pseudonym(
        "AA-00-AA", day_key(1, date(2026, 11, 17))
    )
    assert pseudonym("AA-00-AA", day_key(1, date(2026, 11, 17))) != pseudonym(
        "AA-00-AA", day_key(1, date(2026, 11, 18))
    )
    for batch in passages:
        assert (batch.passed_ms <= batch.watermark_ms).all()
        assert (batch.passed_ms > batch.watermark_ms - 30_000 - 1000).all()
        assert set(network.detectors.kind[batch.camera]) == {"camera"}


def test_nine_in_ten_passing_vehicles_are_read() -> None:
    filmed = np.arange(16)
    network = with_cameras(GRID, *filmed.tolist())
    run = city(network).run_of(day_of(at("07:00"), LISBON))
    read, passed = 0, [0, 0]
    for batch in run.batches(at("06:30"), at("07:30")):
        passed = [passed[0] or int(run.engine.left[filmed].sum()), int(run.engine.left[filmed].sum())]
        read += len(batch.plate) if isinstance(batch, Passages) and passed[0] < passed[1] else 0
    assert passed[1] - passed[0] > 500
    assert read / (passed[1] - passed[0]) == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("seconds", [1, 7, 30.5, 7200])
def test_an_interval_that_does_not_divide_an_hour_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match="whole seconds from 2 that divide an hour allowed"):
        city(feed=replace(FEED, interval=timedelta(seconds=seconds)))


def test_a_corridor_without_a_map_can_be_simulated() -> None:
    found = between(city(corridor(), replace(FEED, trips=9000)), at("07:00"), at("07:00"), at("07:10"))
    assert sum(batch.count_veh.sum() for batch in found if isinstance(batch, Readings)) > 100


def test_a_day_of_the_change_to_summer_time_has_23_hours_and_one_in_winter_24() -> None:
    assert on(date(2027, 3, 27), LISBON).minutes == 23 * 60 + 30
    assert on(date(2026, 11, 17), LISBON).minutes == 24 * 60 + 30
