from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from citybrain.errors import ConfigError
from citybrain.network import ROAD_CLASSES, Network
from simulators.buses import BusRules, lines_of, links_of
from simulators.probes import ProbeRules
from simulators.roads import roads_of
from simulators.sensorplan import SensorPlan, kept, with_plan
from simulators.sensors import Loops
from streams.measures import Roads as MeasuredRoads
from tests.fakes import grid_network

PRIMARY, SECONDARY = ROAD_CLASSES.index("primary"), ROAD_CLASSES.index("secondary")


def test_a_plan_covers_its_share_of_each_class_and_counts_what_is_there() -> None:
    network = city(detectors=10)
    plan = SensorPlan(loops={"primary": 0.8, "secondary": 0.25})
    placed = with_plan(network, plan, np.random.default_rng(1))
    covered = np.isin(np.arange(len(network.segments)), placed.detectors.segment)
    for number, share in ((PRIMARY, 0.8), (SECONDARY, 0.25)):
        mine = network.segments.road_class == number
        assert covered[mine].sum() == round(share * mine.sum())
    assert placed.detectors.id[:10].tolist() == network.detectors.id.tolist(), "its own keep their places"
    assert placed.version != network.version
    again = with_plan(network, plan, np.random.default_rng(1))
    assert again.version == placed.version
    assert with_plan(placed, plan, np.random.default_rng(2)) is placed, "nothing is missing any more"


def test_a_plan_without_anything_leaves_the_network_as_it_is() -> None:
    network = city()
    assert with_plan(network, SensorPlan(), np.random.default_rng(1)) is network


def test_loops_are_over_each_lane_and_without_speed_where_the_plan_says_so() -> None:
    network = city()
    placed = with_plan(network, SensorPlan(loops={"primary": 1.0}, per_lane=1.0), np.random.default_rng(1))
    primary = int((network.segments.road_class == PRIMARY).sum())
    assert len(placed.detectors) == 2 * primary
    assert (placed.detectors.lanes == 1).all()
    assert Loops(placed, roads_of(placed)).beside[1::2].tolist() == list(range(0, 2 * primary, 2))
    single = with_plan(network, SensorPlan(loops={"primary": 1.0}, single=0.4), np.random.default_rng(1))
    share = (single.detectors.kind == "single").mean()
    assert share == pytest.approx(0.4, abs=3 * np.sqrt(0.24 / primary))
    assert set(single.detectors.kind) == {"single", "loop"}


def test_radars_stand_where_no_loop_is() -> None:
    placed = with_plan(city(), SensorPlan(loops={"primary": 0.5}, radars={"primary": 0.3}), np.random.default_rng(1))
    kind, segment = placed.detectors.kind, placed.detectors.segment
    assert not set(segment[kind == "radar"]) & set(segment[kind == "loop"])
    primary = int((placed.segments.road_class == PRIMARY).sum())
    assert (kind == "radar").sum() == round(0.3 * primary)


def test_cameras_follow_one_another() -> None:
    placed = with_plan(city(), SensorPlan(cameras={"primary": 0.3}), np.random.default_rng(1))
    filmed = set(placed.detectors.segment[placed.detectors.kind == "camera"].tolist())
    start, follower = placed.downstream
    followed = [any(int(one) in filmed for one in follower[start[row] : start[row + 1]]) for row in filmed]
    assert np.mean(followed) > 0.8


def test_probes_are_known_on_every_segment_and_buses_on_their_lines() -> None:
    network = city()
    roads = roads_of(network)
    lines = lines_of(network, roads, BusRules(lines=2), np.random.default_rng(1))
    plan = SensorPlan(probes=ProbeRules(), buses=BusRules(lines=2))
    placed = with_plan(network, plan, np.random.default_rng(1), lines=lines)
    kind, segment = placed.detectors.kind, placed.detectors.segment
    assert segment[kind == "probe"].tolist() == list(range(len(network.segments)))
    assert segment[kind == "bus"].tolist() == links_of(lines).tolist()
    assert len(Loops(placed, roads).detector) == 0
    assert with_plan(placed, plan, np.random.default_rng(1), lines=lines) is placed, "both are there already"


def test_probes_do_not_lower_the_coverage_of_segments_with_loops() -> None:
    network = grid_network()
    placed = with_plan(network, SensorPlan(probes=ProbeRules()), np.random.default_rng(1))
    before, after = (MeasuredRoads.of(each, 0, (0.7, 0.5, 0.4, 0.3)).expected_lanes for each in (network, placed))
    assert after.tolist() == before.tolist()


def test_a_placed_network_can_be_kept(tmp_path: Path) -> None:
    placed = with_plan(city(), SensorPlan(loops={"primary": 0.5}, probes=ProbeRules()), np.random.default_rng(1))
    placed.save(tmp_path / "network.arrow")
    assert Network.load(tmp_path / "network.arrow").version == placed.version


def test_a_class_keeps_its_share_of_its_detectors() -> None:
    network = with_plan(city(), SensorPlan(loops={"primary": 1.0, "secondary": 1.0}), np.random.default_rng(1))
    there = kept(network, {"secondary": 0.25}, np.random.default_rng(1))
    road_class = network.segments.road_class[network.detectors.segment]
    assert there[road_class == PRIMARY].all()
    mine = there[road_class == SECONDARY]
    assert mine.sum() == round(0.25 * len(mine))


def test_shares_and_classes_that_cannot_be_are_refused() -> None:
    for wrong, said in (
        ({"loops": {"primary": 1.5}}, r"loops.primary 1.5 seen, 0 to 1 allowed"),
        ({"cameras": {"footpath": 0.5}}, r"cameras: 'footpath' seen, one of motorway, .* allowed"),
        ({"single": -0.1}, r"single -0.1 seen"),
    ):
        with pytest.raises(ConfigError, match=said):
            SensorPlan(**wrong)


def city(detectors: int = 0) -> Network:
    """Return a grid half of whose roads are secondary, with so many detectors."""
    network = grid_network(7, 7)
    classes = np.where(np.arange(len(network.segments)) % 2 == 0, PRIMARY, SECONDARY).astype(np.int32)
    few = replace(
        network.detectors,
        **{
            name: getattr(network.detectors, name)[:detectors]
            for name in ("id", "segment", "position_m", "lanes", "kind")
        },
    )
    return replace(network, segments=replace(network.segments, road_class=classes), detectors=few)
