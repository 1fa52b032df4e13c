from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulators.places import Place, PlaceUnknown, segments_at
from simulators.roads import FloatArray
from tests.fakes import grid_network

GRID = grid_network(columns=4, rows=3)
"""Segments 0 to 2 are East Road 0 eastbound, 3 to 5 East Road 1, 6 to 8 East Road 2; 17 to 9 are the ways back."""
FLOW = np.arange(len(GRID.segments), dtype=np.float64)


def at(place: Place, flow: FloatArray = FLOW) -> list[int]:
    return [int(segment) for segment in segments_at(place, GRID, lambda: flow)]


def never() -> FloatArray:
    raise AssertionError("the flow is only asked for where it is needed")


def test_a_segment_is_found_by_its_id_without_the_flows() -> None:
    assert segments_at(Place(segment="s7"), GRID, never).tolist() == [7]


def test_a_road_is_measured_along_a_direction() -> None:
    assert at(Place(road="East Road 1", km=0.2, towards="east")) == [3]
    assert at(Place(road="East Road 1", km=0.6, towards="east")) == [4]
    assert at(Place(road="East Road 1", fraction=1.0, towards="east")) == [5]
    west = at(Place(road="East Road 1", km=0.2, towards="west"))
    assert GRID.segments.from_node[west[0]] == GRID.segments.to_node[5], "it begins where the other direction ends"


def test_a_place_can_be_long_and_have_both_ways() -> None:
    long = Place(segment="s6", length_km=1.0)
    assert at(long) == [6, 7]
    there_and_back = at(replace(long, both_ways=True))
    assert there_and_back[:2] == [6, 7]
    ends = [(int(GRID.segments.to_node[s]), int(GRID.segments.from_node[s])) for s in (6, 7)]
    assert [(int(GRID.segments.from_node[s]), int(GRID.segments.to_node[s])) for s in there_and_back[2:]] == ends


def test_the_other_carriageway_of_a_road_is_found_beside_it() -> None:
    # Eastbound and westbound have no node in common, as on a motorway; they lie on the same line of the map.
    segments = GRID.segments
    back = np.arange(len(segments)) >= 9
    shifted = np.where(back, 100, 0)
    apart = replace(
        GRID, segments=replace(segments, from_node=segments.from_node + shifted, to_node=segments.to_node + shifted)
    )
    found = segments_at(Place(segment="s1", both_ways=True), apart, never)
    assert found.tolist() == [1, 16]


def test_the_busiest_road_of_a_class_is_taken_and_of_the_next_lower_one_where_there_is_none() -> None:
    flow = FLOW.copy()
    flow[4] = 1000.0
    assert at(Place(busiest="primary"), flow) == [4]
    assert at(Place(busiest="motorway"), flow) == [4], "the city has primary roads only"
    assert at(Place(busiest="residential"), flow) == [4]
    assert at(Place(busiest="any"), flow) == [4]


def test_the_next_busiest_does_not_touch_the_busiest() -> None:
    flow = FLOW.copy()
    flow[[0, 1, 8]] = 300.0, 200.0, 100.0
    first, second = (at(Place(busiest="any", rank=rank), flow)[0] for rank in (1, 2))
    assert (first, second) == (0, 8), "segment 1 begins where 0 ends"


@pytest.mark.parametrize(
    ("place", "told"),
    [
        (Place(segment="s99"), "segment: 's99' seen"),
        (Place(road="East Rod 1"), "road: 'East Rod 1' seen, 'East Road 1' (nearest) allowed"),
        (Place(road="East Road 1", km=1.7), "km: 1.7 seen, 0 to 1.50 km of 'East Road 1' allowed"),
        (Place(road="East Road 1", towards="north"), "towards: 'north' seen"),
        (Place(busiest="link", rank=1), "busiest: 'link' seen"),
        (Place(busiest="any", rank=99), "rank: 99 seen, 1 to"),
    ],
)
def test_what_a_city_does_not_have_is_said(place: Place, told: str) -> None:
    with pytest.raises(PlaceUnknown) as error:
        at(place)
    assert told in str(error.value)
