"""Networks made of links: rows in order, geometry that stays where it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely

from citybrain.errors import ConfigError
from citybrain.network import ROAD_CLASSES, Network
from ingest.maps.build import BuildOptions, network_of
from ingest.maps.detectors import no_detectors
from ingest.maps.links import M_PER_DEGREE, Link
from tests.ingest.maps.build import link, place


def _options(partitions: int = 1) -> BuildOptions:
    return BuildOptions("Smalltown", partitions, lambda links: no_detectors(), attribution="me")


def _ladder(rungs: int) -> list[Link]:
    there = [link(f"e{k}", (k, k + 1)) for k in range(rungs)]
    return [*there, *(link(f"w{k}", (k + 1, k)) for k in range(rungs))]


def test_segments_of_a_partition_follow_one_another() -> None:
    network = network_of(_ladder(20), _options(4))
    assert np.all(np.diff(network.segments.partition) >= 0)
    assert np.bincount(network.segments.partition).tolist() == [10, 10, 10, 10]


def test_every_column_comes_from_its_link() -> None:
    links = [replace(one, lanes=2 + k % 3, road=f"R{k}") for k, one in enumerate(_ladder(5))]
    network = network_of(links, _options(2))
    by_id = {one.id: one for one in links}
    for row, name in enumerate(network.segments.id.tolist()):
        one = by_id[name]
        assert network.segments.road[row] == one.road
        assert network.segments.lanes[row] == one.lanes
        assert ROAD_CLASSES[network.segments.road_class[row]] == one.road_class
        np.testing.assert_allclose(_line(network, row)[[0, -1]], one.points[[0, -1]], atol=1e-5)
    assert network.attribution == "me"
    assert network.areas.name[0] == "Smalltown"
    assert network.areas_regular


def test_geometry_is_simplified_within_the_tolerance_and_keeps_its_length() -> None:
    wave = np.array([place(x, 3.0 * np.sin(x / 20)) for x in np.arange(0.0, 500.0, 5.0)])
    network = network_of([replace(link("a", (0, 1), km=0.7), points=wave)], _options())
    line = _line(network, 0).astype(np.float64)
    assert len(line) < len(wave) / 4
    assert network.segments.length_km[0] == 0.7
    apart = shapely.hausdorff_distance(shapely.LineString(line), shapely.LineString(wave)) * M_PER_DEGREE
    assert apart < 4.5


def test_more_partitions_than_segments_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 segments seen for 3 partitions"):
        network_of(_ladder(1), _options(3))


def _line(network: Network, row: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return network.lon_lat[network.segments.geometry_start[row] : network.segments.geometry_start[row + 1]]
