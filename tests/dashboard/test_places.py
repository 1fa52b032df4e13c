from __future__ import annotations

from dataclasses import replace

import numpy as np

from citybrain.network import Network
from dashboard.live.geometry import plane
from dashboard.live.places import Places
from tests.fakes import corridor_network, grid_network

NETWORK = grid_network(4, 3)
PLACES = Places(NETWORK, plane(NETWORK))


def places_of(network: Network) -> Places:
    return Places(network, plane(network))


def index(road: str, direction: str) -> list[int]:
    """Return the segments of a road that lead in a direction, in driving order."""
    found = np.flatnonzero(NETWORK.segments.road == road)
    return [int(i) for i in found if PLACES.of([int(i)]).direction == direction]


def test_a_place_has_road_direction_district_and_where_it_begins_and_ends() -> None:
    where = PLACES.of([1])
    assert (where.road, where.direction, where.district) == ("East Road 0", "E", "East")
    assert where.place == "North Road 1 → North Road 2"
    assert (where.x, where.y) == tuple(PLACES.laid.middle[1])


def test_both_directions_of_a_road_differ() -> None:
    assert [PLACES.of([i]).direction for i in index("North Road 2", "N")] == ["N", "N"]
    assert len(index("East Road 1", "W")) == 3


def test_a_stretch_is_named_from_its_tail_to_its_head_wherever_its_first_segment_is() -> None:
    eastbound = index("East Road 1", "E")
    assert PLACES.of(eastbound[::-1]).place == "North Road 0 → North Road 3"


def test_neighbours_of_one_road_and_direction_are_one_stretch() -> None:
    chosen = np.zeros(len(NETWORK.segments), dtype=bool)
    east, west, north = index("East Road 1", "E"), index("East Road 1", "W"), index("North Road 1", "N")
    chosen[[*east[:2], *west, north[0]]] = True
    found = sorted(stretch.tolist() for stretch in PLACES.stretches(chosen))
    assert found == sorted([east[:2], sorted(west), [north[0]]])


def test_a_gap_parts_a_stretch() -> None:
    chosen = np.zeros(len(NETWORK.segments), dtype=bool)
    east = index("East Road 1", "E")
    chosen[[east[0], east[2]]] = True
    assert len(PLACES.stretches(chosen)) == 2


def test_nothing_chosen_is_no_stretch() -> None:
    assert PLACES.stretches(np.zeros(len(NETWORK.segments), dtype=bool)) == []


def test_an_unnamed_ramp_is_named_by_the_road_it_leads_to() -> None:
    network = corridor_network(4)
    roads = np.array(["", "", "Ring Road", ""])
    places = places_of(replace(network, segments=replace(network.segments, road=roads)))
    assert [places.road(i) for i in range(4)] == ["→ Ring Road", "→ Ring Road", "Ring Road", ""]


def test_unnamed_neighbours_are_not_one_stretch() -> None:
    network = corridor_network(3)
    places = places_of(replace(network, segments=replace(network.segments, road=np.array(["", "", ""]))))
    assert len(places.stretches(np.ones(3, dtype=bool))) == 3


def test_a_network_without_a_map_has_places_without_direction() -> None:
    network = corridor_network(3)
    places = places_of(replace(network, lon_lat=np.full_like(network.lon_lat, np.nan)))
    assert places.of([0]).direction == ""
    assert places.of([0]).road == "Ring Road"


def test_where_no_named_road_crosses_the_next_one_along_the_road_is_named() -> None:
    unnamed = np.where(np.isin(NETWORK.segments.road, ["North Road 1", "North Road 2"]), "", NETWORK.segments.road)
    places = places_of(replace(NETWORK, segments=replace(NETWORK.segments, road=unnamed)))
    middle = index("East Road 1", "E")[1]
    assert places.of([middle]).place == "North Road 0 → North Road 3"


def test_one_known_end_stands_on_its_side_of_the_arrow_and_a_ramp_tells_where_it_comes_from() -> None:
    network = corridor_network(4)
    roads = np.array(["A 1", "", "Ring Road", "Ring Road"])
    places = places_of(replace(network, segments=replace(network.segments, road=roads)))
    assert [places.of([i]).place for i in (0, 1, 2)] == ["", "A 1 →", ""]
    roads = np.array(["A 1", "B 2", "B 2", "C 3"])
    places = places_of(replace(network, segments=replace(network.segments, road=roads)))
    assert [places.of([i]).place for i in range(4)] == ["→ B 2", "A 1 → C 3", "A 1 → C 3", "B 2 →"]
