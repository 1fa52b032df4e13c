"""Tables of stations: a corridor in order, whatever the table holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from citybrain.errors import ConfigError
from citybrain.network import Network
from ingest.maps.build import BuildOptions, network_of
from ingest.maps.stations import Corridor, StationColumns, along_km, detectors_of, links_of, read_stations
from tests.conftest import shared_data

HEAD = "station_id,x_km,length_km,lanes,free_speed_kmh,capacity_vph\n"


def _read(folder: Path, text: str, columns: StationColumns | None = None) -> Corridor:
    (folder / "s.csv").write_text(text)
    return read_stations(folder / "s.csv", columns or StationColumns())


def _network(corridor: Corridor, partitions: int = 1) -> Network:
    options = BuildOptions("Corridor", partitions, detectors_of)
    return network_of(links_of(corridor.stations, "I-5"), options, along_km(corridor.stations))


def test_stations_become_segments_in_driving_order(tmp_path: Path) -> None:
    corridor = _read(tmp_path, HEAD + "b,1.5,0.8,3,110,6000\na,0.5,1.0,2,100,4000\n")
    network = _network(corridor)
    assert network.segments.id.tolist() == ["a", "b"]
    assert network.segments.length_km.tolist() == [1.0, 0.8]
    assert network.segments.free_flow_kmh.tolist() == [100.0, 110.0]
    assert network.segments.to_node[0] == network.segments.from_node[1]
    assert network.detectors.id.tolist() == ["a", "b"]
    assert network.detectors.position_m.tolist() == [500.0, 400.0]
    assert network.detectors.kind.tolist() == ["station", "station"]
    assert np.isnan(network.lon_lat).all()
    assert network.areas_regular


def test_two_stations_at_one_place_are_two_segments_in_the_order_of_the_table(tmp_path: Path) -> None:
    network = _network(_read(tmp_path, HEAD + "a,1,0.5,4,110,\nb,2,0.2,4,110,\nc,2,0.3,4,110,\nd,3,0.4,4,110,\n"))
    assert network.segments.id.tolist() == ["a", "b", "c", "d"]
    start, index = network.downstream
    assert index.tolist() == [1, 2, 3]
    assert start.tolist() == [0, 1, 2, 3, 3]


def test_lanes_are_raised_to_what_the_capacity_needs_and_the_note_says_so(tmp_path: Path) -> None:
    corridor = _read(tmp_path, HEAD + "a,0,1,1,110,9000\nb,1,1,5,110,9000\nc,2,1,,110,\n")
    assert [s.lanes for s in corridor.stations] == [4, 5, 1]
    assert corridor.notes == ("station a has 4 lanes, not 1: its capacity is 9000 veh/h",)


@pytest.mark.parametrize("row", ["b,1,0,2,110,4000", "b,1,,2,110,4000", "b,1,1,2,0,4000", "b,1,1,2,,4000"])
def test_a_station_without_length_or_free_flow_speed_is_left_out_with_a_note(tmp_path: Path, row: str) -> None:
    corridor = _read(tmp_path, HEAD + "a,0,1,2,100,4000\n" + row + "\n")
    assert [s.id for s in corridor.stations] == ["a"]
    assert "station b is left out" in corridor.notes[0]


def test_without_a_length_column_a_station_stands_for_the_road_half_way_to_its_neighbours(tmp_path: Path) -> None:
    columns = StationColumns(length="", capacity="", lanes="")
    text = "station_id,x_km,free_speed_kmh\na,0,100\nb,1,100\nc,1,100\nd,4,100\n"
    corridor = _read(tmp_path, text, columns)
    assert [s.length_km for s in corridor.stations] == [1.0, 1.0, 1.0, 3.0]


def test_miles_and_miles_an_hour_are_converted(tmp_path: Path) -> None:
    columns = StationColumns(distance="mile", speed="mph")
    (station,) = _read(tmp_path, HEAD + "a,10,0.5,2,65,4000\n", columns).stations
    assert station.position_km == pytest.approx(16.09344)
    assert station.length_km == pytest.approx(0.804672)
    assert station.free_flow_kmh == pytest.approx(104.60736)


def test_stations_with_places_lie_on_the_map_and_touch(tmp_path: Path) -> None:
    text = "id,x_km,length_km,lanes,free_speed_kmh,capacity_vph,lon,lat\n" + "".join(
        f"s{k},{k},1,2,100,4000,{-118 + k * 0.01},34\n" for k in range(9)
    )
    corridor = _read(tmp_path, text, StationColumns(id="id", lon="lon", lat="lat"))
    network = _network(corridor)
    assert not np.isnan(network.lon_lat).any()
    first, second = network.segments.geometry_start[1:3]
    np.testing.assert_allclose(network.lon_lat[first - 1], network.lon_lat[first], atol=1e-5)
    assert second > first


def test_a_corridor_is_divided_into_stretches_and_partitions_of_neighbours(tmp_path: Path) -> None:
    rows = "".join(f"s{k},{k},1,2,100,4000\n" for k in range(24))
    network = _network(_read(tmp_path, HEAD + rows), partitions=2)
    assert network.areas.name.tolist()[1::2] == ["km 0 to 10", "km 10 to 20", "km 20 to 30"]
    assert network.segments.partition.tolist() == [0] * 12 + [1] * 12


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("station_id,x\na,1\n", "column 'x_km' wanted, station_id, x seen"),
        (HEAD, "no station seen"),
        (HEAD + "a,near,1,2,100,4000\n", r"s\.csv:2: x_km: 'near' seen, a number allowed"),
        (HEAD + "a,,1,2,100,4000\n", r"s\.csv:2: x_km: nothing seen"),
        (HEAD + "a,0,1,2,100,1\na,1,1,2,100,1\n", "station 'a' seen 2 times, once allowed"),
        (HEAD + "a,0,0,2,100,1\n", "no station with a length"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_sentence(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        _read(tmp_path, text)


def test_the_stations_of_i5_keep_length_and_free_flow_speed_of_the_table() -> None:
    corridor = read_stations(shared_data("pems_i5") / "I5N_detector_chain_fd.csv", StationColumns())
    network = _network(corridor, partitions=2)
    assert len(network.segments) == 115
    assert network.segments.length_km.sum() == pytest.approx(70.537)
    assert network.segments.length_km.min() == 0.2
    assert np.bincount(network.segments.partition).tolist() in ([57, 58], [58, 57])
    assert len(corridor.notes) == 2, "two stations are tagged with one lane and carry what needs three and four"
