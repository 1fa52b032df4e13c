"""The sizing page is what its formulas make of the unit costs that it tells, and those are near what was measured."""

from __future__ import annotations

import pytest

from benchmarks.rig.demand import (
    BEGIN,
    END,
    PAGE,
    UNITS,
    City,
    advised,
    costs_on,
    ends,
    kafka_disk_b,
    measured_rows,
    partitions,
    rollup_limit,
    table,
    traffic,
    unit_costs,
    worker_cores,
    workers,
)
from citybrain.topics import TOPICS
from infra.kafka.admin import MESSAGE_MAX_BYTES

TEXT = PAGE.read_text(encoding="utf-8")
COSTS = costs_on(TEXT)


def test_the_page_s_tables_follow_from_the_costs_on_it() -> None:
    assert set(COSTS) == set(UNITS)
    part = TEXT.split(BEGIN)[1].split(END)[0]
    assert table(COSTS) in part
    assert ends(COSTS) in part


def test_the_costs_are_near_what_was_measured_last() -> None:
    costs, found = unit_costs(measured_rows())
    far = {name: (COSTS[name], costs[name]) for name in found if not 0.5 < COSTS[name] / costs[name] < 2}
    assert far == {}


def test_a_figure_is_taken_by_its_name_and_unit() -> None:
    rows: list[dict[str, object]] = [
        {"name": "sizing: readings, bytes a reading", "value": 7.0, "unit": "us"},
        {"name": "sizing: segment-states, bytes a segment and pane", "value": 123.456, "unit": "B"},
        {"name": "memory of that worker (RSS), 10,000 segments", "value": None, "unit": "MB"},
    ]
    costs, found = unit_costs(rows)
    assert found == {"state_b"}
    assert (costs["state_b"], costs["reading_b"]) == (123.5, UNITS["reading_b"].fallback)


def test_every_topic_that_grows_with_the_city_is_counted() -> None:
    small = {"readings-json", "passages", "events", "signals", "alerts", "dead-letters", "area-indices"}
    small |= {"snapshots-rollup", "snapshots-match", "snapshots-alert"}
    small |= {"detector-health"}  # told when a verdict changes
    assert set(traffic(advised(10_000), COSTS)) == set(TOPICS) - small


def test_a_day_of_readings_on_one_broker_is_rate_times_time() -> None:
    city = City(30, copies=1)  # one reading a second
    costs = dict.fromkeys(COSTS, 0.0) | {"reading_b": 50.0}
    assert kafka_disk_b(city, costs) == pytest.approx(50 * 7 * 86_400)
    assert kafka_disk_b(City(30, copies=3), costs) == pytest.approx(3 * 50 * 7 * 86_400)


def test_twice_the_segments_need_twice_the_cores_and_slower_snapshots_less() -> None:
    once, twice = (sum(worker_cores(City(n), COSTS).values()) for n in (50_000, 100_000))
    assert twice == pytest.approx(2 * once)
    assert (
        worker_cores(City(50_000, checkpoint_s=5), COSTS)["snapshots"] < worker_cores(City(50_000), COSTS)["snapshots"]
    )
    assert workers(City(10_000), 0.01) == 2
    assert workers(City(10_000), 4.0) == 12


def test_no_message_of_a_partition_is_too_large_with_the_advised_partitions() -> None:
    for detectors in (10_000, 100_000, 500_000, 1_000_000, 5_000_000):
        city = advised(detectors)
        mine = city.segments / partitions(city, COSTS)
        assert mine * max(COSTS["forecast_b"], COSTS["state_b"], COSTS["snapshot_b"]) <= MESSAGE_MAX_BYTES / 2


def test_the_roll_up_ends_where_its_snapshot_fills_a_message() -> None:
    limit = rollup_limit(City(1), COSTS)
    assert City(round(limit)).areas * COSTS["rollup_snapshot_b"] == pytest.approx(MESSAGE_MAX_BYTES, rel=1e-3)
    assert rollup_limit(City(1, a_segment=2), COSTS) == pytest.approx(2 * limit)
