from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from citybrain.cityfile import load_city, load_network
from citybrain.errors import ConfigError
from citybrain.network import Network
from citybrain.records import Readings, decode
from citybrain.topics import topic_address
from cli.evaluate import evaluate
from cli.runfiles import network_of, typical_on
from cli.scenario import scenario
from cli.simulate import simulate
from infra.kafka.broker import EmbeddedBroker
from infra.kafka.client import Brokers
from simulators.probes import ProbeRules
from simulators.sensorplan import SensorPlan, planned
from tests.fakes import grid_network, typical_week

CITY = """
name = "Gridtown"
timezone = "Europe/Lisbon"

[[simulated]]
name = "simulated"
trips = 3000

[[simulated.scripted]]
segment = "s3"
at = "04:30"
"""
MINE = """\
title = "Mine"
first = 2026-11-17
seed = 5

[[closures]]
name = "Parade"
place = { segment = "s2", both_ways = true }
begin = "04:10"
end = "04:40"
"""


@pytest.fixture
def city(tmp_path: Path) -> Path:
    folder = tmp_path / "city"
    folder.mkdir()
    (folder / "city.toml").write_text(CITY)
    grid_network().save(folder / "network.arrow")
    return folder


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    return path


def run(name: object, city: Path, *more: str) -> Result:
    arguments = [str(name), "--city", str(city), "--until", "05:00", *more]
    return CliRunner().invoke(simulate, arguments, catch_exceptions=False)


def test_it_writes_readings_truth_and_what_was_run(city: Path, mine: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(mine, city, "--to", str(out))
    assert result.exit_code == 0
    assert f"1 day, 4,080 readings and 0 passages in {out}" in result.stdout
    readings = pq.read_table(out / "readings" / "20261117T04.parquet")
    about = json.loads((out / "run.json").read_text())
    assert readings.num_rows == about["rows"]["readings"] > 100 * 30
    assert (about["network"], about["seed"], about["text"]) == (grid_network().version, 5, MINE)
    assert [mark["name"] for mark in about["days"][0]["happenings"]] == ["Parade"]
    assert (out / "truth" / "segments-20261117T04.parquet").exists()
    incidents = pq.read_table(out / "truth" / "incidents-20261117.parquet").to_pylist()
    closed = [(row["segment"], row["capacity_share"]) for row in incidents if row["kind"] == "closure"]
    assert len(closed) == 2, "both ways, with their queues, so that it can be judged whether they were found"
    assert {share for _, share in closed} == {0.0}
    assert Path(about["city_folder"]) == city
    at_half_past = about["from_ms"] + 1_800_000
    assert all(row["onset_ms"] != at_half_past for row in incidents), "what the city's demo scripts is no part of it"


def test_without_a_place_the_run_lies_in_the_citys_data_folder(city: Path, mine: Path, tmp_path: Path) -> None:
    assert run(mine, city, "--state", str(tmp_path / "state")).exit_code == 0
    assert (tmp_path / "state" / "runs" / "mine" / "run.json").exists()


def test_a_run_that_is_there_is_not_run_again_and_another_seed_is_another_run(
    city: Path, mine: Path, tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    run(mine, city, "--to", out)
    assert "1 day (1 of them were there)" in run(mine, city, "--to", out).stdout
    with pytest.raises(ConfigError, match="a run with another seed seen"):
        run(mine, city, "--to", out, "--seed", "6")
    assert run(mine, city, "--to", out, "--seed", "6", "--anew").exit_code == 0


def test_a_speed_makes_it_wait(city: Path, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    class Clock:
        def __init__(self, start_ms: int, speed: float) -> None:
            asked.append(speed)
            self.now = start_ms

        def now_ms(self) -> int:
            self.now += 600_000
            return self.now

    monkeypatch.setattr("cli.simulate.ScaledClock", Clock)
    assert run(mine, city, "--to", str(tmp_path / "out"), "--speed", "3600").exit_code == 0
    assert asked == [3600.0]


def test_what_is_wrong_is_refused_before_the_run(city: Path, mine: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    mine.write_text(MINE.replace("s2", "s2000").replace('"04:40"', '"03:70"'))
    with pytest.raises(ConfigError) as error:
        run(mine, city, "--to", str(out))
    assert len(str(error.value).splitlines()) == 2
    assert not out.exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--speed", "fast"], "'fast' seen, a number above 0 or max allowed"),
        (["--until", "noon"], "'noon' seen, a time of day such as 09:00 allowed"),
    ],
)
def test_options_that_are_none_are_refused(more: list[str], told: str, city: Path) -> None:
    result = CliRunner().invoke(simulate, ["weekday", "--city", str(city), *more])
    assert result.exit_code == 2
    assert told in result.output


def test_a_scenario_without_a_city_needs_one_named(mine: Path, city: Path) -> None:
    with pytest.raises(ConfigError, match="names no city: --city CITY needed"):
        CliRunner().invoke(simulate, [str(mine)], catch_exceptions=False)
    mine.write_text(f'city = "{city.name}"\n{MINE}')
    result = CliRunner().invoke(scenario, ["check", str(mine)], catch_exceptions=False)
    assert "nothing wrong, for Gridtown" in result.output


def test_scenarios_are_listed_shown_and_checked(city: Path, mine: Path) -> None:
    listed = CliRunner().invoke(scenario, ["list"], catch_exceptions=False).output
    assert "friday-stadium" in listed
    shown = CliRunner().invoke(scenario, ["show", "storm"], catch_exceptions=False).output
    assert "Wet roads carry less" in shown
    assert "heavy_rain" in shown
    text = CliRunner().invoke(scenario, ["show", str(mine), "--text"], catch_exceptions=False).output
    assert text == MINE
    checked = CliRunner().invoke(scenario, ["check", str(mine), "--city", str(city)], catch_exceptions=False).output
    assert "Tue 04:10 to 04:40  closure Parade  s2 East Road 0, s15 East Road 0" in checked
    alone = CliRunner().invoke(scenario, ["check", str(mine)], catch_exceptions=False).output
    assert "its places were looked for in no city" in alone


PLANNED = f"{MINE}\n[sensors.plan]\nprobes = {{ share = 0.5 }}\n"


def test_a_run_with_planned_sensors_has_its_network_beside_it(city: Path, mine: Path, tmp_path: Path) -> None:
    mine.write_text(PLANNED)
    out = tmp_path / "out"
    assert run(mine, city, "--to", str(out)).exit_code == 0
    settings, own = load_city(city), Network.load(out / "network.arrow")
    assert own.version == json.loads((out / "run.json").read_text())["network"] != grid_network().version
    sources = pq.read_table(out / "readings" / "20261117T04.parquet")["source"].to_pylist()
    assert {"simulated", "simulated-probes"} == set(sources)
    assert network_of(out, settings).version == own.version
    judged = CliRunner().invoke(evaluate, [str(out)], catch_exceptions=False)
    assert judged.exit_code == 0, judged.output
    mine.write_text(MINE)
    run(mine, city, "--to", str(out), "--anew")
    assert network_of(out, settings).version == grid_network().version


def test_a_typical_week_goes_with_the_roads_whatever_sensors_there_are(city: Path) -> None:
    grid = grid_network()
    typical_week(grid).save(city / "typical.arrow")
    (city / "city.toml").write_text(f'typical_file = "typical.arrow"\n{CITY}')
    more = planned(grid, SensorPlan(probes=ProbeRules()), 1)
    found = typical_on(load_city(city), more)
    assert found is not None
    assert found.network == more.version
    assert typical_on(load_city(city), grid_network(columns=5)) is None


def test_sensors_that_the_platform_does_not_know_do_not_speak_to_kafka(city: Path, mine: Path, tmp_path: Path) -> None:
    mine.write_text(PLANNED)
    with pytest.raises(ConfigError, match="sensors that the city's network does not have seen, files allowed"):
        run(mine, city, "--to", "kafka")
    written = CliRunner().invoke(
        scenario, ["network", str(mine), str(city / "network.arrow"), "--city", str(city)], catch_exceptions=False
    )
    assert f"{len(grid_network().segments)} of them the scenario's" in written.output
    out = tmp_path / "out"
    run(mine, city, "--to", str(out))
    assert json.loads((out / "run.json").read_text())["network"] == load_network(load_city(city)).version


def test_a_run_can_be_drawn(city: Path, mine: Path, tmp_path: Path) -> None:
    run(mine, city, "--to", str(tmp_path / "out"))
    drawn = CliRunner().invoke(
        scenario, ["picture", str(tmp_path / "out"), str(tmp_path / "mine.svg")], catch_exceptions=False
    )
    assert drawn.exit_code == 0
    root = ET.fromstring((tmp_path / "mine.svg").read_text())
    texts = ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "Parade" in texts
    assert "vehicles on the road" in texts
    assert any(text.startswith("Mine: Gridtown, Tuesday 2026-11-17") for text in texts)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ConfigError, match=r"no run.json with truth/city-\*.parquet seen"):
        CliRunner().invoke(
            scenario, ["picture", str(tmp_path / "nothing"), str(tmp_path / "no.svg")], catch_exceptions=False
        )


@pytest.mark.broker
@pytest.mark.xdist_group("broker")
@pytest.mark.parametrize("speed", ["max", "3000"])
def test_to_kafka_it_is_a_feed_like_any_other(
    city: Path, mine: Path, tmp_path: Path, jars_folder: Path, speed: str
) -> None:
    from kafka import KafkaConsumer, TopicPartition

    files = tmp_path / "out"
    run(mine, city, "--to", str(files))
    told = pq.read_table(files / "readings" / "20261117T04.parquet")
    with EmbeddedBroker(tmp_path / "broker", jars_folder=jars_folder) as running:
        more = ("--to", "kafka", "--start", "04:30", "--speed", speed, "--state", str(tmp_path / "state"))
        result = run(mine, city, *more, "--brokers", running.address)
        assert "Mine: all of it is on Kafka" in result.stdout
        consumer = KafkaConsumer(**Brokers(running.address).kafka_python(), consumer_timeout_ms=2000)
        consumer.assign([TopicPartition(topic_address("readings"), partition) for partition in range(2)])
        consumer.seek_to_beginning()
        batches = [decode(Readings, message.value) for message in consumer]
        consumer.close()
    half_past = min(batch.watermark_ms for batch in batches if len(batch)) - 30_000
    counts = sum(float(batch.count_veh.sum()) for batch in batches)
    later = told.filter(pc.greater_equal(told["observed_from_ms"], half_past))
    assert sum(len(batch) for batch in batches) == later.num_rows == 60 * 34, "half an hour of all detectors, once"
    assert counts == pc.sum(later["count_veh"]).as_py(), "the same as in the files"
    assert list((tmp_path / "state" / "truth").glob("segments-*.parquet"))
