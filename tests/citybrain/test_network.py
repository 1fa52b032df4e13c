"""The road network: its file, its version and its neighbours."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from citybrain.errors import ConfigError
from citybrain.network import Network
from tests.conftest import ROOT
from tests.fakes import corridor_network, grid_network


def test_what_is_saved_is_loaded_again_column_by_column(tmp_path: Path) -> None:
    network = replace(grid_network(), areas_regular=True, attribution="© 北京")
    network.save(tmp_path / "n.arrow")
    loaded = Network.load(tmp_path / "n.arrow")
    for part in ("segments", "detectors", "areas"):
        for f in fields(getattr(network, part)):
            before, after = getattr(getattr(network, part), f.name), getattr(getattr(loaded, part), f.name)
            assert before.dtype.kind == after.dtype.kind, f.name
            np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(network.lon_lat, loaded.lon_lat)
    assert (loaded.attribution, loaded.areas_regular, loaded.version) == ("© 北京", True, network.version)
    assert [path.name for path in tmp_path.iterdir()] == ["n.arrow"]


def test_missing_limits_and_places_survive_the_file(tmp_path: Path) -> None:
    network = corridor_network(3)
    unknown = replace(
        network,
        segments=replace(network.segments, limit_kmh=np.full(3, np.nan)),
        lon_lat=np.full_like(network.lon_lat, np.nan),
    )
    unknown.save(tmp_path / "n.arrow")
    loaded = Network.load(tmp_path / "n.arrow")
    assert np.isnan(loaded.segments.limit_kmh).all()
    assert np.isnan(loaded.lon_lat).all()
    assert loaded.version == unknown.version


def test_the_version_is_the_content_and_nothing_else() -> None:
    network = grid_network()
    assert network.version == grid_network().version
    wide = replace(network, segments=replace(network.segments, id=network.segments.id.astype("<U40")))
    assert wide.version == network.version, "how many characters a column could hold is not content"
    assert replace(network, attribution="someone else").version == network.version
    longer = network.segments.length_km.copy()
    longer[3] += 0.001
    assert replace(network, segments=replace(network.segments, length_km=longer)).version != network.version


def test_the_version_of_the_demo_city_is_the_same_on_every_machine() -> None:
    lines = (ROOT / "cities" / "porto" / "README.md").read_text()
    assert Network.load(ROOT / "cities" / "porto" / "network.arrow").version in lines


@given(st.integers(2, 5), st.integers(2, 4))
def test_downstream_are_the_segments_that_begin_where_one_ends(columns: int, rows: int) -> None:
    network = grid_network(columns, rows)
    start, index = network.downstream
    for i in range(len(network.segments)):
        expected = np.flatnonzero(network.segments.from_node == network.segments.to_node[i])
        assert index[start[i] : start[i + 1]].tolist() == expected.tolist()


def test_partitions_own_every_segment_once() -> None:
    network = grid_network(partitions=3)
    owned = np.concatenate([network.segments_of(p) for p in range(network.partitions)])
    assert sorted(owned.tolist()) == list(range(len(network.segments)))
    assert network.detector_partition.tolist() == network.segments.partition[network.detectors.segment].tolist()


@pytest.mark.parametrize("content", [b"", b"no arrow"])
def test_a_file_that_is_no_network_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "n.arrow").write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read as a road network"):
        Network.load(tmp_path / "n.arrow")
