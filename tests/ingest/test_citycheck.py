"""The check of a city: what is wrong is said in plain words, and what is right is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from citybrain.network import Network
from citybrain.settings import ColumnMapping, ScriptedIncident, SimulatedFeed, SumoFeed, TableFeed, Webhook
from ingest.citycheck import findings
from ingest.maps.detectors import no_detectors
from tests.fakes import city_settings, corridor_network, grid_network, typical_week


def _said(network: Network, **changes: Any) -> list[str]:
    return [f"{one.severity}: {one.text}" for one in findings(replace(city_settings(), **changes), network)]


def _changed(network: Network, part: str, **columns: Any) -> Network:
    rows = replace(getattr(network, part), **columns)
    return replace(network, **{part: rows})


def _first(network: Network, column: str, value: float) -> Network:
    values = getattr(network.segments, column).copy()
    values[0] = value
    return _changed(network, "segments", **{column: values})


def test_a_sound_city_has_no_errors_and_no_warnings() -> None:
    assert _said(grid_network()) == ["note: no typical week: forecasts start from free flow until one is learnt"]


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("length_km", 0.0, "error: 1 segment, s0: 0 km long, above 0 allowed"),
        ("length_km", 0.001, "warning: 1 segment, s0: 0.001 km long, under 0.005 km"),
        ("length_km", 20.0, "warning: 1 segment, s0: 20 km long, over 10 km: a jam in it has no place"),
        ("free_flow_kmh", np.nan, "error: 1 segment, s0: nan km/h free-flow speed, above 0 allowed"),
        ("free_flow_kmh", 400.0, "warning: 1 segment, s0: 400 km/h free-flow speed: absurd for a road"),
        ("limit_kmh", 1.0, "warning: 1 segment, s0: 1 km/h limit: absurd for a road"),
        ("lanes", 0, "error: 1 segment, s0: 0 lanes, at least 1 allowed"),
        ("lanes", 40, "warning: 1 segment, s0: 40 lanes: absurd in one direction"),
        ("capacity_vph", 50_000.0, "warning: 1 segment, s0: 50000 veh/h capacity: over 3,000 veh/h a lane"),
        ("district", 99, "error: 1 segment is in no area"),
    ],
)
def test_an_absurd_value_is_named_with_its_segment(column: str, value: float, words: str) -> None:
    assert words in _said(_first(grid_network(), column, value))


def test_unknown_limits_and_capacities_are_no_fault() -> None:
    network = grid_network()
    unknown = np.full(len(network.segments), np.nan)
    assert len(_said(_changed(network, "segments", limit_kmh=unknown, capacity_vph=unknown))) == 1


def test_islands_and_dead_ends_are_told_apart() -> None:
    network = grid_network()
    far, one_way = network.segments.to_node.copy(), network.segments.to_node.copy()
    start = network.segments.from_node.copy()
    far[0], start[0], one_way[0] = 101, 100, 100
    island = _changed(network, "segments", from_node=start, to_node=far)
    assert any("2 parts that do not touch: 1 of 34 segments" in text for text in _said(island))
    blind = _changed(network, "segments", to_node=one_way)
    assert any("cannot all be reached from one another: 1 of 34" in text for text in _said(blind))


def test_a_one_way_road_is_noted_and_is_no_fault() -> None:
    assert "note: the network is a one-way road: no place can be reached again" in _said(corridor_network())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: {"segment": np.full(len(d), 999, dtype=np.int32)}, "error: 34 detectors are on no segment"),
        (lambda d: {"position_m": np.full(len(d), 501.5)}, "error: 34 detectors are beyond the end of the segment"),
        (lambda d: {"lanes": np.full(len(d), 3, dtype=np.int32)}, "warning: 34 detectors are on more lanes than"),
        (lambda d: {"segment": np.zeros(len(d), dtype=np.int32)}, "warning: 3% of the segments have a detector"),
        (lambda d: {"id": np.full(len(d), "same")}, "error: 1 detector ids stand for more than one detector"),
    ],
)
def test_detectors_out_of_place_are_counted(change: Callable[[Any], dict[str, Any]], words: str) -> None:
    network = grid_network()
    said = _said(_changed(network, "detectors", **change(network.detectors)))
    assert any(text.startswith(words) for text in said), said


def test_unbalanced_and_empty_partitions_are_told() -> None:
    network = grid_network()
    part = np.zeros(len(network.segments), dtype=np.int32)
    part[:4] = 1
    assert any("unbalanced: 30, 4 segments" in text for text in _said(_changed(network, "segments", partition=part)))
    assert "error: partition 1 of 3 has no segment" in _said(
        _changed(network, "segments", partition=np.where(part == 1, 2, 0).astype(np.int32))
    )


def test_an_area_without_segments_is_told() -> None:
    network = grid_network()
    street = np.where(network.segments.street == 4, 3, network.segments.street).astype(np.int32)
    said = _said(_changed(network, "segments", street=street))
    assert "warning: 1 area is empty, such as Streets of East" in said


def test_a_regular_division_says_so() -> None:
    said = _said(replace(grid_network(), areas_regular=True))
    assert "note: the 2 districts are a regular division, made for want of borders" in said


def test_a_typical_week_must_be_there_and_of_this_network(tmp_path: Path) -> None:
    network, city = grid_network(), replace(city_settings(tmp_path), typical_file="typical.arrow")
    assert "typical.arrow is named in city.toml and not there" in findings(city, network)[0].text
    typical_week(network).save(tmp_path / "typical.arrow")
    assert findings(city, network) == []
    typical_week(corridor_network(34)).save(tmp_path / "typical.arrow")
    assert "typical.arrow is for network" in findings(city, network)[0].text
    (tmp_path / "typical.arrow").write_bytes(b"?")
    assert "cannot be read as a typical week" in findings(city, network)[0].text


def _feed(files: str, **changes: Any) -> TableFeed:
    feed = TableFeed("t", files, "station", "time", {"speed_kmh": ColumnMapping("v", "km/h")}, timedelta(minutes=5))
    return replace(feed, **changes)


def _feed_said(folder: Path, feed: TableFeed, data: Path | None = None) -> list[str]:
    city = replace(city_settings(folder), tables=(feed,))
    return [one.text for one in findings(city, grid_network(), data) if one.text.startswith(("feed", "table"))]


def test_a_table_feed_that_fits_is_not_mentioned(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("station,time,v\nd0,2026-01-01,50\nd33,2026-01-01,60\n")
    assert _feed_said(tmp_path, _feed("*.csv")) == []
    assert _feed_said(Path("/nowhere"), _feed("{data}/*.csv"), tmp_path) == []


def test_a_table_feed_is_looked_into(tmp_path: Path) -> None:
    assert "no file matches" in _feed_said(tmp_path, _feed("*.csv"))[0]
    assert "needs --data" in _feed_said(tmp_path, _feed("{data}/*.csv"))[0]
    (tmp_path / "a.csv").write_text("station,time,speed\nd0,2026-01-01,50\n7,2026-01-01,60\n")
    assert _feed_said(tmp_path, _feed("*.csv")) == ["feed t: a.csv has no column 'v', but station, time, speed"]
    fits = _feed("*.csv", metrics={"speed_kmh": ColumnMapping("speed", "km/h")})
    assert _feed_said(tmp_path, fits) == ["feed t: 1 of its 2 detectors are not in the network, such as 7"]
    (tmp_path / "a.csv").write_text("station,time,speed\n7,2026-01-01,60\n")
    assert _feed_said(tmp_path, fits) == ["feed t: none of its 1 detectors is in the network"]
    (tmp_path / "a.csv").write_text("")
    assert "cannot be read" in _feed_said(tmp_path, fits)[0]


def test_a_sumo_feed_needs_what_it_names(tmp_path: Path) -> None:
    def said(**named: Any) -> list[str]:
        city = replace(city_settings(tmp_path), sumo=(SumoFeed("s", "2026-04-02T00:00", **named),))
        return [one.text for one in findings(city, grid_network()) if one.text.startswith("feed")]

    assert said(config="town.sumocfg") == ["feed s: town.sumocfg seen, a .sumocfg that is there allowed"]
    assert "no file matches" in said(files="*.xml")[0]
    (tmp_path / "town.sumocfg").touch()
    (tmp_path / "e1.xml").touch()
    assert said(config="town.sumocfg") == said(files="*.xml") == []


def test_a_parquet_feed_is_looked_into(tmp_path: Path) -> None:
    pq.write_table(pa.table({"station": [1, 2], "time": ["x", "y"], "v": [50.0, 60.0]}), tmp_path / "a.parquet")
    assert _feed_said(tmp_path, _feed("*.parquet")) == ["feed t: none of its 2 detectors is in the network"]


def test_a_feed_whose_interval_is_beyond_the_limit_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("station,time,v\nd0,2026-01-01,50\n")
    said = _feed_said(tmp_path, _feed("*.csv", interval=timedelta(hours=24)))
    assert said == ["feed t: every reading will be refused: interval 86400 s, limit 3600 s"]


def test_a_simulated_city_needs_detectors() -> None:
    network = grid_network()
    bare = replace(network, detectors=no_detectors())
    assert not any("no detector to report" in text for text in _said(network, simulated=(SimulatedFeed(),)))
    assert any("no detector to report" in text for text in _said(bare, simulated=(SimulatedFeed(),)))


def test_a_scripted_incident_needs_its_segment() -> None:
    feed = SimulatedFeed(scripted=(ScriptedIncident("s0", "07:04"), ScriptedIncident("s99", "07:04")))
    said = [text for text in _said(grid_network(), simulated=(feed,)) if "scripted" in text]
    assert said == ["error: a scripted incident is on segment 's99', which the network does not have"]


def test_a_webhook_for_an_area_that_is_not_there_is_told() -> None:
    hook = Webhook("room", "http://127.0.0.1", "s", districts=("west", "north"))
    assert "warning: webhook room: 'north' is no area of this city" in _said(grid_network(), webhooks=(hook,))


def test_a_city_without_any_feed_is_told() -> None:
    said = _said(grid_network(), json_edge=False)
    assert said[0] == "error: no feed: no table, simulated or SUMO one in city.toml, and json_edge is false"
