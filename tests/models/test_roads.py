"""Neighbours: who is downstream of whom, through segments that nobody measures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from citybrain.network import Detectors
from models.roads import neighbours_within, observed_downstream
from tests.fakes import corridor_network, grid_network


def test_a_corridor_leads_from_each_segment_to_the_next() -> None:
    assert observed_downstream(corridor_network(4)) == [[1], [2], [3], []]


def test_no_segment_leads_back_to_where_it_came_from() -> None:
    network = grid_network()
    for segment, after in enumerate(observed_downstream(network)):
        assert after
        for j in after:
            assert network.segments.from_node[j] == network.segments.to_node[segment]
            assert network.segments.to_node[j] != network.segments.from_node[segment]


def test_a_segment_without_a_detector_is_passed_through_up_to_a_kilometre() -> None:
    network = corridor_network(6, typical_km=0.4)
    some = replace(network, detectors=_only([0, 3, 5]))
    assert observed_downstream(some)[0] == [3]
    sparse = replace(network, detectors=_only([0, 5]))
    assert observed_downstream(sparse)[0] == []


def test_what_lies_in_another_partition_is_not_known() -> None:
    network = corridor_network(4, partitions=2)
    near = neighbours_within(observed_downstream(network), network, 0)
    values = np.array([0.3, 0.6], dtype=np.float32)
    assert near.least(values)[0] == np.float32(0.6)
    assert np.isnan(near.least(values)[1])


def test_the_least_known_value_counts() -> None:
    network = grid_network(partitions=1)
    near = neighbours_within(observed_downstream(network), network, 0)
    values = np.full(len(network.segments), np.nan, dtype=np.float32)
    assert np.isnan(near.least(values)).all()
    after = near.index[near.start[0] : near.start[1]]
    values[after[0]] = 0.4
    assert near.least(values)[0] == np.float32(0.4)


def _only(keep: list[int]) -> Detectors:
    detectors, at = corridor_network(6).detectors, np.array(keep)
    return Detectors(
        id=detectors.id[at],
        segment=detectors.segment[at],
        position_m=detectors.position_m[at],
        lanes=detectors.lanes[at],
        kind=detectors.kind[at],
    )
