"""A city from SUMO's network, and SUMO's detectors on another map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from citybrain.errors import ConfigError
from ingest.maps.detectors import snapped
from ingest.maps.links import Link
from ingest.maps.sumo import detectors_on, files_of_config, links_of, listed, read_detectors, read_net
from tests.ingest.sumo.town import NET, config


def _links(path: Path) -> dict[str, Link]:
    return {link.id: link for link in links_of(read_net(files_of_config(path)[0]))}


def test_an_edge_for_cars_is_a_link_of_the_same_id(tmp_path: Path) -> None:
    links = _links(config(tmp_path))
    assert sorted(links) == ["AB", "BA"]
    one, other = links["AB"], links["BA"]
    assert (one.lanes, one.length_km, one.road, one.road_class) == (2, 0.5, "Rua Um", "secondary")
    assert one.limit_kmh == pytest.approx(50.0, abs=0.01)
    assert one.free_flow_kmh == pytest.approx(45.0, abs=0.01)
    assert one.capacity_vph == 2 * 850.0
    assert (other.lanes, other.road_class) == (1, "primary")
    assert (one.from_node, one.to_node) == (other.to_node, other.from_node)


def test_links_lie_where_the_projection_puts_them(tmp_path: Path) -> None:
    start, end = _links(config(tmp_path))["AB"].points
    # What libsumo's convertGeo gives for 532 000 E, 4 555 000 N in zone 29; test_utm compares more places.
    assert start == pytest.approx([-8.618667, 41.145687], abs=1e-6)
    assert end[0] - start[0] == pytest.approx(500 / (111_320 * np.cos(np.radians(41.146))), rel=5e-3)


def test_a_network_without_a_projection_keeps_its_shape_at_the_origin(tmp_path: Path) -> None:
    points = _links(config(tmp_path, projection="!"))["AB"].points
    assert points[0] == pytest.approx([0.0, 0.0])
    assert points[1, 0] * 111_195 == pytest.approx(500.0)


def test_another_projection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'\+proj=lcc \+lat_0=1' seen, '\+proj=utm ...' or '!' allowed"):
        _links(config(tmp_path, projection="+proj=lcc +lat_0=1"))


def test_detectors_keep_their_ids_and_places(tmp_path: Path) -> None:
    net_file, more = files_of_config(config(tmp_path))
    made, lost = detectors_on(links_of(read_net(net_file)), read_detectors(more), probes=True)
    assert made.id.tolist() == ["one", "two", "area", "probe:AB", "probe:BA"]
    assert made.position_m.tolist() == [100.0, 450.0, 200.0, 250.0, 250.0]
    assert made.lanes.tolist() == [1, 1, 1, 2, 1]
    assert made.kind.tolist() == ["loop", "loop", "radar", "probe", "probe"]
    assert lost == ["detector on foot is left out: edge 'walk' seen, one for cars allowed"]


def test_detectors_go_onto_another_map_by_place_and_direction(tmp_path: Path) -> None:
    net_file, more = files_of_config(config(tmp_path))
    net = read_net(net_file)
    east, west = sorted(links_of(net), key=lambda link: link.id)
    # The other map has both directions on one line, as OpenStreetMap does, and ids of its own.
    other = [
        Link(name, "", "primary", *ends, points, 0.5, 1, 50.0, 45.0, 900.0)
        for name, ends, points in (("w1-0f", (0, 1), east.points), ("w1-0b", (1, 0), east.points[::-1]))
    ]
    made, far = snapped(listed(net, read_detectors(more), probes=True), other)
    place = dict(zip(made.id.tolist(), zip(made.segment.tolist(), made.position_m.tolist(), strict=True), strict=True))
    assert far == []
    assert {name: segment for name, (segment, _) in place.items()} == {
        "one": 0, "two": 1, "area": 0, "probe:AB": 0, "probe:BA": 1,
    }  # fmt: skip
    assert place["one"][1] == pytest.approx(100.0, abs=1.0)
    assert place["two"][1] == pytest.approx(450.0, abs=1.0)
    assert west.points[0, 0] > west.points[-1, 0]


def test_detectors_of_a_network_that_lies_nowhere_go_onto_no_map(tmp_path: Path) -> None:
    net_file, more = files_of_config(config(tmp_path, projection="!"))
    with pytest.raises(ConfigError, match="no projection seen"):
        listed(read_net(net_file), read_detectors(more), probes=False)


@pytest.mark.parametrize(
    ("net", "said"),
    [
        ("<detector/>", "<detector> seen, <net> allowed"),
        ("<net/>", "no edge that cars may use seen"),
        (NET.replace('length="500.00"', 'length="long"'), r"net.xml:\d+: <lane>: .*'long'.* seen, a SUMO network"),
        (NET.replace('from="A" to="B" priority', 'to="B" priority'), r"net.xml:\d+: <edge>: .*'from'.* seen"),
        ("<net", "well-formed XML allowed"),
        ("", "no element found"),
    ],
)
def test_a_file_that_is_no_network_is_refused_with_its_line(tmp_path: Path, net: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        _links(config(tmp_path, net=net))


def test_a_detector_without_a_lane_is_refused_with_its_line(tmp_path: Path) -> None:
    path = config(tmp_path, detectors='<additional>\n<e1Detector id="x" pos="1"/></additional>')
    with pytest.raises(ConfigError, match=r"detectors.xml:2: <e1Detector>: .* seen, id, lane and pos in m allowed"):
        read_detectors(files_of_config(path)[1])


def test_a_configuration_without_a_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.sumocfg").write_text("<configuration><input/></configuration>")
    with pytest.raises(ConfigError, match="no net-file seen, one allowed"):
        files_of_config(tmp_path / "a.sumocfg")
