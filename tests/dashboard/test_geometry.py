from __future__ import annotations

import json
import struct
from dataclasses import replace

import numpy as np
import pytest

from citybrain.network import Network
from dashboard.live import geometry
from tests.fakes import city_settings, grid_network


def read(blob: bytes) -> tuple[dict[str, object], bytes]:
    assert blob[:4] == geometry.MAGIC
    (length,) = struct.unpack_from("<I", blob, 4)
    return json.loads(blob[8 : 8 + length].rstrip(b"\0")), blob[8 + length :]


def without_map(network: Network) -> Network:
    return replace(network, lon_lat=np.full_like(network.lon_lat, np.nan))


def test_the_binary_holds_every_segment_in_the_agreed_order() -> None:
    network = grid_network()
    meta, arrays = read(geometry.network_binary(network, city_settings(), geometry.plane(network)))
    n, p = len(network.segments), len(network.lon_lat)
    assert (meta["n"], meta["points"], meta["version"]) == (n, p, network.version)
    assert np.frombuffer(arrays, "<u4", n + 1).tolist() == network.segments.geometry_start.tolist()
    points = np.frombuffer(arrays, "<f4", 2 * p, 4 * (n + 1)).reshape(p, 2)
    assert points[0] == pytest.approx([-744.27, -499.63], abs=0.01)
    at = 4 * (n + 1) + 8 * p
    assert set(arrays[at : at + n]) == {2}
    at += 2 * (n + -n % 4)
    assert np.frombuffer(arrays, "<f4", n, at).tolist() == [0.5] * n
    at += 8 * n
    roads = meta["roads"]
    assert isinstance(roads, list)
    assert [roads[i] for i in np.frombuffer(arrays, "<u4", n, at)] == network.segments.road.tolist()
    at += 4 * n
    assert np.frombuffer(arrays, "<u2", n, at).tolist() == network.segments.district.tolist()
    at += 2 * n + -(2 * n) % 4
    assert arrays[at:].rstrip(b"\0") == b"\x01" * n


def test_distances_on_the_plane_are_metres_on_the_ground() -> None:
    laid = geometry.plane(grid_network())
    assert np.hypot(*laid.heading.T) == pytest.approx(np.full(len(laid.heading), 498), abs=3)


def test_the_middle_of_a_bent_segment_lies_on_it() -> None:
    network = grid_network(2, 1, partitions=1)
    bent = np.array([[0, 0], [0.01, 0], [0.01, 0.01], [0.01, 0.01], [0, 0]], dtype=np.float32)
    start = np.array([0, 3, 5], dtype=np.int32)
    network = replace(network, lon_lat=bent, segments=replace(network.segments, geometry_start=start))
    laid = geometry.plane(network)
    assert laid.middle[0] == pytest.approx([laid.points[1, 0], laid.points[1, 1]], abs=5)


def test_a_network_without_a_map_becomes_one_straight_line_that_says_so() -> None:
    network = without_map(grid_network())
    laid = geometry.plane(network)
    meta, _ = read(geometry.network_binary(network, city_settings(), laid))
    assert meta["schematic"] is True
    assert laid.points[:4].tolist() == [[0, 0], [500, 0], [500, 0], [1000, 0]]


def test_geojson_has_a_line_for_every_segment_and_none_without_a_map() -> None:
    network = grid_network()
    collection = json.loads(geometry.geojson(network, geometry.plane(network)))
    assert len(collection["features"]) == len(network.segments)
    assert collection["features"][0]["geometry"]["coordinates"][0] == pytest.approx([-8.61, 41.15], abs=1e-5)
    bare = json.loads(geometry.geojson(without_map(network), geometry.plane(without_map(network))))
    assert bare["features"][0]["geometry"] is None
