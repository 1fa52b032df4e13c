"""Links: joined where a driver has no choice, reduced to what is connected, cut where they are long."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.maps.links import Link, contracted, cut_long, largest_part, without_stubs
from tests.ingest.maps.build import link


def _ends(links: list[Link]) -> list[tuple[int, int]]:
    return sorted((one.from_node, one.to_node) for one in links)


def _two_way(*pairs: tuple[int, int], km: float = 0.5, road: str = "Rua A") -> list[Link]:
    return [link(f"{a}-{b}", (a, b), km=km, road=road) for pair in pairs for a, b in (pair, pair[::-1])]


def test_a_road_of_pieces_becomes_one_link_a_direction() -> None:
    joined = contracted(_two_way((1, 2), (2, 3)))
    assert _ends(joined) == [(1, 3), (3, 1)]
    assert [one.length_km for one in joined] == [1.0, 1.0]
    np.testing.assert_allclose(joined[0].points, joined[1].points[::-1])


def test_pieces_of_different_roads_stay_apart_unless_one_is_short() -> None:
    other = _two_way((2, 3), road="Rua B")
    assert len(contracted([*_two_way((1, 2)), *other])) == 4
    short = _two_way((1, 2), km=0.02)
    joined = contracted([*short, *other])
    assert _ends(joined) == [(1, 3), (3, 1)]
    assert {one.road for one in joined} == {"Rua B"}, "the longer piece says what road it is"


def test_a_junction_with_a_road_outside_the_network_keeps_the_cut() -> None:
    assert len(contracted(_two_way((1, 2), (2, 3)), junctions=frozenset({2}))) == 4


def test_a_junction_of_three_roads_keeps_the_cut() -> None:
    assert len(contracted(_two_way((1, 2), (2, 3), (2, 4)))) == 6


def test_no_link_grows_beyond_the_longest() -> None:
    joined = contracted([link(f"{k}", (k, k + 1), km=0.6) for k in range(6)], longest_km=1.5)
    assert max(one.length_km for one in joined) == 1.2
    assert sum(one.length_km for one in joined) == pytest.approx(3.6)


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)).filter(lambda e: e[0] != e[1]), min_size=1, max_size=30)
)
def test_joining_keeps_every_kilometre_and_makes_no_loop(ends: list[tuple[int, int]]) -> None:
    links = [link(str(at), pair, km=0.1 + at / 100) for at, pair in enumerate(ends)]
    joined = contracted(links)
    assert sum(one.length_km for one in joined) == pytest.approx(sum(one.length_km for one in links))
    assert all(one.from_node != one.to_node for one in joined)
    assert len({one.id for one in joined}) == len(joined)


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)).filter(lambda e: e[0] != e[1]), min_size=1, max_size=30)
)
def test_joining_keeps_what_can_be_reached(ends: list[tuple[int, int]]) -> None:
    links = [link(str(at), pair, km=0.1) for at, pair in enumerate(ends)]
    joined = contracted(links)
    left = {node for one in joined for node in (one.from_node, one.to_node)}
    for node in left:
        assert _reached(joined, node) & left == _reached(links, node) & left


def test_only_the_largest_connected_part_remains() -> None:
    ring = [link("a", (1, 2)), link("b", (2, 3)), link("c", (3, 1))]
    blind, island = link("d", (3, 9)), _two_way((20, 21))
    assert _ends(largest_part([*ring, blind, *island])) == [(1, 2), (2, 3), (3, 1)]


def test_links_without_any_way_back_have_no_connected_part() -> None:
    assert largest_part([link("a", (1, 2)), link("b", (2, 3))]) == []


def test_the_few_metres_between_two_carriageways_become_one_node() -> None:
    stub = _two_way((2, 3), km=0.01)
    kept = without_stubs([*_two_way((1, 2)), *stub, *_two_way((3, 4))])
    assert _ends(kept) == [(1, 2), (2, 1), (2, 4), (4, 2)]
    by_id = {one.id: one for one in kept}
    np.testing.assert_array_equal(by_id["3-4"].points[0], by_id["1-2"].points[-1])


def test_a_short_piece_of_a_motorway_stays() -> None:
    motorway = [link("m", (1, 2), road_class="motorway"), link("n", (2, 3), km=0.01, road_class="motorway")]
    assert len(without_stubs(motorway)) == 2


def test_a_long_road_is_cut_into_equal_pieces_that_both_directions_share() -> None:
    pieces = cut_long(_two_way((1, 26), km=2.5), longest_km=1.0)
    assert _ends(pieces) == [(1, 27), (26, 28), (27, 1), (27, 28), (28, 26), (28, 27)]
    assert {round(one.length_km, 6) for one in pieces} == {round(2.5 / 3, 6)}
    np.testing.assert_allclose(pieces[0].points[-1], pieces[1].points[0])
    assert pieces[0].points[0].tolist() == pieces[-1].points[-1].tolist()


def _reached(links: list[Link], start: int) -> set[int]:
    seen, todo = {start}, [start]
    while todo:
        node = todo.pop()
        for one in links:
            if one.from_node == node and one.to_node not in seen:
                seen.add(one.to_node)
                todo.append(one.to_node)
    return seen
