"""Breakdowns, lasting congestion and incidents on a road of a few segments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.breakdown import Found, Limits, Pane, RoadMemory, follow, judge
from models.roads import neighbours_within, observed_downstream
from tests.fakes import corridor_network

NETWORK = corridor_network(5)
LIMITS = Limits(congested=0.5, jammed=0.4)
DOWNSTREAM = neighbours_within(observed_downstream(NETWORK), NETWORK, 0)
FREE = (0.95,) * 5


def _watch(
    panes: Sequence[tuple[float, ...]],
    *,
    usual: float = 0.9,
    sd: float = 0.03,
    occupancy: float = 0.1,
    flows: list[float] | None = None,
) -> tuple[RoadMemory, list[Found]]:
    memory, found = RoadMemory.of(5), []
    for number, speeds in enumerate(panes):
        flow = 1500.0 if flows is None else flows[number]
        pane = Pane(
            np.array(speeds, dtype=np.float32),
            np.full(5, usual, dtype=np.float32),
            np.full(5, sd, dtype=np.float32),
            np.full(5, flow, dtype=np.float32),
            np.full(5, occupancy, dtype=np.float32),
            1.0,
        )
        follow(memory, pane, LIMITS)
        found.append(judge(memory, pane, DOWNSTREAM.least(memory.fast)))
    return memory, found


def _first(found: list[Found], name: str, segment: int) -> int:
    held = [bool(getattr(one, name)[segment]) for one in found]
    return held.index(True) if any(held) else -1


def test_a_free_road_says_nothing() -> None:
    _, found = _watch([FREE] * 30)
    assert not any(one.congested.any() or one.breakdown.any() or one.incident.any() for one in found)


def test_a_sudden_fall_that_lasts_two_panes_is_a_breakdown() -> None:
    _, found = _watch([FREE] * 20 + [(0.95, 0.95, 0.2, 0.95, 0.95)] * 5)
    assert _first(found, "breakdown", 2) == 21
    assert not any(one.breakdown[[0, 1, 3, 4]].any() for one in found)


def test_one_slow_pane_is_none() -> None:
    panes = [FREE] * 20 + [(0.95, 0.95, 0.2, 0.95, 0.95)] + [FREE] * 10
    _, found = _watch(panes)
    assert _first(found, "breakdown", 2) == -1
    assert _first(found, "congested", 2) == -1


def test_a_slow_decline_is_congestion_but_no_breakdown() -> None:
    decline = [(0.95, 0.95, float(speed), 0.95, 0.95) for speed in np.linspace(0.58, 0.3, 40)]
    _, found = _watch([FREE] * 5 + decline)
    assert _first(found, "breakdown", 2) == -1
    assert _first(found, "congested", 2) > 0


def test_congestion_ends_above_level_3_and_not_between_the_limits() -> None:
    jam, between = (0.95, 0.95, 0.2, 0.95, 0.95), (0.95, 0.95, 0.46, 0.95, 0.95)
    _, found = _watch([FREE] * 5 + [jam] * 10 + [between] * 20 + [FREE] * 8)
    assert all(one.congested[2] for one in found[10:35])
    assert not found[-1].congested[2]


def test_a_breakdown_with_free_road_ahead_and_less_flow_is_an_incident() -> None:
    panes = [FREE] * 30 + [(0.95, 0.9, 0.15, 0.95, 0.95)] * 6
    _, found = _watch(panes, flows=[1500.0] * 30 + [700.0] * 6)
    assert 31 <= _first(found, "incident", 2) <= 33
    assert found[-1].incident_probability[2] > 0.8


def test_where_the_road_is_not_free_on_most_days_a_bad_day_is_no_incident() -> None:
    panes = [FREE] * 30 + [(0.95, 0.9, 0.05, 0.95, 0.95)] * 6
    flows = [1500.0] * 30 + [700.0] * 6
    _, varying = _watch(panes, sd=0.25, flows=flows)
    assert _first(varying, "incident", 2) == -1
    assert not varying[-1].as_usual[2]
    _, unknown = _watch(panes, usual=np.nan, sd=np.nan, flows=flows)
    assert _first(unknown, "incident", 2) > 0


def test_the_tail_of_a_queue_is_no_incident() -> None:
    panes = [FREE] * 30 + [(0.95, 0.15, 0.15, 0.95, 0.95)] * 6
    _, found = _watch(panes, flows=[1500.0] * 30 + [700.0] * 6)
    assert _first(found, "incident", 1) == -1
    assert _first(found, "incident", 2) > 0


def test_the_everyday_bottleneck_is_as_usual_and_no_incident() -> None:
    panes = [FREE] * 30 + [(0.95, 0.9, 0.3, 0.95, 0.95)] * 10
    _, found = _watch(panes, usual=0.35)
    assert _first(found, "incident", 2) == -1
    assert found[-1].as_usual[2]
    assert found[-1].congested[2]


def test_where_some_days_are_jammed_a_jam_is_as_usual() -> None:
    panes = [FREE] * 30 + [(0.95, 0.9, 0.3, 0.95, 0.95)] * 10
    _, steady = _watch(panes, usual=0.7)
    _, varying = _watch(panes, usual=0.7, sd=0.35)
    assert not steady[-1].as_usual[2]
    assert varying[-1].as_usual[2]


def test_a_bottleneck_that_discharges_as_much_as_before_is_no_incident() -> None:
    panes = [FREE] * 30 + [(0.95, 0.9, 0.15, 0.95, 0.95)] * 8
    _, found = _watch(panes)
    assert found[-1].breakdown[2]
    assert _first(found, "incident", 2) == -1


def test_a_segment_that_falls_silent_in_a_jam_is_held_for_a_while_and_then_forgotten() -> None:
    jam, silent = (0.95, 0.95, 0.15, 0.95, 0.95), (0.95, 0.95, np.nan, 0.95, 0.95)
    _, found = _watch([FREE] * 5 + [jam] * 5 + [silent] * 20)
    assert found[15].congested[2]
    assert not found[-1].congested[2]


def test_a_segment_without_vehicles_is_empty_unless_somebody_stands_there() -> None:
    jam, none = (0.95, 0.95, 0.15, 0.95, 0.95), (0.95, 0.95, np.nan, 0.95, 0.95)
    panes, flows = [FREE] * 5 + [jam] * 5 + [none] * 3, [1500.0] * 10 + [0.0] * 3
    _, left = _watch(panes, flows=flows)
    _, blocked = _watch(panes, flows=flows, occupancy=0.9)
    assert not left[-1].congested[2]
    assert blocked[-1].congested[2]


def test_what_was_never_observed_says_nothing() -> None:
    memory, found = _watch([(np.nan,) * 5] * 5)
    assert not found[-1].congested.any()
    assert not found[-1].incident.any()
    assert np.isnan(memory.fast).all()
