"""Partitions: every segment once, sizes alike, neighbours together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from citybrain.network import Network
from ingest.maps.partition import bisected
from tests.conftest import ROOT

PLACES = arrays(np.float64, st.tuples(st.integers(1, 200), st.just(2)), elements=st.floats(-1e5, 1e5), unique=True)


@given(PLACES, st.integers(1, 9))
def test_places_are_spread_evenly(places: npt.NDArray[np.float64], parts: int) -> None:
    parts = min(parts, len(places))
    rounded, copies = np.unique(np.round(places, 1), axis=0, return_counts=True)
    if parts > len(rounded):
        return
    sizes = np.bincount(bisected(places, parts), minlength=parts)
    assert sizes.sum() == len(places)
    if copies.max() == 1:
        assert np.ptp(sizes) <= max(2, np.ceil(np.log2(parts)))


@given(PLACES, st.integers(2, 4))
def test_both_directions_of_a_road_are_in_one_partition(places: npt.NDArray[np.float64], parts: int) -> None:
    twice = np.concatenate([places, places])
    if len(np.unique(np.round(places, 1), axis=0)) < parts * 2:
        return
    part = bisected(twice, parts)
    assert part[: len(places)].tolist() == part[len(places) :].tolist()


def test_a_corridor_is_cut_into_stretches() -> None:
    places = np.stack([np.arange(100.0) * 500, np.zeros(100)], axis=1)
    part = bisected(places, 3)
    assert np.all(np.diff(part) >= 0)
    assert np.bincount(part).tolist() == [33, 34, 33]


def test_the_demo_city_is_balanced_and_few_turns_leave_a_partition() -> None:
    network = Network.load(ROOT / "cities" / "porto" / "network.arrow")
    sizes = np.bincount(network.segments.partition)
    assert len(sizes) == 4
    assert np.ptp(sizes) / sizes.mean() < 0.03
    start, index = network.downstream
    owner = np.repeat(network.segments.partition, np.diff(start))
    assert np.mean(owner != network.segments.partition[index]) < 0.03
