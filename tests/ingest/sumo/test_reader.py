"""A SUMO feed becomes readings of the network's detectors."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from citybrain.errors import ConfigError, FeedError
from citybrain.network import Network
from citybrain.records import Quality, Readings, SpeedKind
from citybrain.settings import SumoFeed
from ingest.maps.build import BuildOptions, network_of
from ingest.maps.sumo import detectors_on, files_of_config, links_of, read_detectors, read_net
from ingest.sumo.reader import SumoReader
from ingest.tables import CLOSING_MS
from tests.ingest.sumo.test_outputs import E1, E2, FCD, MESO
from tests.ingest.sumo.town import config

START_MS = 1_775_080_800_000
"""2026-04-02 00:00 in Berlin, which is two hours ahead of UTC."""


def network(folder: Path) -> Network:
    """Return the city of the small town."""
    net_file, more = files_of_config(config(folder))
    found = read_detectors(more)
    options = BuildOptions("Town", 1, lambda links: detectors_on(links, found, probes=True)[0])
    return network_of(links_of(read_net(net_file)), options)


def reader(folder: Path, city: Network, **changes: Any) -> SumoReader:
    """Return a reader of the XML files in a folder."""
    feed = SumoFeed(**{"name": "town", "start": "2026-04-02T00:00", "files": "out*.xml"} | changes)
    return SumoReader(feed, city, folder, "Europe/Berlin")


def _row(batch: Readings, city: Network, name: str) -> dict[str, Any]:
    at = batch.detector.tolist().index(city.detectors.id.tolist().index(name))
    names = ["count_veh", "flow_vph", "speed_kmh", "occupancy", "travel_time_s", "speed_kind"]
    names += [f"quality_{metric}" for metric in ("flow", "speed", "occupancy", "travel_time")]
    return {column: getattr(batch, column)[at].item() for column in [*names, "observed_from_ms", "observed_to_ms"]}


def test_files_are_read_side_by_side_in_time_order(tmp_path: Path) -> None:
    city = network(tmp_path)
    for number, text in enumerate((E1, E2, FCD)):
        (tmp_path / f"out{number}.xml").write_text(text)
    first, second, end = reader(tmp_path, city).batches()
    assert (first.received_ms, second.received_ms) == (START_MS + 60_000, START_MS + 120_000)
    assert (first.watermark_ms, second.watermark_ms) == (START_MS + 60_000, START_MS + 120_000)
    assert city.detectors.id[first.detector].tolist() == ["one", "two", "probe:AB"]
    assert city.detectors.id[second.detector].tolist() == ["area", "probe:BA"]
    assert (len(end), end.watermark_ms) == (0, START_MS + 120_000 + CLOSING_MS)


def test_a_loop_reads_in_our_units(tmp_path: Path) -> None:
    city = network(tmp_path)
    (tmp_path / "out.xml").write_text(E1)
    batch = next(reader(tmp_path, city).batches())
    one, two = (_row(batch, city, name) for name in ("one", "two"))
    assert (one["count_veh"], one["flow_vph"], one["occupancy"]) == (3.0, 180.0, pytest.approx(0.035))
    assert one["speed_kmh"] == pytest.approx(53.28)
    assert (one["quality_speed"], one["quality_flow"], one["quality_occupancy"]) == (Quality.OK,) * 3
    assert (one["speed_kind"], one["quality_travel_time"]) == (SpeedKind.TIME_MEAN, Quality.MISSING)
    assert (one["observed_from_ms"], one["observed_to_ms"]) == (START_MS, START_MS + 60_000)
    assert (two["flow_vph"], two["quality_speed"]) == (0.0, Quality.NO_VEHICLE)
    assert np.isnan(two["speed_kmh"])


def test_probes_tell_a_speed_and_a_travel_time_and_no_count(tmp_path: Path) -> None:
    city = network(tmp_path)
    (tmp_path / "out.xml").write_text(FCD)
    row = _row(next(reader(tmp_path, city).batches()), city, "probe:AB")
    assert (row["speed_kmh"], row["travel_time_s"]) == (54.0, pytest.approx(500 / 15))
    assert (row["quality_speed"], row["quality_travel_time"]) == (Quality.DERIVED, Quality.DERIVED)
    assert (row["quality_flow"], row["quality_occupancy"]) == (Quality.MISSING, Quality.MISSING)
    assert row["speed_kind"] == SpeedKind.SPACE_MEAN


def test_those_who_stand_have_a_speed_of_0_and_no_travel_time(tmp_path: Path) -> None:
    city = network(tmp_path)
    (tmp_path / "out.xml").write_text(FCD.replace('speed="8.00"', 'speed="0.00"'))
    _, second, _ = reader(tmp_path, city).batches()
    row = _row(second, city, "probe:BA")
    assert (row["speed_kmh"], row["quality_speed"]) == (0.0, Quality.DERIVED)
    assert (np.isnan(row["travel_time_s"]), row["quality_travel_time"]) == (True, Quality.MISSING)


def test_a_mesoscopic_loop_gets_its_lanes_share(tmp_path: Path) -> None:
    city = network(tmp_path)
    (tmp_path / "out.xml").write_text(MESO)
    row = _row(next(reader(tmp_path, city).batches()), city, "one")
    assert (row["count_veh"], row["flow_vph"]) == (2.0, 120.0)


def test_a_detector_that_the_network_does_not_have_is_refused_once_with_its_number(tmp_path: Path) -> None:
    city = network(tmp_path)
    (tmp_path / "out.xml").write_text(E1.replace('id="one"', 'id="stranger"').replace('id="two"', 'id="stranger"'))
    made = reader(tmp_path, city)
    assert list(made.batches()) == []
    (letter,) = made.refused
    assert (letter.reason, letter.count, letter.stage, letter.source) == ("unknown_detector", 2, "sumo", "town")
    assert letter.detail == "detector 'stranger' seen, a detector of the network allowed"


def test_a_pattern_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="feed 'town': no file matches"):
        reader(tmp_path, network(tmp_path))


def test_a_configuration_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent.sumocfg seen, a .sumocfg that is there allowed"):
        reader(tmp_path, network(tmp_path), files="", config="absent.sumocfg")


def test_without_libsumo_a_driven_feed_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> None:
        return None

    monkeypatch.setattr(importlib.util, "find_spec", none)
    with pytest.raises(ConfigError, match=r"no libsumo here, which drives town.sumocfg: pip install 'citybrain\[peers"):
        reader(tmp_path, network(tmp_path), files="", config="town.sumocfg")


@pytest.mark.skipif(importlib.util.find_spec("libsumo") is None, reason="libsumo is not installed")
def test_a_configuration_that_sumo_refuses_ends_the_feed_with_its_words(tmp_path: Path) -> None:
    city = network(tmp_path)
    (tmp_path / "town.sumocfg").write_text('<configuration><input><net-file value="no.xml"/></input></configuration>')
    with pytest.raises(FeedError, match=r"feed town: .*town.sumocfg: .*no.xml"):
        list(reader(tmp_path, city, files="", config="town.sumocfg").batches())
