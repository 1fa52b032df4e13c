"""``citybrain doctor``: true sentences on an installation that is new, stopped, damaged or running; and no change."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result

from citybrain.cityfile import load_city, load_network
from citybrain.messages import DeadLetter, encode_json
from citybrain.settings import CitySettings
from citybrain.wire import Output
from cli.checkup import check_streams
from cli.doctor import doctor, verdict
from infra.database.tables import open_database
from infra.kafka.admin import apply_topics
from infra.kafka.broker import EmbeddedBroker
from infra.kafka.client import Brokers
from infra.kafka.producer import BatchProducer
from tests.cli.running import PORTO, demo_city
from tests.fakes import grid_network


@pytest.fixture
def city(tmp_path: Path) -> Path:
    return demo_city(tmp_path / "porto")


def examine(city: Path, *options: str) -> Result:
    return CliRunner().invoke(doctor, [str(city), *options])


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_installation_has_nothing_wrong_and_stays_as_it_is(city: Path) -> None:
    before = everything_in(city)
    result = examine(city)
    assert result.exit_code == 0, result.output
    assert "4,792 segments" in result.output
    assert "no broker: none runs for Porto" in result.output
    assert "nothing has run yet" in result.output
    assert everything_in(city) == before
    assert not (city / ".citybrain-data").exists()


def test_the_file_of_a_broker_that_died_is_neither_believed_nor_removed(city: Path) -> None:
    left = city / ".citybrain-data" / "broker" / "address.json"
    left.parent.mkdir(parents=True)
    left.write_text('{"address": "127.0.0.1:9", "pid": 1}')
    assert "no broker" in examine(city).output
    assert left.exists()


def test_a_damaged_network_a_damaged_store_and_a_damaged_database_are_all_told(city: Path) -> None:
    data = city / ".citybrain-data"
    data.mkdir()
    for path in (city / "network.arrow", data / "store.duckdb", data / "city.sqlite"):
        path.write_bytes(b"this is nothing of the kind" * 100)
    result = examine(city)
    assert result.exit_code == 1
    assert "3 things wrong." in result.output
    for name in ("network.arrow", "store.duckdb", "city.sqlite"):
        assert any(line.startswith("BAD") and name in line for line in result.output.splitlines()), name


def test_a_stopped_installation_is_sound_and_a_store_in_use_is_not_called_damaged(city: Path) -> None:
    data = city / ".citybrain-data"
    data.mkdir()
    open_database(f"sqlite:///{data / 'city.sqlite'}").dispose()
    duckdb.connect(str(data / "store.duckdb")).close()
    result = examine(city)
    assert result.exit_code == 0, result.output
    assert "the store holds" in result.output
    assert "the database is sound" in result.output


@pytest.mark.broker
def test_a_broker_of_another_city_is_seen_by_its_partitions_and_refused_readings_by_their_reason(
    tmp_path: Path, jars_folder: Path
) -> None:
    settings = load_city(PORTO, data_folder=tmp_path)
    with EmbeddedBroker(tmp_path / "broker", jars_folder=jars_folder) as running:
        examine_broker(Brokers(running.address), settings, tmp_path)


def examine_broker(broker: Brokers, settings: CitySettings, tmp_path: Path) -> None:
    network = load_network(settings)
    apply_topics(broker, network.partitions)
    letter = DeadLetter(
        reason="late", detail="seen, allowed", stage="aggregate", topic="readings", partition=0, offset=7,
        source="loops", record_ms=1_790_000_000_000, count=3, excerpt="L0003",
    )  # fmt: skip
    producer = BatchProducer(broker)
    producer.send([Output("dead-letters", 0, b"late", encode_json(letter))], letter.record_ms)
    producer.flush()
    producer.close()
    found = list(check_streams(settings, str(broker)))
    assert [finding.text for finding in found if finding.state == "wrong"] == []
    assert any("for late" in finding.text and "loops" in finding.text for finding in found)

    # The same broker with a network of two partitions.
    two = tmp_path / "two"
    two.mkdir()
    grid_network(partitions=2).save(two / "network.arrow")
    (two / "city.toml").write_text('name = "Two"\ntimezone = "UTC"\n')
    found = list(check_streams(load_city(two), str(broker)))
    assert any("citybrain.readings has 4 partitions, the network wants 2" in finding.text for finding in found)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({"wrong": 1}, "1 thing wrong."),
        ({"wrong": 2, "note": 1}, "2 things wrong."),
        ({"note": 1}, "Nothing is wrong; the notes are worth knowing."),
        ({"well": 9}, "All is well."),
    ],
)
def test_the_last_line_says_how_it_is(seen: dict[str, int], said: str) -> None:
    assert verdict(seen) == said
