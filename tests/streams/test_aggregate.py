from __future__ import annotations

import numpy as np
import pytest

from citybrain.errors import BadRecord, ConfigError
from citybrain.records import Quality, SegmentStates, decode
from streams.aggregate import Aggregate
from tests.fakes import city_settings, grid_network
from tests.streams.build import MIN, T0, Driven, message, partials, readings

ONE = grid_network(2, 2, partitions=1)
LOOP = {"count_veh": 10.0, "speed_kmh": 40.0, "occupancy": 0.1}


def closed(driven: Driven, at_s: int = 600) -> dict[int, SegmentStates]:
    """Let time pass and return what closes, by minute after T0."""
    return {(s.pane_start_ms - T0) // MIN: s for s in driven.send(watermark_s=at_s)}


def test_a_pane_closes_when_the_watermark_passes_its_end_and_the_reorder_allowance() -> None:
    driven = Driven(ONE)
    assert driven.send([(0, 0, 30, LOOP), (0, 30, 60, LOOP)]) == []
    assert driven.send(watermark_s=69) == []
    (first,) = driven.send(watermark_s=70)
    assert (first.pane_start_ms, first.version, first.revision, first.status) == (T0, driven.offset, 0, "closed")


def test_flow_speed_and_delay_of_one_loop_are_those_worked_by_hand() -> None:
    driven = Driven(ONE)
    driven.send([(0, 0, 60, {"count_veh": 20.0, "speed_kmh": 25.0, "occupancy": 0.2})])
    state = closed(driven)[0]
    assert state.flow_vph[0] == pytest.approx(1200)
    assert state.speed_kmh[0] == pytest.approx(25)
    assert state.occupancy[0] == pytest.approx(0.2)
    assert state.density_veh_km[0] == pytest.approx(48)
    assert state.travel_time_s[0] == pytest.approx(72)
    assert (state.tti[0], state.dtp[0]) == (pytest.approx(2.0), pytest.approx(0.5))
    assert state.vkt_veh_km[0] == pytest.approx(10)
    assert state.vht_veh_h[0] == pytest.approx(0.4)
    assert state.vht_free_flow_veh_h[0] == pytest.approx(0.2)
    assert state.delay_veh_h[0] == pytest.approx(0.2)
    assert state.vehicles[0] == pytest.approx(24)
    assert (state.coverage[0], state.level[0], state.quality[0]) == (1.0, 3, Quality.OK)


def test_segments_without_readings_are_told_as_not_known() -> None:
    driven = Driven(ONE)
    driven.send([(0, 0, 60, LOOP)])
    state = closed(driven)[0]
    assert state.segment.tolist() == list(range(8))
    assert np.isnan(state.speed_kmh[1:]).all()
    assert np.isnan(state.vkt_veh_km[1:]).all()
    assert (state.level[1:] == 0).all()
    assert (state.coverage[1:] == 0).all()
    assert (state.quality[1:] == Quality.MISSING).all()


def test_an_empty_pane_between_two_is_told_and_a_long_silence_is_left_out() -> None:
    driven = Driven(ONE)
    driven.send([(0, 0, 60, LOOP)])
    told = driven.send([(0, 120, 180, LOOP)]) + driven.send([(0, 10_800, 10_860, LOOP)])
    told += driven.send(watermark_s=10_870)
    assert [(s.pane_start_ms - T0) // MIN for s in told] == [0, 1, 2, 180]
    assert told[1].coverage.sum() == 0


def test_a_reading_counts_in_each_pane_by_its_overlap() -> None:
    driven = Driven(ONE)
    driven.send([(0, 45, 135, {"count_veh": 30.0, "speed_kmh": 40.0})], watermark_s=45)
    panes = closed(driven)
    assert [panes[k].coverage[0] for k in range(3)] == pytest.approx([0.25, 1.0, 0.25])
    assert [panes[k].flow_vph[0] for k in range(3)] == pytest.approx([1200.0] * 3)


def test_speeds_of_several_detectors_are_weighted_as_space_means() -> None:
    network = grid_network(2, 2, partitions=1)
    network.detectors.segment[1] = 0
    network.detectors.lanes[:2] = 1
    driven = Driven(network)
    rows = [(0, 0, 60, {"count_veh": 30.0, "speed_kmh": 60.0}), (1, 0, 60, {"count_veh": 10.0, "speed_kmh": 20.0})]
    driven.send(rows)
    state = closed(driven)[0]
    assert state.flow_vph[0] == pytest.approx(2400)
    assert state.speed_kmh[0] == pytest.approx(40)  # 40 / (30/60 + 10/20)
    assert state.coverage[0] == 1.0


def test_one_lane_of_two_observed_is_scaled_to_the_carriageway_with_half_the_coverage() -> None:
    network = grid_network(2, 2, partitions=1)
    network.detectors.segment[1] = 0
    network.detectors.lanes[:2] = 1
    driven = Driven(network)
    driven.send([(0, 0, 60, {"count_veh": 10.0, "speed_kmh": 50.0})])
    state = closed(driven)[0]
    assert (state.flow_vph[0], state.coverage[0]) == (pytest.approx(1200), 0.5)


def test_speeds_without_counts_are_averaged_over_time_harmonically() -> None:
    driven = Driven(ONE)
    driven.send([(0, 0, 30, {"speed_kmh": 20.0}), (0, 30, 60, {"speed_kmh": 60.0})])
    state = closed(driven)[0]
    assert state.speed_kmh[0] == pytest.approx(30)
    assert np.isnan(state.vkt_veh_km[0])
    assert state.level[0] == 2


def test_a_travel_time_gives_the_speed_over_the_segment() -> None:
    driven = Driven(ONE)
    driven.send([(0, 0, 60, {"travel_time_s": 60.0})])
    assert closed(driven)[0].speed_kmh[0] == pytest.approx(30)


def test_no_vehicle_is_free_and_not_standstill() -> None:
    driven = Driven(ONE)
    driven.send([(0, 0, 60, {"count_veh": 0.0, "speed_kmh": 0.0}), (1, 0, 60, {"count_veh": 3.0, "speed_kmh": 0.0})])
    state = closed(driven)[0]
    assert np.isnan(state.speed_kmh[0])
    assert (state.level[0], state.quality[0], state.vkt_veh_km[0]) == (1, Quality.NO_VEHICLE, 0.0)
    assert state.speed_kmh[1] == pytest.approx(4.828032)
    assert state.level[1] == 5


def test_bad_quality_makes_a_metric_missing_and_imputed_is_told() -> None:
    driven = Driven(ONE)
    batch = readings(
        ONE,
        [(0, 0, 60, LOOP), (1, 0, 60, LOOP)],
        quality={"speed": [Quality.SOURCE_ERROR, Quality.OK], "flow": [Quality.OK, Quality.IMPUTED_BY_SOURCE]},
    )
    driven.results(batch)
    state = closed(driven)[0]
    assert np.isnan(state.speed_kmh[0])
    assert state.flow_vph[0] == pytest.approx(600)
    assert state.quality[:2].tolist() == [Quality.OK, Quality.IMPUTED_BY_SOURCE]


def test_a_late_reading_lands_in_its_own_pane_as_a_revision() -> None:
    driven = Driven(ONE)
    driven.send([(0, 0, 60, LOOP)])
    driven.send(watermark_s=100)
    assert driven.send([(1, 0, 60, LOOP)], watermark_s=130) != []
    (revised,) = driven.flush()
    assert (revised.pane_start_ms, revised.revision, revised.status) == (T0, 1, "closed")
    assert revised.version == driven.offset
    assert revised.flow_vph[1] == pytest.approx(600)
    assert driven.flush() == []


def test_a_revised_pane_is_told_once_more_as_final_and_an_unrevised_one_is_not() -> None:
    driven = Driven(ONE)
    driven.send([(0, 0, 60, LOOP)])
    driven.send([(0, 60, 120, LOOP), (1, 0, 60, LOOP)], watermark_s=120)
    driven.send([(2, 0, 60, LOOP)], watermark_s=130)
    told = driven.send(watermark_s=400)
    assert [((s.pane_start_ms - T0) // MIN, s.status) for s in told if s.status == "final"] == [(0, "final")]
    assert next(s for s in told if s.status == "final").flow_vph[2] == pytest.approx(600)


def test_a_reading_after_the_lateness_goes_to_the_dead_letters() -> None:
    driven = Driven(ONE)
    driven.send([(0, 0, 60, LOOP)])
    driven.send(watermark_s=190)
    driven.send([(1, 0, 60, LOOP)], watermark_s=190)
    assert driven.reasons() == {"late": 1}
    assert driven.refused[0].excerpt.startswith("d1 [")
    assert driven.flush() == []


def test_a_duplicate_is_counted_once_whether_in_another_batch_or_in_the_same() -> None:
    driven = Driven(ONE)
    driven.send([(0, 0, 60, LOOP), (0, 0, 60, LOOP), (1, 0, 30, LOOP)])
    driven.send([(0, 0, 60, LOOP), (1, 15, 45, LOOP), (1, 30, 60, LOOP)], watermark_s=60)
    assert driven.reasons() == {"duplicate": 3}
    state = closed(driven)[0]
    assert state.flow_vph[:2] == pytest.approx([600, 1200])


def test_the_slowest_source_holds_a_pane_open_until_it_is_silent_for_too_long() -> None:
    driven = Driven(ONE)
    driven.send([(0, 0, 60, LOOP)], source="fast")
    driven.send([(1, 0, 30, LOOP)], source="slow", watermark_s=30)
    assert driven.send(watermark_s=89, source="fast") == []
    assert len(driven.send(watermark_s=95, source="fast")) == 1


def test_a_feed_whose_clock_runs_ahead_closes_no_pane_before_its_time() -> None:
    driven = Driven(ONE)
    driven.send([(0, 0, 30, LOOP)], watermark_s=10_000_000, received_s=31)
    assert driven.send([(1, 60, 90, LOOP)], watermark_s=200, received_s=65) == []
    assert driven.send([(1, 0, 30, LOOP)], watermark_s=200, received_s=66) == []
    assert driven.reasons() == {}


def test_each_reason_to_refuse_is_counted_under_its_own_name() -> None:
    driven = Driven(grid_network(2, 2, partitions=2))
    rows = [
        (99, 0, 60, LOOP),
        (-1, 0, 60, LOOP),
        (1, 0, 60, LOOP),
        (0, 0, 60, LOOP | {"speed_kmh": 251.0}),
        (0, 0, 60, LOOP | {"occupancy": 1.5}),
        (0, 0, 60, LOOP | {"count_veh": 130.0}),
        (0, 0, 60, {"flow_vph": 8000.0}),
        (0, 0, 60, {"flow_vph": -1.0}),
        (0, 60, 60, LOOP),
        (0, 0, 3601, LOOP),
        (0, 0, 60, {"travel_time_s": 1.0}),
        (0, 400, 460, LOOP),
        (0, 0, 60, LOOP),
    ]
    driven.send(rows, watermark_s=60, received_s=61)
    assert driven.reasons() == {"unknown_detector": 3, "out_of_range": 8, "future": 1}
    by_reason = {letter.reason: letter for letter in driven.refused}
    assert "251" not in by_reason["unknown_detector"].detail
    assert "99 seen, 0..7 allowed" in by_reason["unknown_detector"].detail
    assert all(letter.offset == 0 and letter.source == "loops" for letter in driven.refused)
    assert closed(driven)[0].flow_vph[0] == pytest.approx(600)


def test_whole_vehicles_in_a_short_interval_are_no_impossible_flow() -> None:
    driven = Driven(ONE)
    driven.send([(0, 0, 1, {"count_veh": 3.0, "speed_kmh": 50.0})])
    assert driven.reasons() == {}


def test_another_network_and_malformed_bytes_are_refused_before_anything_changes() -> None:
    driven = Driven(ONE)
    driven.send([(0, 0, 60, LOOP)])
    before = driven.stage.dump(driven.state)
    with pytest.raises(BadRecord, match="network_version"):
        driven.results(readings(grid_network(3, 3), [(0, 0, 60, LOOP)]))
    bad = message(readings(ONE, [(0, 0, 60, LOOP)]))
    with pytest.raises(BadRecord, match="malformed"):
        driven.stage.step(driven.state, type(bad)(bad.topic, 0, 9, bad.record_ms, b"", bad.value[:40]))
    assert driven.stage.dump(driven.state) == before


def test_a_dump_that_is_loaded_goes_on_as_if_nothing_had_happened() -> None:
    whole, broken = Driven(ONE), Driven(ONE)
    script = [
        ([(0, 0, 60, LOOP), (1, 0, 60, LOOP)], {}),
        ([(2, 60, 120, LOOP), (0, 60, 90, LOOP)], {}),
        ([(1, 60, 120, LOOP), (3, 0, 60, LOOP)], {"watermark_s": 121}),
        ([(1, 60, 120, LOOP), (0, 90, 120, LOOP), (0, 120, 180, LOOP)], {"watermark_s": 200}),
        ([], {"watermark_s": 500}),
    ]
    for rows, options in script:
        a = whole.results(readings(ONE, rows, **options))  # type: ignore[arg-type]
        blob = broken.stage.dump(broken.state)
        broken.state = broken.stage.load(0, blob)
        assert broken.stage.dump(broken.state) == blob
        b = broken.results(readings(ONE, rows, **options))  # type: ignore[arg-type]
        assert (list(a.outputs), list(a.refused)) == (list(b.outputs), list(b.refused))
        assert list(whole.stage.flush(whole.state).outputs) == list(broken.stage.flush(broken.state).outputs)
    assert whole.reasons() == {"duplicate": 1}


def test_a_dump_of_another_network_or_pane_is_refused_with_a_way_out() -> None:
    driven = Driven(ONE)
    driven.send([(0, 0, 60, LOOP)])
    blob = driven.stage.dump(driven.state)
    with pytest.raises(ConfigError, match="remove the topic"):
        Driven(grid_network(3, 2, partitions=1)).stage.load(0, blob)
    with pytest.raises(ConfigError, match="remove the topic"):
        Driven(ONE, pane=300).stage.load(0, blob)
    with pytest.raises(ConfigError, match="remove the topic"):
        driven.stage.load(0, b"nonsense")


def test_open_panes_are_shown_provisionally_with_the_pane_before_where_nothing_was_seen_yet() -> None:
    driven = Driven(ONE)
    driven.send([(0, 0, 60, LOOP), (1, 0, 60, LOOP)])
    driven.send([(0, 60, 90, LOOP | {"speed_kmh": 20.0})])
    (output,) = driven.stage.provisional(driven.state)
    state = decode(SegmentStates, output.value)
    assert (output.topic, state.status, state.revision) == ("live-states", "provisional", -1)
    assert state.pane_start_ms == T0 + MIN
    assert state.speed_kmh[:2] == pytest.approx([20, 40])
    assert np.isnan(state.speed_kmh[2])
    assert driven.stage.provisional(driven.state) == ()


def test_areas_receive_the_sums_of_their_segments() -> None:
    driven = Driven(ONE)
    driven.send([(d, 0, 60, LOOP) for d in range(8)])
    outputs = driven.results(readings(ONE, watermark_s=70)).outputs
    (part,), (state,) = (
        partials(outputs),
        [decode(SegmentStates, o.value) for o in outputs if o.topic != "area-partials"],
    )
    assert part.vkt[0] == pytest.approx(state.vkt_veh_km.sum() * 1e9)
    assert part.length_mm[0] == part.observed_mm[0] == 8 * 500_000
    levels = sum(getattr(part, f"level{k}_mm") for k in range(6))
    assert (levels == part.length_mm).all()
    assert part.vht[0] == part.vht[part.area == 1].sum() + part.vht[part.area == 2].sum()


def test_a_city_of_the_settings_makes_the_stage() -> None:
    assert Aggregate.of(ONE, city_settings()).times.pane_ms == MIN
