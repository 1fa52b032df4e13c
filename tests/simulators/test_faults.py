from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from citybrain.errors import ConfigError
from citybrain.records import Passages, Readings
from simulators.calendar import on
from simulators.delivery import Delivery
from simulators.faults import (
    ALL_KINDS,
    FAULT_KINDS,
    Fault,
    FaultKind,
    FaultPlan,
    FaultRules,
    faults_of_week,
    partners_of,
    planned_fault,
)
from simulators.truth import TruthFiles
from tests.fakes import grid_network

INTERVAL_MS = 30_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000


def test_a_clock_that_drifts_gains_its_factor_each_hour() -> None:
    delivery = faulty("drifting", factor=12.0, end_ms=100 * HOUR_MS)
    rng = np.random.default_rng(1)
    for hours in (0, 1, 10):
        batch = delivery.deliver(readings(hours * HOUR_MS + INTERVAL_MS), rng)
        ahead = batch.observed_to_ms - (hours * HOUR_MS + INTERVAL_MS)
        assert ahead[1] == pytest.approx(hours * 12_000 + 12_000 / 120, abs=1)
        assert (ahead[[0, 2]] == 0).all(), "the others' clocks are right"
        assert (batch.observed_to_ms - batch.observed_from_ms == INTERVAL_MS).all()


def test_a_clock_in_the_wrong_zone_is_off_by_whole_hours_and_right_after_the_end() -> None:
    delivery = faulty("wrong_zone", factor=-1.0, end_ms=10 * MINUTE_MS)
    rng = np.random.default_rng(1)
    assert (delivery.deliver(readings(INTERVAL_MS), rng).observed_to_ms[1] - INTERVAL_MS) == -HOUR_MS
    assert (delivery.deliver(readings(10 * MINUTE_MS), rng).observed_to_ms == 10 * MINUTE_MS).all()


def test_a_line_that_is_down_sends_everything_at_once_when_it_is_up_again_and_loses_nothing() -> None:
    delivery = faulty("late_burst", factor=5.0, end_ms=10 * MINUTE_MS)
    rows = [arrivals(delivery, number) for number in range(1, 31)]
    sizes = [len(batch) for batch in rows]
    assert sizes == [2] * 9 + [12] + [2] * 9 + [12] + [3] * 10, "two bursts of ten readings, then all is well"
    burst = rows[9]
    assert burst.observed_to_ms[burst.detector == 1].tolist() == [n * INTERVAL_MS for n in range(1, 11)]
    assert burst.watermark_ms == 5 * MINUTE_MS
    seen = [to for batch in rows for to in batch.observed_to_ms[batch.detector == 1].tolist()]
    assert seen == [n * INTERVAL_MS for n in range(1, 31)]


def test_a_line_that_stays_down_sends_at_the_end_of_its_fault_or_of_the_day() -> None:
    delivery = faulty("late_burst", factor=0.0, end_ms=4 * MINUTE_MS)
    sizes = [len(arrivals(delivery, number)) for number in range(1, 10)]
    assert sizes == [2] * 7 + [10, 3]
    delivery = faulty("late_burst", factor=0.0, end_ms=4 * MINUTE_MS)
    sizes = [len(arrivals(delivery, number, last=number == 3)) for number in range(1, 4)]
    assert sizes == [2, 2, 5]


def test_a_duplicate_is_the_same_reading_once_more_an_interval_later() -> None:
    delivery = faulty("duplicates", factor=1.0)
    first, second = arrivals(delivery, 1), arrivals(delivery, 2)
    assert first.detector.tolist() == [0, 1, 2]
    assert second.detector.tolist() == [1, 0, 1, 2]
    assert second.observed_to_ms.tolist() == [INTERVAL_MS] + [2 * INTERVAL_MS] * 3
    assert second.speed_kmh[0] == first.speed_kmh[1]


def test_a_share_of_the_readings_is_sent_twice() -> None:
    delivery = faulty("duplicates", factor=0.3)
    rng = np.random.default_rng(4)
    sent = sum(len(delivery.deliver(readings(number * INTERVAL_MS), rng)) for number in range(1, 2001))
    assert sent - 6000 == pytest.approx(600, abs=3 * np.sqrt(2000 * 0.3 * 0.7))


def test_readings_overtake_one_another_and_none_is_lost() -> None:
    delivery = faulty("out_of_order", factor=3.0)
    rng = np.random.default_rng(2)
    seen: list[int] = []
    for number in range(1, 201):
        batch = delivery.deliver(readings(number * INTERVAL_MS), rng, last=number == 200)
        mine = batch.observed_to_ms[batch.detector == 1]
        assert (batch.watermark_ms - mine <= 3 * INTERVAL_MS).all()
        seen += (mine // INTERVAL_MS).tolist()
    assert sorted(seen) == list(range(1, 201))
    assert (np.diff(seen) < 0).sum() > 30


def test_swapped_detectors_tell_each_others_values() -> None:
    plan = FaultPlan(np.arange(3, dtype=np.int32), tuple(swapped()))
    values = {name: np.array([1.0, 2.0, 3.0]) for name in ("count", "speed", "occupancy")}
    assert plan.distort(values, 10, np.random.default_rng(1)).all()
    assert all(values[name].tolist() == [2.0, 1.0, 3.0] for name in values)
    assert plan.distort(values, 2000, np.random.default_rng(1)).all()
    assert values["count"].tolist() == [2.0, 1.0, 3.0], "after the end nothing is changed"


def test_without_a_fault_a_batch_is_passed_on_as_it_is() -> None:
    batch = readings(INTERVAL_MS)
    for delivery in (Delivery(FaultPlan(np.arange(3, dtype=np.int32), ())), faulty("silent"), faulty("biased")):
        assert delivery.deliver(batch, np.random.default_rng(1)) is batch


def test_what_is_under_way_is_part_of_the_saved_state() -> None:
    one, other = (faulty("late_burst", factor=5.0) for _ in range(2))
    for number in range(1, 6):
        arrivals(one, number)
    other.load({name: values.copy() for name, values in one.dump().items()})
    for number in range(6, 12):
        mine, theirs = arrivals(one, number), arrivals(other, number)
        assert mine.observed_to_ms.tolist() == theirs.observed_to_ms.tolist()


def test_cameras_have_faults_of_silence_clock_and_repeats() -> None:
    assert faulty("silent").passages(passages(), np.random.default_rng(1)).camera.tolist() == [0]  # type: ignore[union-attr]
    twice = faulty("duplicates", factor=1.0).passages(passages(), np.random.default_rng(1))
    assert twice is not None
    assert twice.camera.tolist() == [0, 1, 1]
    assert twice.plate.tolist() == [5, 6, 6]
    shifted = faulty("wrong_zone", factor=1.0).passages(passages(), np.random.default_rng(1))
    assert shifted is not None
    assert shifted.passed_ms.tolist() == [20_000, 25_000 + HOUR_MS]
    assert faulty("silent").passages(None, np.random.default_rng(1)) is None


def test_the_fault_of_a_camera_does_not_touch_what_loops_measure() -> None:
    faults = (Fault(7, "stuck", 0, 10**9, 2.0), Fault(7, "silent", 0, 10**9, 2.0))
    plan = FaultPlan(np.arange(3, dtype=np.int32), faults)
    values = {name: np.array([1.0, 2.0, 3.0]) for name in ("count", "speed", "occupancy")}
    assert plan.distort(values, 10, np.random.default_rng(1)).all()
    assert all(values[name].tolist() == [1.0, 2.0, 3.0] for name in values)
    seen = replace(passages(), camera=np.array([7, 1], np.int32))
    heard = Delivery(plan).passages(seen, np.random.default_rng(1))
    assert heard is not None
    assert heard.camera.tolist() == [1]


def test_every_kind_is_drawn_where_the_rules_name_all_and_always_the_same() -> None:
    drawn = [
        faults_of_week(
            date(2026, 11, 17),
            "Europe/Lisbon",
            np.arange(900, dtype=np.int32),
            1 / 3,
            np.random.default_rng(5),
            rules=FaultRules(ALL_KINDS, before=0.2, mean_h=10.0),
        )
        for _ in range(2)
    ]
    assert drawn[0] == drawn[1]
    assert {fault.kind for fault in drawn[0]} == set(FAULT_KINDS)
    pairs = {(fault.detector, fault.other) for fault in drawn[0] if fault.kind == "swapped"}
    assert pairs
    assert pairs == {(other, one) for one, other in pairs}, "both of a pair have the fault"
    assert len({fault.detector for fault in drawn[0]}) == pytest.approx(300 + len(pairs) / 2, abs=len(pairs) / 2)
    hours = [(f.end_ms - f.onset_ms) / HOUR_MS for f in drawn[0]]
    assert np.mean(hours) == pytest.approx(10, rel=0.2)
    week = on(date(2026, 11, 16), "Europe/Lisbon").start_ms
    assert np.mean([f.onset_ms == week for f in drawn[0]]) == pytest.approx(0.2, abs=0.07)


def test_the_partner_of_a_detector_is_the_lane_beside_it_or_the_other_direction() -> None:
    network = grid_network()
    partner = partners_of(network)
    segments = network.segments
    assert (partner >= 0).all()
    assert (segments.from_node[partner] == segments.to_node).all()
    assert (partner[partner] == np.arange(len(partner))).all()
    lanes = replace(
        network.detectors, segment=np.array([0, 0, 5]), **{name: getattr(network.detectors, name)[:3] for name in REST}
    )
    assert partners_of(replace(network, detectors=lanes)).tolist() == [1, 0, -1]


def test_a_planned_fault_names_its_detector_and_is_refused_where_there_is_none() -> None:
    network = grid_network()
    assert planned_fault(network, "d3", "stuck", 0, 10, 1.5) == (Fault(3, "stuck", 0, 10, 1.5),)
    pair = planned_fault(network, "d3", "swapped", 0, 10, 1.0)
    assert [(fault.detector, fault.other) for fault in pair] == [(3, pair[0].other), (pair[0].other, 3)]
    with pytest.raises(ConfigError, match="detector 'nowhere' seen"):
        planned_fault(network, "nowhere", "stuck", 0, 10, 1.5)
    with pytest.raises(ConfigError, match=r"kind 'broken' seen, one of silent, .* allowed"):
        planned_fault(network, "d3", "broken", 0, 10, 1.5)
    with pytest.raises(ConfigError, match=r"factor 1.5 seen, a share from 0 to 1"):
        planned_fault(network, "d3", "duplicates", 0, 10, 1.5)
    with pytest.raises(ConfigError, match="end 10 seen, after its onset 10"):
        planned_fault(network, "d3", "stuck", 10, 10, 1.5)


def test_rules_with_an_unknown_kind_or_a_share_above_1_are_refused() -> None:
    with pytest.raises(ConfigError, match="fault kind: 'broken' seen"):
        FaultRules({"broken": 1.0})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match=r"before 1.5"):
        FaultRules(before=1.5)
    with pytest.raises(ConfigError, match="one above 0 allowed"):
        FaultRules({"silent": 0.0})


def test_the_truth_names_detector_kind_onset_and_end_of_every_kind_of_fault(tmp_path: Path) -> None:
    faults = tuple(Fault(i, kind, 1000 * i, 2000 * i + 5, 1.0) for i, kind in enumerate(FAULT_KINDS))
    TruthFiles(tmp_path).day(on(date(2026, 11, 17), "Europe/Lisbon"), (), faults)
    rows = pq.read_table(tmp_path / "faults-20261117.parquet").to_pylist()
    assert [(row["detector"], row["kind"], row["onset_ms"], row["end_ms"]) for row in rows] == [
        (fault.detector, fault.kind, fault.onset_ms, fault.end_ms) for fault in faults
    ]


REST = ("id", "position_m", "lanes", "kind")


def faulty(kind: FaultKind, *, factor: float = 1.0, end_ms: int = 10**9) -> Delivery:
    """Return the way of three detectors' readings of which the middle one has a fault."""
    return Delivery(FaultPlan(np.arange(3, dtype=np.int32), (Fault(1, kind, 0, end_ms, factor),)))


def swapped() -> list[Fault]:
    return [Fault(0, "swapped", 0, 1000, 1.0, 1), Fault(1, "swapped", 0, 1000, 1.0, 0)]


def arrivals(delivery: Delivery, number: int, *, last: bool = False) -> Readings:
    return delivery.deliver(readings(number * INTERVAL_MS), np.random.default_rng(number), last=last)


def readings(end_ms: int) -> Readings:
    ones, ok = np.ones(3), np.zeros(3, np.uint8)
    return Readings(
        network="n",
        source="simulated",
        received_ms=end_ms + 2000,
        watermark_ms=end_ms,
        detector=np.arange(3, dtype=np.int32),
        observed_from_ms=np.full(3, end_ms - INTERVAL_MS),
        observed_to_ms=np.full(3, end_ms),
        count_veh=ones * 5,
        flow_vph=ones * 600,
        speed_kmh=ones * (50.0 + end_ms / INTERVAL_MS),
        occupancy=ones * 0.1,
        travel_time_s=ones * np.nan,
        speed_kind=ok,
        quality_flow=ok,
        quality_speed=ok,
        quality_occupancy=ok,
        quality_travel_time=ok,
    )


def passages() -> Passages:
    zero = np.zeros(2, np.uint8)
    return Passages(
        network="n",
        source="simulated",
        received_ms=32_000,
        watermark_ms=30_000,
        camera=np.array([0, 1], np.int32),
        passed_ms=np.array([20_000, 25_000]),
        plate=np.array([5, 6]),
        lane=zero,
        vehicle_class=zero,
        speed_kmh=np.array([50.0, 60.0]),
    )
