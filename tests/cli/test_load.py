from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from citybrain.cityfile import load_city, load_network
from citybrain.errors import ConfigError
from citybrain.records import Readings, decode
from citybrain.topics import topic_address
from cli.load import load
from cli.loadcity import grid_town, load_city_of
from cli.main import program
from infra.kafka.broker import EmbeddedBroker
from infra.kafka.client import Brokers
from ingest.citycheck import findings
from ingest.maps.synthetic import grid_links, repeated
from simulators.files import write_batches
from simulators.load import Load
from tests.fakes import grid_network


def run(*arguments: object) -> str:
    result = CliRunner().invoke(load, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> str:
    with pytest.raises(ConfigError) as error:
        CliRunner().invoke(load, [*map(str, arguments)], catch_exceptions=False)
    return str(error.value)


def city(folder: Path) -> Path:
    folder.mkdir()
    (folder / "city.toml").write_text('name = "Gridtown"\ntimezone = "Europe/Lisbon"\n')
    grid_network().save(folder / "network.arrow")
    return folder


def test_it_makes_a_city_that_the_check_has_nothing_against(tmp_path: Path) -> None:
    assert "made" in run("--detectors", 500, "--folder", tmp_path / "town", "--only-city")
    settings = load_city(tmp_path / "town")
    network = load_network(settings)
    assert len(network.detectors) == 500
    assert len(set(network.detectors.id.tolist())) == 500
    length_m = 1000 * network.segments.length_km[network.detectors.segment]
    assert ((network.detectors.position_m > 0) & (network.detectors.position_m < length_m)).all()
    assert [f.text for f in findings(settings, network) if f.severity == "error"] == []


@pytest.mark.parametrize(("detectors", "segments"), [(1, 8), (10, 8), (1001, 8), (1001, 600), (200_000, None)])
def test_a_grid_town_has_exactly_the_detectors_asked_for(detectors: int, segments: int | None) -> None:
    network = grid_town(detectors, segments)
    assert len(network.detectors) == detectors
    per_segment = np.bincount(network.detectors.segment, minlength=len(network.segments))
    assert per_segment.max() - per_segment.min() <= 1
    assert network.partitions == (16 if detectors > 100_000 else 4)


@pytest.mark.parametrize("wanted", [8, 100, 5000, 50_000])
def test_a_grid_has_about_the_segments_asked_for_and_hangs_together(wanted: int) -> None:
    links = grid_links(wanted)
    assert wanted <= len(links) <= 1.05 * wanted + 20
    assert {(link.from_node, link.to_node) for link in links} == {(link.to_node, link.from_node) for link in links}


@pytest.mark.parametrize("count", [1, 17, 34, 35, 500])
def test_a_citys_detectors_are_repeated_to_the_number(count: int) -> None:
    network = grid_network()
    made = repeated(network, count)
    assert len(made.detectors) == len(set(made.detectors.id.tolist())) == count
    assert made.partitions == network.partitions
    assert (made.version == network.version) == (count == 34)


def test_a_citys_own_detectors_are_taken_in_its_own_folder(tmp_path: Path) -> None:
    folder = city(tmp_path / "city")
    place = load_city_of(folder, None, None, segments=None, partitions=None)
    assert (place.made, place.settings.folder, len(place.network.detectors)) == (False, folder.resolve(), 34)


def test_files_are_those_of_a_run_and_the_same_again(tmp_path: Path) -> None:
    folder = city(tmp_path / "city")
    for out in ("one", "two"):
        run("--city", folder, "--to", tmp_path / out, "--from", "2026-03-10T07:30", "--until", "08:30")
    names = ["20260310T07.parquet", "20260310T08.parquet"]
    assert sorted(path.name for path in (tmp_path / "one" / "readings").iterdir()) == names
    for name in (*(f"readings/{name}" for name in names), "run.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    rows = sum(pq.read_table(tmp_path / "one" / "readings" / name).num_rows for name in names)
    assert rows == 34 * 120 == json.loads((tmp_path / "one" / "run.json").read_text())["rows"]["readings"]


def test_files_have_the_layout_of_a_simulated_run(tmp_path: Path) -> None:
    folder = city(tmp_path / "city")
    run("--city", folder, "--to", tmp_path / "load", "--from", "2026-03-10T07:30", "--intervals", 2)
    network = load_network(load_city(folder))
    batches = Load(network, interval=timedelta(seconds=30), timezone="Europe/Lisbon").batches(1_773_127_830_000)
    write_batches(batches, 1_773_127_860_000, tmp_path / "simulated")
    name = "readings/20260310T07.parquet"
    load_made, simulated = (pq.read_table(tmp_path / run / name) for run in ("load", "simulated"))
    assert load_made.schema == simulated.schema
    pd.testing.assert_frame_equal(load_made.to_pandas(), simulated.to_pandas())


def test_repeated_detectors_get_a_folder_of_their_own_which_is_taken_again(tmp_path: Path) -> None:
    arguments = ("--city", city(tmp_path / "city"), "--folder", tmp_path / "more", "--detectors", 100, "--to", "none")
    assert "made" in run(*arguments, "--intervals", 1)
    again = run(*arguments, "--intervals", 2)
    assert "made" not in again
    assert "200 readings:" in again


def test_a_folder_with_another_city_is_left_alone(tmp_path: Path) -> None:
    folder = city(tmp_path / "city")
    said = refused("--detectors", 99, "--folder", folder, "--only-city")
    assert "a city with 34 detectors seen, one with 99 allowed" in said


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--to", "none"), "neither --detectors nor --city seen"),
        (("--detectors", 5, "--interval", 7), "interval: 7 s seen, whole seconds that divide an hour allowed"),
        (("--detectors", 5, "--speed", "fast"), "--speed 'fast' seen, a number from 0.01 to 100,000 or 'max' allowed"),
        (("--detectors", 5, "--speed", "-1"), "--speed '-1' seen"),
        (("--detectors", 5, "--speed", "2", "--to", "none"), "only a load to Kafka has a clock"),
        (("--detectors", 5, "--minutes", 5, "--intervals", 5), "--minutes and --intervals seen, one of them allowed"),
        (("--detectors", 5, "--spread", 31), "--spread 31 seen, at most the interval of 30 s allowed"),
        (("--detectors", 5, "--city", "x", "--segments", 9), "--segments or --partitions with --city seen"),
        (("--city", "nowhere"), "no readable city.toml seen"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told in refused(*arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (("--minutes", 0.2), "at least one interval allowed"),
        (("--until", "2026-03-09T10:00"), "at least one interval allowed"),
        (("--until", "25:00"), "--until '25:00' seen, HH:MM or a local time"),
        (("--until", "noon"), "time 'noon' seen"),
    ],
)
def test_an_end_that_leaves_no_interval_is_refused(tmp_path: Path, end: tuple[object, ...], told: str) -> None:
    assert told in refused("--city", city(tmp_path / "city"), "--to", tmp_path / "out", *end)
    assert not (tmp_path / "out").exists()


def test_more_than_a_million_detectors_are_refused() -> None:
    result = CliRunner().invoke(program, ["load", "--detectors", "1000001"])
    assert result.exit_code == 2
    assert "1000001 is not in the range 1<=x<=1000000" in result.output


@pytest.mark.broker
@pytest.mark.xdist_group("broker")
def test_a_load_reaches_every_partition_of_a_real_broker(tmp_path: Path, jars_folder: Path) -> None:
    from kafka import KafkaConsumer, TopicPartition

    folder = tmp_path / "town"
    arguments = ("--detectors", 200, "--folder", folder, "--partitions", 2, "--intervals", 4)
    with EmbeddedBroker(tmp_path / "broker", jars_folder=jars_folder) as running:
        there = ("--brokers", running.address)
        assert "800 readings: " in run(*arguments, *there, "--from", "2026-03-10T08:00", "--speed", "max")
        said = run(*arguments, *there, "--from", "2026-03-10T09:00", "--speed", "120")
        assert "s after they were due at the latest" in said
        consumer = KafkaConsumer(**Brokers(running.address).kafka_python(), consumer_timeout_ms=2000)
        consumer.assign([TopicPartition(topic_address("readings"), partition) for partition in range(2)])
        consumer.seek_to_beginning()
        batches = [decode(Readings, message.value) for message in consumer]
        consumer.close()
    assert {batch.network for batch in batches} == {load_network(load_city(folder)).version}
    seen = np.concatenate([batch.detector for batch in batches])
    assert np.bincount(seen, minlength=200).tolist() == [8] * 200
    assert all((batch.observed_to_ms <= batch.received_ms).all() for batch in batches)
