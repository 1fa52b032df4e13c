"""A load without vehicles: the same bytes for the same seed, a city's day, and readings that the platform takes."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from citybrain.clock import epoch_ms
from citybrain.errors import ConfigError
from citybrain.network import Network
from citybrain.records import Quality, Readings, decode, encode
from citybrain.wire import Message
from ingest.publish import messages
from simulators.load import Load
from simulators.roads import KMH_PER_MS, roads_of
from streams.aggregate import Aggregate
from tests.fakes import city_settings, grid_network

ZONE = "Europe/Lisbon"
HALF_MINUTE = timedelta(seconds=30)


def load(network: Network | None = None, *, seed: int = 1) -> Load:
    return Load(network or grid_network(30, 20, partitions=3), interval=HALF_MINUTE, timezone=ZONE, seed=seed)


def at(hour: int, minute: int = 0, *, day: int = 10) -> int:
    return epoch_ms(datetime(2026, 3, day, hour, minute, tzinfo=ZoneInfo(ZONE)))


def whole(made: Load, end_ms: int) -> Readings:
    return next(made.batches(end_ms))


def test_the_same_seed_gives_the_same_bytes_wherever_one_begins() -> None:
    early, late = load().batches(at(8)), load().batches(at(8, 1))
    for _ in range(2):
        next(early)
    assert encode(next(early)) == encode(next(late))


def test_another_seed_or_interval_gives_other_bytes() -> None:
    first = encode(whole(load(), at(8)))
    assert first != encode(whole(load(seed=2), at(8)))
    counts = [whole(load(), end).count_veh for end in (at(8), at(8) + 30_000)]
    assert (counts[0] != counts[1]).any()


def test_every_detector_but_cameras_reports_once_an_interval() -> None:
    network = grid_network(6, 5, partitions=3)
    kind = network.detectors.kind.copy()
    kind[::7] = "camera"
    made = load(replace(network, detectors=replace(network.detectors, kind=kind)))
    batch = whole(made, at(8))
    assert sorted(batch.detector.tolist()) == np.flatnonzero(kind != "camera").tolist()
    assert len(made) == len(batch)
    assert set((batch.observed_to_ms - batch.observed_from_ms).tolist()) == {30_000}


def test_a_weekday_has_two_peaks_a_quieter_noon_and_an_empty_night() -> None:
    made = load()
    flow = {hour: whole(made, at(hour, 10)).flow_vph.mean() for hour in (3, 8, 12, 18)}
    assert flow[3] < 0.1 * flow[12]
    assert flow[8] > 1.3 * flow[12] < flow[18]


def test_a_sunday_has_no_morning_peak_and_less_traffic() -> None:
    made = load()
    flow = {hour: whole(made, at(hour, day=15)).flow_vph.mean() for hour in (8, 16)}
    assert flow[8] < flow[16] < whole(made, at(8)).flow_vph.mean()


def test_town_fills_in_the_morning_and_empties_in_the_evening() -> None:
    network = grid_network(30, 20, partitions=3)
    made, x = load(network), network.lon_lat[:, 0].reshape(-1, 2)
    east = (x[:, 1] > x[:, 0]) & (x.mean(axis=1) < x.mean())
    flows = [made.point(at(hour)).pressure for hour in (8, 18)]
    assert flows[0][east].mean() > flows[1][east].mean(), "inbound from the west"
    west = (x[:, 1] < x[:, 0]) & (x.mean(axis=1) < x.mean())
    assert flows[0][west].mean() < flows[1][west].mean(), "outbound to the west"


def test_states_are_points_of_the_triangular_diagram() -> None:
    network = grid_network(30, 20)
    roads, point = roads_of(network), load(network).point(at(8, 15))
    flow = point.flow_vps * roads.lanes
    density = flow / point.speed_ms
    free = roads.speed_ms * density
    queued = (roads.jam_veh_m - density) * roads.length_m / roads.wave_s
    np.testing.assert_allclose(flow, np.minimum(free, queued), rtol=1e-6)
    assert 0.03 < (point.pressure > 1).mean() < 0.4, "some of the town is a queue at the peak"
    assert point.speed_ms[point.pressure > 1.3].max() < 0.6 * point.speed_ms.max()


def test_queues_are_stretches_of_road_not_confetti() -> None:
    network = grid_network(30, 20)
    pressure = load(network).point(at(8, 15)).pressure
    start, index = network.downstream
    own = np.repeat(pressure, np.diff(start))
    assert np.corrcoef(own, pressure[index])[0, 1] > 0.4
    assert np.corrcoef(own, np.random.default_rng(1).permutation(pressure[index]))[0, 1] < 0.1


def test_counts_have_the_mean_of_the_flow_and_occupancy_agrees_with_count_and_speed() -> None:
    network = grid_network(30, 20)
    made = load(network)
    for hour in (2, 6, 8):
        ends = [at(hour) + 30_000 * nth for nth in range(100)]
        expected = np.mean([made.point(end).flow_vps.mean() * 2 * 30 for end in ends])
        seen = np.mean([whole(made, end).count_veh.mean() for end in ends])
        assert seen == pytest.approx(expected, rel=0.02)
    batch = whole(made, at(8))
    some = (batch.count_veh > 0) & (batch.occupancy < 1)
    computed = batch.flow_vph / 3600 / 2 * 6.0 / (batch.speed_kmh / KMH_PER_MS)
    assert np.median(np.abs(batch.occupancy[some] / computed[some] - 1)) < 0.05


def test_no_vehicle_has_no_speed_and_is_not_standstill() -> None:
    batch = whole(load(), at(3))
    empty = batch.count_veh == 0
    assert 0.2 < empty.mean() < 0.9
    assert np.isnan(batch.speed_kmh[empty]).all()
    assert (batch.quality_speed[empty] == Quality.NO_VEHICLE).all()
    assert (batch.quality_speed[~empty] == Quality.OK).all()
    assert (batch.speed_kmh[~empty] > 0).all()


@pytest.mark.parametrize("seconds", [1, 30, 300])
def test_the_platform_refuses_no_reading_and_sees_the_speeds(seconds: int) -> None:
    network = grid_network(12, 10, partitions=2)
    made = Load(network, interval=timedelta(seconds=seconds), timezone=ZONE)
    stage = Aggregate.of(network, city_settings())
    states = [stage.new(partition) for partition in range(2)]
    topics: list[str] = []
    offset = 0
    for end_ms in range(at(8), at(8) + 900_000, seconds * 1000):
        for part in made.parts(end_ms):
            for output in messages(network, part):
                offset += 1
                message = Message("readings", output.partition, offset, part.received_ms, b"load", output.value)
                topics += [o.topic for o in stage.step(states[output.partition], message).outputs]
    assert topics.count("segment-states") > 10
    assert "dead-letters" not in topics


def test_parts_of_an_interval_are_received_one_after_another_and_told_complete_by_the_last() -> None:
    parts = list(load().parts(at(8), 30_000))
    assert [part.received_ms - at(8) for part in parts] == [2000, 12_000, 22_000]
    assert [part.watermark_ms - at(8) for part in parts] == [-30_000, -30_000, 0]
    assert decode(Readings, encode(parts[0])).received_ms == at(8) + 2000


def test_a_network_without_a_map_has_a_load_too() -> None:
    network = grid_network(6, 5)
    made = load(replace(network, lon_lat=np.full_like(network.lon_lat, np.nan)))
    assert np.isfinite(made.point(at(8)).pressure).all()


@pytest.mark.parametrize("seconds", [0.5, 7, 7200])
def test_an_interval_that_divides_no_hour_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match=rf"interval: {seconds:g} s seen, whole seconds that divide an hour allowed"):
        Load(grid_network(), interval=timedelta(seconds=seconds), timezone=ZONE)


def test_a_network_with_cameras_only_is_refused() -> None:
    network = grid_network()
    cameras = replace(network.detectors, kind=np.full(len(network.detectors), "camera"))
    with pytest.raises(ConfigError, match="at least one that is no camera allowed"):
        load(replace(network, detectors=cameras))
