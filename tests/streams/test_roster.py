from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from citybrain.network import Detectors
from citybrain.settings import Limits
from citybrain.units import MS_PER_H, VEH_SCALE
from streams.clean import Clean, Rules, clean
from streams.roster import LEAST_ROWS, Posts, Roster, Rosters
from streams.sums import Field, additions
from tests.fakes import city_settings, grid_network
from tests.streams.build import MIN, T0, Driven, Row, message, readings

GRID = grid_network(3, 3)
OF_SEGMENT = np.array([5, 0, 0, 4, 2, 2, 2, 7], dtype=np.int32)
NETWORK = replace(
    GRID,
    detectors=Detectors(
        np.array([f"d{i}" for i in range(len(OF_SEGMENT))]),
        OF_SEGMENT,
        np.full(len(OF_SEGMENT), 10.0),
        np.array([1, 2, 3, 1, 1, 2, 1, 1], dtype=np.int32),
        np.full(len(OF_SEGMENT), "loop"),
    ),
)
"""Several detectors on a segment, none on others, and not in the order of segments; even segments in partition 0."""

POSTS = Posts.of(NETWORK, Limits())


def roster(*detectors: int) -> Roster:
    return Roster.of(np.array(detectors, dtype=np.int32), POSTS, 0)


def test_what_is_known_of_a_detector_is_that_of_its_own_partition() -> None:
    one = roster(1, 3, 6)
    assert one.position.tolist() == [0, 2, 5]  # among detectors 1 to 6, whose segments are even
    assert one.columns.tolist() == [0, 1, 2]
    assert one.order is not None
    assert one.order.tolist() == [0, 2, 1]
    assert roster(1, 4, 3).order is None
    assert one.lanes.tolist() == [2, 1, 1]
    assert one.flow_vph.tolist() == [2 * Limits().flow_vph_per_lane, *[Limits().flow_vph_per_lane] * 2]
    assert (one.least_lanes, one.least_vph) == (1, Limits().flow_vph_per_lane)


def test_segments_with_as_many_rows_each_are_told_from_others() -> None:
    assert [roster(*rows).each for rows in ((1, 3), (1, 2), (1, 2, 4, 5), (4, 2, 5, 1))] == [1, 2, 2, 2]
    assert [roster(*rows).each for rows in ((1, 2, 3), (1, 4, 5), (4, 5, 6, 1, 2))] == [0, 0, 0]


def test_detectors_of_nobody_and_of_another_partition_are_told_apart() -> None:
    one = roster(1, -1, 8, 0)
    assert one.outside is not None
    assert one.outside.tolist() == [False, True, True, False]
    assert one.foreign is not None
    assert one.foreign.tolist() == [False, True, True, True]
    assert roster(1, 2).outside is None
    assert roster(1, 2).foreign is None


def test_a_list_with_a_detector_twice_or_out_of_order_is_told() -> None:
    assert roster(1, 2, 3).once
    assert not roster(1, 1, 3).once
    assert not roster(2, 1, 3).once


@settings(deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=12))
def test_rows_of_a_segment_are_added_up_in_whatever_order_they_come(detectors: list[int]) -> None:
    driven = Driven(NETWORK)
    rows: list[Row] = [(d, 20 * at, 20 * at + 10, {"count_veh": float(at % 5)}) for at, d in enumerate(detectors)]
    driven.results(readings(NETWORK, rows, watermark_s=0))
    wanted = dict.fromkeys(OF_SEGMENT[detectors].tolist(), 0)
    for at, d in enumerate(detectors):
        wanted[int(OF_SEGMENT[d])] += at % 5 * VEH_SCALE
    found = dict.fromkeys(wanted, 0)
    segments = NETWORK.segments_of(0)
    for slot in np.flatnonzero(driven.state.filled):
        for segment in found:
            found[segment] += int(driven.state.sums[slot, Field.VEHICLES, np.flatnonzero(segments == segment)[0]])
    assert found == wanted


def test_a_metric_that_is_missing_in_some_rows_counts_in_the_others() -> None:
    driven, hour_share = Driven(NETWORK), 60_000 / MS_PER_H
    rows: list[Row] = [
        (1, 0, 60, {"count_veh": 3.0, "speed_kmh": 30.0}),
        (2, 0, 60, {"flow_vph": 120.0}),
        (3, 0, 60, {"occupancy": 0.5}),
        (4, 0, 60, {}),
    ]
    (share,) = additions(_cleaned(driven, rows), driven.stage._rules[0].rosters, MIN)
    assert share.pane == T0 // MIN
    assert share.columns.tolist() == [0, 1, 2]
    assert share.sums[Field.VEHICLES].tolist() == [round((3 + 120 * hour_share) * VEH_SCALE), 0, 0]
    assert share.sums[Field.VEHICLES_WITH_SPEED].tolist() == [3 * VEH_SCALE, 0, 0]
    assert share.sums[Field.FLOW_LANE_MS].tolist() == [5 * MIN, 0, 0]
    assert share.sums[Field.SPEED_LANE_MS].tolist() == [2 * MIN, 0, 0]
    assert share.sums[Field.OCCUPANCY_LANE_MS].tolist() == [0, 0, MIN]
    assert share.sums[Field.OBSERVED_LANE_MS].tolist() == [5 * MIN, 0, MIN]


def test_a_remembered_list_says_what_it_says_anew_and_few_are_remembered() -> None:
    rosters = Rosters(POSTS, 0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        detectors = rng.integers(-1, 9, 1500).astype(np.int32)
        anew = Roster.of(detectors, POSTS, 0)
        for _ in range(2):
            known = rosters.of(detectors)
            for f in fields(Roster):
                np.testing.assert_array_equal(getattr(known, f.name), getattr(anew, f.name))
        assert sum(len(one.detector) for one in rosters._known.values()) <= LEAST_ROWS
    assert rosters.of(detectors) is known


def test_the_partitions_share_what_is_known_of_detectors() -> None:
    city = city_settings()
    rules = Rules.of(NETWORK, city.limits, city.time, city.thresholds)
    assert len(rules) == 2
    assert rules[0].rosters.posts is rules[1].rosters.posts


def _cleaned(driven: Driven, rows: list[Row]) -> Clean:
    batch = readings(NETWORK, rows)
    rules = driven.stage._rules[0]
    return clean(batch, rules, message(batch))[0]
