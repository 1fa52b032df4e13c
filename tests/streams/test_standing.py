"""Queues that stand over a loop, worked by hand on two lanes of 0.5 km with a free flow of 50 km/h."""

from __future__ import annotations

import numpy as np
import pytest

from citybrain.records import Quality, SegmentStates
from tests.fakes import grid_network
from tests.streams.build import Driven, Row, partials, readings

ONE = grid_network(2, 2, partitions=1)
FLOOR_KMH = 4.828032
STOOD = {"count_veh": 0.0, "occupancy": 0.8}
DENSITY = 0.8 / 6.7056e-3
"""Veh/km a lane that cover a loop for 80 % of the time."""


def pane(rows: list[Row], **quality: list[int]) -> SegmentStates:
    driven = Driven(ONE)
    driven.results(readings(ONE, rows, quality=quality or None))
    return driven.send(watermark_s=600)[0]


def test_a_covered_loop_that_nobody_passes_is_a_queue_and_not_an_empty_road() -> None:
    state = pane([(0, 0, 60, STOOD)])
    assert (state.flow_vph[0], state.level[0], state.quality[0]) == (0.0, 5, Quality.DERIVED)
    assert state.speed_kmh[0] == FLOOR_KMH
    assert state.density_veh_km[0] == pytest.approx(2 * DENSITY)
    assert state.vehicles[0] == pytest.approx(DENSITY)
    assert state.vht_veh_h[0] == state.delay_veh_h[0] == pytest.approx(DENSITY / 60)
    assert state.vkt_veh_km[0] == 0.0
    assert state.travel_time_s[0] == pytest.approx(0.5 / FLOOR_KMH * 3600)
    assert state.tti[0] == pytest.approx(50 / FLOOR_KMH)


@pytest.mark.parametrize("occupancy", [0.0, 0.69, np.nan])
def test_a_loop_that_is_not_covered_and_that_nobody_passes_is_an_empty_road(occupancy: float) -> None:
    state = pane([(0, 0, 60, {"count_veh": 0.0, "occupancy": occupancy})])
    assert np.isnan(state.speed_kmh[0])
    assert (state.level[0], state.quality[0], state.vht_veh_h[0]) == (1, Quality.NO_VEHICLE, 0.0)
    assert state.density_veh_km[0] == 0.0


def test_the_time_in_which_a_queue_stood_weighs_beside_the_vehicles_that_passed() -> None:
    passed = {"count_veh": 6.0, "speed_kmh": 12.0, "occupancy": 0.5}
    state = pane([(0, 0, 30, passed), (0, 30, 60, STOOD)])
    # Vehicle-hours for each km: 6 at 12 km/h, and two lanes of standing vehicles for half a minute.
    pace = 6 / 12 + 2 * DENSITY / 120
    assert state.speed_kmh[0] == pytest.approx(max(6 / pace, FLOOR_KMH))
    assert state.flow_vph[0] == pytest.approx(360)
    assert state.density_veh_km[0] == pytest.approx(60 * pace)
    assert state.vht_veh_h[0] == pytest.approx(0.5 * pace)
    assert state.delay_veh_h[0] == pytest.approx(0.5 * pace - 6 * 0.5 / 50)


def test_a_speed_that_is_mixed_stays_above_the_floor_where_many_pass() -> None:
    passed = {"count_veh": 30.0, "speed_kmh": 20.0, "occupancy": 0.5}
    state = pane([(0, 0, 50, passed), (0, 50, 60, STOOD)])
    assert state.speed_kmh[0] == pytest.approx(30 / (30 / 20 + 2 * DENSITY / 360))
    assert state.speed_kmh[0] > 2 * FLOOR_KMH
    assert state.vht_veh_h[0] == pytest.approx(state.vkt_veh_km[0] / state.speed_kmh[0])


def test_a_measured_speed_is_never_replaced_by_one_from_occupancy() -> None:
    state = pane([(0, 0, 60, {"count_veh": 20.0, "speed_kmh": 30.0, "occupancy": 0.95})])
    assert state.speed_kmh[0] == pytest.approx(30)
    assert state.density_veh_km[0] == pytest.approx(1200 / 30)
    assert state.quality[0] == Quality.OK


def test_vehicles_that_creep_over_a_single_loop_have_the_speed_of_their_density() -> None:
    state = pane([(0, 0, 60, {"count_veh": 24.0, "occupancy": 0.75})])
    # v = q / k with k from occupancy: 1440 veh/h over two lanes of 111.8 veh/km.
    assert state.speed_kmh[0] == pytest.approx(1440 / (2 * 0.75 / 6.7056e-3))
    assert (state.level[0], state.quality[0]) == (5, Quality.DERIVED)


def test_vehicles_slower_than_the_floor_stand_as_densely_as_the_occupancy_says() -> None:
    state = pane([(0, 0, 60, {"count_veh": 2.0, "speed_kmh": 1.0, "occupancy": 0.8})])
    assert state.speed_kmh[0] == FLOOR_KMH
    assert state.flow_vph[0] == pytest.approx(120)
    assert state.density_veh_km[0] == pytest.approx(2 * DENSITY)
    assert state.vht_veh_h[0] == pytest.approx(DENSITY / 60)


def test_an_occupancy_that_its_source_does_not_vouch_for_makes_no_queue() -> None:
    state = pane([(0, 0, 60, STOOD)], occupancy=[Quality.SOURCE_ERROR])
    assert state.level[0] == 1


def test_a_covered_loop_without_a_count_says_nothing_of_who_passed() -> None:
    state = pane([(0, 0, 60, {"occupancy": 0.9})])
    assert np.isnan(state.speed_kmh[0])
    assert np.isnan(state.density_veh_km[0])


@pytest.mark.parametrize(("from_the_end_m", "level"), [(25.0, 1), (35.0, 5)])
def test_a_loop_at_the_stop_line_is_covered_at_every_red_and_tells_of_no_queue(
    from_the_end_m: float, level: int
) -> None:
    network = grid_network(2, 2, partitions=1)
    network.detectors.position_m[0] = 500 - from_the_end_m
    driven = Driven(network)
    driven.send([(0, 0, 60, STOOD)])
    assert driven.send(watermark_s=600)[0].level[0] == level


def test_a_queue_counts_in_each_pane_by_the_time_it_stood_there() -> None:
    driven = Driven(ONE)
    (first,) = driven.send([(0, 0, 45, {"count_veh": 0.0, "occupancy": 0.0}), (0, 45, 75, STOOD)])
    driven.send([(0, 75, 120, {"count_veh": 0.0, "occupancy": 0.0})])
    second = driven.send(watermark_s=600)[0]
    assert first.density_veh_km[0] == pytest.approx(2 * DENSITY / 4)
    assert second.density_veh_km[0] == pytest.approx(2 * DENSITY / 4)


def test_areas_lose_the_time_of_a_queue_that_stands() -> None:
    driven = Driven(ONE)
    driven.send([(0, 0, 60, STOOD), (1, 0, 60, {"count_veh": 10.0, "speed_kmh": 50.0, "occupancy": 0.05})])
    (part,) = partials(driven.results(readings(ONE, watermark_s=70)).outputs)
    assert part.delay[0] == pytest.approx(DENSITY / 60 * 1e12)
    assert part.level5_mm[0] == 500_000


def test_a_queue_is_the_same_however_readings_are_cut_and_in_whatever_order_they_come() -> None:
    rows: list[Row] = [(d, at, at + 20, STOOD if (d + at // 20) % 3 else {"count_veh": 2.0, "speed_kmh": 9.0})
                       for at in (0, 20, 40) for d in range(3)]  # fmt: skip
    whole, single = Driven(ONE), Driven(ONE)
    whole.send(rows)
    for row in reversed(rows):
        single.send([row], watermark_s=60)
    a, b = whole.send(watermark_s=600)[0], single.send(watermark_s=600)[0]
    assert (a.speed_kmh[:3] < 9).all()
    for name in ("speed_kmh", "density_veh_km", "vht_veh_h", "delay_veh_h", "level", "quality"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
