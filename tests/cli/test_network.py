"""citybrain network: the commands as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from citybrain.cityfile import load_city, load_network
from citybrain.errors import ConfigError
from cli.network import network
from tests.ingest.maps.build import osm_file, place

STATIONS = "station_id,x_km,length_km,lanes,free_speed_kmh,capacity_vph\na,0,1,2,100,4000\nb,1,1,1,100,9000\n"
NEW = ["--name", "Smalltown", "--timezone", "Europe/Lisbon", "--partitions", "1"]


def _run(*words: str | Path) -> Result:
    result = CliRunner().invoke(network, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def _map(folder: Path) -> Path:
    nodes = {1: (0.0, 0.0), 2: (300.0, 0.0), 3: (600.0, 0.0), 4: (300.0, 400.0)}
    ways = {10: ([1, 2, 3], {"highway": "primary", "name": "Main"}), 11: ([4, 2], {"highway": "tertiary"})}
    return osm_file(folder / "m.osm", nodes, ways)


def test_a_map_becomes_a_city_that_can_be_loaded(tmp_path: Path) -> None:
    result = _run("import", "osm", _map(tmp_path), tmp_path / "city", *NEW, "--detectors", "by-class")
    assert result.exit_code == 0
    assert "Smalltown: 6 segments" in result.output
    city = load_city(tmp_path / "city")
    assert (city.name, city.timezone) == ("Smalltown", "Europe/Lisbon")
    made = load_network(city)
    assert made.attribution == "© OpenStreetMap contributors, ODbL"
    assert len(made.detectors) > 0
    assert _run("check", tmp_path / "city").exit_code == 0


def test_an_import_again_keeps_the_city_file(tmp_path: Path) -> None:
    _run("import", "osm", _map(tmp_path), tmp_path / "city", *NEW)
    file = tmp_path / "city" / "city.toml"
    file.write_text(file.read_text() + "# mine\n")
    assert _run("import", "osm", _map(tmp_path), tmp_path / "city", "--partitions", "2").exit_code == 0
    assert "# mine" in file.read_text()
    assert load_network(load_city(tmp_path / "city")).partitions == 2


def test_the_same_map_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        _run("import", "osm", _map(tmp_path), tmp_path / name, *NEW, "--detectors", "by-class")
    one, two = ((tmp_path / name / "network.arrow").read_bytes() for name in ("one", "two"))
    assert one == two


def test_stations_become_a_city_and_doubtful_lanes_are_told(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(STATIONS)
    result = _run("import", "stations", tmp_path / "s.csv", tmp_path / "city", *NEW, "--road", "A 1")
    assert "note: station b has 4 lanes, not 1" in result.output
    assert load_network(load_city(tmp_path / "city")).segments.road.tolist() == ["A 1", "A 1"]


def test_geojson_and_lists_of_detectors_and_polygons_become_a_city(tmp_path: Path) -> None:
    line = {"type": "LineString", "coordinates": [place(0, 0), place(1000, 0)]}
    square = [place(-500, -500), place(2000, -500), place(2000, 500), place(-500, 500), place(-500, -500)]
    area = {"type": "Polygon", "coordinates": [square]}
    (tmp_path / "r.geojson").write_text(json.dumps({"features": [{"geometry": line, "properties": {}}]}))
    (tmp_path / "a.geojson").write_text(json.dumps({"features": [{"geometry": area, "properties": {"name": "Q"}}]}))
    lon, lat = place(200, -3)
    (tmp_path / "d.csv").write_text(f"id,lon,lat\nD1,{lon},{lat}\nD2,{lon},{lat + 1}\n")
    extra: list[str | Path] = ["--polygons", tmp_path / "a.geojson", "--detectors", tmp_path / "d.csv"]
    result = _run("import", "geojson", tmp_path / "r.geojson", tmp_path / "city", *NEW, *extra)
    assert "detector D2 is left out" in result.output
    made = load_network(load_city(tmp_path / "city"))
    assert made.detectors.id.tolist() == ["D1"]
    assert made.areas.name.tolist() == ["Smalltown", "Q", "other roads"]
    assert not made.areas_regular


def test_the_check_exits_with_1_where_something_will_not_work(tmp_path: Path) -> None:
    _run("import", "osm", _map(tmp_path), tmp_path / "city", *NEW)
    file = tmp_path / "city" / "city.toml"
    file.write_text(file.read_text() + 'typical_file = "typical.arrow"\n')
    result = _run("check", tmp_path / "city")
    assert result.exit_code == 1
    assert "error: typical.arrow is named in city.toml and not there" in result.output
    assert "warning: 0% of the segments have a detector" in result.output
    assert "1 errors, 1 warnings" in result.output


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([], "a new city needs --name and --timezone"),
        (["--name", "X", "--timezone", "Mars/Base"], "timezone: 'Mars/Base' seen"),
        ([*NEW, "--bounds", "1,2,3"], "four numbers W,S,E,N allowed"),
        ([*NEW, "--bounds", "3,2,1,4"], "west < east"),
        ([*NEW, "--classes", "primary,avenue"], "'avenue' seen"),
        ([*NEW, "--places", "p.csv", "--polygons", "q.json"], "one of them allowed"),
        ([*NEW, "--bounds", "10,10,11,11"], "no connected road seen"),
    ],
)
def test_wrong_words_are_one_sentence_and_leave_no_city(tmp_path: Path, words: list[str], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        _run("import", "osm", _map(tmp_path), tmp_path / "city", *words)
    assert not (tmp_path / "city").exists()


@pytest.mark.parametrize("command", [["import", "osm"], ["import", "stations"], ["import", "geojson"], ["check"]])
def test_help_shows_an_example_on_a_line_of_its_own(command: list[str]) -> None:
    lines = _run(*command, "--help").output.splitlines()
    assert any(line.startswith(f"  citybrain network {' '.join(command)} ") for line in lines)
